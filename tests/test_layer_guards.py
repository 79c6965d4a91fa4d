"""Common faults of mixture-of-experts layers, each on the smallest input that shows it."""

import copy
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import gradcheck
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moe import MoE
from moe.data.dataset import Dataset
from moe.engine import fused
from moe.recipes import RECIPES, gating
from moe.study.runs import Run
from moe.study.train_settings import Train

CPU = torch.device("cpu")


def layer(recipe: str, num_experts: int = 4, **more: Any) -> MoE:
    """4 inputs, 5 hidden units, 3 outputs; k = 2 if the recipe allows it."""
    top_k = min(RECIPES[recipe].only_k or 2, num_experts)
    return MoE(4, 5, 3, num_experts, top_k, recipe, seed=0, **more)


def gradients(model: MoE, x: Tensor) -> list[Tensor]:
    """The gradients of the sum of all losses, for each trainable parameter."""
    output, aux = model(x)
    loss = output.square().sum() + aux.gate_loss
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))


# --- the noise of shazeer has a minimum spread


@pytest.mark.parametrize("noise_weight", [-44.0, -1e6, 1e6])
def test_the_gradient_stays_finite_when_the_noise_dies_out(noise_weight: float) -> None:
    # softplus(−44) = 8e-20: squared in the backward pass, it is 0 in float32, and 0 / 0 NaN.
    model = MoE(1, 5, 3, num_experts=4, top_k=2, recipe="shazeer", seed=0)
    model.noise.weight.data.fill_(noise_weight)
    output, aux = model(torch.ones(16, 1))
    (output.sum() + aux.gate_loss).backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


def test_the_least_spread_is_a_hundredth() -> None:
    spread = gating.noise_std(torch.tensor([[-100.0, 0.0, 100.0]], dtype=torch.float64))
    assert spread[0].tolist() == pytest.approx([0.01, math.log(2) + 0.01, 100.01])


# --- NaN propagates to everything that depends on it


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("num_experts", [4, 40])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_nan_input_gives_a_nan_output_and_no_other(
    recipe: str, num_experts: int, training: bool
) -> None:
    model = layer(recipe, num_experts).train(training)
    x = torch.rand(6, 4)
    x[2, 1] = math.nan
    output, aux = model(x)
    assert output.isnan().any(1).tolist() == [False, False, True, False, False, False]
    assert aux.chosen[2].any()


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.chooses])
def test_a_nan_in_the_router_gives_nan_outputs(recipe: str) -> None:
    # Its expert has a NaN logit for every input, so every input chooses it.
    model = layer(recipe)
    with torch.no_grad():
        model.router.weight[1, 0] = math.nan
    output, aux = model.eval()(torch.rand(6, 4))
    if recipe == "expert-choice":  # each expert takes half of the inputs, and all p are NaN
        assert torch.equal(output.isnan().all(1), aux.chosen.any(1))
        assert aux.chosen.sum(0).tolist() == [3] * 4
        return
    assert output.isnan().all()
    assert aux.chosen[:, 1].all()


@pytest.mark.parametrize("recipe", ["dense-active", "dense-total"])
def test_a_router_that_nothing_depends_on_gives_none(recipe: str) -> None:
    model = layer(recipe)
    with torch.no_grad():
        model.router.weight[1, 0] = math.nan
    assert torch.isfinite(model(torch.rand(6, 4))[0]).all()


@pytest.mark.parametrize("recipe", ["blog", "logits", "switch", "shazeer", "loss-free"])
def test_a_nan_expert_gives_nan_to_those_that_choose_it(recipe: str) -> None:
    model = MoE(4, 5, 3, num_experts=4, top_k=1, recipe=recipe, seed=0).eval()
    with torch.no_grad():
        model.router.weight.copy_(torch.eye(4))
        model.experts.w1[1] = math.nan
    output, _ = model(torch.eye(4))  # input i chooses expert i
    assert output.isnan().all(1).tolist() == [False, True, False, False]
    assert torch.isfinite(output[[0, 2, 3]]).all()


