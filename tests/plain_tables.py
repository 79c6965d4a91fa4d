"""The committed tables, read and averaged with plain Python, as references for the figures."""

import csv
import functools
import math
from pathlib import Path
from typing import Any

from scipy.stats import t

RESULTS = Path(__file__).parent.parent / "results"
Row = dict[str, Any]
CHOSEN = "routers/chosen"


def _value(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


@functools.cache
def rows(name: str) -> list[Row]:
    """Every row of a table of results/, numbers as floats, empty cells as None."""
    with (RESULTS / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return [{k: _value(v) for k, v in row.items()} for row in csv.DictReader(file)]


def where(name: str, **wanted: Any) -> list[Row]:
    """The rows whose columns have these values."""
    return [row for row in rows(name) if all(row[key] == value for key, value in wanted.items())]


def judged_on(recipe: str, k: int, **wanted: Any) -> list[Row]:
    """The runs that a claim is judged on: those of the confirmatory study in the cells of the
    exploratory study. switch at k = 2 is not in the protocol, so it stays exploratory."""
    own = where("runs", recipe=recipe, k=k, **wanted)
    if (recipe, k) == ("switch", 2):
        return own
    in_study = {(row["ne"], row["lc"]) for row in own}
    fresh = where("confirm/runs", recipe=recipe, k=k, **wanted)
    return [row for row in fresh if (row["ne"], row["lc"]) in in_study]


def of_routers(**wanted: Any) -> list[Row]:
    """The comparison of routers: phase two at the chosen settings, 10 hidden units, no capacity."""
    settings = {(r["recipe"], r["ne"], r["k"], r["lc"], r["learning_rate"]) for r in rows(CHOSEN)}
    found = where("routers/runs", hidden=10, capacity_factor=math.inf, **wanted)
    keys = ("recipe", "ne", "k", "lc", "learning_rate")
    return [row for row in found if tuple(row[key] for key in keys) in settings]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def interval(values: list[float]) -> tuple[float, float]:
    """95 %, Student's t, by the formula."""
    n, middle = len(values), mean(values)
    spread = math.sqrt(sum((value - middle) ** 2 for value in values) / (n - 1))
    half = float(t.ppf(0.975, n - 1)) * spread / math.sqrt(n)
    return middle - half, middle + half


def swept_seeds(recipe: str, name: str = "runs") -> set[float]:
    """The seeds that every lc has at k = 2."""
    by_lc: dict[float, set[float]] = {}
    for row in where(name, recipe=recipe, k=2):
        by_lc.setdefault(row["lc"], set()).add(row["seed"])
    return set.intersection(*by_lc.values())


def confusion(recipe: str, ne: int, name: str = "confusion") -> list[list[float]]:
    """Mean counts over seeds, at k = 2 (1 for one expert), lc = 1: a row for each true digit."""
    found = where(name, recipe=recipe, ne=ne, k=min(ne, 2), lc=1)
    return [
        [mean([r[f"predicted_{p}"] for r in found if r["digit"] == digit]) for p in range(10)]
        for digit in range(10)
    ]


def slots(recipe: str, ne: int) -> list[list[float]]:
    """Seed 0 at k = 2, lc = 1: each expert's number of test images of each digit."""
    found = where("slots", recipe=recipe, ne=ne, k=2, lc=1, seed=0)
    found = sorted(found, key=lambda row: row["expert"])
    return [[row[f"digit_{digit}"] for digit in range(10)] for row in found]
