"""C10 – C15, C17, C18: the specialisation of experts."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd

from moe.analysis.results import DIGITS, Tables, cells, counts_of
from moe.claims import spread
from moe.claims.claim import EXPERTS, POINTS, SHARE, Measured, MissingCellsError, Part, claim
from moe.statistics import (
    Verdict,
    agreeing,
    all_of,
    any_of,
    effect_within,
    frequency,
    paired,
    slopes,
)

PER_CENT = 100
TRIPLE = (4, 7, 9)
TRIPLES = list(itertools.combinations(DIGITS, 3))
NOT_THERE = (4, 5, 8)  # "we see ne=4 and ne=5 don't have this behavior and neither does ne=8"
POOLED = (3, 4, 5, 6)  # sizes at which some seeds have it and some do not
IT_HAPPENS = 0.05  # of the seeds
WHOLE_TASK = 8  # digits of 10


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


@claim(
    "C10",
    words="Few experts learn the whole task.",
    quote="Overall, for a small number of experts, the experts learn the entire task …",
    measured="digits per expert (exp of the entropy) at ne = 3, k = 2, lc = 1; at ne = 2 it is "
    "forced, since both experts see every image",
    margin="above 8 digits of 10",
)
def whole_task(tables: Tables, recipe: str) -> Measured:
    held = paired(by_ne(tables, recipe, "classes_per_expert", (3,))[3].to_numpy())
    what = "digits per expert at ne = 3"
    return Measured([Part(what, "digits", held, WHOLE_TASK, resolution=EXPERTS)])


@claim(
    "C11",
    words="From about ne = 4 a digit is split over 2 to 3 experts.",
    quote="Now we see specializations starting to occur. Most samples from each class are now "
    "being divided between 2-3 experts.",
    measured="experts per digit at ne = 4 (k = 2, lc = 1) by three measures: exp of the entropy of "
    "its slots, inverse Simpson, the experts that cover 80 % of its slots; the first two are 2 at "
    "least, by construction",
    margin="each within 2 … 3",
)
def experts_per_digit(tables: Tables, recipe: str) -> Measured:
    found = _by_measure(tables, recipe, 4)
    parts = [
        Part(
            f"experts per digit, {name}",
            "experts",
            paired(values["experts_per_class"].to_numpy()),
            within=(2, 3),
            resolution=EXPERTS,
        )
        for name, values in found.items()
    ]
    return Measured(parts, agreeing)


def _slots(tables: Tables, recipe: str, ne: int) -> tuple[list[int], np.ndarray]:
    """The seeds at this ne, k = 2 and lc = 1, and their slots (seeds, ne, 10)."""
    slots = cells(tables.slots, recipe=recipe, ne=ne, k=2, lc=1.0).sort_values(["seed", "expert"])
    return slots["seed"].unique().tolist(), counts_of(slots, "digit").reshape(-1, ne, len(DIGITS))


def _by_measure(tables: Tables, recipe: str, ne: int) -> dict[str, pd.DataFrame]:
    """By measure of spread, a table with a row per seed: experts_per_class, classes_per_expert."""
    seeds, slots = _slots(tables, recipe, ne)
    if len(seeds) < 2:
        raise MissingCellsError(f"two seeds of ne = {ne} at k = 2, lc = 1")
    return {
        name: pd.DataFrame(
            {
                "experts_per_class": [spread.per_class(x, measure) for x in slots],
                "classes_per_expert": [spread.per_expert(x, measure) for x in slots],
            },
            index=seeds,
        )
        for name, measure in spread.MEASURES.items()
    }


@claim(
    "C12",
    words="Accuracy jumps where specialisation begins, from 3 to 4 experts.",
    quote="This is also likely why we see a prominent jump in performance from ne=3 …",
    measured="the step 3 → 4 less the steps before and after it; k = 2, lc = 1",
    margin="both above 0.2 points",
)
def first_jump(tables: Tables, recipe: str) -> Measured:
    return Measured(_jump(tables, recipe, 3, (2, 3, 4, 5)), all_of)


@claim(
    "C13",
    words="A second, smaller jump follows.",
    quote="We see another minor jump as the specializations start to look fairly well defined "
    "here.",
    measured="the steps 5 → 6 or 6 → 7, each less its neighbours; k = 2, lc = 1",
    margin="for one of the two, both above 0.2 points",
)
def second_jump(tables: Tables, recipe: str) -> Measured:
    first = _jump(tables, recipe, 5, (4, 5, 6, 7))
    second = _jump(tables, recipe, 6, (5, 6, 7, 8))
    return Measured([*first, *second], _either)


def _jump(tables: Tables, recipe: str, before: int, sizes: tuple[int, ...]) -> list[Part]:
    """The gain of a step minus that of the step before it, and minus that of the step after it."""
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
    """Holds if either of two jumps does."""
    return any_of([all_of(parts[:2]), all_of(parts[2:])])


@claim(
    "C14",
    words="4, 7 and 9 go to the same expert.",
    quote="Most interestingly, we see that the most confusing classes (4, 7 and 9) are being sent "
    "to the same expert for the best classification!",
    measured="relative: the triple's percentile among all 120 in the slots that its members share, "
    "mean over ne > 2; absolute: the share of seeds in which one expert gets the most images of "
    "all three digits, and more than half of each, at ne = 3, 6, 7, 10, 12 and 16; k = 2, lc = 1",
    margin="relative: above 0.55; absolute: above 0.05 of the seeds at one of these ne",
)
def same_expert(tables: Tables, recipe: str) -> Measured:
    triple = _triples(tables, recipe)
    wide = triple.pivot_table("percentile", "seed", "ne").dropna()
    happens = triple[~triple["ne"].isin(NOT_THERE)].groupby("ne")["has_most"].agg(["sum", "count"])
    if len(wide) < 2 or happens.empty:
        raise MissingCellsError("at least two seeds")
    relative = Part(
        "mean percentile of {4, 7, 9} among all triples",
        "of triples",
        paired(wide.mean(axis=1).to_numpy()),
        0.5 + SHARE,
        resolution=SHARE,
    )
    absolute = [
        Part(
            f"ne = {ne}: one expert first for all three",
            "of seeds",
            frequency(int(hits), int(of)),
            IT_HAPPENS,
        )
        for ne, hits, of in happens.itertuples()
    ]
    beside = {}
    for ne, rows in triple.groupby("ne"):
        share = frequency(int(rows["has_most"].sum()), len(rows))
        beside[f"ne = {ne}"] = {
            "percentile": float(rows["percentile"].mean()),
            "share of seeds": share.value,
            "low": share.low,
            "high": share.high,
        }
    return Measured([relative, *absolute], _relative_and_absolute, beside=beside)


def _relative_and_absolute(parts: Sequence[Verdict]) -> Verdict:
    return all_of([parts[0], any_of(parts[1:])])


@claim(
    "C15",
    words="Their meeting there is enough for the gain, if not needed.",
    quote="This is not a necessary phenomenon for increase in performance … Regardless, this is a "
    "sufficient phenomenon …",
    measured="accuracy where one expert gets the most images of 4, 7 and 9, less where not, within "
    "the same ne, pooled over ne = 3 to 6; a measure chosen after looking at other seeds",
    margin="above 0.2 points",
)
def meeting_pays(tables: Tables, recipe: str) -> Measured:
    together = _triples(tables, recipe)[["seed", "ne", "same_expert"]]
    together = cells(together, ne=list(POOLED))
    accuracy = cells(tables.runs, recipe=recipe, k=2, lc=1.0)[["seed", "ne", "accuracy"]]
    both = together.merge(accuracy)
    points = PER_CENT * both.pivot_table("accuracy", "seed", "ne").dropna()
    same = both.pivot(index="seed", columns="ne", values="same_expert").loc[points.index]
    few = len(points) < 3  # the jackknife leaves one out and needs two to compare
    effects = np.array([np.nan]) if few else effect_within(same.to_numpy(bool), points.to_numpy())
    if not np.isfinite(effects).all():
        raise MissingCellsError("seeds with 4, 7, 9 at one expert, and without, at the same ne")
    share = both.groupby("ne")["same_expert"].mean()
    return Measured(
        [Part("accuracy with it less without it", "points", paired(effects), POINTS)],
        beside={f"share of seeds with it at ne = {ne}": float(x) for ne, x in share.items()},
    )


def _triples(tables: Tables, recipe: str) -> pd.DataFrame:
    """A row per seed and ne > 2.

    percentile: the rank of {4, 7, 9} among all triples by the slots that its members share.
    same_expert: whether one expert gets the most images of all three. has_most: whether it also
    gets more than half of each.

    At ne = 2 and k = 2, both experts get every image, and all triples are equal.
    """
    present = cells(tables.slots, recipe=recipe, k=2, lc=1.0)["ne"].unique()
    tables_of_ne = []
    for ne in sorted(int(ne) for ne in present if ne > 2):
        seeds, counts = _slots(tables, recipe, ne)
        shares = counts / counts.sum(1, keepdims=True)  # (seeds, ne, 10)
        shared = shares[:, :, TRIPLES].min(-1).sum(1)  # (seeds, triples)
        ours = shared[:, [TRIPLES.index(TRIPLE)]]
        below, equal = (shared < ours).sum(1), (shared == ours).sum(1)
        of_triple = shares[:, :, TRIPLE]
        first = of_triple.argmax(1)  # (seeds, 3): the expert with the most images of each
        same = (first == first[:, :1]).all(1)
        # Each image has two slots, so half of the images are a quarter of the slots.
        most = (of_triple.max(1) > 1 / 4).all(1)
        columns = {
            "seed": seeds,
            "ne": ne,
            "percentile": (below + (equal - 1) / 2) / (len(TRIPLES) - 1),
            "same_expert": same,
            "has_most": same & most,
        }
        tables_of_ne.append(pd.DataFrame(columns))
    if not tables_of_ne:
        raise MissingCellsError("ne > 2 at k = 2, lc = 1")
    return pd.concat(tables_of_ne, ignore_index=True)


@claim(
    "C17",
    words="With many experts, an expert holds about 3 digits and a digit has 2 to 4 experts.",
    quote="Here, each expert specialises in close to 3 classes, while each class gets sent to "
    "about 2-4 experts.",
    measured="digits per expert and experts per digit at ne = 10 (k = 2, lc = 1), by the three "
    "measures of C11",
    margin="by each measure both within 2 … 4",
)
def narrow_experts(tables: Tables, recipe: str) -> Measured:
    found = _by_measure(tables, recipe, 10)
    parts = [
        Part(
            f"{what}, {name}",
            unit,
            paired(values[column].to_numpy()),
            within=(2, 4),
            resolution=EXPERTS,
        )
        for name, values in found.items()
        for what, unit, column in (
            ("digits per expert", "digits", "classes_per_expert"),
            ("experts per digit", "experts", "experts_per_class"),
        )
    ]
    return Measured(parts, _by_each_measure)


def _by_each_measure(parts: Sequence[Verdict]) -> Verdict:
    """Combine each measure's two parts, then test whether the measures agree."""
    return agreeing([all_of(parts[first : first + 2]) for first in range(0, len(parts), 2)])


@claim(
    "C18",
    words="The number of experts per digit grows with ne.",
    quote="Samples from each class gets sent only to a few experts - this number tends to increase "
    "as the total number of experts (ne) increases.",
    measured="slope of experts per digit (exp of the entropy) on log2 ne; k = 2, lc = 1",
    margin="above 0.1 experts per doubling",
)
def experts_over_ne(tables: Tables, recipe: str) -> Measured:
    experts = by_ne(tables, recipe, "experts_per_class")
    if experts.shape[1] < 3:
        raise MissingCellsError("three ne at k = 2, lc = 1")
    slope = slopes(np.log2(experts.columns.to_numpy(float)), experts.to_numpy())
    return Measured([Part("slope on log2 ne", "experts per doubling", paired(slope), EXPERTS)])
