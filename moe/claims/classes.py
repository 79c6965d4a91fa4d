"""C7 – C9: which digits gain, and what the base model takes for what."""

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import entr

from moe.analysis.results import DIGITS, Tables, cells, counts_of
from moe.claims.claim import POINTS, Claim, Measured, MissingCellsError, Part
from moe.statistics import all_of, frequency, paired, welch

PER_CENT = 100
MANY_EXPERTS = 8
NAMED = (4, 6, 9)
DROPPED = 0.5
WORSE = -0.5  # points: a minimum over ten noisy classes would be near −1 with no effect at all
MANY_DIGITS = 3
ACCURACIES = [f"accuracy_{digit}" for digit in DIGITS]


def _base_and_experts(tables: Tables, recipe: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(seeds, 10) accuracies in points: of all base seeds, and at ne = 8, k = 2, lc = 1."""
    base = cells(tables.runs, recipe=recipe, ne=1).drop_duplicates("seed")
    experts = cells(tables.runs, recipe=recipe, ne=MANY_EXPERTS, k=2, lc=1.0)
    if len(base) < 2 or len(experts) < 2:
        raise MissingCellsError(f"two seeds of ne = 1 and of ne = {MANY_EXPERTS} at k = 2, lc = 1")
    of_base, of_experts = (
        PER_CENT * part.set_index("seed")[ACCURACIES].set_axis(list(DIGITS), axis=1)
        for part in (base, experts)
    )
    return of_base, of_experts


def c7(tables: Tables, recipe: str) -> Measured:
    base, experts = _base_and_experts(tables, recipe)
    others = [digit for digit in DIGITS if digit not in NAMED]
    lead = [
        (x[list(NAMED)].mean(axis=1) - x[others].mean(axis=1)).to_numpy() for x in (experts, base)
    ]
    gain = experts.mean() - base.mean()
    dropped = (base < PER_CENT * DROPPED).any(axis=1)
    share = frequency(int(dropped.sum()), len(base))
    beside = {
        "share of the whole gain": _share_of_gain(base, experts),
        "top three digits by gain": _top_threes(base, experts),
        "digits by gain": [int(digit) for digit in np.argsort(-gain.to_numpy())],
        "gain by digit, points": {str(digit): float(gain[digit]) for digit in DIGITS},
        "base models with a digit below 50 %": {
            "models": len(base),
            "share": share.value,
            "low": share.low,
            "high": share.high,
        },
    }
    part = Part("gain of 4, 6, 9 less that of the others", "points", welch(*lead), POINTS)
    return Measured([part], beside=beside)


def _share_of_gain(base: pd.DataFrame, experts: pd.DataFrame) -> dict[str, float]:
    """Of 4, 6 and 9 in the gain summed over digits. A ratio A / B, so its interval is that of
    (A − share · B) / B, which is linear in each seed's accuracies (the delta method)."""
    gain = experts.mean() - base.mean()
    share = float(gain[list(NAMED)].sum() / gain.sum())
    linear = [
        ((x[list(NAMED)].sum(axis=1) - share * x.sum(axis=1)) / gain.sum()).to_numpy()
        for x in (experts, base)
    ]
    error = welch(*linear)
    return {"estimate": share, "low": share + error.low, "high": share + error.high}


def _top_threes(base: pd.DataFrame, experts: pd.DataFrame) -> dict[str, Any]:
    """Which three digits gain most within a seed, and in how many seeds, the most frequent first:
    a single run, as the source's, tells of one of them."""
    gains = (experts - base).dropna()
    sets = [sorted(row.nlargest(3).index) for _, row in gains.iterrows()]
    counts = Counter(", ".join(map(str, three)) for three in sets)
    named = ", ".join(map(str, NAMED))
    most = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {"seeds": len(gains), f"of them {named}": counts[named], "sets": dict(most)}


def c8(tables: Tables, recipe: str) -> Measured:
    confusion = cells(tables.confusion, recipe=recipe, ne=1)
    confusion = confusion.drop_duplicates(["seed", "digit"])
    if confusion["seed"].nunique() < 2:
        raise MissingCellsError("two seeds of ne = 1")
    wrong = {digit: _error_shares(confusion, digit) for digit in NAMED}
    others = [digit for digit in DIGITS if digit not in (4, 9)]
    for_9 = wrong[4][:, 9] - wrong[4][:, others].max(1)
    for_4_and_7 = wrong[9][:, [4, 7]].sum(1) - 0.5
    spread = np.exp(entr(wrong[6]).sum(1))
    parts = [
        Part("4: share taken for 9 less the next", "of errors", paired(for_9)),
        Part("9: share taken for 4 or 7, less half", "of errors", paired(for_4_and_7)),
        Part("6: digits it is taken for, exp of entropy", "digits", paired(spread), MANY_DIGITS),
    ]
    beside = {
        f"errors of {digit} by digit": [float(share) for share in wrong[digit].mean(0)]
        for digit in NAMED
    }
    return Measured(parts, all_of, beside=beside)


def _error_shares(confusion: pd.DataFrame, digit: int) -> np.ndarray:
    """(seeds, 10): where a digit's wrong images go; seeds without any are left out."""
    counts = counts_of(cells(confusion, digit=digit), "predicted").astype(float)
    counts[:, digit] = 0
    total = counts.sum(1, keepdims=True)
    return (counts / np.maximum(total, 1))[total[:, 0] > 0]


def c9(tables: Tables, recipe: str) -> Measured:
    base, experts = _base_and_experts(tables, recipe)
    parts = [
        Part(
            f"gain of {digit}",
            "points",
            welch(experts[digit].to_numpy(), base[digit].to_numpy()),
            WORSE,
        )
        for digit in DIGITS
    ]
    worst_first = sorted(parts, key=lambda part: part.estimate.value)
    return Measured(worst_first, all_of)


CLAIMS = (
    Claim(
        "C7",
        "The digits 4, 6 and 9 take almost all of the gain.",
        "mean gain from the base to ne = 8 of 4, 6, 9 less that of the others",
        c7,
    ),
    Claim(
        "C8",
        "The base model takes 4 for 9, 6 for many digits, and 9 for 4 and 7.",
        "rows of the base model's confusion matrix, off the diagonal",
        c8,
    ),
    Claim(
        "C9",
        "With experts, no digit does worse.",
        "the gain of every digit from the base to ne = 8, each above −0.5 points",
        c9,
    ),
)
