"""Estimates over seeds with 95 % intervals, and tests against a margin.

The unit is the seed: x (n,) has one number per seed. Runs of one seed are paired, so differences
between cells are first taken within each seed. All methods use Student's t or exact frequencies;
with five seeds, a bootstrap interval would cover far less than its nominal level.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats

LEVEL = 0.95
ROUNDING = 1e-12  # numbers that differ by less count as equal


class Estimate(NamedTuple):
    """A number with its 95 % interval, number of seeds, standard error and degrees of freedom (nan
    and 0 if the variance is not estimated)."""

    value: float
    low: float
    high: float
    seeds: int
    error: float
    freedom: float


class Verdict(NamedTuple):
    """One-sided p values for θ > δ (above) and for θ < δ (below).

    mixed: p value for "several measures of θ disagree", one above and another below; 1 for a single
    measure. p: twice the smallest. At most one of the three is true; if one is, the probability
    that another is accepted at p < α is at most α.
    """

    above: float
    below: float
    mixed: float = 1.0

    @property
    def p(self) -> float:
        return min(1.0, 2 * min(self))


def mean_with_interval(x: Float[np.ndarray, "... n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high over the last axis, by Student's t; a single number has nan bounds."""
    n = x.shape[-1]
    mean = np.asarray(x.mean(-1))
    if n == 1:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * x.std(-1, ddof=1) / math.sqrt(n)
    return mean, np.asarray(mean - half), np.asarray(mean + half)


def paired(x: Float[np.ndarray, " n"]) -> Estimate:
    """The mean of one number per seed, usually a difference within the seed."""
    mean = float(np.mean(x))
    if np.ptp(x) <= ROUNDING * max(1.0, abs(mean)):
        return Estimate(mean, mean, mean, len(x), 0.0, len(x) - 1)
    return _with_t_interval(mean, len(x), float(stats.sem(x)), len(x) - 1)


def welch(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " m"]) -> Estimate:
    """Mean of x minus mean of y, independent seeds of unequal variance."""
    difference = float(np.mean(x) - np.mean(y))
    seeds = min(len(x), len(y))
    if max(np.ptp(x), np.ptp(y)) <= ROUNDING * max(1.0, abs(difference)):
        return Estimate(difference, difference, difference, seeds, 0.0, seeds - 1)
    a, b = (float(np.var(z, ddof=1)) / len(z) for z in (x, y))  # squared standard errors
    freedom = (a + b) ** 2 / (a**2 / (len(x) - 1) + b**2 / (len(y) - 1))  # Welch, Satterthwaite
    return _with_t_interval(difference, seeds, math.sqrt(a + b), freedom)


def _with_t_interval(value: float, seeds: int, error: float, freedom: float) -> Estimate:
    # scipy's tests give the same interval, but warn if the seeds hardly differ.
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(value, value - half, value + half, seeds, error, freedom)


def frequency(hits: int, of: int) -> Estimate:
    """A share with Wilson's interval, hits out of `of`."""
    interval = stats.binomtest(hits, of).proportion_ci(LEVEL, method="wilson")
    return Estimate(hits / of, float(interval.low), float(interval.high), of, math.nan, 0)


