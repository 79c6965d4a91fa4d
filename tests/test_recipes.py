"""Each recipe on three experts and four inputs, by hand; its gradients; what holds for any input.

Functions that recipes share are tested in test_gating.py, and training in test_fused.py.
"""

import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from moe.recipes import RECIPES, recipe_named
from moe.recipes.gating import RouterInputs, Routing

# Row i of the softmax over all is i's weights over their sum.
LOGITS = torch.tensor([[1, 2, 3], [3, 1, 2], [1, 1, 1], [4, 4, 1]], dtype=torch.float64).log()
FIRST_CHOICE = [[0, 0, 1], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
DENSE = ("dense-active", "dense-total")
README = Path(__file__).parent.parent / "README.md"


def route(recipe: str, logits: torch.Tensor, top_k: Any, size: Any = 3, **more: Any) -> Routing:
    """With what the recipe needs beside logits, where the test does not say: no noise, no bias."""
    needs, like = recipe_named(recipe), torch.zeros_like(logits)
    if needs.trainable_noise:
        more.setdefault("noise_logits", like + noise_logit(1))
    if needs.draws:
        more.setdefault("draws", like)
    if needs.selection_bias:
        more.setdefault("bias", like[..., 0, :])
    return needs.route(RouterInputs(logits, top_k, size, **more))


def noise_logit(spread: float) -> float:
    """Whose softplus, plus 0.01, is a spread: ln(1 + e^x) = spread − 0.01."""
    return math.log(math.exp(spread - 0.01) - 1)


def assert_rows(actual: torch.Tensor, expected: list[list[float]]) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


# --- by hand


@pytest.mark.parametrize("recipe", ["blog", "logits", "random"])
def test_blog_logits_and_random_by_hand(recipe: str) -> None:
    # As test_gating.py derives: gates by the two largest, importance 1.6, 1.4, 1.0, CV² 0.035.
    routing = route(recipe, LOGITS, 2)
    assert_rows(routing.gates, [[0, 0.4, 0.6], [0.6, 0, 0.4], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert routing.gate_loss.item() == pytest.approx(0.035)


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


def test_shazeer_s_spread_is_the_softplus_of_its_noise_logits_and_0_01() -> None:
    # Rows of three equal logits, k = 1, noise of −1, 0, 1 times a spread s: expert 2 wins by s.
    # Load: the first two have to beat s: Φ(−s / s) each; the third's rival is at 0: Φ(0) = 1/2.
    # With noise logits ln(e^1.99 − 1), s = 1.99 + 0.01; all rows are equal.
    # Load 4 · (0.158655, 0.158655, 0.5): mean 4 · 0.272437,
    # variance 16 · (2 · 0.113782² + 0.227563²) / 3 = 16 · 0.0258925: CV² 0.348853.
    # Importance 0, 0, 4: variance 32/9 over 16/9 is 2.
    logits = torch.zeros(4, 3, dtype=torch.float64)
    draws = torch.tensor([[-1.0, 0, 1]], dtype=torch.float64).expand(4, 3)
    noise_logits = torch.full_like(logits, noise_logit(2))
    routing = route("shazeer", logits, 1, training=True, noise_logits=noise_logits, draws=draws)
    assert_rows(routing.gates, [[0, 0, 1]] * 4)
    assert routing.gate_loss.item() == pytest.approx(2 + 0.348853, abs=1e-5)
    # k = 2: gates by e^0 : e^2 on experts 1 and 2.
    routing = route("shazeer", logits, 2, training=True, noise_logits=noise_logits, draws=draws)
    share = math.e**2 / (1 + math.e**2)
    assert_rows(routing.gates, [[0, 1 - share, share]] * 4)


def test_shazeer_with_k_ne_has_an_even_load() -> None:
    # Nobody to beat: load 4, 4, 4. Gates are the softmax: importance (13, 11.5, 11.5) / 9 by
    # Switch's sums 13/36 and 23/72 in test_gating.py: mean 4/3, deviations 1/9, −1/18, −1/18,
    # variance (4 + 1 + 1) / 324 / 3 = 1/162 over 16/9: 1/288.
    routing = route("shazeer", LOGITS, 3)
    assert routing.gate_loss.item() == pytest.approx(1 / 288)


def test_shazeer_s_noise_moves_the_choice_in_training_alone() -> None:
    # Input 2 has three equal logits; noise of −1, 0, 1 times ln 2 leaves 2^−1 : 1 : 2 of them.
    spread = torch.full_like(LOGITS, noise_logit(math.log(2)))
    noise = {"noise_logits": spread, "draws": torch.zeros_like(LOGITS)}
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


def test_gshard_s_refused_second_experts_take_no_room() -> None:
    # Second choices are 1 2 1 1. Draws refuse input 1's alone: of room for ⌈0.25 · 2 · 4 / 3⌉ = 1
    # each, expert 1 takes input 0, and 7 slots are asked for, of which 3 fit: 2, 0 and 1.
    draws = torch.tensor([0.0, 0.9, 0.0, 0.0], dtype=torch.float64)[:, None].expand(4, 3)
    routing = route("gshard", LOGITS, 2, training=True, draws=draws, capacity_factor=0.25)
    assert_rows(routing.gates, [[0, 0.4, 0.6], [0.6, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert routing.dropped is not None
    assert routing.dropped.item() == pytest.approx(4 / 7)


def test_gshard_keeps_its_second_expert_with_probability_twice_its_gate() -> None:
    # Two experts with gates of 0.8 and 0.2: kept if 0.4 > u, in 2 of 5 draws at even distances.
    logits = torch.tensor([[4, 1]], dtype=torch.float64).log().expand(1000, 2)
    draws = ((torch.arange(1000, dtype=torch.float64) + 0.5) / 1000)[:, None].expand(1000, 2)
    routing = route("gshard", logits, 2, 2, training=True, draws=draws)
    assert routing.chosen.sum(0).tolist() == [1000, 400]


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
    for recipe in DENSE:
        assert route(recipe, LOGITS, 1).gate_loss == 0


# --- gradients, against central differences


WITH_GRADIENTS = [
    (name, k)
    for name, recipe in RECIPES.items()
    for k in (1, 2, 3, 4)
    if name not in DENSE and k == (recipe.only_k or k)
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
        assert routing.gates.requires_grad
        # A loss cut off from the logits would have no gradient to be wrong.
        assert routing.gate_loss.requires_grad == (recipe != "loss-free")
        parts = (routing.gates, routing.gate_loss, routing.z_loss)
        return tuple(part for part in parts if part is not None and part.requires_grad)

    assert gradcheck(differentiable, (logits.requires_grad_(), noise.requires_grad_()))


@pytest.mark.parametrize("recipe", [name for name, k in WITH_GRADIENTS if k == 1])
def test_which_routers_get_a_gradient_at_k_1(recipe: str) -> None:
    """Through the gates, that is from the network loss: the facts behind claims C5 and C6."""
    logits = LOGITS.clone().requires_grad_()
    gates = route(recipe, logits, 1, training=True).gates
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)  # as if experts' losses
    if gates.requires_grad:
        (gates * weights).sum().backward()
    trained = logits.grad is not None and bool((logits.grad != 0).any())
    assert trained == (recipe in ("switch", "loss-free"))


@pytest.mark.parametrize("training", [False, True])
def test_shazeer_s_load_loss_reaches_its_router_at_k_1(training: bool) -> None:
    """As its gates do not, all of its training at k = 1 is balancing."""
    logits, noise = LOGITS.clone().requires_grad_(), torch.zeros_like(LOGITS).requires_grad_()
    draws = torch.tensor([[0.3, -0.2, 0.1]], dtype=torch.float64).expand(4, 3)
    routing = route("shazeer", logits, 1, training=training, noise_logits=noise, draws=draws)
    for slope in torch.autograd.grad(routing.gate_loss, (logits, noise)):
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


class Case(NamedTuple):
    """Some recipe with random inputs: of a batch of 8, and what the recipe needs beside logits.

    ties: whole logits, many of them equal; distinct: no two of them equal.
    """

    name: str
    experts: int
    top_k: int
    ties: torch.Tensor
    distinct: torch.Tensor
    more: dict[str, Any]

    @property
    def slots(self) -> int:
        """Experts that see an input if nothing is dropped."""
        return self.experts if self.name == "dense-total" else self.top_k

    def train(self, logits: torch.Tensor, **other: Any) -> Routing:
        return route(
            self.name, logits, self.top_k, self.experts, training=True, **{**self.more, **other}
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    recipe = recipe_named(draw(st.sampled_from(list(RECIPES))))
    experts = draw(st.integers(recipe.only_k or 1, 6))
    top_k = recipe.only_k or draw(st.integers(1, experts))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    ties = torch.randint(-3, 4, (8, experts), generator=generator).double()
    distinct, noise, draws = torch.rand(3, 8, experts, dtype=torch.float64, generator=generator)
    more: dict[str, Any] = {"noise_logits": noise} if recipe.trainable_noise else {}
    if recipe.selection_bias:
        more["bias"] = torch.rand(experts, dtype=torch.float64, generator=generator) - 0.5
    if recipe.draws == "normal":
        more["draws"] = torch.special.ndtri(draws)
    if recipe.draws == "uniform":  # alike for all experts, so that these can be permuted
        more["draws"] = draws[:, :1].expand(8, experts)
    return Case(recipe.name, experts, top_k, ties, distinct, more)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_gates_are_non_negative_and_exactly_k_are_not_zero(case: Case) -> None:
    # In evaluation for every recipe; in training for all but gshard, whose second expert is random.
    for logits in (case.ties, case.distinct):
        routings = [route(case.name, logits, case.top_k, case.experts)]
        if case.name != "gshard":
            routings.append(case.train(logits))
        for routing in routings:
            assert (routing.gates >= 0).all()
            assert (routing.chosen.sum(-1) == case.slots).all()
            assert torch.equal(routing.gates > 0, routing.chosen)
            assert not routing.dropped or routing.dropped == 0
            if case.name not in (*DENSE, "loss-free"):  # whose gates do not compete
                total = routing.gates.sum(-1)
                assert (total <= 1 + 1e-12).all()
                if case.name != "switch":
                    torch.testing.assert_close(total, torch.ones_like(total))


@settings(max_examples=40, deadline=None)
@given(cases(), st.sampled_from([None, 0.25, 0.75, 1.0, 2.0]))
def test_what_may_drop_in_training_is_stated(case: Case, capacity_factor: float | None) -> None:
    wanted = case.train(case.distinct)
    kept = case.train(case.distinct, capacity_factor=capacity_factor)
    if case.name == "gshard":  # at random; the best expert never
        first = case.distinct.argmax(-1, keepdim=True)
        assert wanted.chosen.gather(-1, first).all()
        assert (wanted.chosen.sum(-1) <= 2).all()
    if case.name not in ("switch", "gshard"):
        assert torch.equal(kept.chosen, wanted.chosen)
        assert kept.dropped is None
        return
    # Nobody gets a gate that it had not, and who keeps it keeps it whole.
    assert torch.equal(kept.gates, wanted.gates * kept.chosen)
    assert kept.gate_loss == wanted.gate_loss
    assert kept.dropped is not None
    share = 1 - kept.chosen.sum() / wanted.chosen.sum()
    assert kept.dropped.item() == pytest.approx(share.item(), abs=1e-6)
    if capacity_factor is None:
        assert kept.dropped == 0
    else:
        room = math.ceil(capacity_factor * case.top_k * 8 / case.experts)
        asked = wanted.chosen.sum(0)
        assert torch.equal(kept.chosen.sum(0), asked.clamp(max=room))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_permuting_experts_permutes_results(case: Case) -> None:
    if case.name in DENSE:  # they take the first
        return
    shuffle = torch.randperm(case.experts, generator=torch.Generator().manual_seed(0))
    moved = {key: value[..., shuffle] for key, value in case.more.items()}
    for capacity_factor in (None, 0.75):
        routing = case.train(case.distinct, capacity_factor=capacity_factor)
        permuted = case.train(case.distinct[:, shuffle], **moved, capacity_factor=capacity_factor)
        assert torch.equal(permuted.chosen, routing.chosen[:, shuffle])
        torch.testing.assert_close(permuted.gates, routing.gates[:, shuffle])
        torch.testing.assert_close(permuted.gate_loss, routing.gate_loss)
        torch.testing.assert_close(permuted.dropped, routing.dropped)


@settings(max_examples=40, deadline=None)
@given(cases())
def test_permuting_inputs_permutes_results(case: Case) -> None:
    # But for limited capacity, where who comes first is served first.
    shuffle = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    moved = {key: value if key == "bias" else value[shuffle] for key, value in case.more.items()}
    routing, permuted = case.train(case.ties), case.train(case.ties[shuffle], **moved)
    torch.testing.assert_close(permuted.gates, routing.gates[shuffle])
    torch.testing.assert_close(permuted.gate_loss, routing.gate_loss)


@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(-50, 50))
def test_a_constant_added_to_logits_changes_nothing_where_the_equation_says_so(
    case: Case, constant: int
) -> None:
    # Softmaxes and differences from a threshold do not see it; the sigmoid of loss-free does.
    if case.name == "loss-free":
        one = torch.zeros(1, 1, dtype=torch.float64)
        gate = route(case.name, one + constant, 1, 1).gates.item()
        assert gate == pytest.approx(1 / (1 + math.exp(-constant)))
        return
    for logits in (case.ties, case.distinct):
        routing, shifted = case.train(logits), case.train(logits + constant)
        torch.testing.assert_close(shifted.gates, routing.gates)
        torch.testing.assert_close(shifted.gate_loss, routing.gate_loss)
    if case.name == "switch":  # its z-loss is there to see it: (a + c)² − a² = 2ac + c²
        zeros = torch.zeros(1, 1, dtype=torch.float64)
        assert route(case.name, zeros + constant, 1, 1).z_loss == constant**2


# --- the declarations


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_declares_in_words_agrees_with_what_it_does(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.k.split(" ")[0] == str(recipe.only_k or "any")
    assert (recipe.random == "nothing") == (recipe.draws is None)
    assert re.fullmatch("#[0-9A-F]{6}", recipe.color)
    assert ("capacity" in recipe.gates) == recipe.has_capacity == recipe.depends_on_batch


def test_no_two_recipes_share_a_color() -> None:
    assert len({recipe.color for recipe in RECIPES.values()}) == len(RECIPES)


def test_the_declarations_import_without_torch() -> None:
    code = "import sys, moe.recipes, moe.data.sets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
