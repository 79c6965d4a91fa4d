"""Estimates over seeds with 95 % intervals, and tests against a margin.

The unit is the seed: x (n,) holds one number for each. Runs of one seed are paired, so a difference
between cells is taken within the seed first. Everything here is Student's t or an exact frequency;
with five seeds a bootstrap would cover far less than it says.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

LEVEL = 0.95
MOST_SEEDS = 1_000
ROUNDING = 1e-12  # numbers that differ by less are the same


class Estimate(NamedTuple):
    """A number with its 95 % interval, the seeds behind it, and its standard error and degrees of
    freedom (nan and 0 where there is no variance to speak of)."""

    value: float
    low: float
    high: float
    seeds: int
    error: float
    freedom: float


class Verdict(NamedTuple):
    """p of θ > δ, p of θ < δ (one-sided, of the nulls that it is not so), and 2 · the smaller."""

    above: float
    below: float

    @property
    def p(self) -> float:
        return min(1.0, 2 * min(self))


def mean_with_interval(x: Float[np.ndarray, "... n"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, low and high over the last axis, by Student's t; nan bounds for a single number."""
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
    # scipy's own tests give the same interval, but warn where seeds hardly differ.
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return Estimate(value, value - half, value + half, seeds, error, freedom)


def frequency(hits: int, of: int) -> Estimate:
    """A share with Wilson's interval."""
    interval = stats.binomtest(hits, of).proportion_ci(LEVEL, method="wilson")
    return Estimate(hits / of, float(interval.low), float(interval.high), of, math.nan, 0)


def against(estimate: Estimate, margin: float) -> Verdict:
    """Two one-sided t tests of an estimate against a margin δ."""
    if estimate.error == 0:
        return Verdict(float(estimate.value <= margin), float(estimate.value >= margin))
    t = (estimate.value - margin) / estimate.error
    return Verdict(float(stats.t.sf(t, estimate.freedom)), float(stats.t.cdf(t, estimate.freedom)))


def all_of(parts: Sequence[Verdict]) -> Verdict:
    """A claim with parts holds if all do (the largest p), and fails if one does (Bonferroni)."""
    return Verdict(
        max(part.above for part in parts), min(1.0, len(parts) * min(part.below for part in parts))
    )


def holm_factors(p: Sequence[float]) -> list[int]:
    """What each p is multiplied by in Holm's correction: the number of those not below it."""
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


def with_seeds(estimate: Estimate, n: int) -> Estimate:
    """The estimate as n seeds would give it, were θ and s what they seem: error s / √n, and the
    degrees of freedom that go with n. Its interval is left as it is."""
    error = estimate.error * math.sqrt(estimate.seeds / n)
    freedom = estimate.freedom * (n - 1) / (estimate.seeds - 1)
    return estimate._replace(error=error, freedom=freedom, seeds=n)


def seeds_to_decide(decided: Callable[[int], bool]) -> int | None:
    """The fewest seeds for which decided(n) holds; None if that takes more than 1,000.

    For one number and no correction that is t(n) · s / √n < |θ − δ|.
    """
    return next((n for n in range(2, MOST_SEEDS + 1) if decided(n)), None)


def effect_within(
    treated: Bool[np.ndarray, "n m"], y: Float[np.ndarray, "n m"]
) -> Float[np.ndarray, " n"]:
    """How much higher y is where treated, within each of m groups, pooled over them; n seeds.

    Least squares with a level for each group. One number a seed by the jackknife, whose
    pseudo-values s · θ − (s − 1) · θ without the seed keep the interval right from five seeds on.
    nan or infinite where a seed left out leaves nothing to compare.
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
