"""Intervals and tests against arithmetic by hand, other formulas, and simulation."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from moe.claims.claim import Part
from moe.statistics import (
    Verdict,
    against,
    agreeing,
    all_of,
    any_of,
    effect_within,
    frequency,
    holm,
    holm_factors,
    mean_with_interval,
    of_means,
    paired,
    slopes,
    welch,
)


def difference(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x - y)[..., 0]


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


def test_intervals_are_scipy_s_and_nothing_is_warned_of_where_seeds_hardly_differ() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(1, 2, 7), rng.normal(0, 1, 4)
    interval = stats.ttest_1samp(x, 0).confidence_interval(0.95)
    assert paired(x)[1:3] == pytest.approx((interval.low, interval.high))
    test = stats.ttest_ind(x, y, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert welch(x, y)[1:3] == pytest.approx((interval.low, interval.high))
    assert welch(x, y).freedom == pytest.approx(test.df)  # type: ignore[attr-defined]
    close = 0.9 + np.array([0, 1e-11, 2e-11, 1e-11])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert paired(close).low < 0.9 + 1e-11 < paired(close).high
        assert welch(close, close[::2] - 0.1).value == pytest.approx(0.1)


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
    assert welch(np.full(3, 2.0), np.full(4, 0.5))[:5] == (1.5, 1.5, 1.5, 3, 0.0)


def test_parts() -> None:
    parts = [Verdict(0.01, 0.99), Verdict(0.2, 0.8)]
    # Holds if all do: 0.2. Fails if one does: 2 · 0.8, at most 1.
    assert all_of(parts) == Verdict(0.2, 1.0)
    assert all_of([Verdict(0.9, 0.01), Verdict(0.1, 0.9)]) == Verdict(0.9, 0.02)


def test_holm_by_hand() -> None:
    # Sorted 0.01 0.02 0.03 0.5: times 4 3 2 1 = 0.04 0.06 0.06 0.5, never falling.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])


def test_holm_factors_count_those_not_below() -> None:
    assert holm_factors([0.03, 0.01, 0.5, 0.02]) == [2, 4, 1, 3]


def test_a_difference_of_means_is_welchs_where_no_seed_is_in_both() -> None:
    rng = np.random.default_rng(0)
    x, y = pd.Series(rng.normal(1, 3, 9)), pd.Series(rng.normal(0, 1, 30), index=range(50, 80))
    found = of_means(difference, x, y)
    test = stats.ttest_ind(x, y, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert found.freedom == pytest.approx(test.df)
    assert (found.value, found.low, found.high) == pytest.approx(
        (x.mean() - y.mean(), interval.low, interval.high)
    )


def test_a_difference_of_means_is_the_paired_ts_where_all_seeds_are_in_both() -> None:
    rng = np.random.default_rng(0)
    x = pd.Series(rng.normal(1, 1, 12), index=range(1000, 1012))
    y = x + rng.normal(0, 0.1, 12)
    found = of_means(difference, x, y.sample(frac=1, random_state=0))
    interval = stats.ttest_rel(x, y).confidence_interval(0.95)
    assert found.freedom == pytest.approx(11)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_a_ratio_of_means_by_hand() -> None:
    # x: 1 2 3, y: 2 4 3, both of seeds 0 1 2: 6/9 = 2/3. Without seed 0: 5/7, 1: 4/5, 2: 3/6.
    # Mean of these 0.671429; squared distances 0.001837, 0.016531, 0.029388; sum 0.047755;
    # times 2/3 = 0.031837; error 0.178429.
    x, y = pd.Series([1.0, 2, 3]), pd.Series([2.0, 4, 3])
    found = of_means(lambda a, b: (a / b)[..., 0], x, y)
    assert found.value == pytest.approx(2 / 3)
    assert found.error == pytest.approx(0.178429, abs=1e-6)
    half = 4.302653 * 0.178429  # t(0.975, 2)
    assert (found.low, found.high) == pytest.approx((2 / 3 - half, 2 / 3 + half), abs=1e-5)


def test_numbers_of_several_columns_are_left_out_together() -> None:
    x = pd.DataFrame({"a": [1.0, 2, 4], "b": [3.0, 5, 5]})
    # sums 4 7 9: mean 20/3 less 4 of y without variance: the t interval of the sums
    found = of_means(lambda m, n: m.sum(-1) - n[..., 0], x, pd.Series([4.0, 4, 4]))
    low, high = stats.ttest_1samp([4, 7, 9], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((low - 4, high - 4))
    same = of_means(difference, pd.Series([2.0, 2]), pd.Series([1.0, 1, 1]))
    assert same[:5] == (1.0, 1.0, 1.0, 2, 0.0)


def test_a_share_against_a_margin_is_the_exact_binomial_test() -> None:
    # P(X >= 3) for 5 tosses: 10/32 + 5/32 + 1/32 = 0.5; P(X <= 3) = 26/32
    assert against(frequency(3, 5), 0.5) == pytest.approx((0.5, 26 / 32, 1.0))


def test_measures_that_disagree_by_hand() -> None:
    above, below, open_ = Verdict(0.001, 0.999), Verdict(0.98, 0.02), Verdict(0.4, 0.6)
    assert agreeing([above, above, open_]) == (0.4, 0.999, pytest.approx(1.0))
    # 3 · max(0.001, 0.02) = 0.06, p twice that
    mixed = agreeing([above, below, open_])
    assert mixed.mixed == pytest.approx(0.06)
    assert mixed.p == pytest.approx(0.12)
    assert any_of([above, open_, below]) == (pytest.approx(0.003), 0.999, 1.0)


def test_an_effect_within_groups_by_hand() -> None:
    # Two groups of three seeds. Group 1: treated 5, others 1 and 3: x = 2/3 -1/3 -1/3, xy = 2.
    # Group 2: treated 6 and 8, other 4: x = 1/3 1/3 -2/3, xy = 2. Both x² = 2/3.
    # Effect (2 + 2) / (4/3) = 3, the mean of 5 - 2 and of 7 - 4.
    treated = np.array([[True, True], [False, True], [False, False]])
    y = np.array([[5.0, 6.0], [1.0, 8.0], [3.0, 4.0]])
    found = effect_within(treated, y)
    # Without seed 0: group 1 has none treated, group 2 8 - 4 = 4. Without 1: (5 - 3 + 6 - 4) / 2
    # = 2. Without 2: 5 - 1 = 4 in group 1, group 2 has all treated. Pseudo-values 9 - 2 · these.
    np.testing.assert_allclose(found, [1.0, 5.0, 1.0])
    assert not np.isfinite(effect_within(treated[:, :1], y[:, :1])).all()


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
    # The true value lies on the margin, the hardest case: decided at 0.05 in 5 % of the studies.
    decided = [against(paired(row), 0.2).p < 0.05 for row in x[:1500]]
    assert np.mean(decided) == pytest.approx(0.05, abs=0.0226)


@pytest.mark.parametrize("seeds", [5, 20, 100])
def test_welch_covers_with_unequal_groups(seeds: int) -> None:
    rng, hits = np.random.default_rng(0), 0
    for _ in range(1500):
        found = welch(rng.normal(1, 3, 100), rng.normal(0, 1, seeds))
        hits += found.low < 1 < found.high
    assert hits / 1500 == pytest.approx(0.95, abs=0.0226)


@pytest.mark.parametrize("seeds", [5, 20, 100])
def test_effects_within_groups_cover(seeds: int) -> None:
    """As for claim C15: nine groups, with ever fewer treated seeds; seeds differ."""
    rng, frequencies = (
        np.random.default_rng(seeds),
        np.array([0.5, 0.4, 0.2, 0.1, 0.05, 0, 0, 0, 0]),
    )
    hits, studies, estimates = 0, 0, []
    for _ in range(1000 if seeds < 100 else 300):
        treated = rng.random((seeds, 9)) < frequencies
        y = 1.0 * treated + rng.normal(0, 0.2, (seeds, 9)) + rng.normal(0, 0.2, (seeds, 1))
        values = effect_within(treated, y)
        if np.isfinite(values).all():
            found = paired(values)
            hits, studies = hits + (found.low < 1 < found.high), studies + 1
            estimates.append(found.value)
    assert np.mean(estimates) == pytest.approx(1, abs=0.02)
    # Four standard errors of 0.95 in 1,000 (300): ± 0.0276 (0.0503)
    assert hits / studies == pytest.approx(0.95, abs=4 * (0.95 * 0.05 / studies) ** 0.5)


@pytest.mark.parametrize("seeds", [5, 20, 100])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.8])
def test_wilson_covers(seeds: int, share: float) -> None:
    """Summed over all outcomes, not sampled. Being discrete, the coverage varies around 95 %."""
    hits = np.arange(seeds + 1)
    intervals = [frequency(int(k), seeds) for k in hits]
    inside = [found.low <= share <= found.high for found in intervals]
    assert stats.binom.pmf(hits, seeds, share)[inside].sum() >= 0.90


# How often an interval misses or a verdict is false, in 1,000 synthetic studies: within four
# standard errors of the nominal rate.
STUDIES = 1000


def tolerance(share: float, studies: int = STUDIES) -> float:
    return 4 * (share * (1 - share) / studies) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("base", "experts"), [(400, 100), (100, 100), (100, 20)])
def test_a_share_of_the_gain_covers(base: int, experts: int) -> None:
    """As for claim C7: ten accuracies, correlated within a seed; base models sometimes lose a
    class, so that their distribution is as skewed as in the study."""
    rng, truth = np.random.default_rng(base), 0.8
    gain = np.full(10, 1.0)
    gain[[4, 6, 9]] = 7 * truth / (1 - truth) / 3
    hits, decided = 0, 0
    for _ in range(STUDIES):
        common = rng.normal(0, 0.3, (max(base, experts), 1))
        lost = (rng.random((base, 10)) < 0.03) * rng.uniform(40, 80, (base, 10))
        lost -= 0.03 * 60  # its mean
        before = 90 - gain - lost + rng.normal(0, 1, (base, 10)) + common[:base]
        after = 90 + rng.normal(0, 0.5, (experts, 10)) + common[:experts]
        found = of_means(
            lambda a, b: (a - b)[..., [4, 6, 9]].sum(-1) / (a - b).sum(-1),
            pd.DataFrame(after),
            pd.DataFrame(before),
        )
        hits += found.low < truth < found.high
        decided += against(found, truth).p < 0.05
    assert hits / STUDIES == pytest.approx(0.95, abs=tolerance(0.95))
    assert decided / STUDIES == pytest.approx(0.05, abs=tolerance(0.05))


@pytest.mark.slow
def test_a_fall_of_the_range_covers() -> None:
    """As for claim C9, on its margin: ranges of 12 (sd 5, skewed) and 9.6 points (sd 1)."""
    rng, hits, decided = np.random.default_rng(0), 0, 0
    for _ in range(STUDIES):
        before = pd.Series(rng.gamma((12 / 5) ** 2, 25 / 12, 400))
        after = pd.Series(rng.normal(9.6, 1, 100))
        found = of_means(lambda a, b: (1 - a / b)[..., 0], after, before)
        hits += found.low < 0.2 < found.high
        decided += against(found, 0.2).p < 0.05
    assert hits / STUDIES == pytest.approx(0.95, abs=tolerance(0.95))
    assert decided / STUDIES == pytest.approx(0.05, abs=tolerance(0.05))


@pytest.mark.parametrize(("one", "two"), [(250, 100), (100, 100), (20, 5)])
def test_partly_paired_slopes_cover(one: int, two: int) -> None:
    """As for claim C5: common seeds are paired; k = 1 has more variance and more seeds."""
    rng, hits = np.random.default_rng(one), 0
    for _ in range(STUDIES):
        common = rng.normal(0, 0.5, max(one, two))
        at_1 = pd.Series(common[:one] + rng.normal(0, 2, one))
        at_2 = pd.Series(common[:two] + rng.normal(0.1, 0.3, two))
        found = of_means(difference, at_2, at_1)
        hits += found.low < 0.1 < found.high
    assert hits / STUDIES == pytest.approx(0.95, abs=tolerance(0.95))


@pytest.mark.parametrize("means", [(2.5, 2.5, 2.5), (3.5, 3.3, 3.2), (3.2, 2.5, 2.5)])
def test_three_measures_are_rarely_taken_for_what_they_are_not(means: tuple) -> None:
    """Inside a range of 2 … 3, outside it, or both: 100 seeds, correlated measures. The verdict is
    nearly always right, and wrong in at most 5 % of the studies."""
    rng = np.random.default_rng(0)
    truth = {0: "above", 3: "below"}.get(sum(mean > 3 for mean in means), "mixed")
    found = [verdict_of(rng, means, spread=0.2) for _ in range(300)]
    assert found.count(truth) / 300 > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(
    "means", [(3.0, 3.0, 3.0), (3.0, 2.5, 2.5), (3.0, 3.5, 3.5), (3.5, 3, 2.5)]
)
def test_three_measures_on_a_margin_are_rarely_decided(means: tuple) -> None:
    """(3.5, 3, 2.5) do disagree, regardless of the second."""
    rng = np.random.default_rng(1)
    found = [verdict_of(rng, means, spread=0.3) for _ in range(STUDIES)]
    right = "mixed" if means == (3.5, 3, 2.5) else None
    wrong = sum(verdict not in (None, right) for verdict in found)
    assert wrong / STUDIES <= 0.05 + tolerance(0.05)


def verdict_of(rng: np.random.Generator, means: tuple, spread: float) -> str | None:
    common = rng.normal(0, spread, (100, 1))
    x = np.array(means) + common + rng.normal(0, spread / 3, (100, 3))
    verdict = agreeing([Part("", "", paired(column), within=(2, 3)).verdict for column in x.T])
    if verdict.p >= 0.05:
        return None
    return min(("above", "below", "mixed"), key=lambda name: getattr(verdict, name))


@pytest.mark.parametrize("share", [0.0, 0.03, 0.05])
def test_six_chances_of_a_share_are_rarely_taken(share: float) -> None:
    """As for claim C14's absolute part: 100 seeds, six ne at or below the margin of 0.05."""
    rng = np.random.default_rng(0)
    hits = rng.binomial(100, share, (STUDIES, 6))
    verdicts = {n: against(frequency(int(n), 100), 0.05) for n in np.unique(hits)}
    false = sum(any_of([verdicts[n] for n in row]).above < 0.025 for row in hits)
    assert false / STUDIES <= 0.025 + tolerance(0.025)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [5, 20, 100])
def test_a_family_of_claims_has_rarely_one_false_verdict(seeds: int) -> None:
    """Nineteen claims of one recipe, all on their margins: with Holm's correction, at most 5 % of
    the studies have any verdict. Three have parts, two a range, two three measures."""
    rng, false, studies = np.random.default_rng(seeds), 0, 600
    for _ in range(studies):
        x = rng.normal(0, 1, (26, seeds))
        single = [against(paired(row), 0.0).p for row in x[:12]]
        with_parts = [
            all_of([against(paired(row), 0.0) for row in x[12 + 2 * i : 14 + 2 * i]]).p
            for i in range(3)
        ]
        ranges = [Part("", "", paired(row), within=(0, 8)).verdict.p for row in x[18:20]]
        measures = [
            agreeing([Part("", "", paired(row), within=(0, 8)).verdict for row in x[i : i + 3]]).p
            for i in (20, 23)
        ]
        false += min(holm(single + with_parts + ranges + measures)) < 0.05
    assert false / studies <= 0.05 + 4 * (0.05 * 0.95 / studies) ** 0.5
