"""C7 – C9: which digits gain, and which digits the base model confuses."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr

from moe.analysis.results import DIGITS, Tables, cells, counts_of
from moe.claims.claim import EXPERTS, SHARE, Measured, MissingCellsError, Part, claim
from moe.statistics import all_of, frequency, of_means, paired, welch

PER_CENT = 100
MANY_EXPERTS = 8
NAMED = (4, 6, 9)
DROPPED = 0.5
ALMOST_ALL = 0.8  # of the gain
CLEARLY = 0.02  # of the errors: the lead of the most frequent wrong digit over the next
MANY_DIGITS = 4
MORE_EVEN = 0.2  # of the base's range
ACCURACIES = [f"accuracy_{digit}" for digit in DIGITS]


def _base_and_experts(tables: Tables, recipe: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(seeds, 10) accuracies in points: of the base, and at ne = 8, k = 2, lc = 1."""
    base = cells(tables.runs, recipe=recipe, ne=1).drop_duplicates("seed")
    experts = cells(tables.runs, recipe=recipe, ne=MANY_EXPERTS, k=2, lc=1.0)
    if len(base) < 2 or len(experts) < 2:
        raise MissingCellsError(f"two seeds of ne = 1 and of ne = {MANY_EXPERTS} at k = 2, lc = 1")
    of_base, of_experts = (
        PER_CENT * part.set_index("seed")[ACCURACIES].set_axis(list(DIGITS), axis=1)
        for part in (base, experts)
    )
    return of_base, of_experts


@claim(
    "C7",
    words="The digits 4, 6 and 9 take almost all of the gain.",
    quote="Classes 4, 6 and 9 are seeing almost the entirety of improvement!",
    measured="their share of the gain in accuracy, summed over digits, from the base to ne = 8 "
    "(k = 2, lc = 1); a ratio of means, with a jackknife over seeds",
    margin="above 0.8 of the gain",
)
def share_of_the_gain(tables: Tables, recipe: str) -> Measured:
    base, experts = _base_and_experts(tables, recipe)
    total = of_means(lambda after, before: (after - before).sum(-1), experts, base)
    if total.low <= 0:
        raise MissingCellsError(f"a gain from ne = 1 to ne = {MANY_EXPERTS} that is above 0")
    share = of_means(lambda after, before: _share(after - before, NAMED), experts, base)
    gain = experts.mean() - base.mean()
    dropped = (base < PER_CENT * DROPPED).any(axis=1)
    frequent = frequency(int(dropped.sum()), len(base))
    top = sorted(int(digit) for digit in np.argsort(-gain.to_numpy(), kind="stable")[:3])
    of_top = of_means(lambda after, before: _share(after - before, top), experts, base)
    beside = {
        "top three digits by gain": _top_threes(base, experts),
        "digits by gain": [int(digit) for digit in np.argsort(-gain.to_numpy(), kind="stable")],
        "gain by digit, points": {str(digit): float(gain[digit]) for digit in DIGITS},
        f"share of the three that gain most, {', '.join(map(str, top))}": {
            "estimate": of_top.value,
            "low": of_top.low,
            "high": of_top.high,
        },
        "base models with a digit below 50 %": {
            "models": len(base),
            "share": frequent.value,
            "low": frequent.low,
            "high": frequent.high,
        },
    }
    what = "share of 4, 6, 9 in the gain"
    part = Part(what, "of the gain", share, ALMOST_ALL, resolution=SHARE)
    return Measured([part], beside=beside)


def _share(gain: np.ndarray, digits: Sequence[int]) -> np.ndarray:
    """gain: (…, 10)."""
    return np.asarray(gain[..., list(digits)].sum(-1) / gain.sum(-1))


def _top_threes(base: pd.DataFrame, experts: pd.DataFrame) -> dict[str, Any]:
    """Which three digits gain most within a seed, and in how many seeds, the most frequent first.
    A single run, like the source's, shows only one of these triples."""
    gains = (experts - base).dropna()
    largest = np.argsort(-gains.to_numpy(), axis=1, kind="stable")[:, :3]
    counts = Counter(", ".join(map(str, three)) for three in np.sort(largest, axis=1))
    named = ", ".join(map(str, NAMED))
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"seeds": len(gains), f"of them {named}": counts[named], "sets": dict(most)}


