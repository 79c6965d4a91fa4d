"""Each recipe on three experts and four inputs, by hand; its gradients; properties of any input.

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
# Recipes whose gates sum to 1 in each row
NORMALISED = ("blog", "logits", "random", "shazeer", "gshard", "mixtral", "deepseek-v3")
SIGMOIDS = ("loss-free", "deepseek-v3")
README = Path(__file__).parent.parent / "README.md"


def route(recipe: str, logits: torch.Tensor, top_k: Any, size: Any = 3, **more: Any) -> Routing:
    """Route; inputs of the recipe that the test does not set default to no noise and no bias."""
    needs, like = recipe_named(recipe), torch.zeros_like(logits)
    if needs.trainable_noise:
        more.setdefault("noise_logits", like + noise_logit(1))
    if needs.draws:
        more.setdefault("draws", like)
    if needs.selection_bias:
        more.setdefault("bias", like[..., 0, :])
    more.setdefault("knob", needs.knob)
    return needs.route(RouterInputs(logits, top_k, size, **more))


def noise_logit(spread: float) -> float:
    """The noise logit x for a spread: ln(1 + e^x) + 0.01 = spread."""
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
    # The loss uses the choices before the drop.
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
    # No rivals: load 4, 4, 4. Gates are the softmax: importance (13, 11.5, 11.5) / 9 by
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


def test_deepseek_v3_by_hand() -> None:
    # Sigmoids as above. With 0.2 more for expert 1 the two largest are 1 and 2 (0.87, 0.75), 0 and
    # 1 (0.75, 0.7), 1 and 0 (0.7, 0.5), 1 and 0 (1, 0.8). Gates, without it: 2/3 : 3/4 = 8 : 9;
    # 3/4 : 1/2 = 3 : 2; 1 : 1; 1 : 1.
    bias = torch.tensor([0, 0.2, 0], dtype=torch.float64)
    routing = route("deepseek-v3", LOGITS, 2, bias=bias)
    expected = [[0, 8 / 17, 9 / 17], [0.6, 0.4, 0], [0.5, 0.5, 0], [0.5, 0.5, 0]]
    assert_rows(routing.gates, expected)
    assert routing.gate_loss == 0
    # With one expert the gate is 1 for any score.
    chosen = route("loss-free", LOGITS, 1, bias=bias).chosen
    assert_rows(route("deepseek-v3", LOGITS, 1, bias=bias).gates, chosen.tolist())


def test_deepseek_v3_divides_by_scores_too_small_to_be_numbers() -> None:
    # Sigmoids of -1000 and -1001 are e^-1000 and e^-1001, 0 in float64; their ratio is e.
    logits = torch.tensor([[-1000.0, -1001.0, -2000.0]], dtype=torch.float64)
    share = math.e / (1 + math.e)
    assert_rows(route("deepseek-v3", logits, 2).gates, [[share, 1 - share, 0]])


def test_mixtral_by_hand() -> None:
    # The gates of `logits`, the loss of `switch`: test_gating.py has both.
    routing = route("mixtral", LOGITS, 2)
    assert_rows(routing.gates, [[0, 0.4, 0.6], [0.6, 0, 0.4], [0.5, 0.5, 0], [0.5, 0.5, 0]])
    assert routing.gate_loss.item() == pytest.approx(193 / 192)
    assert route("mixtral", LOGITS, 1).gate_loss.item() == pytest.approx(101 / 96)


def test_shared_expert_by_hand() -> None:
    # Softmax over experts 1 and 2: 2 3 -> 2/5 3/5; 1 2 -> 1/3 2/3; 1 1 -> halves. The largest of
    # each, and of equals the first; expert 0 always.
    # f = 1/3, 2/3; P_1 = (2/5 + 1/3 + 1/2) / 3 = 37/90, P_2 = 53/90.
    # 2 (1/3 · 37/90 + 2/3 · 53/90) = 286/270.
    routing = route("shared-expert", LOGITS[:3], 2)
    assert_rows(routing.gates, [[1, 0, 3 / 5], [1, 0, 2 / 3], [1, 1 / 2, 0]])
    assert routing.gate_loss.item() == pytest.approx(286 / 270)
    # With k = ne all are chosen: f = 1/2 each, P_1 + P_2 = 1: 2 · 1/2 = 1.
    routing = route("shared-expert", LOGITS[:3], 3)
    assert_rows(routing.gates, [[1, 2 / 5, 3 / 5], [1, 1 / 3, 2 / 3], [1, 1 / 2, 1 / 2]])
    assert routing.gate_loss.item() == pytest.approx(1)


@pytest.mark.parametrize("training", [False, True])
def test_expert_choice_by_hand(training: bool) -> None:
    # Rows of p: 1/6 1/3 1/2; 1/2 1/6 1/3; 1/4 1/4 1/2; 4/9 4/9 1/9. With k = 1 each expert takes
    # ⌈1 · 4 / 3⌉ = 2: expert 0 has 1/2 and 4/9, expert 1 has 4/9 and 1/3, expert 2 twice 1/2.
    weights = torch.tensor([[1, 2, 3], [3, 1, 2], [1, 1, 2], [4, 4, 1]], dtype=torch.float64)
    routing = route("expert-choice", weights.log(), 1, training=training)
    assert_rows(routing.gates, [[0, 1 / 3, 1 / 2], [1 / 2, 0, 0], [0, 0, 1 / 2], [4 / 9, 4 / 9, 0]])
    assert routing.gate_loss == 0
    # Alone, an input has every expert: ⌈1/3⌉ = 1 of a batch of 1.
    assert_rows(route("expert-choice", weights.log()[:1], 1).gates, [[1 / 6, 1 / 3, 1 / 2]])


def test_expert_choice_may_leave_an_input_without_an_expert() -> None:
    # Room for one each: expert 0 takes 0.5 and expert 1 takes 0.4, of input 0; expert 2 takes 0.7.
    probs = torch.tensor([[0.5, 0.4, 0.1], [0.1, 0.2, 0.7], [0.3, 0.3, 0.4]], dtype=torch.float64)
    routing = route("expert-choice", probs.log(), 1)
    assert_rows(routing.gates, [[0.5, 0.4, 0], [0, 0, 0.7], [0, 0, 0]])


def test_sinkhorn_by_hand() -> None:
    # Both inputs prefer expert 0. Columns divided by their sums 6 and 2: 2/3 1/2; 1/3 1/2: now the
    # second input prefers expert 1, where its p is 1/3.
    logits = torch.tensor([[4, 1], [2, 1]], dtype=torch.float64).log()
    for iterations in (1, 2, 16):
        routing = route("sinkhorn", logits, 1, 2, training=True, knob=iterations)
        assert_rows(routing.gates, [[4 / 5, 0], [0, 1 / 3]])
    assert routing.gate_loss == 0
    assert_rows(route("sinkhorn", logits, 1, 2).gates, [[4 / 5, 0], [2 / 3, 0]])


def test_top_p_by_hand() -> None:
    # p = 0.45: 1/2 alone is enough for inputs 0 and 1; 1/3 and 4/9 are not, and take a second.
    routing = route("top-p", LOGITS, 3, knob=0.45)
    expected = [[0, 0, 1 / 2], [1 / 2, 0, 0], [1 / 3, 1 / 3, 0], [4 / 9, 4 / 9, 0]]
    assert_rows(routing.gates, expected)
    # Of 4 inputs 3, 2 and 1 choose an expert; P = 26/72, 23/72, 23/72 as in test_gating.py.
    # 3 (3/4 · 26/72 + 2/4 · 23/72 + 1/4 · 23/72) = 3 · 147/288.
    # Entropies: ln 6 − (2 ln 2 + 3 ln 3) / 6 twice, ln 3, ln 9 − 8 ln 4 / 9.
    sixths = math.log(6) - (2 * math.log(2) + 3 * math.log(3)) / 6
    entropy = (2 * sixths + math.log(3) + math.log(9) - 8 * math.log(4) / 9) / 4
    assert routing.gate_loss.item() == pytest.approx(3 * 147 / 288 + 0.01 * entropy)


def test_top_p_takes_k_at_most_and_one_at_least() -> None:
    # 0.9 takes 1/2 + 1/3 + 1/6; 1/2 + 1/3 + 1/6; three thirds; 4/9 + 4/9 + 1/9.
    assert route("top-p", LOGITS, 3, knob=0.9).chosen.all()
    at_most_2 = route("top-p", LOGITS, 2, knob=0.9).chosen
    assert at_most_2.int().tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0], [1, 1, 0]]
    assert route("top-p", LOGITS, 3, knob=0.01).chosen.int().tolist() == FIRST_CHOICE


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
    if name not in DENSE and not recipe.why_not_k(k)
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
        assert routing.gate_loss.requires_grad == (recipe_named(recipe).gate_loss != "none")
        parts = (routing.gates, routing.gate_loss, routing.z_loss)
        return tuple(part for part in parts if part is not None and part.requires_grad)

    assert gradcheck(differentiable, (logits.requires_grad_(), noise.requires_grad_()))


@pytest.mark.parametrize("recipe", [name for name, k in WITH_GRADIENTS if k == 1])
def test_which_routers_get_a_gradient_at_k_1(recipe: str) -> None:
    """Through the gates, that is, from the network loss: the basis of claims C5 and C6."""
    logits = LOGITS.clone().requires_grad_()
    gates = route(recipe, logits, 1, training=True).gates
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)  # as if experts' losses
    if gates.requires_grad:
        (gates * weights).sum().backward()
    trained = logits.grad is not None and bool((logits.grad != 0).any())
    unnormalised = ("switch", "loss-free", "expert-choice", "sinkhorn", "top-p")
    assert trained == (recipe in unnormalised)


@pytest.mark.parametrize("training", [False, True])
def test_shazeer_s_load_loss_reaches_its_router_at_k_1(training: bool) -> None:
    """Its gates do not, so at k = 1 the router is trained only to balance."""
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
    knobs = {"top-p": [0.3, 0.6, 1.0], "sinkhorn": [1.0, 3.0, 16.0]}
    for name, recipe in RECIPES.items():
        ks = [recipe.only_k or max(recipe.least_k, k) for k in all_k]
        more = {"noise_logits": noise} if recipe.trainable_noise else {}
        more |= {"draws": draws} if recipe.draws else {}
        more = {"training": True, "capacity_factor": 1.0, **more}
        knob = torch.tensor(knobs[name]) if name in knobs else None
        together = route(name, logits, torch.tensor(ks), torch.tensor(sizes), **more, knob=knob)
        for row, (size, k) in enumerate(zip(sizes, ks, strict=True)):
            of_row = {
                key: value[row, :, :size] if isinstance(value, torch.Tensor) else value
                for key, value in more.items()
            }
            of_row["knob"] = knobs[name][row] if name in knobs else None
            alone = route(name, logits[row, :, :size], k, size, **of_row)
            torch.testing.assert_close(together.gates[row, :, :size], alone.gates)
            torch.testing.assert_close(together.gate_loss[row], alone.gate_loss)
            assert not together.chosen[row, :, size:].any()


class Case(NamedTuple):
    """A recipe with random inputs for a batch of 8.

    ties: integer logits, many of them equal; distinct: logits that all differ.
    """

    name: str
    experts: int
    top_k: int
    ties: torch.Tensor
    distinct: torch.Tensor
    more: dict[str, Any]

    def train(self, logits: torch.Tensor, **other: Any) -> Routing:
        return route(
            self.name, logits, self.top_k, self.experts, training=True, **{**self.more, **other}
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    recipe = recipe_named(draw(st.sampled_from(list(RECIPES))))
    experts = draw(st.integers(recipe.least_k, 6))
    top_k = recipe.only_k or draw(st.integers(recipe.least_k, experts))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    ties = torch.randint(-3, 4, (8, experts), generator=generator).double()
    distinct, noise, draws = torch.rand(3, 8, experts, dtype=torch.float64, generator=generator)
    more: dict[str, Any] = {"noise_logits": noise} if recipe.trainable_noise else {}
    if recipe.selection_bias:
        more["bias"] = torch.rand(experts, dtype=torch.float64, generator=generator) - 0.5
    if recipe.draws == "normal":
        more["draws"] = torch.special.ndtri(draws)
    if recipe.draws == "uniform":  # equal for all experts, so that these can be permuted
        more["draws"] = draws[:, :1].expand(8, experts)
    return Case(recipe.name, experts, top_k, ties, distinct, more)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_gates_are_non_negative_and_exactly_k_are_not_zero(case: Case) -> None:
    # In evaluation for every recipe that declares it; in training for all of these except gshard,
    # whose second expert is random.
    recipe = RECIPES[case.name]
    for logits in (case.ties, case.distinct):
        routings = [route(case.name, logits, case.top_k, case.experts)]
        if case.name != "gshard":
            routings.append(case.train(logits))
        for routing in routings:
            assert (routing.gates >= 0).all()
            count = routing.chosen.sum(-1)
            if recipe.exactly_k:
                assert (count == (case.experts if case.name == "dense-total" else case.top_k)).all()
            elif case.name == "expert-choice":
                assert (routing.chosen.sum(0) == math.ceil(case.top_k * 8 / case.experts)).all()
            else:
                assert ((count >= 1) & (count <= case.top_k)).all()
            assert routing.chosen[:, : recipe.shared].all()
            assert torch.equal(routing.gates > 0, routing.chosen)
            assert not routing.dropped or routing.dropped == 0
            if case.name not in (*DENSE, "loss-free"):  # whose gates do not compete
                total = routing.gates[:, recipe.shared :].sum(-1)
                assert (total <= 1 + 1e-12).all()
                if case.name in NORMALISED:
                    torch.testing.assert_close(total, torch.ones_like(total))


@settings(max_examples=40, deadline=None)
@given(cases())
def test_an_input_s_experts_depend_on_its_batch_where_the_recipe_says_so(case: Case) -> None:
    # Is the first input's row the same in half of the batch and in the whole batch?
    half = {key: value if key == "bias" else value[:4] for key, value in case.more.items()}
    when = RECIPES[case.name].depends_on_batch
    if not when.startswith("in training and"):
        whole = route(case.name, case.distinct, case.top_k, case.experts, **case.more)
        part = route(case.name, case.distinct[:4], case.top_k, case.experts, **half)
        torch.testing.assert_close(part.gates, whole.gates[:4])
        assert torch.equal(part.chosen, whole.chosen[:4])
    if when in ("no", "in training, with a capacity factor"):
        part, whole = case.train(case.distinct[:4], **half), case.train(case.distinct)
        torch.testing.assert_close(part.gates, whole.gates[:4])
        assert torch.equal(part.chosen, whole.chosen[:4])


def test_what_depends_on_the_batch_does() -> None:
    # All inputs prefer expert 0. Recipes that depend on the batch cannot give it to all four.
    logits = torch.tensor([[4, 3], [4, 2], [4, 1], [4, 0.5]], dtype=torch.float64).log()
    for name in ("sinkhorn", "expert-choice"):
        for training in (True, False):
            routing = route(name, logits, 1, 2, training=training)
            last = route(name, logits[3:], 1, 2, training=training)
            evenly = routing.chosen.sum(0).tolist() == [2, 2]
            assert evenly == (training or name == "expert-choice")
            assert last.chosen[0, 0]


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
    # No input gets a new gate, and gates that are kept do not change.
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
    if case.name in (*DENSE, "shared-expert"):  # they take the first
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
    # Except with a limited capacity, which is first come, first served.
    shuffle = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    moved = {key: value if key == "bias" else value[shuffle] for key, value in case.more.items()}
    alone = RECIPES[case.name].depends_on_batch in ("no", "in training, with a capacity factor")
    logits = case.ties if alone else case.distinct  # among equal inputs, an expert takes the first
    routing, permuted = case.train(logits), case.train(logits[shuffle], **moved)
    torch.testing.assert_close(permuted.gates, routing.gates[shuffle])
    torch.testing.assert_close(permuted.gate_loss, routing.gate_loss)


@settings(max_examples=40, deadline=None)
@given(cases(), st.integers(-50, 50))
def test_a_constant_added_to_logits_changes_nothing_where_the_equation_says_so(
    case: Case, constant: int
) -> None:
    # Softmaxes and differences from a threshold are invariant; sigmoids are not.
    if case.name in SIGMOIDS:
        one = torch.zeros(1, 1, dtype=torch.float64)
        gate = route("loss-free", one + constant, 1, 1).gates.item()
        assert gate == pytest.approx(1 / (1 + math.exp(-constant)))
        return
    for logits in (case.ties, case.distinct):
        routing, shifted = case.train(logits), case.train(logits + constant)
        torch.testing.assert_close(shifted.gates, routing.gates)
        torch.testing.assert_close(shifted.gate_loss, routing.gate_loss)
    if case.name == "switch":  # its z-loss depends on it by design: (a + c)² − a² = 2ac + c²
        zeros = torch.zeros(1, 1, dtype=torch.float64)
        assert route(case.name, zeros + constant, 1, 1).z_loss == constant**2


# --- the declarations


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_declares_in_words_agrees_with_what_it_does(name: str) -> None:
    recipe = RECIPES[name]
    least = str(recipe.least_k) if recipe.least_k > 1 or recipe.only_k else "any"
    assert re.split("[ ,]", recipe.k)[0] == least
    assert ("mean" in recipe.k or "bound" in recipe.k) == (not recipe.exactly_k)
    assert (recipe.random == "nothing") == (recipe.draws is None)
    assert re.fullmatch("#[0-9A-F]{6}", recipe.color)
    limited = "capacity" in recipe.depends_on_batch
    assert ("capacity" in recipe.gates) == recipe.has_capacity == limited
    assert recipe.knob is None or recipe.why_not_lc(recipe.knob) is None
    assert recipe.weight_of(0.5) == (0.5 if recipe.knob is None else recipe.loss_weight)


@pytest.mark.parametrize(
    ("name", "allowed", "refused", "rule"),
    [
        ("switch", [0.0, 0.1, 10.0], [], ""),
        ("top-p", [0.01, 0.4, 1.0], [0.0, 1.1], "the sum of p to reach, above 0 and at most 1"),
        ("sinkhorn", [1.0, 16.0], [0.0, 1.5, 17.0], "iterations, a whole number from 1 to 16"),
    ],
)
def test_which_lc_a_recipe_allows(
    name: str, allowed: list[float], refused: list[float], rule: str
) -> None:
    recipe = RECIPES[name]
    assert not any(map(recipe.why_not_lc, allowed))
    for lc in refused:
        assert rule in (recipe.why_not_lc(lc) or "")


def test_no_two_recipes_share_a_color() -> None:
    assert len({recipe.color for recipe in RECIPES.values()}) == len(RECIPES)


def test_the_declarations_import_without_torch() -> None:
    code = "import sys, moe.recipes, moe.data.sets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
