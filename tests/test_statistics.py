"""Intervals and tests against arithmetic by hand, other formulas, and simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from moe.statistics import (
    Estimate,
    Verdict,
    against,
    all_of,
    frequency,
    holm,
    mean_with_interval,
    paired,
    seeds_to_decide,
    slopes,
    welch,
)


def test_mean_with_interval_by_hand() -> None:
    # 1 2 3 4 5: mean 3, sd √2.5, error √2.5 / √5 = 0.70711; t(0.975, 4) = 2.77645: ± 1.96324
    mean, low, high = mean_with_interval(np.array([1.0, 2, 3, 4, 5]))
    assert float(mean) == 3
    assert float(low) == pytest.approx(3 - 1.96324, abs=1e-5)
    assert float(high) == pytest.approx(3 + 1.96324, abs=1e-5)
    assert math.isnan(float(mean_with_interval(np.array([1.0]))[1]))


def test_paired_by_hand() -> None:
    found = paired(np.array([1.0, 2, 3, 4, 5]))
    assert found[:4] == pytest.approx((3, 1.03676, 4.96324, 5), abs=1e-5)
    assert found.error == pytest.approx(0.70711, abs=1e-5)
    assert paired(np.full(4, 2.0))[:3] == (2, 2, 2)


def test_welch_by_hand() -> None:
    # x: 1 2 3, mean 2, variance 1, 1/3 of it 0.33333; y: 2 4 6 8, mean 5, variance 20/3, 5/3.
    # Error √2 = 1.41421; freedom 2² / ((1/3)²/2 + (5/3)²/3) = 4 / 0.98148 = 4.07547.
    found = welch(np.array([1.0, 2, 3]), np.array([2.0, 4, 6, 8]))
    assert found.value == -3
    assert found.error == pytest.approx(2**0.5)
    assert found.freedom == pytest.approx(4.07547, abs=1e-5)
    half = stats.t.ppf(0.975, 4.07547) * 2**0.5
    assert (found.low, found.high) == pytest.approx((-3 - half, -3 + half), abs=1e-4)


def test_wilson_by_hand() -> None:
    # 5 of 10, z = 1.95996, z² = 3.84146: centre 0.5, half z √(p q / n + z² / 4 n²) / (1 + z² / n)
    # = 1.95996 · √(0.025 + 0.0096036) / 1.384146 = 0.26341
    found = frequency(5, 10)
    assert (found.low, found.high) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert frequency(0, 100).low == 0
    # z² / (n + z²) for no hit at all
    assert frequency(0, 100).high == pytest.approx(3.84146 / 103.84146, abs=1e-5)


def test_two_one_sided_tests_agree_with_the_interval() -> None:
    x = np.random.default_rng(0).normal(1, 1, 20)
    found = paired(x)
    # A margin at the interval's end is just decided: one-sided p = 0.025, two-sided 0.05
    assert against(found, found.low).above == pytest.approx(0.025)
    assert against(found, found.high).below == pytest.approx(0.025)
    assert against(found, found.low).p == pytest.approx(0.05)
    assert against(found, 0.3).above == pytest.approx(
        stats.ttest_1samp(x, 0.3, alternative="greater").pvalue
    )


def test_without_variance_a_number_speaks_for_itself() -> None:
    assert against(paired(np.full(5, 1.0)), 0.5).p == 0
    assert against(paired(np.full(5, 1.0)), 1.0).p == 1


def test_parts() -> None:
    parts = [Verdict(0.01, 0.99), Verdict(0.2, 0.8)]
    # Holds if all do: 0.2. Fails if one does: 2 · 0.8, at most 1.
    assert all_of(parts) == Verdict(0.2, 1.0)
    assert all_of([Verdict(0.9, 0.01), Verdict(0.1, 0.9)]) == Verdict(0.9, 0.02)


def test_holm_by_hand() -> None:
    # Sorted 0.01 0.02 0.03 0.5: times 4 3 2 1 = 0.04 0.06 0.06 0.5, never falling.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_seeds_to_decide_by_hand() -> None:
    # s = 1, distance 1: t(3)/√3 = 4.3027/1.732 = 2.48; t(4)/2 = 1.59; t(5)/√5 = 1.24;
    # t(6)/√6 = 1.05; t(7)/√7 = 2.4469/2.6458 = 0.925 < 1.
    estimate = Estimate(1.0, 0, 0, 5, 1 / 5**0.5, 4)
    assert seeds_to_decide(estimate, 0.0) == 7
    assert seeds_to_decide(estimate, 1.001) is None


def test_slopes_are_those_of_polyfit() -> None:
    x, y = np.array([1.0, 2, 4, 7]), np.random.default_rng(0).normal(size=(3, 4))
    expected = [np.polyfit(x, row, 1)[0] for row in y]
    np.testing.assert_allclose(slopes(x, y), expected)


@pytest.mark.parametrize("seeds", [5, 20, 100])
def test_intervals_cover_and_verdicts_are_rarely_false(seeds: int) -> None:
    rng, repetitions = np.random.default_rng(seeds), 4000
    x = rng.normal(0.2, 1.0, (repetitions, seeds))
    _, low, high = mean_with_interval(x)
    covered = ((low < 0.2) & (high > 0.2)).mean()
    # Four standard errors of a share of 0.95 in 4,000: ± 0.0138
    assert covered == pytest.approx(0.95, abs=0.0138)
    # The truth lies on the margin, the hardest case: decided at 0.05 in 5 % of the studies.
    decided = [against(paired(row), 0.2).p < 0.05 for row in x[:1500]]
    assert np.mean(decided) == pytest.approx(0.05, abs=0.0226)


def test_welch_covers_with_unequal_groups() -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1500):
        found = welch(rng.normal(1, 3, 100), rng.normal(0, 1, 20))
        hits += found.low < 1 < found.high
    assert hits / 1500 == pytest.approx(0.95, abs=0.0226)
