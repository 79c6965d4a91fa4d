"""A study with the runs of the confirmatory study in place of its own."""

import pandas as pd

from moe.analysis.results import Tables, cells
from moe.recipes import in_order

FIRST_SEED = 1000  # of the confirmatory study; no other study has this seed or a later one
CELL = ["recipe", "k", "ne", "lc"]


def confirmed(own: Tables, confirm: Tables) -> Tables:
    """The cells of a study, with the seeds of the confirmatory one.

    A recipe and k is replaced as a whole, and only if the confirmatory study has all of its cells
    (ne, lc), so that what is compared within a seed is of one study. Its confusion counts are those
    of base models (ne = 1) alone; all other tables stay this study's.
    """
    runs, confusion = [], []
    for _, group in own.runs.groupby(["recipe", "k"], sort=False):
        found = confirm.runs.merge(group[CELL].drop_duplicates(), on=CELL)
        is_whole = _count(found) == _count(group)
        runs.append(found if is_whole else group)
        (recipe,), (k,) = set(group["recipe"]), set(group["k"])
        source = confirm.confusion if is_whole and k == 1 else own.confusion
        confusion.append(cells(source, recipe=recipe, k=k))
    if not runs:
        return own
    return own._replace(runs=_joined(runs), confusion=_joined(confusion))


def _count(runs: pd.DataFrame) -> int:
    return len(runs[CELL].drop_duplicates())


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def study_text(drawn: pd.DataFrame, shown: Tables) -> str:
    """Which study a figure's numbers are of, for its caption; empty if all are of this study.

    drawn: the figure's numbers, with recipe and k where they differ; shown: what it was drawn from.
    """
    names = [name for name in ("recipe", "k") if name in drawn]
    runs = shown.runs.merge(drawn[names].drop_duplicates(), on=names) if names else shown.runs
    is_new = runs["seed"] >= FIRST_SEED
    if not is_new.any():
        return ""
    others = runs[~is_new]
    text = "Runs of the confirmatory study"
    if names and len(others):
        groups = [
            f"{recipe} at k = {k}"
            for recipe in in_order(others["recipe"])
            for k in sorted(set(cells(others, recipe=recipe)["k"]))
        ]
        text += f"; those of {' and '.join(groups)} are of the exploratory one"
    return f"{text}."
