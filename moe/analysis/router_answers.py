"""Results of the comparison of routers: tables for its figures and sentences.

Differences are within a seed, in points of accuracy unless another measure is named, with 95 %
intervals (Student's t), unadjusted for their number. If the interval includes 0, it is a tie.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from moe.analysis.router_study import (
    CELL,
    GRAINED,
    LIMITED,
    MOST_NE,
    SETTING,
    RouterStudy,
)
from moe.recipes import in_order, recipe_named
from moe.statistics import mean_with_interval, paired

PER_CENT = 100
RANDOM, DENSE_ACTIVE, DENSE_TOTAL = "random", "dense-active", "dense-total"
BALANCE = ("max_violation", "max_violation_batch", "max_violation_epoch")
# Pairs of recipes that differ in one thing: (question, one, other)
PAIRS = (
    ("a shared expert", "shared-expert", "switch"),
    ("normalised gates, sigmoid", "deepseek-v3", "loss-free"),
    ("normalised gates, softmax", "mixtral", "switch"),
)


class Difference(NamedTuple):
    """One minus the other, over the seeds that both have."""

    value: float
    low: float
    high: float
    seeds: int

    @property
    def is_tie(self) -> bool:
        return not (self.low > 0 or self.high < 0)


def difference(
    one: pd.DataFrame, other: pd.DataFrame, measure: str = "accuracy"
) -> Difference | None:
    """The difference between two trials; accuracies in points. None without two common seeds."""
    both = one.set_index("seed")[measure] - other.set_index("seed")[measure]
    values = both.dropna().to_numpy(float) * (PER_CENT if measure == "accuracy" else 1)
    if len(values) < 2:
        return None
    found = paired(values)
    return Difference(found.value, found.low, found.high, len(values))


def at(runs: pd.DataFrame, recipe: str, ne: int, k: int) -> pd.DataFrame:
    """The runs of a cell."""
    return runs[(runs["recipe"] == recipe) & (runs["ne"] == ne) & (runs["k"] == k)]


def cells_of(study: RouterStudy) -> Iterator[tuple[str, int, int]]:
    """Every recipe, ne and k of the comparison, recipes in their order."""
    for recipe in in_order(study.main["recipe"]):
        for row in study.chosen[study.chosen["recipe"] == recipe].itertuples():
            yield recipe, int(row.ne), int(row.k)


def means(study: RouterStudy) -> pd.DataFrame:
    """A row for each cell of the comparison: mean, low and high of accuracy and each balance.

    Recipes that choose nothing have no balance.
    """
    rows = []
    for cell in cells_of(study):
        runs = at(study.main, *cell)
        row = {**dict(zip(CELL, cell, strict=True)), "seeds": len(runs)}
        for name in ("accuracy", *BALANCE, "dead_experts", "experts_per_image"):
            if name != "accuracy" and not recipe_named(cell[0]).chooses:
                mean = low = high = np.array(np.nan)
            else:
                mean, low, high = mean_with_interval(runs[name].to_numpy(float))
            row |= {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)


def by_weight(study: RouterStudy) -> pd.DataFrame:
    """Phase one at the chosen learning rate: a row for each recipe, ne, k and lc, with the mean and
    interval of accuracy, max_violation and dead_experts, and whether it was chosen."""
    chosen = study.chosen[[*CELL, *SETTING]].rename(columns={"lc": "chosen_lc"})
    runs = study.select.merge(chosen, on=[*CELL, "learning_rate"])
    rows = []
    for key, group in runs.groupby([*CELL, "lc"]):
        row = dict(zip([*CELL, "lc"], key, strict=True))
        row["chosen"] = bool((group["chosen_lc"] == row["lc"]).all())
        for name in ("accuracy", "max_violation", "dead_experts"):
            mean, low, high = mean_with_interval(group[name].to_numpy(float))
            row |= {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
        rows.append(row)
    return pd.DataFrame(rows)


def gains(study: RouterStudy) -> pd.DataFrame:
    """At the most experts, each router minus each control: a fixed random router, a dense network
    as large as the k active experts, and one as large as all experts."""
    rows = []
    for recipe, ne, k in cells_of(study):
        if ne != MOST_NE or not recipe_named(recipe).chooses or recipe == RANDOM:
            continue
        for control, its_k in ((RANDOM, k), (DENSE_ACTIVE, k), (DENSE_TOTAL, 1)):
            found = difference(at(study.main, recipe, ne, k), at(study.main, control, ne, its_k))
            if found:
                rows.append({"recipe": recipe, "k": k, "control": control, **_row(found)})
    return pd.DataFrame(rows, columns=["recipe", "k", "control", *_COLUMNS])


def grains(study: RouterStudy) -> pd.DataFrame:
    """The runs with 40 of 160 hidden units active: mean and interval by recipe and ne, and the
    difference from the recipe's fewest experts."""
    width = study.runs["hidden"]
    runs = study.runs[(study.runs["ne"] * width == 160) & (study.runs["k"] * width == 40)]
    rows = []
    for recipe in GRAINED:
        of_recipe = runs[runs["recipe"] == recipe]
        fewest = of_recipe["ne"].min()
        for (ne, k, hidden), group in of_recipe.groupby(["ne", "k", "hidden"]):
            mean, low, high = mean_with_interval(group["accuracy"].to_numpy(float))
            row = {"recipe": recipe, "ne": ne, "k": k, "hidden": hidden, "seeds": len(group)}
            row |= {"accuracy": float(mean), "low": float(low), "high": float(high)}
            row["max_violation"] = float(group["max_violation"].mean())
            first = of_recipe[of_recipe["ne"] == fewest]
            found = difference(group, first) if ne != fewest else None
            rows.append({**row, "fewest": int(fewest), **_row(found, "gain_")})
    return pd.DataFrame(rows)


