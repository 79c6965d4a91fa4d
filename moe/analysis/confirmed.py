"""A study whose runs are replaced by those of the confirmatory study."""

import pandas as pd

from moe.analysis.results import Tables, cells
from moe.recipes import in_order
from moe.study.train_settings import Train, with_settings

FIRST_SEED = 1000  # of the confirmatory study; no other study has this seed or a later one
CELL = ["recipe", "k", "ne", "lc"]


def confirmed(own: Tables, confirm: Tables, train: Train) -> Tables:
    """The cells of a study, with the seeds of the confirmatory study.

    All runs of a recipe and k are replaced together, and only if the confirmatory study has all of
    their cells (ne, lc): comparisons within a seed never mix two studies. Confusion counts are
    replaced for base models (ne = 1) only; all other tables remain this study's.

    train: the settings of the confirmatory study. A study shown at other settings stays as it is.
    """
    if with_settings(train, own.settings) != train:
        return own
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
    """A sentence for a caption on which study the numbers are from; "" if all are from this study.

    drawn: the figure's numbers, with columns recipe and k if these vary; shown: its source tables.
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