def of_means(function: Callable[..., np.ndarray], *samples: pd.DataFrame | pd.Series) -> Estimate:
    """A function of the means of samples, such as a ratio, with a jackknife over seeds.

    samples: indexed by seed, with a column for each number of a seed. A seed may be in some samples
    only; the jackknife leaves it out of all samples at once, so that runs of a seed stay paired.
    function: takes the means of each sample, arrays (…, columns); returns an array (…).

    The variance is summed over the groups of seeds that are in the same samples, with Welch's and
    Satterthwaite's degrees of freedom. For a difference of means, this is the paired t interval if
    all seeds are in both samples, and Welch's if none is (Efron and Stein 1981).
    """
    seeds = np.unique(np.concatenate([sample.index for sample in samples]))
    means, without = [], []
    member = np.zeros((len(seeds), len(samples)), bool)
    for column, sample in enumerate(samples):
        x = sample.to_numpy(float).reshape(len(sample), -1)
        at = np.searchsorted(seeds, sample.index)
        left = np.tile(x.mean(0), (len(seeds), 1))
        left[at] = (x.sum(0) - x) / (len(x) - 1)
        member[at, column] = True
        means.append(x.mean(0))
        without.append(left)
    value, left_out = float(function(*means)), function(*without)
    variances, freedoms = [], []
    for group in np.unique(member, axis=0):
        of_group = left_out[(member == group).all(1)]
        n = len(of_group)
        centre = of_group.mean() if n > 1 else value
        variances.append(max(n - 1, 1) / n * float(((of_group - centre) ** 2).sum()))
        freedoms.append(max(n - 1, 1))
    variance = math.fsum(variances)
    fewest = min(len(sample) for sample in samples)
    if variance <= (ROUNDING * max(1.0, abs(value))) ** 2:
        return Estimate(value, value, value, fewest, 0.0, fewest - 1)
    freedom = variance**2 / math.fsum(v**2 / n for v, n in zip(variances, freedoms, strict=True))
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(value, value - half, value + half, fewest, error, freedom)


def against(estimate: Estimate, margin: float) -> Verdict:
    """Two one-sided tests of an estimate against a margin δ: Student's t or, for a share, the exact
    binomial test."""
    if estimate.error == 0:
        return Verdict(float(estimate.value <= margin), float(estimate.value >= margin))
    if math.isnan(estimate.error):
        hits = round(estimate.value * estimate.seeds)
        binomial = stats.binom(estimate.seeds, margin)
        return Verdict(float(binomial.sf(hits - 1)), float(binomial.cdf(hits)))
    t = (estimate.value - margin) / estimate.error
    return Verdict(float(stats.t.sf(t, estimate.freedom)), float(stats.t.cdf(t, estimate.freedom)))


def all_of(parts: Sequence[Verdict]) -> Verdict:
    """All parts have to hold: holds by the largest p, fails if one part fails (Bonferroni)."""
    return Verdict(
        max(part.above for part in parts), min(1.0, len(parts) * min(part.below for part in parts))
    )


def any_of(parts: Sequence[Verdict]) -> Verdict:
    """One part has to hold: holds if one part does (Bonferroni), fails if all parts fail."""
    return Verdict(
        min(1.0, len(parts) * min(part.above for part in parts)), max(part.below for part in parts)
    )


def agreeing(measures: Sequence[Verdict]) -> Verdict:
    """Combine several measures of one claim: all above, all below, or they disagree.

    They disagree if one is above and another below, each Bonferroni-corrected over the measures.
    """
    above, below = ([getattr(m, side) for m in measures] for side in ("above", "below"))
    mixed = len(measures) * max(min(above), min(below))
    return Verdict(max(above), max(below), min(1.0, mixed))


def holm_factors(p: Sequence[float]) -> list[int]:
    """The factor of each p in Holm's correction: the number of p values that are not below it."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    factors = [0] * len(p)
    for place, i in enumerate(order):
        factors[i] = len(p) - place
    return factors


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p values, in the given order."""
    factors = holm_factors(p)
    adjusted, largest = [0.0] * len(p), 0.0
    for i in sorted(range(len(p)), key=lambda i: p[i]):
        largest = max(largest, min(1.0, factors[i] * p[i]))
        adjusted[i] = largest
    return adjusted


def effect_within(
    treated: Bool[np.ndarray, "n m"], y: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, " n"]:
    """The effect of a treatment on y within groups, pooled over m groups; n seeds.

    Least squares with an intercept for each group. Returns one jackknife pseudo-value per seed,
    s · θ − (s − 1) · θ without the seed; their interval is correct from five seeds on. nan or
    infinite if nothing is left to compare without a seed.
    """
    n = len(y)

    def effect(keep: np.ndarray) -> float:
        x = treated[keep] - treated[keep].mean(0)
        return float((x * y[keep]).sum() / (x * x).sum())

    everything = np.ones(n, bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        without = [effect(np.arange(n) != seed) for seed in range(n)]
        return n * effect(everything) - (n - 1) * np.array(without)


def slopes(x: Float[np.ndarray, " m"], y: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
    """Each seed's least-squares slope of y on x."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)