@claim(
    "C8",
    words="The base model takes 4 for 9, 6 for many digits, and 9 for 4 and 7.",
    quote="So it looks like 4 is being misclassified as 9, 6 is being misclassified as a lot of "
    "other numbers and 9 is being misclassified as 4 and 7.",
    measured="of a base model's errors on 4, the share taken for 9 less that of the next digit; of "
    "those on 9, the smaller of the shares taken for 4 and 7 less that of the next digit; exp of "
    "the entropy of those on 6",
    margin="above 0.02 of the errors, above 0, above 4 digits",
)
def base_confusions(tables: Tables, recipe: str) -> Measured:
    confusion = cells(tables.confusion, recipe=recipe, ne=1)
    confusion = confusion.drop_duplicates(["seed", "digit"])
    if confusion["seed"].nunique() < 2:
        raise MissingCellsError("two seeds of ne = 1")
    wrong = {digit: _error_shares(confusion, digit) for digit in NAMED}
    if min(map(len, wrong.values())) < 2:
        raise MissingCellsError("two seeds with errors on 4, 6 and 9")
    for_9 = _lead(wrong[4], [9])
    for_4_and_7 = _lead(wrong[9], [4, 7])
    spread = np.exp(entr(wrong[6]).sum(1))
    parts = [
        Part("4: share taken for 9 less the next digit's", "of errors", paired(for_9), CLEARLY),
        Part(
            *("9: smaller share of 4 and 7 less the next digit's", "of errors"),
            paired(for_4_and_7),
            resolution=CLEARLY,
        ),
        Part(
            *("6: digits it is taken for, exp of entropy", "digits"),
            paired(spread),
            MANY_DIGITS,
            resolution=EXPERTS,
        ),
    ]
    beside = {
        f"errors of {digit} by digit": [float(share) for share in wrong[digit].mean(0)]
        for digit in NAMED
    }
    return Measured(parts, all_of, beside=beside)


def _lead(shares: np.ndarray, named: list[int]) -> np.ndarray:
    """(seeds,): the smallest share of the named digits minus the largest of the others."""
    others = [digit for digit in DIGITS if digit not in named]
    return shares[:, named].min(1) - shares[:, others].max(1)


def _error_shares(confusion: pd.DataFrame, digit: int) -> np.ndarray:
    """(seeds, 10): a digit's errors by predicted digit; seeds without errors are left out."""
    counts = counts_of(cells(confusion, digit=digit), "predicted").astype(float)
    counts[:, digit] = 0
    total = counts.sum(1, keepdims=True)
    return (counts / np.maximum(total, 1))[total[:, 0] > 0]


@claim(
    "C9",
    words="With experts, no digit does worse than the others.",
    quote="None of the classes are now performing worse than others.",
    measured="how much smaller the range of the ten digits' accuracies (largest less smallest) is "
    "at ne = 8 than at the base, as a share of the base's; a ratio of means, with a jackknife over "
    "seeds",
    margin="above a fifth of the base's range",
)
def evenness(tables: Tables, recipe: str) -> Measured:
    base, experts = _base_and_experts(tables, recipe)
    ranges = [x.max(axis=1) - x.min(axis=1) for x in (experts, base)]
    if ranges[1].mean() == 0:
        raise MissingCellsError("base models whose digits differ in accuracy")
    fall = of_means(lambda after, before: (1 - after / before)[..., 0], *ranges)
    gains = {
        str(digit): welch(experts[digit].to_numpy(), base[digit].to_numpy()) for digit in DIGITS
    }
    after, before = (paired(x.to_numpy()) for x in ranges)
    beside = {
        "range at the base, points": {
            "estimate": before.value,
            "low": before.low,
            "high": before.high,
        },
        f"range at ne = {MANY_EXPERTS}, points": {
            "estimate": after.value,
            "low": after.low,
            "high": after.high,
        },
        "gain of each digit, points (no verdict)": {
            digit: {"estimate": gain.value, "low": gain.low, "high": gain.high}
            for digit, gain in gains.items()
        },
    }
    part = Part("fall of the range", "of the base's range", fall, MORE_EVEN)
    return Measured([part], beside=beside)
