"""Each recipe on three experts and four inputs, by hand; its gradients; what holds for any input.

Functions that recipes share are tested in test_gating.py, and training in test_fused.py.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from moe.gating import RouterInputs, Routing
from moe.recipes import RECIPES, recipe_named

# Row i of the softmax over all is i's weights over their sum.
LOGITS = torch.tensor([[1, 2, 3], [3, 1, 2], [1, 1, 1], [4, 4, 1]], dtype=torch.float64).log()
FIRST_CHOICE = [[0, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
SOFTPLUS_IS_1 = math.log(math.e - 1)
DENSE = ("dense-active", "dense-total")


def route(recipe: str, logits: torch.Tensor, top_k: Any, size: Any = 3, **more: Any) -> Routing:
    """With what the recipe needs beside logits, where the test does not say: no noise, no bias."""
    needs, like = recipe_named(recipe), torch.zeros_like(logits)
    if needs.trainable_noise:
        more.setdefault("noise_logits", like + SOFTPLUS_IS_1)
    if needs.draws:
        more.setdefault("draws", like)
    if needs.selection_bias:
        more.setdefault("bias", like[..., 0, :])
    return needs.route(RouterInputs(logits, top_k, size, **more))


def assert_rows(actual: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


# --- by hand


@pytest.mark.parametrize("recipe", ["blog", "logits", "random"])
def test_blog_logits_and_random_by_hand(recipe: str) -> None:
    # As test_gating.py derives: gates by the two largest, importance 1.6, 1.4, 1.0, CV² 0.035.
    routing = route(recipe, LOGITS, 2)
    assert_rows(routing.gates, [[0, 0.4, 0.6], [0.6, 0, 0.4], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert routing.gate_loss.item() == pytest.approx(0.035)


def test_random_gives_its_router_no_gradient() -> None:
    logits = LOGITS.clone().requires_grad_()
    routing = route("random", logits, 2)
    assert not routing.gates.requires_grad
    assert not routing.gate_loss.requires_grad


def test_switch_by_hand() -> None:
    routing = route("switch", LOGITS, 1)
    assert_rows(routing.gates, [[0, 0, 1 / 2], [1 / 2, 0, 0], [1 / 3, 0, 0], [4 / 9, 0, 0]])
    assert routing.gate_loss.item() == pytest.approx(101 / 96)  # test_gating.py
    assert routing.dropped == 0


def test_switch_drops_what_is_beyond_capacity_in_training_alone() -> None:
    # Room for ⌈1 · 1 · 4 / 3⌉ = 2: of inputs 1, 2 and 3 on expert 0 the last is dropped, 1 of 4.
    limited = {"capacity_factor": 1.0}
    routing = route("switch", LOGITS, 1, training=True, **limited)
    assert_rows(routing.gates, [[0, 0, 1 / 2], [1 / 2, 0, 0], [1 / 3, 0, 0], [0, 0, 0]])
    assert routing.dropped == 0.25
    # The loss is of what the router wanted.
    assert routing.gate_loss.item() == pytest.approx(101 / 96)
    assert route("switch", LOGITS, 1, **limited).chosen.int().tolist() == FIRST_CHOICE


def test_shazeer_by_hand() -> None:
    # k = 1, spread 1. Rows are 0 1 2 in some order; by test_gating.py their probabilities are
    # Φ(−2), Φ(−1), Φ(1) = 0.02275, 0.15866, 0.84134.
    logits = torch.tensor([[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 1, 2]], dtype=torch.float64)
    # Load: 2 · 0.02275 + 0.84134 + 0.15866 = 1.04550; 2 · 0.15866 + 0.02275 + 0.84134 = 1.18140;
    # 2 · 0.84134 + 0.15866 + 0.02275 = 1.86409; mean 1.36366, deviations −0.31816, −0.18226,
    # 0.50043; variance 0.128292; CV² 0.068990.
    # Gates are 1, importance 1, 1, 2: variance 2/9 over 16/9 is 0.125.
    routing = route("shazeer", logits, 1)
    assert_rows(routing.gates, [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert routing.gate_loss.item() == pytest.approx(0.125 + 0.068990, abs=1e-5)


def test_shazeer_s_noise_moves_the_choice_in_training_alone() -> None:
    # Input 2 has three equal logits; noise of −1, 0, 1 times ln 2 leaves 2^−1 : 1 : 2 of them.
    noise = {"noise_logits": torch.zeros_like(LOGITS), "draws": torch.zeros_like(LOGITS)}
    noise["draws"][2] = torch.tensor([-1, 0, 1])
    routing = route("shazeer", LOGITS, 2, training=True, **noise)
    assert_rows(routing.gates, [[0, 0.4, 0.6], [0.6, 0, 0.4], [0, 1 / 3, 2 / 3], [0.5, 0.5, 0]])
    assert_rows(route("shazeer", LOGITS, 2, **noise).gates[2:3], [[0.5, 0.5, 0]])


def test_gshard_by_hand() -> None:
    # Second gates are 0.4, 0.4, 0.5, 0.5; twice that has to be more than the draw.
    gates = [[0, 0.4, 0.6], [0.6, 0, 0.4], [0.5, 0.5, 0], [0.5, 0.5, 0]]
    assert_rows(route("gshard", LOGITS, 2).gates, gates)
    draws = torch.tensor([0.7, 0.9, 0.99, 0.0], dtype=torch.float64)[:, None].expand(4, 3)
    routing = route("gshard", LOGITS, 2, training=True, draws=draws)
    gates[1] = [0.6, 0, 0]
    assert_rows(routing.gates, gates)
    assert routing.gate_loss.item() == pytest.approx(101 / 96)  # test_gating.py


def test_gshard_drops_what_is_beyond_capacity() -> None:
    # Room for ⌈0.5 · 2 · 4 / 3⌉ = 2: test_gating.py has who gets in; 2 of 8 slots do not.
    routing = route("gshard", LOGITS, 2, training=True, capacity_factor=0.5)
    assert_rows(routing.gates, [[0, 0.4, 0.6], [0.6, 0, 0.4], [0.5, 0.5, 0], [0, 0, 0]])
    assert routing.dropped == 0.25


def test_loss_free_by_hand() -> None:
    # The sigmoid of ln w is w / (1 + w): 1/2 2/3 3/4; 3/4 1/2 2/3; halves; 4/5 4/5 1/2.
    # Expert 1's bias of 0.2 wins inputs 0 (0.87 against 0.75), 2 and 3, not 1 (0.7 against 0.75);
    # gates are without it.
    bias = torch.tensor([0, 0.2, 0], dtype=torch.float64)
    routing = route("loss-free", LOGITS, 1, bias=bias)
    assert_rows(routing.gates, [[0, 2 / 3, 0], [3 / 4, 0, 0], [0, 1 / 2, 0], [0, 4 / 5, 0]])
    assert routing.gate_loss == 0


def test_dense_controls_by_hand() -> None:
    assert_rows(route("dense-active", LOGITS, 2).gates, [[1, 1, 0]] * 4)
    assert_rows(route("dense-total", LOGITS, 1).gates, [[1, 1, 1]] * 4)
    assert route("dense-total", LOGITS, 1).gate_loss == 0


# --- gradients, against central differences


WITH_GRADIENTS = [
    (name, k)
    for name, recipe in RECIPES.items()
    for k in (1, 2, 3, 4)
    if name not in ("random", *DENSE) and k == (recipe.only_k or k)
]


@pytest.mark.parametrize(("recipe", "top_k"), WITH_GRADIENTS)
@pytest.mark.parametrize("training", [False, True])
def test_gradients_against_finite_differences(recipe: str, top_k: int, training: bool) -> None:
    # No ties and nothing near one: the choice does not change within a difference's step.
    generator = torch.Generator().manual_seed(1)
    logits, noise = torch.randn(2, 6, 4, dtype=torch.float64, generator=generator)
    more: dict[str, Any] = {"training": training}
    if recipe_named(recipe).draws:
        more["draws"] = torch.rand(6, 4, dtype=torch.float64, generator=generator)

    def differentiable(x: torch.Tensor, noise_logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        noisy = {"noise_logits": noise_logits} if recipe_named(recipe).trainable_noise else {}
        routing = route(recipe, x, top_k, 4, **noisy, **more)
        parts = (routing.gates, routing.gate_loss, routing.z_loss)
        return tuple(part for part in parts if part is not None and part.requires_grad)

    assert gradcheck(differentiable, (logits.requires_grad_(), noise.requires_grad_()))


@pytest.mark.parametrize("recipe", [name for name, k in WITH_GRADIENTS if k == 1] + ["random"])
def test_which_routers_get_a_gradient_at_k_1(recipe: str) -> None:
    """Through the gates, that is from the network loss: the facts behind claims C5 and C6."""
    logits = LOGITS.clone().requires_grad_()
    gates = route(recipe, logits, 1, training=True).gates
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)  # as if experts' losses
    if gates.requires_grad:
        (gates * weights).sum().backward()
    trained = logits.grad is not None and bool((logits.grad != 0).any())
    assert trained == (recipe in ("switch", "loss-free"))
    # shazeer's router is reached through its load loss instead.
    if recipe == "shazeer":
        (slope,) = torch.autograd.grad(route(recipe, logits, 1, training=True).gate_loss, logits)
        assert (slope != 0).any()


# --- what holds for any input


def test_k_and_size_may_differ_between_runs_of_a_stack() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, noise, draws = torch.rand(3, 3, 7, 4, dtype=torch.float64, generator=generator)
    logits[1, :, 3:] = -torch.inf
    sizes, all_k = [4, 3, 4], [1, 2, 3]
    for name, recipe in RECIPES.items():
        ks = [recipe.only_k or k for k in all_k]
        more = {"noise_logits": noise} if recipe.trainable_noise else {}
        more |= {"draws": draws} if recipe.draws else {}
        more = {"training": True, "capacity_factor": 1.0, **more}
        together = route(name, logits, torch.tensor(ks), torch.tensor(sizes), **more)
        for row, (size, k) in enumerate(zip(sizes, ks, strict=True)):
            of_row = {
                key: value[row, :, :size] if isinstance(value, torch.Tensor) else value
                for key, value in more.items()
            }
            alone = route(name, logits[row, :, :size], k, size, **of_row)
            torch.testing.assert_close(together.gates[row, :, :size], alone.gates)
            torch.testing.assert_close(together.gate_loss[row], alone.gate_loss)
            assert not together.chosen[row, :, size:].any()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(RECIPES)), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**31))
def test_properties(name: str, experts: int, top_k: int, seed: int) -> None:
    recipe = recipe_named(name)
    experts = max(experts, recipe.only_k or 1)
    top_k = recipe.only_k or min(top_k, experts)
    generator = torch.Generator().manual_seed(seed)
    # Whole numbers make many ties.
    logits = torch.randint(-3, 4, (8, experts), generator=generator).double()

    plain = route(name, logits, top_k, experts)
    slots = experts if name == "dense-total" else top_k
    assert (plain.gates >= 0).all()
    assert (plain.chosen.sum(-1) == slots).all()
    assert torch.equal(plain.gates > 0, plain.chosen)
    if name not in DENSE and name != "loss-free":  # whose gates do not compete
        assert (plain.gates.sum(-1) <= 1 + 1e-12).all()
        # The softmax does not see a constant; the sigmoid of loss-free does.
        shifted = route(name, logits + 5, top_k, experts)
        torch.testing.assert_close(shifted.gates, plain.gates)

    # In training, gshard and limited capacity drop slots, and say how many.
    distinct, noise, draws = torch.rand(3, 8, experts, dtype=torch.float64, generator=generator)
    more: dict[str, Any] = {"training": True, "capacity_factor": 0.75}
    more |= {"noise_logits": noise} if recipe.trainable_noise else {}
    more |= {"draws": draws[:, :1].expand(8, experts)} if name == "gshard" else {}
    more |= {"draws": draws} if name == "shazeer" else {}
    trained = route(name, distinct, top_k, experts, **more)
    assert (trained.gates >= 0).all()
    assert (trained.chosen.sum(-1) <= slots).all()
    assert torch.equal(trained.gates > 0, trained.chosen)
    if trained.dropped is not None:
        room = math.ceil(0.75 * top_k * 8 / experts)
        assert (trained.chosen.sum(0) <= room).all()
        if name == "switch":
            assert trained.dropped.item() == pytest.approx(1 - trained.chosen.sum() / (8 * top_k))

    # Experts have no order, but for the dense controls, which take the first.
    if name not in DENSE:
        shuffle = torch.randperm(experts, generator=generator)
        moved = {
            key: value[:, shuffle] if isinstance(value, torch.Tensor) else value
            for key, value in more.items()
        }
        permuted = route(name, distinct[:, shuffle], top_k, experts, **moved)
        torch.testing.assert_close(permuted.gates, trained.gates[:, shuffle])
        torch.testing.assert_close(permuted.gate_loss, trained.gate_loss)
