"""The textbook layer against a slow loop, and the facts that follow from its definition."""

import math

import pytest
import torch
import torch.nn.functional as F

from moe import MoE
from moe.layer import initial_weights


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


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"num_experts": 2, "top_k": 3}, "top_k = 3 is more than num_experts = 2"),
        ({"num_experts": 0, "top_k": 1}, "num_experts = 0, but it must be at least 1"),
        ({"num_experts": 2, "top_k": 0}, "top_k = 0, but it must be at least 1"),
        ({"num_experts": 2, "top_k": 1, "recipe": "soup"}, "recipe 'soup' is unknown"),
    ],
)
def test_impossible_sizes(sizes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoE(784, 10, 10, **sizes)
