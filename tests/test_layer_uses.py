"""Typical uses of a layer: each recipe supports them, or says in one line why not."""

import copy
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from moe import MoE
from moe.recipes import RECIPES

ROOT = Path(__file__).parent.parent
every_recipe = pytest.mark.parametrize("recipe", RECIPES)
both_modes = pytest.mark.parametrize("training", [True, False])


def layer(recipe: str, num_experts: int = 4, top_k: int = 2, **more: Any) -> MoE:
    """4 inputs, 5 hidden units, 3 outputs; the recipe's k if it allows only one."""
    top_k = RECIPES[recipe].only_k or min(top_k, num_experts)
    return MoE(4, 5, 3, num_experts, top_k, recipe, seed=0, **more)


def losses(model: Callable, x: Tensor, draws: Tensor | None = None) -> Tensor:
    """A loss that depends on every trainable parameter."""
    output, aux = model(x, draws)
    return output.square().mean() + aux.gate_loss + (0 if aux.z_loss is None else aux.z_loss)


def slopes(
    model: MoE, x: Tensor, draws: Tensor | None = None, of: Callable | None = None
) -> dict[str, Tensor]:
    """The gradients of `losses`, for the model or a transformed model, by parameter name."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    loss = losses(model if of is None else of, x, draws)
    return dict(zip(parameters, torch.autograd.grad(loss, [*parameters.values()]), strict=True))


def by_loop(model: MoE, x: Tensor) -> Tensor:
    """The mixture from the gates: each input alone, each of its experts as two products."""
    _, aux = model(x)
    experts = model.experts
    rows = []
    for image, gates, chosen in zip(x, aux.gates, aux.chosen, strict=True):
        row = torch.zeros(experts.b2.shape[1], dtype=experts.b2.dtype)
        for e in chosen.nonzero().flatten().tolist():
            hidden = torch.clamp(image @ experts.w1[e] + experts.b1[e], min=0)
            out = hidden @ experts.w2[e] + experts.b2[e]
            row = row + gates[e] * (out.softmax(-1) if model.recipe.softmax_experts else out)
        rows.append(row)
    return torch.stack(rows)


# --- values and sizes


@both_modes
@every_recipe
def test_a_batch_of_one(recipe: str, training: bool) -> None:
    model = layer(recipe).train(training)
    x, draws = torch.rand(2, 1, 4)
    assert all(torch.isfinite(slope).all() for slope in slopes(model, x, draws).values())
    if recipe == "expert-choice":  # each expert takes at least one
        assert model(x)[1].chosen.all()
        return
    more, _ = model.eval()(torch.cat([x, torch.rand(3, 4)]))
    torch.testing.assert_close(model(x)[0], more[:1])


@both_modes
@every_recipe
def test_ties_go_to_the_first_experts(recipe: str, training: bool) -> None:
    model = layer(recipe).train(training)
    x, draws = torch.zeros(6, 4), torch.zeros(6, 4)  # all logits 0
    _, aux = model(x, draws)
    first = 4 if recipe == "dense-total" else 2
    expected = [[e < first for e in range(4)]] * 6
    if recipe == "expert-choice":  # here the first inputs: 2 · 6 / 4 for each expert
        expected = [[row < 3] * 4 for row in range(6)]
    assert aux.chosen.tolist() == expected
    assert all(torch.isfinite(slope).all() for slope in slopes(model, x, draws).values())


@both_modes
@pytest.mark.parametrize("scale", [1e6, -1e6])
@every_recipe
def test_inputs_of_a_million(recipe: str, scale: float, training: bool) -> None:
    model = layer(recipe).train(training)
    x = scale * torch.rand(6, 4)
    output, aux = model(x)
    assert torch.isfinite(output).all()
    assert torch.isfinite(aux.gate_loss)
    assert all(torch.isfinite(slope).all() for slope in slopes(model, x).values())


@every_recipe
def test_k_of_all_experts(recipe: str) -> None:
    k = RECIPES[recipe].only_k or 4
    more = {"knob": 1.0} if recipe == "top-p" else {}  # all that p has
    model = layer(recipe, num_experts=k, top_k=k, **more).eval()
    x = torch.rand(6, 4)
    output, aux = model(x)
    assert aux.chosen.all()
    torch.testing.assert_close(output, by_loop(model, x))


@both_modes
@pytest.mark.parametrize("num_experts", [1, 300])
@every_recipe
def test_one_expert_and_three_hundred(recipe: str, num_experts: int, training: bool) -> None:
    if num_experts < RECIPES[recipe].least_k:
        too_many = "top_k = 2 is more than num_experts = 1"
        too_few = "top_k = 1: shared-expert needs k of at least 2"
        with pytest.raises(ValueError, match=f"{too_many}|{too_few}"):
            layer(recipe, num_experts=1)
        return
    model = layer(recipe, num_experts).train(training)
    x = torch.rand(6, 4)
    assert all(torch.isfinite(slope).all() for slope in slopes(model, x).values())
    torch.testing.assert_close(model.eval()(x)[0], by_loop(model, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@every_recipe
def test_other_precisions(recipe: str, dtype: torch.dtype) -> None:
    model = layer(recipe).eval()
    x = torch.rand(6, 4).to(dtype)
    cast = copy.deepcopy(model).to(dtype)
    output, aux = cast(x)
    assert output.dtype == dtype
    # The router computes in float32 or higher.
    assert aux.gates.dtype == torch.promote_types(dtype, torch.float32)
    for name, slope in slopes(cast, x).items():
        assert slope.dtype == dtype, name
        assert torch.isfinite(slope).all(), name
    # bfloat16 has 8 bits: 0.4 % of each weight, of outputs of about 1
    model.load_state_dict(cast.state_dict())
    expected, exact = model(x.float())
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=0.02)
    assert torch.equal(aux.chosen, exact.chosen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_recipe
def test_training_under_autocast(recipe: str, dtype: torch.dtype) -> None:
    model = layer(recipe)
    x, draws = torch.rand(2, 6, 4)
    exact = slopes(model, x, draws)
    with torch.autocast("cpu", dtype):
        loss = losses(model, x, draws)
    loss.backward()
    for name, slope in exact.items():
        found = model.get_parameter(name).grad
        assert found is not None
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, slope, rtol=0.05, atol=0.02)


@every_recipe
def test_inputs_that_are_not_contiguous(recipe: str) -> None:
    model = layer(recipe).eval()
    wide = torch.rand(8, 12)
    for x in (wide.T[:, :4], wide[::2, ::3], wide[:1, :4].expand(5, 4)):
        assert not x.is_contiguous()
        torch.testing.assert_close(model(x)[0], model(x.contiguous())[0])
        for slope, other in zip(
            slopes(model, x).values(), slopes(model, x.contiguous()).values(), strict=True
        ):
            torch.testing.assert_close(slope, other)


# --- torch's tools


@every_recipe
def test_checkpointing(recipe: str) -> None:
    # The recomputed forward pass draws the same noise again.
    model = layer(recipe)
    x = torch.rand(6, 4)
    torch.manual_seed(1)
    expected = slopes(model, x)
    torch.manual_seed(1)
    loss = checkpoint(losses, model, x, use_reentrant=False)
    assert isinstance(loss, Tensor)
    loss.backward()
    for name, slope in expected.items():
        assert torch.equal(model.get_parameter(name).grad, slope), name


@every_recipe
def test_a_deep_copy_is_another_layer(recipe: str) -> None:
    model = layer(recipe)
    twin = copy.deepcopy(model)
    x, draws = torch.rand(2, 6, 4)
    expected = model(x, draws)[0]
    assert torch.equal(twin(x, draws)[0], expected)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(twin(x, draws)[0], expected)
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert names == [name for name, p in twin.named_parameters() if p.requires_grad]


@every_recipe
def test_the_state_dict_goes_round_without_pickle(recipe: str) -> None:
    model, other = layer(recipe), layer(recipe)
    x, draws = torch.rand(2, 6, 4)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.add_(torch.rand_like(tensor))
    other.load_state_dict(load(save(model.state_dict())))
    assert torch.equal(other(x, draws)[0], model(x, draws)[0])
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True).keys() == other.state_dict().keys()


@every_recipe
def test_vmap_is_for_the_router_alone(recipe: str) -> None:
    model = layer(recipe).eval()
    x = torch.rand(3, 6, 4)
    chosen = torch.func.vmap(lambda images: model.route(images).chosen)(x)
    assert torch.equal(chosen, torch.stack([model(images)[1].chosen for images in x]))
    if RECIPES[recipe].chooses:
        with pytest.raises(RuntimeError, match=r"dynamic shape.*nonzero"):
            torch.func.vmap(lambda images: model(images)[0])(x)


def in_a_process_of_its_own(code: str) -> None:
    """Under pytest, every call checks type hints, which torch's tracers would trace too."""
    lines = f"import torch\nfrom tests.test_layer_uses import *\ntorch.set_num_threads(1)\n{code}"
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def assert_compiles(recipe: str) -> None:
    """Outputs and gradients of the compiled layer, for batches of several sizes."""
    torch.compiler.reset()
    model = layer(recipe, num_experts=3)
    compiled = torch.compile(model, backend="aot_eager")
    for rows in (6, 7):
        x, draws = torch.rand(rows, 4), torch.rand(rows, 3)
        torch.testing.assert_close(compiled(x, draws)[0], model(x, draws)[0])
        found = slopes(model, x, draws, of=compiled)
        for name, slope in slopes(model, x, draws).items():
            torch.testing.assert_close(found[name], slope)


