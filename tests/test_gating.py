"""Gates and balancing losses against arithmetic by hand."""

from math import log

import numpy as np
import pytest
import torch

from moe.recipes import gating

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 5, 32, 33, 512])
def test_ranks_are_the_places_in_a_stable_sort(size: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(size)
    # Many ties, signed zeros, adjacent floats, padded experts
    few = np.array([-np.inf, -1, -0.0, 0.0, 1, np.nextafter(np.float32(1), np.float32(2))])
    # numpy sorts NaN last, so it is replaced by infinity here, as the largest.
    many = np.array([-np.inf, 1, np.inf, np.nan])
    draws = (rng.choice(few, (2, 50, size)), rng.choice(many, (2, 50, size)))
    for scores in (*draws, rng.normal(size=(2, 50, size))):
        given = torch.from_numpy(scores).to(dtype)
        order = np.argsort(
            -np.nan_to_num(given.numpy(), nan=np.inf, posinf=np.inf, neginf=-np.inf),
            axis=-1,
            kind="stable",
        )
        places = np.empty_like(order)
        np.put_along_axis(places, order, np.arange(size)[None, None], -1)
        assert gating.ranks(given).tolist() == places.tolist()
        assert gating.ranks(given.mT.contiguous().mT).tolist() == places.tolist()
        for top_k in {1, min(2, size), size}:
            assert gating.top_k_mask(given, top_k).tolist() == (places < top_k).tolist()


def test_top_p_mask_by_hand() -> None:
    probs = torch.tensor([[0.1, 0.5, 0.25, 0.15], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    # 0.5 reaches 0.5 exactly; of equal values, the first two are taken.
    assert gating.top_p_mask(probs, 0.5, 4).int().tolist() == [[0, 1, 0, 0], [1, 1, 0, 0]]
    # 0.5 + 0.25 + 0.15 = 0.9 is not enough for 0.95; k may be less.
    assert gating.top_p_mask(probs, 0.95, 4).all()
    assert gating.top_p_mask(probs, 0.95, 3).int().tolist() == [[0, 1, 1, 1], [1, 1, 1, 0]]


def test_sinkhorn_by_hand() -> None:
    # Columns over their sums 6 and 2: 2/3 1/2; 1/3 1/2; then rows: 4/7 3/7; 2/5 3/5.
    logits = torch.tensor([[4, 1], [2, 1]], dtype=torch.float64).log()
    plan = gating.sinkhorn(logits, 1, 16).exp()
    expected = torch.tensor([[4 / 7, 3 / 7], [2 / 5, 3 / 5]], dtype=torch.float64)
    torch.testing.assert_close(plan, expected)
    # In the end a 1−a; 1−a a, whose a² / (1−a)² is still 4 · 1 / (1 · 2) = 2.
    a = 2**0.5 / (1 + 2**0.5)
    plan = gating.sinkhorn(logits, 16, 16).exp()
    expected = torch.tensor([[a, 1 - a], [1 - a, a]], dtype=torch.float64)
    torch.testing.assert_close(plan, expected)


def test_sinkhorn_leaves_out_what_is_missing_or_not_a_number() -> None:
    logits = torch.tensor([[4, 1], [2, 1], [1, 1]], dtype=torch.float64).log()
    padded = torch.cat([logits, torch.full((3, 1), -torch.inf, dtype=torch.float64)], 1)
    padded[2, 1] = torch.nan
    # The third input counts with its other expert: columns sum to 7 and 2.
    plan = gating.sinkhorn(padded, 1, 16).exp()
    expected = [[8 / 15, 7 / 15, 0], [4 / 11, 7 / 11, 0], [1, 0, 0]]
    torch.testing.assert_close(plan, torch.tensor(expected, dtype=torch.float64))


def test_mean_entropy_by_hand() -> None:
    # Halves: ln 2; one alone: 0.
    logits = torch.tensor([[0, 0, -torch.inf], [0, -torch.inf, -torch.inf]], dtype=torch.float64)
    assert gating.mean_entropy(logits).item() == pytest.approx(log(2) / 2)


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


def test_switch_loss_shares_out_all_slots_by_hand() -> None:
    # k = 2: experts have 3, 3 and 2 of the 8 slots. P_1 = (1/3 + 1/6 + 1/3 + 4/9) / 4 = 23/72.
    # 3 (3/8 · 26/72 + 3/8 · 23/72 + 2/8 · 23/72) = 3 · 193/576 = 193/192.
    _, chosen, router_probs = gating.softmax_top_k(LOGITS, 2)
    assert gating.switch_loss(chosen, router_probs, 2, 3).item() == pytest.approx(193 / 192)


def test_switch_loss_is_1_at_balance() -> None:
    logits = torch.eye(3, dtype=torch.float64)
    _, chosen, router_probs = gating.softmax_top_k(logits, 1)
    assert gating.switch_loss(chosen, router_probs, 1, 3).item() == pytest.approx(1)


def test_z_loss_by_hand() -> None:
    # The weights of a row sum to 6, 6, 3, 9.
    expected = (2 * log(6) ** 2 + log(3) ** 2 + log(9) ** 2) / 4
    assert gating.z_loss(LOGITS).item() == pytest.approx(expected)


def test_gshard_loss_by_hand() -> None:
    # First choices as in Switch with k = 1, the same f and P: mean(f · P) · 3² = 101/96.
    loss = gating.gshard_loss(gating.ranks(LOGITS), LOGITS.softmax(-1), 3)
    assert loss.item() == pytest.approx(101 / 96)


# Φ(1), Φ(2); Φ(−x) = 1 − Φ(x)
PHI_1, PHI_2 = 0.8413447460685429, 0.9772498680518208
ONES = torch.ones(1, 3, dtype=torch.float64)


def test_smooth_load_by_hand() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    # k = 1, no noise. Expert 2's best rival is 1: Φ(2 − 1). The others' is 2: Φ(0 − 2), Φ(−1).
    load = gating.smooth_load(logits, logits, ONES, 1, 3)
    assert load.tolist() == pytest.approx([1 - PHI_2, 1 - PHI_1, PHI_1])
    # k = 2: experts 1 and 2 have to beat their second best rival, 0; expert 0 has to beat 1.
    load = gating.smooth_load(logits, logits, ONES, 2, 3)
    assert load.tolist() == pytest.approx([1 - PHI_1, PHI_1, PHI_2])
    # With k = ne there is nobody to beat.
    assert gating.smooth_load(logits, logits, ONES, 3, 3).tolist() == [1, 1, 1]


def test_smooth_load_has_noisy_rivals_and_its_own_plain_logit() -> None:
    logits = torch.tensor([[0.0, 1.0, 2.0]], dtype=torch.float64)
    noisy = torch.tensor([[3.0, 1.0, 2.0]], dtype=torch.float64)
    # k = 1. Expert 0 leads by noise alone: Φ(0 − 2). The others have to beat 3: Φ(−2), Φ(−1).
    load = gating.smooth_load(logits, noisy, ONES, 1, 3)
    assert load.tolist() == pytest.approx([1 - PHI_2, 1 - PHI_2, 1 - PHI_1])
    # Twice the spread halves the distance.
    load = gating.smooth_load(logits, noisy, 2 * ONES, 1, 3)
    assert load[0].item() == pytest.approx(1 - PHI_1)


def test_smooth_load_is_the_share_of_fresh_noise_that_wins() -> None:
    # Independent of the formula: draw expert e's noise again, 200,000 times, and count.
    generator = torch.Generator().manual_seed(0)
    logits, drawn, spread = torch.rand(3, 5, dtype=torch.float64, generator=generator)
    noisy = logits + drawn * spread
    load = gating.smooth_load(logits[None], noisy[None], spread[None], 2, 5)
    for expert in range(5):
        again = torch.randn(200_000, dtype=torch.float64, generator=generator)
        rivals = torch.cat([noisy[:expert], noisy[expert + 1 :]])
        second_best = rivals.sort(descending=True).values[1]
        wins = (logits[expert] + again * spread[expert] > second_best).double().mean()
        assert load[expert].item() == pytest.approx(wins.item(), abs=0.005)


def test_bias_step_by_hand() -> None:
    # 4 inputs on 3 experts: 4/3 each would be even; experts have 1, 3 and 0.
    chosen = torch.tensor([[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=torch.bool)
    assert gating.bias_step(chosen, 3).tolist() == [1, -1, 1]
    # The bias of an expert at the mean stays, and that of a padded expert never moves: with 2 of
    # the 3 experts, 4/2 each would be even; they have 1 and 3.
    assert gating.bias_step(chosen, 2).tolist() == [1, -1, 0]
    even = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=torch.bool)
    assert gating.bias_step(even, 2).tolist() == [0, 0, 0]


def test_within_capacity_by_hand() -> None:
    # First choices 2 0 0 0, second choices 1 2 1 1; room for two each. Expert 0 has no room for
    # input 3; expert 1 takes inputs 0 and 2; expert 2 has 0's first and 1's second choice.
    rank = gating.ranks(LOGITS)
    kept = gating.within_capacity(rank < 2, rank, 2.0)
    expected = [[0, 1, 1], [1, 0, 1], [1, 1, 0], [0, 0, 0]]
    assert kept.int().tolist() == expected


def test_first_choices_go_before_all_second_ones() -> None:
    # Room for one each. First choices: input 0 gets expert 2, input 1 expert 0, and 2 and 3 come
    # too late. Second choices 1 2 1 1: input 0 gets expert 1; expert 2 is taken, by a first choice
    # of an input that here is earlier; were second choices first, input 1 would have it.
    rank = gating.ranks(LOGITS)
    kept = gating.within_capacity(rank < 2, rank, 1.0)
    assert kept.int().tolist() == [[0, 1, 1], [1, 0, 0], [0, 0, 0], [0, 0, 0]]
    # The other way round in the batch, a first choice still goes before an earlier second one:
    # first choices 0 0 0 2, second choices 1 1 2 1.
    rank = rank.flip(0)
    kept = gating.within_capacity(rank < 2, rank, 1.0)
    assert kept.int().tolist() == [[1, 1, 0], [0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_what_is_not_wanted_takes_no_room() -> None:
    # All inputs prefer expert 0, which has room for two; inputs 0 and 2 do not request it.
    rank = torch.tensor([[0, 1]]).expand(4, 2)
    wanted = torch.tensor([[0, 0], [1, 0], [0, 0], [1, 0]], dtype=torch.bool)
    assert torch.equal(gating.within_capacity(wanted, rank, 2.0), wanted)
