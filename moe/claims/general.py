"""Claims of the source that name digits, generalised to any data set.

docs/beyond-mnist.md has the definitions. They are not part of the confirmatory study, nor of
`CLAIMS`.
"""

import itertools

import pandas as pd

from moe.analysis.results import Tables, base, cells, counts_of
from moe.claims.claim import SHARE, Claim, Measured, MissingCellsError, Part
from moe.statistics import frequency, paired

LOST = 0.5  # a model loses a class if its accuracy on the class is lower


def most_confused(tables: Tables, recipe: str) -> tuple[int, int, int]:
    """The three classes that base models confuse most with one another.

    Confusion of a triple: the share of images of one class predicted as the other, mean over seeds,
    summed over its three pairs in both directions.

    Raises MissingCellsError for fewer than two seeds or three classes.
    """
    confusion = base(tables.confusion, recipe)
    if confusion["seed"].nunique() < 2 or len(tables.classes) < 3:
        raise MissingCellsError("two seeds of ne = 1, and three classes")
    by_class = confusion.groupby("digit")[_columns(confusion, "predicted")].mean()
    counts = by_class.to_numpy()
    shares = counts / counts.sum(1, keepdims=True)
    both = shares + shares.T
    triples = itertools.combinations(tables.classes, 3)
    return max(triples, key=lambda t: both[t[0], t[1]] + both[t[0], t[2]] + both[t[1], t[2]])


def _columns(table: pd.DataFrame, prefix: str) -> list[str]:
    names = [name for name in table if str(name).startswith(f"{prefix}_")]
    return sorted(map(str, names), key=lambda name: int(name.rpartition("_")[2]))


def meetings(tables: Tables, recipe: str) -> pd.DataFrame:
    """A row for each seed and ne > 2 at k = 2, lc = 1. A column for each triple of classes: whether
    one expert gets the most images of all three."""
    slots = cells(tables.slots, recipe=recipe, k=2, lc=1.0)
    triples = list(itertools.combinations(tables.classes, 3))
    parts = []
    for ne, of_ne in slots[slots["ne"] > 2].groupby("ne"):
        of_ne = of_ne.sort_values(["seed", "expert"])
        counts = counts_of(of_ne, "digit").reshape(-1, int(str(ne)), len(tables.classes))
        first = counts.argmax(1)[:, triples]  # (seeds, triples, 3)
        same = (first == first[:, :, :1]).all(-1)
        index = pd.MultiIndex.from_product([of_ne["seed"].unique(), [ne]], names=["seed", "ne"])
        parts.append(pd.DataFrame(same, index, triples))
    if not parts:
        raise MissingCellsError("ne > 2 at k = 2, lc = 1")
    return pd.concat(parts)


def _confused_meet(tables: Tables, recipe: str) -> Measured:
    triple = most_confused(tables, recipe)
    found = meetings(tables, recipe).astype(float)
    complete = found.groupby("seed").size() == found.index.get_level_values("ne").nunique()
    found = found[found.index.get_level_values("seed").isin(complete.index[complete])]
    by_seed = found.groupby("seed").mean()
    if len(by_seed) < 2:
        raise MissingCellsError("two seeds with all of these ne")
    ours = by_seed[[triple]].to_numpy()[:, 0]
    others = by_seed.drop(columns=[triple]).to_numpy().mean(1)
    names = [tables.dataset.class_names[label] for label in triple]
    return Measured(
        [
            Part(
                "one expert first for all three, less other triples",
                "of seeds and ne",
                paired(ours - others),
                SHARE,
            )
        ],
        remark=f"the triple is {', '.join(names)}: {ours.mean():.2f}, others {others.mean():.2f}",
        beside={"triple": names, "share": float(ours.mean()), "others": float(others.mean())},
    )


def _loses_classes(tables: Tables, recipe: str) -> Measured:
    lost = {
        name: (base(tables.runs, name).set_index("seed")[tables.accuracies] < LOST).any(axis=1)
        for name in (recipe, "logits")
    }
    both = pd.concat(lost, axis=1, join="inner")
    if len(both) < 2:
        raise MissingCellsError("two seeds of ne = 1 under blog and logits")
    alone = both[recipe] & ~both["logits"]
    share = frequency(int(alone.sum()), len(both))
    beside = {}
    for name, models in lost.items():
        of = frequency(int(models.sum()), len(models))
        beside[name] = {"share": of.value, "low": of.low, "high": of.high, "models": len(models)}
    summary = ", ".join(
        f"{name} {of['share']:.0%} of {of['models']}" for name, of in beside.items()
    )
    part = Part(
        "base models that lose a class where that of logits does not", "of seeds", share, SHARE
    )
    return Measured([part], remark=f"models with a class below 50 %: {summary}", beside=beside)


GENERAL = (
    Claim(
        "G14",
        words="The classes that are most confused go to the same expert.",
        quote="Most interestingly, we see that the most confusing classes (4, 7 and 9) are being "
        "sent to the same expert for the best classification!",
        measured="the triple that base models confuse most: how often one expert gets the most "
        "images of all three, less how often that is so of other triples, within each seed, mean "
        "over ne > 2; k = 2, lc = 1",
        margin="above 0.05",
        measure=_confused_meet,
    ),
    Claim(
        "G8",
        words="The double softmax loses whole classes.",
        quote="",
        measured="base models (ne = 1): the share of seeds in which the model of blog is right on "
        "less than half of some class, and that of logits on no such class",
        margin="above 0.05 of the seeds",
        measure=_loses_classes,
        recipes=("blog",),
    ),
)