@pytest.mark.parametrize("recipe", [name for name, recipe in RECIPES.items() if recipe.chooses])
def test_a_nan_of_one_run_stays_in_it_in_the_fused_engine(recipe: str, mnist_5k: Dataset) -> None:
    settings = Train(epochs=1, batch_size=500, learning_rate=0.001, hidden=10)
    runs = [Run(recipe, ne, 2, RECIPES[recipe].knob or 0.1, 0) for ne in (3, 4, 2)]
    sound, sick = (fused.Stack(runs, mnist_5k, settings, CPU) for _ in range(2))
    sick.parameters["router"][3:7] = math.nan  # the experts of the second run
    sound.train_epoch(0)
    measured = sick.train_epoch(0) | sick.test(sick.x[:500], sick.y[:500])
    assert measured["network_loss"].isnan().tolist() == [False, True, False]
    for one, other in zip(sound.weights()[::2], sick.weights()[::2], strict=True):
        for name in one:
            assert torch.equal(one[name], other[name])
    # All inputs choose its first two experts, which counts as load. With a shared expert, all
    # choose one of the other three. In expert choice, each expert takes its share.
    others = {"shared-expert": (2, 2), "expert-choice": (0, 0)}
    dead, violation = others.get(recipe, (2, 1))
    assert measured["dead_experts"][1] == dead
    assert measured["max_violation"][1] == violation


# --- the selection bias keeps its precision


@pytest.mark.parametrize("convert", [MoE.bfloat16, MoE.half, lambda m: m.to(torch.bfloat16)])
def test_the_selection_bias_does_not_stall_in_low_precision(convert: Callable) -> None:
    model = MoE(4, 5, 3, num_experts=3, top_k=1, recipe="loss-free", seed=0)
    model.selection_bias.fill_(0.5)
    model = convert(model)
    x = torch.zeros(6, 4, dtype=model.experts.b2.dtype)  # all tie: all choose expert 0
    with torch.no_grad():
        _, aux = model(x)
    assert aux.chosen.sum(0).tolist() == [6, 0, 0]
    for _ in range(100):
        model.balance(aux, 0.001)
    assert model.experts.b2.dtype in (torch.bfloat16, torch.float16)
    assert model.selection_bias.tolist() == pytest.approx([0.4, 0.6, 0.6], abs=1e-5)


def test_the_selection_bias_follows_to_double_and_to_another_device() -> None:
    model = MoE(4, 5, 3, num_experts=3, top_k=1, recipe="loss-free", seed=0)
    assert copy.deepcopy(model).double().selection_bias.dtype == torch.float64
    assert model.bfloat16().to("meta").selection_bias.device.type == "meta"
    assert model.selection_bias.dtype == torch.float32


# --- frozen parameters require no gradient, and block none


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_parameter_that_requires_a_gradient_gets_one(recipe: str) -> None:
    model = layer(recipe)
    output, aux = model(torch.rand(6, 4))
    (output.sum() + aux.gate_loss).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
        frozen = name == "router.weight" and not RECIPES[recipe].trains_router
        assert parameter.requires_grad != frozen, name


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("recipe", RECIPES)
def test_the_input_s_gradient_against_finite_differences(recipe: str, training: bool) -> None:
    model = layer(recipe).double().train(training)
    generator = torch.Generator().manual_seed(3)
    x, draws = torch.rand(2, 5, 4, generator=generator).double()

    def losses(x: Tensor) -> tuple[Tensor, ...]:
        output, aux = model(x, draws)
        return tuple(part for part in (output, aux.gate_loss) if part.requires_grad)

    assert gradcheck(losses, (x.requires_grad_(),))


def test_the_router_of_random_stays_whatever_requires_gradients() -> None:
    model = layer("random").requires_grad_(True)
    output, aux = model(torch.rand(6, 4))
    (output.sum() + aux.gate_loss).backward()
    assert model.router.weight.grad is None


# --- sizes