@pytest.mark.slow
def test_compile() -> None:
    in_a_process_of_its_own("for recipe in RECIPES: assert_compiles(recipe)")


def assert_exports(recipe: str) -> None:
    """Compare the exported program on batches of other sizes than its example."""
    model = layer(recipe, num_experts=3).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(model, (torch.rand(6, 4),), dynamic_shapes=({0: batch},))
    for rows in (2, 6, 50):
        x = torch.rand(rows, 4)
        output, aux = program.module()(x)
        expected, plain = model(x)
        torch.testing.assert_close(output, expected)
        assert torch.equal(aux.chosen, plain.chosen)
        torch.testing.assert_close(aux.gate_loss, plain.gate_loss)


@pytest.mark.slow
def test_export_with_a_dynamic_batch() -> None:
    in_a_process_of_its_own("for recipe in RECIPES: assert_exports(recipe)")


class Classifier(nn.Module):
    """Computes a loss of the outputs and gates only, as DistributedDataParallel requires."""

    def __init__(self, moe: MoE) -> None:
        super().__init__()
        self.moe = moe

    def forward(self, x: Tensor, draws: Tensor) -> Tensor:
        output, aux = self.moe(x, draws)
        return F.cross_entropy(output, torch.zeros(len(x), dtype=torch.long)) + aux.gate_loss