def choices(study: RouterStudy) -> pd.DataFrame:
    """Single decisions: for each question, ne and k, one minus the other, by measure."""
    rows = []
    for question, one, other in PAIRS:
        for recipe, ne, k in cells_of(study):
            if recipe == one:
                pair = (at(study.main, one, ne, k), at(study.main, other, ne, k))
                named = {"question": question, "one": one, "other": other, "ne": ne, "k": k}
                rows += _by_measure(named, *pair)
    limited = study.runs[
        (study.runs["recipe"] == LIMITED) & ~np.isinf(study.runs["capacity_factor"])
    ]
    for (ne, k, factor), group in limited.groupby(["ne", "k", "capacity_factor"]):
        named = {"question": "a capacity", "one": f"factor {factor:g}", "other": "none"}
        rows += _by_measure({**named, "ne": ne, "k": k}, group, at(study.main, LIMITED, ne, k))
    columns = ["question", "one", "other", "ne", "k", "measure", *_COLUMNS]
    return pd.DataFrame(rows, columns=columns)


def _by_measure(named: dict, one: pd.DataFrame, other: pd.DataFrame) -> Iterator[dict]:
    for measure in ("accuracy", "max_violation", "dead_experts"):
        if found := difference(one, other, measure):
            yield {**named, "measure": measure, **_row(found)}


_COLUMNS = ("difference", "low", "high", "seeds")


def _row(found: Difference | None, prefix: str = "") -> dict[str, float]:
    values = found or (np.nan, np.nan, np.nan, 0)
    return {f"{prefix}{name}": value for name, value in zip(_COLUMNS, values, strict=True)}


def at_an_end(study: RouterStudy) -> dict[str, dict[str, list[float]]]:
    """Where phase one chose the largest or smallest value that it tried, so that a wider grid might
    choose otherwise: values by setting and recipe. lc = 0 is no end, since nothing is below it."""
    ends: dict[str, dict[str, list[float]]] = {}
    for name in ("learning_rate", "lc"):
        for recipe in in_order(study.chosen["recipe"]):
            tried = sorted(set(study.select.loc[study.select["recipe"] == recipe, name]))
            chosen = sorted(set(study.chosen.loc[study.chosen["recipe"] == recipe, name]))
            limits = {tried[0], tried[-1]} - {0} if len(tried) > 1 else set()
            if limits & set(chosen):
                ends.setdefault(name, {})[recipe] = sorted(limits & set(chosen))
    return ends


def on_the_front(table: pd.DataFrame) -> pd.DataFrame:
    """The Pareto front: rows that no other row beats in both mean accuracy and max_violation."""
    kept = table.dropna(subset=["max_violation"])
    beaten = [
        ((kept["accuracy"] > row.accuracy) & (kept["max_violation"] <= row.max_violation)).any()
        | ((kept["accuracy"] >= row.accuracy) & (kept["max_violation"] < row.max_violation)).any()
        for row in kept.itertuples()
    ]
    return kept[~np.array(beaten, bool)].sort_values("accuracy", ascending=False)