def test_sizes_that_are_no_whole_numbers() -> None:
    # In a separate process: under pytest, type hints are checked before the layer sees the value.
    code = """
import numpy as np
from moe import MoE
sizes = {"in_features": 4, "hidden_features": 5, "out_features": 3, "num_experts": 4, "top_k": 2}
for name in sizes:
    for bad in (1.5, 2.0, True, "2", None):
        try:
            MoE(**{**sizes, name: bad})
        except TypeError as error:
            print(error)
print(MoE(**{name: np.int64(size) for name, size in sizes.items()}).top_k)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = ("in_features", "hidden_features", "out_features", "num_experts", "top_k")
    bad = ("1.5", "2.0", "True", "'2'", "None")
    expected = [f"{n} = {value}, but it must be a whole number" for n in names for value in bad]
    assert done.stdout.splitlines() == [*expected, "2"]


@pytest.mark.parametrize("recipe", [n for n, recipe in RECIPES.items() if not recipe.has_capacity])
def test_a_capacity_where_there_is_none(recipe: str) -> None:
    expected = f"capacity_factor = 1.25: {recipe} has no capacity; recipes with one: switch, gshard"
    with pytest.raises(ValueError, match=expected):
        layer(recipe, capacity_factor=1.25)


# --- shapes


@pytest.mark.parametrize("shape", [(2, 7, 4), (4,), (1, 1, 1, 4), (2, 0, 4), (0, 4)])
@pytest.mark.parametrize("recipe", RECIPES)
def test_any_leading_shape_is_a_batch(recipe: str, shape: tuple[int, ...]) -> None:
    model = layer(recipe)
    x = torch.rand(shape)
    draws = torch.rand(*shape[:-1], 4)
    output, aux = model(x, draws)
    assert output.shape == (*shape[:-1], 3)
    assert aux.gates.shape == aux.chosen.shape == draws.shape
    flat_output, flat = model(x.reshape(-1, 4), draws.reshape(-1, 4))
    assert torch.equal(output.reshape(-1, 3), flat_output)
    assert torch.equal(aux.gates.reshape(-1, 4), flat.gates)
    assert torch.equal(aux.gate_loss, flat.gate_loss)
    model.balance(aux, 0.1)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_empty_batch_has_losses_of_0(recipe: str, training: bool) -> None:
    more = {"capacity_factor": 1.0} if RECIPES[recipe].has_capacity else {}
    model = layer(recipe, **more).train(training)
    _, aux = model(torch.empty(0, 4))
    for loss in (aux.gate_loss, aux.z_loss, aux.dropped):
        assert loss is None or loss == 0
    assert all((slope == 0).all() for slope in gradients(model, torch.empty(0, 4)))
    model.balance(aux, 0.1)
    if RECIPES[recipe].selection_bias:
        assert (model.selection_bias == 0).all()


def test_a_wrong_number_of_inputs_is_not_taken_for_another_batch() -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        layer("logits")(torch.rand(3, 8))


# --- many experts


class Work(TorchDispatchMode):
    """Counts the operations in its context, and the elements of their largest result."""

    def __init__(self) -> None:
        super().__init__()
        self.operations, self.largest = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operations += 1
        sizes = [part.numel() for part in tree_leaves(result) if isinstance(part, Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


def test_512_experts_are_ranked_without_comparing_all_with_all() -> None:
    # Comparing all pairs needs results of 128 · 512² elements; one pass per expert, 512 operations.
    scores = torch.randn(128, 512)
    with Work() as work:
        rank = gating.ranks(scores)
        gating.top_k_mask(scores, 2)
        gating.within_capacity(rank < 2, rank, 3.0)
    assert 0 < work.largest <= scores.numel()
    assert work.operations < 60


# --- autocast


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("recipe", RECIPES)
def test_autocast_leaves_the_router_in_float32(recipe: str, dtype: torch.dtype) -> None:
    model = layer(recipe, num_experts=8).eval()
    x = torch.rand(500, 4)
    output, aux = model(x)
    with torch.autocast("cpu", dtype):
        cast_output, cast = model(x)
    assert torch.equal(cast.chosen, aux.chosen)
    assert torch.equal(cast.gates, aux.gates)
    assert torch.equal(cast.gate_loss, aux.gate_loss)
    # The experts are cast: a precision of 8 or 11 bits, for outputs of about 1.
    assert not torch.equal(cast_output, output)
    torch.testing.assert_close(cast_output.float(), output, rtol=0, atol=0.05)


@pytest.mark.parametrize("recipe", ["logits", "shazeer"])
def test_of_a_bfloat16_model_the_router_multiplies_in_float32(recipe: str) -> None:
    model = layer(recipe, num_experts=8).bfloat16().eval()
    x = torch.rand(500, 4).bfloat16()
    logits = F.linear(x.float(), model.router.weight.float())
    _, aux = model(x)
    assert torch.equal(aux.chosen, gating.top_k_mask(logits, 2))
    assert aux.gates.dtype == torch.float32
