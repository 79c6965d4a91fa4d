"""Gates and gate losses against arithmetic by hand, and their gradients against differences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck

from moe import gating
from moe.recipes import RECIPES, recipe_named

# Three experts, four inputs; row i of the softmax over all is i's weights over their sum.
LOGITS = torch.tensor([[1, 2, 3], [3, 1, 2], [1, 1, 1], [4, 4, 1]], dtype=torch.float64).log()


def test_top_k_softmax_by_hand() -> None:
    # Two largest of 1 2 3: 2/5, 3/5. Of 3 1 2: 3/5, 2/5. Ties go to the lowest index.
    expected = [[0, 0.4, 0.6], [0.6, 0, 0.4], [0.5, 0.5, 0], [0.5, 0.5, 0]]
    gates, chosen = gating.top_k_softmax(LOGITS, 2)
    torch.testing.assert_close(gates, torch.tensor(expected, dtype=torch.float64))
    assert torch.equal(chosen, gates > 0)


def test_softmax_top_k_by_hand() -> None:
    # 1 2 3 -> 1/6 1/3 1/2; 3 1 2 -> 1/2 1/6 1/3; 1 1 1 -> thirds; 4 4 1 -> 4/9 4/9 1/9.
    expected = [[0, 1 / 3, 1 / 2], [1 / 2, 0, 1 / 3], [1 / 3, 1 / 3, 0], [4 / 9, 4 / 9, 0]]
    gates, _, router_probs = gating.softmax_top_k(LOGITS, 2)
    torch.testing.assert_close(gates, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(router_probs.sum(-1), torch.ones(4, dtype=torch.float64))


def test_importance_and_cv_squared_by_hand() -> None:
    # Importance 0 + .6 + .5 + .5 = 1.6, 1.4, 1.0; mean 4/3; deviations 4/15, 1/15, -5/15;
    # variance (16 + 1 + 25) / 225 / 3 = 14/225; over 16/9: 14/225 · 9/16 = 0.035.
    gates, _ = gating.top_k_softmax(LOGITS, 2)
    total = gating.importance(gates)
    torch.testing.assert_close(total, torch.tensor([1.6, 1.4, 1.0], dtype=torch.float64))
    assert gating.cv_squared(total).item() == pytest.approx(0.035)


def test_cv_squared_is_0_for_one_expert_and_skips_padding() -> None:
    assert gating.cv_squared(torch.tensor([4.0])).item() == 0
    padded = torch.tensor([[1.0, 3.0, 0.0], [2.0, 0.0, 0.0]])
    # 1 and 3: variance 1 over mean 2 squared.
    assert gating.cv_squared(padded, torch.tensor([2, 1])).tolist() == [0.25, 0]


def test_switch_loss_by_hand() -> None:
    # k = 1: inputs go to experts 2, 0, 0, 0, so f = 3/4, 0, 1/4.
    # P_0 = (1/6 + 1/2 + 1/3 + 4/9) / 4 = 13/36; P_2 = (1/2 + 1/3 + 1/3 + 1/9) / 4 = 23/72.
    # 3 (3/4 · 13/36 + 1/4 · 23/72) = 101/96.
    _, chosen, router_probs = gating.softmax_top_k(LOGITS, 1)
    loss = gating.switch_loss(chosen, router_probs, 1, 3)
    assert loss.item() == pytest.approx(101 / 96)


def test_switch_loss_is_1_at_balance_and_for_one_expert() -> None:
    logits = torch.eye(3, dtype=torch.float64)
    _, chosen, router_probs = gating.softmax_top_k(logits, 1)
    assert gating.switch_loss(chosen, router_probs, 1, 3).item() == pytest.approx(1)
    assert recipe_named("switch").route(torch.randn(5, 1), 1, 1).gate_loss.item() == 1


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_gradients_against_finite_differences(recipe: str, top_k: int) -> None:
    # No ties and nothing near one: the choice does not change within a difference's step.
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    route = recipe_named(recipe).route

    def gates_and_loss(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        routing = route(x, top_k, 4)
        return routing.gates, routing.gate_loss

    assert gradcheck(gates_and_loss, logits.requires_grad_())


def test_k_and_size_may_differ_between_runs_of_a_stack() -> None:
    logits = torch.randn(3, 7, 4, dtype=torch.float64)
    logits[1, :, 3:] = -torch.inf
    sizes, top_k = torch.tensor([4, 3, 4]), torch.tensor([1, 2, 3])
    for recipe in RECIPES.values():
        together = recipe.route(logits, top_k, sizes)
        for row, (size, k) in enumerate(zip(sizes.tolist(), top_k.tolist(), strict=True)):
            alone = recipe.route(logits[row, :, :size], k, size)
            torch.testing.assert_close(together.gates[row, :, :size], alone.gates)
            torch.testing.assert_close(together.gate_loss[row], alone.gate_loss)
            assert not together.chosen[row, :, size:].any()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_properties(experts: int, top_k: int, seed: int) -> None:
    top_k = min(top_k, experts)
    generator = torch.Generator().manual_seed(seed)
    # Whole numbers make many ties.
    logits = torch.randint(-3, 4, (8, experts), generator=generator).double()
    shuffle = torch.randperm(experts, generator=generator)
    distinct = logits + torch.rand(8, experts, dtype=torch.float64, generator=generator) / 2
    for recipe in RECIPES.values():
        routing = recipe.route(logits, top_k, experts)
        assert (routing.gates >= 0).all()
        assert (routing.chosen.sum(-1) == top_k).all()
        assert torch.equal(routing.gates > 0, routing.chosen)
        assert (routing.gates.sum(-1) <= 1 + 1e-12).all()
        shifted = recipe.route(logits + 5, top_k, experts)
        torch.testing.assert_close(shifted.gates, routing.gates)
        plain = recipe.route(distinct, top_k, experts)
        permuted = recipe.route(distinct[:, shuffle], top_k, experts)
        torch.testing.assert_close(permuted.gates, plain.gates[:, shuffle])
        torch.testing.assert_close(permuted.gate_loss, plain.gate_loss)
