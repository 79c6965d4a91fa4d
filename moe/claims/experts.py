"""C10 – C15, C17, C18: what experts specialise in."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe.analysis.results import DIGITS, Tables, cells, counts_of
from moe.claims.claim import EXPERTS, PERCENTILE, POINTS, Claim, Measured, MissingCellsError, Part
from moe.statistics import Verdict, all_of, effect_within, paired, slopes

PER_CENT = 100
TRIPLE = (4, 7, 9)
TRIPLES = list(itertools.combinations(DIGITS, 3))


def by_ne(tables: Tables, recipe: str, value: str, sizes: tuple[int, ...] = ()) -> pd.DataFrame:
    """(seeds, ne) of a column of runs.csv at k = 2, lc = 1."""
    runs = cells(tables.runs, recipe=recipe, k=2, lc=1.0)
    lacking = sorted(set(sizes) - set(runs["ne"]))
    if lacking or runs.empty:
        raise MissingCellsError(f"ne = {', '.join(map(str, lacking)) or 'any'} at k = 2, lc = 1")
    wide = (
        (cells(runs, ne=list(sizes)) if sizes else runs).pivot_table(value, "seed", "ne").dropna()
    )
    if len(wide) < 2:
        raise MissingCellsError("at least two seeds")
    return wide


def c10(tables: Tables, recipe: str) -> Measured:
    held = by_ne(tables, recipe, "classes_per_expert", (3,))[3]
    return Measured([Part("digits per expert at ne = 3", "digits", paired(held.to_numpy()), 8)])


def c11(tables: Tables, recipe: str) -> Measured:
    spread = by_ne(tables, recipe, "experts_per_class", (4,))[4]
    estimate = paired(spread.to_numpy())
    return Measured([Part("experts per digit at ne = 4", "experts", estimate, within=(2, 3))])


def c12(tables: Tables, recipe: str) -> Measured:
    return Measured(_jump(tables, recipe, 3, (2, 3, 4, 5)), all_of)


def c13(tables: Tables, recipe: str) -> Measured:
    first = _jump(tables, recipe, 5, (4, 5, 6, 7))
    second = _jump(tables, recipe, 6, (5, 6, 7, 8))
    return Measured([*first, *second], _either)


def _jump(tables: Tables, recipe: str, before: int, sizes: tuple[int, ...]) -> list[Part]:
    """The gain of a step less that of the step before it, and of the step after it."""
    accuracy = PER_CENT * by_ne(tables, recipe, "accuracy", sizes)
    steps = {a: accuracy[b] - accuracy[a] for a, b in itertools.pairwise(sizes)}
    return [
        Part(
            f"{before} → {before + 1} less {other} → {other + 1}",
            "points",
            paired((steps[before] - steps[other]).to_numpy()),
            POINTS,
        )
        for other in steps
        if other != before
    ]


def _either(parts: Sequence[Verdict]) -> Verdict:
    """One of two jumps is enough: Bonferroni for reproduced, both have to fail for contradicted."""
    jumps = all_of(parts[:2]), all_of(parts[2:])
    return Verdict(
        min(1.0, 2 * min(jump.above for jump in jumps)), max(jump.below for jump in jumps)
    )


def c14(tables: Tables, recipe: str) -> Measured:
    percentile = _percentiles(tables, recipe)
    wide = percentile.pivot_table("percentile", "seed", "ne").dropna()
    if len(wide) < 2:
        raise MissingCellsError("at least two seeds")
    part = Part(
        "mean percentile of {4, 7, 9} among all triples",
        "of triples",
        paired(wide.mean(axis=1).to_numpy()),
        0.5 + PERCENTILE,
    )
    beside = {}
    for ne in wide:
        estimate = paired(wide[ne].to_numpy())
        beside[f"ne = {ne}"] = {
            "estimate": estimate.value,
            "low": estimate.low,
            "high": estimate.high,
        }
    return Measured([part], beside=beside)


def c15(tables: Tables, recipe: str) -> Measured:
    together = _percentiles(tables, recipe)[["seed", "ne", "same_expert"]]
    accuracy = cells(tables.runs, recipe=recipe, k=2, lc=1.0)[["seed", "ne", "accuracy"]]
    both = together.merge(accuracy)
    points = PER_CENT * both.pivot_table("accuracy", "seed", "ne").dropna()
    same = both.pivot(index="seed", columns="ne", values="same_expert").loc[points.index]
    few = len(points) < 3  # the jackknife leaves one out and compares the others
    effects = np.array([np.nan]) if few else effect_within(same.to_numpy(bool), points.to_numpy())
    if not np.isfinite(effects).all():
        raise MissingCellsError("seeds with 4, 7, 9 at one expert, and without, at the same ne")
    share = both.groupby("ne")["same_expert"].mean()
    return Measured(
        [Part("accuracy with it less without it", "points", paired(effects), POINTS)],
        beside={f"share of seeds with it at ne = {ne}": float(x) for ne, x in share.items()},
    )


def _percentiles(tables: Tables, recipe: str) -> pd.DataFrame:
    """A row per seed and ne > 2: the triple's place among all triples by how much of their images
    its members share, and whether one expert is the first of all three.

    At ne = 2 and k = 2 every expert gets everything, and all triples are alike.
    """
    slots = cells(tables.slots, recipe=recipe, k=2, lc=1.0)
    slots = slots[slots["ne"] > 2].sort_values("expert")
    rows = []
    for (seed, ne), of_run in slots.groupby(["seed", "ne"]):
        shares = counts_of(of_run, "digit")
        shares = shares / shares.sum(0)
        shared = shares[:, TRIPLES].min(2).sum(0)
        ours = shared[TRIPLES.index(TRIPLE)]
        percentile = ((shared < ours).sum() + ((shared == ours).sum() - 1) / 2) / (len(TRIPLES) - 1)
        first = {int(shares[:, digit].argmax()) for digit in TRIPLE}
        row = {"seed": seed, "ne": ne, "percentile": percentile}
        rows.append({**row, "same_expert": len(first) == 1})
    if not rows:
        raise MissingCellsError("ne > 2 at k = 2, lc = 1")
    return pd.DataFrame(rows)


def c17(tables: Tables, recipe: str) -> Measured:
    parts = [
        Part(what, unit, paired(by_ne(tables, recipe, name, (10,))[10].to_numpy()), within=(2, 4))
        for what, unit, name in (
            ("digits per expert at ne = 10", "digits", "classes_per_expert"),
            ("experts per digit at ne = 10", "experts", "experts_per_class"),
        )
    ]
    return Measured(parts, all_of)


def c18(tables: Tables, recipe: str) -> Measured:
    spread = by_ne(tables, recipe, "experts_per_class")
    if spread.shape[1] < 3:
        raise MissingCellsError("three ne at k = 2, lc = 1")
    slope = slopes(np.log2(spread.columns.to_numpy(float)), spread.to_numpy())
    return Measured([Part("slope on log2 ne", "experts per doubling", paired(slope), EXPERTS)])


CLAIMS = (
    Claim(
        "C10",
        "Few experts learn the whole task.",
        "digits per expert (exp of entropy) at ne = 3, at least 8 of 10; at ne = 2 and k = 2 it is "
        "forced",
        c10,
    ),
    Claim(
        "C11",
        "From about ne = 4 a digit is split over 2 to 3 experts.",
        "experts per digit (exp of entropy; at least 2 by construction at k = 2) at ne = 4",
        c11,
    ),
    Claim(
        "C12",
        "Accuracy jumps where specialisation begins, from 3 to 4 experts.",
        "the step 3 → 4 less the steps before and after it",
        c12,
    ),
    Claim(
        "C13",
        "A second, smaller jump follows.",
        "the steps 5 → 6 or 6 → 7, each less its neighbours",
        c13,
    ),
    Claim(
        "C14",
        "4, 7 and 9 go to the same expert.",
        "percentile of that triple among all 120 in the slots that its members share, mean over ne",
        c14,
    ),
    Claim(
        "C15",
        "Their meeting there is enough for the gain, if not needed.",
        "accuracy where one expert is first for 4, 7 and 9, less where not, within the same ne; "
        "pooled over ne > 2",
        c15,
    ),
    Claim(
        "C17",
        "With many experts, an expert holds about 3 digits and a digit has 2 to 4 experts.",
        "digits per expert and experts per digit at ne = 10, both in 2 … 4",
        c17,
    ),
    Claim(
        "C18",
        "The number of experts per digit grows with ne.",
        "slope of experts per digit on log2 ne; k = 2, lc = 1",
        c18,
    ),
)
