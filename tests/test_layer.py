"""The layer, compared with a slow loop, and properties that follow from its definition."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import gradcheck
from torch.func import functional_call

from moe import MoE
from moe.model.layer import initial_weights
from moe.recipes import RECIPES


@torch.no_grad()
def by_loop(model: MoE, x: torch.Tensor, softmax_experts: bool) -> torch.Tensor:
    """Gates and mixture of logits or blog, image by image, in plain Python arithmetic."""
    rows = []
    for image in x:
        logits = [float(image @ weights) for weights in model.router.weight]
        kept = sorted(range(len(logits)), key=lambda e: (-logits[e], e))[: model.top_k]
        total = sum(math.exp(logits[e]) for e in kept)
        mixture = torch.zeros(10, dtype=x.dtype)
        for e in kept:
            experts = model.experts
            hidden = torch.clamp(image @ experts.w1[e] + experts.b1[e], min=0)
            out = hidden @ experts.w2[e] + experts.b2[e]
            if softmax_experts:
                out = torch.exp(out) / torch.exp(out).sum()
            mixture += math.exp(logits[e]) / total * out
        rows.append(mixture)
    return torch.stack(rows)


def by_hand(recipe: str, top_k: int, **more: Any) -> MoE:
    """A router that passes its three inputs on as logits, and three experts with constant outputs
    over two classes: ln of 1 : 1, 1 : 3 and 3 : 1."""
    model = MoE(3, 2, 2, num_experts=3, top_k=top_k, recipe=recipe, seed=0, **more).double()
    with torch.no_grad():
        model.router.weight.copy_(torch.eye(3))
        model.experts.w2.zero_()
        model.experts.b2.copy_(torch.tensor([[1.0, 1], [1, 3], [3, 1]]).log())
    return model


# Gates of the two largest: .4 .6 of experts 1, 2; .6 .4 of 0, 2; .5 .5 of 0, 1 twice
WEIGHTS = [[1, 2, 3], [3, 1, 2], [1, 1, 1], [4, 4, 1]]


def test_the_mixture_of_probabilities_by_hand() -> None:
    # Experts give 1/2, 1/4 and 3/4 to class 0: .4/4 + .6·3/4 = .55; .6/2 + .4·3/4 = .6;
    # .5/2 + .5/4 = .375 twice; class 1 has the rest.
    output, _ = by_hand("blog", 2)(torch.tensor(WEIGHTS, dtype=torch.float64).log())
    expected = [[0.55, 0.45], [0.6, 0.4], [0.375, 0.625], [0.375, 0.625]]
    torch.testing.assert_close(output, torch.tensor(expected, dtype=torch.float64))


def test_the_mixture_of_logits_by_hand() -> None:
    # In units of ln 3: expert 1 gives 0, 1 and expert 2 gives 1, 0, expert 0 nothing.
    x = torch.tensor(WEIGHTS, dtype=torch.float64).log()
    output, aux = by_hand("logits", 2)(x)
    expected = [[0.6, 0.4], [0.4, 0], [0, 0.5], [0, 0.5]]
    torch.testing.assert_close(output / math.log(3), torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(aux.importance, torch.tensor([1.6, 1.4, 1], dtype=torch.float64))
    # switch weights by the plain probabilities: 1/3, 1/2; 1/2, 1/3; 1/3, 1/3; 4/9, 4/9.
    output, aux = by_hand("switch", 2)(x)
    expected = [[1 / 2, 1 / 3], [1 / 3, 0], [0, 1 / 3], [0, 4 / 9]]
    torch.testing.assert_close(output / math.log(3), torch.tensor(expected, dtype=torch.float64))
    # Their sums over inputs: 1/2 + 1/3 + 4/9; 1/3 + 1/3 + 4/9; 1/2 + 1/3
    importance = torch.tensor([23 / 18, 10 / 9, 5 / 6], dtype=torch.float64)
    torch.testing.assert_close(aux.importance, importance)


def test_what_is_dropped_gets_nothing_in_training() -> None:
    # Room for 2 of 4: test_recipes.py; input 3, the third for expert 0, has no expert left.
    model = by_hand("switch", 1, capacity_factor=1.0)
    model.experts.b2.data[0] = 1
    x = torch.tensor(WEIGHTS, dtype=torch.float64).log()
    output, aux = model.train()(x)
    assert (output[3] == 0).all()
    assert (output[:3] != 0).any(1).all()
    assert aux.dropped == 0.25
    output, aux = model.eval()(x)
    assert (output != 0).any(1).all()
    assert aux.dropped == 0


@pytest.mark.parametrize("recipe", ["blog", "logits"])
def test_against_a_loop(recipe: str) -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=3, recipe=recipe, seed=0).double()
    x = torch.rand(9, 20, dtype=torch.float64)
    output, aux = model(x)
    torch.testing.assert_close(output, by_loop(model, x, softmax_experts=recipe == "blog"))
    torch.testing.assert_close(aux.gates.sum(1), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(aux.importance, aux.gates.sum(0))


def test_switch_weighs_with_the_plain_probability() -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=1, recipe="switch", seed=0).double()
    x = torch.rand(9, 20, dtype=torch.float64)
    output, _ = model(x)
    probs, best = model.router(x).softmax(-1).max(-1)
    expected = torch.cat([model.experts(x[i : i + 1], int(e)) for i, e in enumerate(best)])
    torch.testing.assert_close(output, probs[:, None] * expected)


def test_shapes_of_parameters() -> None:
    model = MoE(784, 10, 10, num_experts=4, top_k=2)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "router.weight": (4, 784),
        "experts.w1": (4, 784, 10),
        "experts.b1": (4, 10),
        "experts.w2": (4, 10, 10),
        "experts.b2": (4, 10),
    }


@pytest.mark.parametrize("recipe", ["blog", "logits"])
def test_with_k_1_nothing_trains_the_router(recipe: str) -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=1, recipe=recipe, seed=0)
    output, aux = model(torch.rand(9, 20))
    (F.cross_entropy(output, torch.arange(9)) + 10 * aux.gate_loss).backward()
    assert model.router.weight.grad is not None
    assert (model.router.weight.grad == 0).all()


def test_with_k_1_switch_trains_its_router() -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=1, recipe="switch", seed=0)
    output, _ = model(torch.rand(9, 20))
    F.cross_entropy(output, torch.arange(9)).backward()
    assert model.router.weight.grad is not None
    assert model.router.weight.grad.norm() > 0


def test_with_k_1_shazeer_trains_its_router_by_its_loss_alone() -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=1, recipe="shazeer", seed=0)
    torch.manual_seed(0)
    output, aux = model(torch.rand(9, 20))
    router = (model.router.weight, model.noise.weight)
    by_network_loss = torch.autograd.grad(
        F.cross_entropy(output, torch.arange(9)), router, retain_graph=True
    )
    assert all((slope == 0).all() for slope in by_network_loss)
    assert all(slope.norm() > 0 for slope in torch.autograd.grad(aux.gate_loss, router))


# Of the others, random's router is frozen and the rest have no gate loss.
BALANCED_BY_GRADIENT = (
    *("blog", "logits", "switch", "shazeer", "gshard", "mixtral", "shared-expert", "top-p"),
)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("recipe", RECIPES)
def test_gradients_of_every_parameter_against_finite_differences(
    recipe: str, training: bool
) -> None:
    top_k = RECIPES[recipe].only_k or 2
    model = MoE(4, 3, 3, num_experts=3, top_k=top_k, recipe=recipe, seed=1).double()
    model.train(training)
    generator = torch.Generator().manual_seed(2)
    x, draws = torch.rand(5, 4, generator=generator), torch.rand(5, 3, generator=generator)
    # A frozen router has no gradient, by definition and not as a derivative.
    parameters = {
        name: parameter.detach().requires_grad_()
        for name, parameter in model.named_parameters()
        if recipe != "random" or name != "router.weight"
    }
    y = torch.tensor([0, 1, 2, 0, 1])

    def losses(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = dict(zip(parameters, values, strict=True))
        output, aux = functional_call(model, state, (x.double(), draws.double()))
        assert aux.gate_loss.requires_grad == (recipe in BALANCED_BY_GRADIENT)
        parts = (F.cross_entropy(output, y), aux.gate_loss, aux.z_loss)
        return tuple(part for part in parts if part is not None and part.requires_grad)

    assert gradcheck(losses, tuple(parameters.values()))


def test_one_expert_trains_as_a_plain_mlp() -> None:
    torch.manual_seed(0)
    model = MoE(20, 6, 10, num_experts=1, top_k=1, seed=0).double()
    mlp = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 10)).double()
    weights = model.experts
    of_mlp = [weights.w1[0].T, weights.b1[0], weights.w2[0].T, weights.b2[0]]
    with torch.no_grad():
        for parameter, value in zip(mlp.parameters(), of_mlp, strict=True):
            parameter.copy_(value)
    router = model.router.weight.clone()
    for module in (model, mlp):
        optimizer = torch.optim.Adam(module.parameters(), lr=0.01)
        for step in range(20):
            x = torch.rand(9, 20, generator=torch.Generator().manual_seed(step)).double()
            if module is model:
                output, aux = model(x)
                loss = F.cross_entropy(output, torch.arange(9)) + 10 * aux.gate_loss
                assert aux.gate_loss == 0
            else:
                loss = F.cross_entropy(mlp(x), torch.arange(9))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    of_model = [weights.w1[0].T, weights.b1[0], weights.w2[0].T, weights.b2[0]]
    for parameter, value in zip(mlp.parameters(), of_model, strict=True):
        torch.testing.assert_close(parameter, value, rtol=0, atol=1e-12)
    assert torch.equal(model.router.weight, router)


def test_one_expert_is_a_plain_mlp() -> None:
    model = MoE(20, 6, 10, num_experts=1, top_k=1, seed=0)
    x = torch.rand(9, 20)
    output, aux = model(x)
    weights = model.experts
    mlp = F.relu(x @ weights.w1[0] + weights.b1[0]) @ weights.w2[0] + weights.b2[0]
    torch.testing.assert_close(output, mlp)
    assert aux.gate_loss == 0


def test_importance_sums_to_the_batch() -> None:
    _, aux = MoE(20, 6, 10, num_experts=5, top_k=2, seed=0)(torch.rand(9, 20))
    assert aux.importance.sum().item() == pytest.approx(9)


def test_an_expert_starts_the_same_whatever_the_number_of_experts() -> None:
    few, many = (initial_weights(3, ne, 20, 6, 10) for ne in (2, 7))
    for name, weights in few.items():
        assert torch.equal(weights, many[name][:2])
    assert not torch.equal(few["experts.w1"], initial_weights(4, 2, 20, 6, 10)["experts.w1"])


def test_initial_weights_are_those_of_nn_linear_in_spread() -> None:
    weights = initial_weights(0, 8, 784, 10, 10)
    # Uniform in ± 1/√784 = 1/28; its standard deviation is 1/28/√3, within 2 % for 62,720 draws.
    assert weights["experts.w1"].abs().max() <= 1 / 28
    assert weights["experts.w1"].std().item() == pytest.approx(1 / 28 / 3**0.5, rel=0.02)
    assert weights["experts.w2"].abs().max() <= 10**-0.5
    fan_in = {"router.weight": 784, "experts.b1": 784, "experts.w2": 10, "experts.b2": 10}
    for name, size in fan_in.items():
        assert weights[name].abs().max() <= size**-0.5
        # 80 draws at least: within five of their standard errors, 28 %
        assert weights[name].std().item() == pytest.approx((3 * size) ** -0.5, rel=0.28)


def test_without_a_seed_the_weights_come_from_torch_s_generator() -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return MoE(20, 6, 10, num_experts=2, top_k=1).experts.w1

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_what_recipes_have_beside() -> None:
    # shazeer starts with a spread of softplus(0) + 0.01 everywhere, a bias starts from 0.
    shazeer = MoE(20, 6, 10, num_experts=3, top_k=1, recipe="shazeer").state_dict()
    assert shazeer["noise.weight"].shape == (3, 20)
    assert (shazeer["noise.weight"] == 0).all()
    for recipe in ("loss-free", "deepseek-v3"):
        biased = MoE(20, 6, 10, num_experts=3, top_k=1, recipe=recipe).state_dict()
        assert biased["selection_bias"].tolist() == [0, 0, 0]
    for recipe in set(RECIPES) - {"shazeer", "loss-free", "deepseek-v3"}:
        model = MoE(20, 6, 10, num_experts=3, top_k=RECIPES[recipe].least_k, recipe=recipe)
        assert len(model.state_dict()) == 5


@pytest.mark.parametrize(
    ("recipe", "draw"),
    [("shazeer", torch.randn), ("gshard", torch.rand)],
    ids=["normal", "uniform"],
)
def test_random_numbers_are_torch_s_and_for_training_alone(recipe: str, draw: Any) -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=2, recipe=recipe, seed=0)
    x = torch.rand(64, 20)
    torch.manual_seed(7)
    drawn = model.train()(x)[1].gates
    torch.manual_seed(7)
    assert torch.equal(model(x, draw(64, 5))[1].gates, drawn)
    assert not torch.equal(model(x)[1].gates, drawn)
    plain = model.eval()(x)[1].gates
    before = torch.get_rng_state()
    assert torch.equal(model(x)[1].gates, plain)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model(x, draw(64, 5))[1].gates, plain)


@pytest.mark.parametrize("recipe", ["loss-free", "deepseek-v3"])
def test_balance_moves_the_bias_by_its_rate(recipe: str) -> None:
    # Without a bias, inputs choose 2, 0, 0 and 0: experts have 3, 0 and 1 of a mean of 4/3.
    model = by_hand(recipe, 1)
    _, aux = model(torch.tensor(WEIGHTS, dtype=torch.float64).log())
    model.balance(aux, 0.5)
    model.balance(aux, 0.25)
    assert model.selection_bias.tolist() == [-0.75, 0.75, 0.75]
    others = by_hand("logits", 1)
    others.balance(aux, 0.5)  # nothing to move
    assert "selection_bias" not in others.state_dict()


@pytest.mark.parametrize("recipe", RECIPES)
def test_z_loss_is_of_switch_alone(recipe: str) -> None:
    _, aux = by_hand(recipe, RECIPES[recipe].least_k)(
        torch.tensor(WEIGHTS, dtype=torch.float64).log()
    )
    # The weights of a row sum to 6, 6, 3, 9.
    expected = (2 * math.log(6) ** 2 + math.log(3) ** 2 + math.log(9) ** 2) / 4
    if recipe == "switch":
        assert aux.z_loss is not None
        assert aux.z_loss.item() == pytest.approx(expected)
    else:
        assert aux.z_loss is None


def test_a_knob_is_the_router_s_own_number() -> None:
    # test_recipes.py: at 0.45 inputs have 1, 1, 2 and 2 experts, at 0.01 one each.
    weights = torch.tensor(WEIGHTS, dtype=torch.float64).log()
    model = by_hand("top-p", 3)
    assert model.knob == 0.4  # the paper's
    for knob, slots in ((0.45, 6), (0.01, 4)):
        model.knob = knob
        assert model.route(weights).chosen.sum() == slots


def test_the_readme_s_example_runs() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    (code,) = [part for part in readme.split("```python\n")[1:] if "from moe import MoE" in part]
    names: dict[str, Any] = {}
    exec(code.partition("```")[0], names)
    assert names["output"].shape == (128, 10)
    assert names["aux"].gates.shape == (128, 8)
    assert names["aux"].importance.shape == (8,)
    assert names["model"].router.weight.grad.norm() > 0


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_experts": 2, "top_k": 3}, "top_k = 3 is more than num_experts = 2"),
        ({"num_experts": 0, "top_k": 1}, "num_experts = 0, but it must be at least 1"),
        ({"num_experts": 2, "top_k": 0}, "top_k = 0, but it must be at least 1"),
        ({"num_experts": 2, "top_k": 1, "recipe": "soup"}, "recipe 'soup' is unknown"),
        ({"num_experts": 4, "top_k": 1, "recipe": "gshard"}, "top_k = 1: gshard allows only k = 2"),
        (
            {"num_experts": 4, "top_k": 2, "recipe": "dense-total"},
            "dense-total allows only k = 1",
        ),
        (
            {"num_experts": 4, "top_k": 1, "recipe": "shared-expert"},
            "top_k = 1: shared-expert needs k of at least 2",
        ),
        ({"num_experts": 4, "top_k": 1, "knob": 0.5}, "knob = 0.5: logits has none"),
        (
            {"num_experts": 4, "top_k": 1, "recipe": "top-p", "knob": 1.5},
            "knob = 1.5: of top-p lc is the sum of p to reach, above 0 and at most 1",
        ),
        (
            {"num_experts": 2, "top_k": 1, "capacity_factor": 0.0},
            "capacity_factor = 0.0, but it must be above 0",
        ),
    ],
)
def test_impossible_sizes(sizes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoE(784, 10, 10, **sizes)