def rows_of(rank: int) -> tuple[Tensor, Tensor]:
    """Three inputs that differ between processes, so that each leaves experts unused."""
    generator = torch.Generator().manual_seed(rank)
    return torch.rand(3, 4, generator=generator), torch.rand(3, 8, generator=generator)


def trained(model: nn.Module, steps: int, rank: int) -> None:
    """Train with SGD, on the loss of the process's own inputs."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(*rows_of(rank)).backward()
        optimizer.step()


IN_EACH_PROCESS = """
import sys, torch
from safetensors.torch import save_file
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from moe.recipes import RECIPES
from tests.test_layer_uses import Classifier, layer, trained

rank, folder = int(sys.argv[1]), sys.argv[2]
torch.set_num_threads(1)
distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
for recipe in RECIPES:
    model = Classifier(layer(recipe, num_experts=8))
    trained(DistributedDataParallel(model), 3, rank)
    save_file(model.state_dict(), f"{folder}/{recipe}-{rank}")
distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_mean_gradient(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", IN_EACH_PROCESS, str(rank), str(tmp_path)],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    for recipe in RECIPES:
        alone = Classifier(layer(recipe, num_experts=8))
        _, aux = alone.moe(*rows_of(0))
        if recipe not in ("dense-total", "expert-choice"):
            assert (aux.chosen.sum(0) == 0).any()  # experts without any input
        optimizer = torch.optim.SGD(alone.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            ((alone(*rows_of(0)) + alone(*rows_of(1))) / 2).backward()
            optimizer.step()
        one, other = (load((tmp_path / f"{recipe}-{rank}").read_bytes()) for rank in (0, 1))
        for name, expected in alone.state_dict().items():
            assert torch.equal(one[name], other[name]), (recipe, name)
            torch.testing.assert_close(one[name], expected)
