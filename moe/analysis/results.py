"""The study's tables, and what figures ask of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moe.analysis.divergence import split, without
from moe.statistics import mean_with_interval, slopes
from moe.study.runs import RUN_KEYS, Run, Trial
from moe.study.tables import read_table

DIGITS = range(10)


FEWEST_ROUTERS = 4


class Tables(NamedTuple):
    """What a study left in results/; folder: where; hidden: width of its experts.

    routers: runs.csv of the study of all recipes, or no rows; benchmark: what `make bench` found.
    diverged: the runs of runs and routers whose loss or weights are not finite; no table has them.
    """

    folder: Path
    hidden: int
    runs: pd.DataFrame
    history: pd.DataFrame
    confusion: pd.DataFrame
    slots: pd.DataFrame
    coactivation: pd.DataFrame
    routers: pd.DataFrame
    benchmark: dict[str, Any] | None = None
    diverged: Sequence[Run] = ()

    @property
    def recipes(self) -> list[str]:
        """The source's two readings, those of them that the study has; else whatever it has."""
        present = list(dict.fromkeys(self.runs["recipe"]))
        return [name for name in ("blog", "logits") if name in present] or present[:2]


def read_tables(folder: Path, hidden: int) -> Tables:
    """Read what the stages before wrote.

    A study of many recipes is itself the study of the routers; others have its table beside theirs.
    Diverged runs are left out of all tables.
    """
    names = ("runs", "history", "confusion", "slots", "coactivation")
    runs, *others = (read_table(folder / f"{name}.csv") for name in names)
    runs, diverged = split(runs)
    others = [without(table, diverged) for table in others]
    has_many = runs["recipe"].nunique() >= FEWEST_ROUTERS
    routers, of_routers = (runs, []) if has_many else split(read_table(folder / "routers.csv"))
    benchmark = folder.parent / "benchmarks/results.json"
    found = json.loads(benchmark.read_text()) if benchmark.exists() else None
    return Tables(folder, hidden, runs, *others, routers, found, (*diverged, *of_routers))


def cells(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values; a list allows each of its values."""
    keep = np.ones(len(table), bool)
    for name, value in wanted.items():
        keep &= table[name].isin(value if isinstance(value, list | set) else [value])
    return table[keep]


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Columns by, mean, low, high, seeds: the mean over seeds with its 95 % interval."""
    rows = []
    for key, group in table.groupby(list(by)):
        mean, low, high = mean_with_interval(group[value].to_numpy(float))
        named = dict(zip(by, key, strict=True))
        rows.append({**named, "mean": mean, "low": low, "high": high, "seeds": len(group)})
    frame = pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])
    return frame.astype({"mean": float, "low": float, "high": float})


def mean_over_ne(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Each seed's mean over the ne that every value of `by` has, one row a seed."""
    if table.empty:
        return table
    groups = [set(group["ne"]) for _, group in table.groupby(list(by))]
    common = cells(table, ne=set.intersection(*groups))
    return common.groupby([*by, "seed"])[value].mean().reset_index()


def lc_sweep(table: pd.DataFrame, recipes: Sequence[str]) -> pd.DataFrame | None:
    """The cells with k = 2, if there is more than one lc; of the seeds that every lc has, since
    runs of a seed are paired and lines of the same seeds compare."""
    swept = cells(table, recipe=list(recipes), k=2)
    if swept["lc"].nunique() < 2:
        return None
    return cells(swept, seed=set.intersection(*(set(g["seed"]) for _, g in swept.groupby("lc"))))


def slopes_on_ne(runs: pd.DataFrame, recipe: str, k: int) -> pd.Series | None:
    """Each seed's slope of accuracy, in points, on log2 ne at lc = 1, from the fewest experts that
    have a choice (ne = 2, or k); None with fewer than three ne or two seeds."""
    of_k = cells(runs, recipe=recipe, k=k, lc=1.0)
    wide = of_k[of_k["ne"] >= max(2, k)].pivot_table("accuracy", "seed", "ne").dropna()
    if wide.shape[1] < 3 or len(wide) < 2:
        return None
    x = np.log2(wide.columns.to_numpy(float))
    return pd.Series(slopes(x, 100 * wide.to_numpy()), index=wide.index)


def accuracy_slopes(runs: pd.DataFrame, recipes: Sequence[str]) -> pd.DataFrame:
    """Columns recipe, k, mean, low, high, seeds: of slopes_on_ne, wherever there is one."""
    rows = []
    for recipe in recipes:
        for k in sorted(set(cells(runs, recipe=recipe)["k"])):
            found = slopes_on_ne(runs, recipe, k)
            if found is not None:
                rows += [{"recipe": recipe, "k": k, "slope": value} for value in found]
    return over_seeds(
        pd.DataFrame(rows, columns=["recipe", "k", "slope"]), ["recipe", "k"], "slope"
    )


def seed_0(table: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    """The rows of a trial's first model."""
    return cells(table, **trial._asdict(), seed=0)


def counts_of(table: pd.DataFrame, prefix: str) -> np.ndarray:
    """The columns prefix_0 … prefix_9 as an array."""
    return table[[f"{prefix}_{digit}" for digit in DIGITS]].to_numpy()


def run_count(table: pd.DataFrame) -> int:
    """How many runs a table is about."""
    return len(table[RUN_KEYS].drop_duplicates())
