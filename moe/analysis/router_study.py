"""The comparison of routers, in two phases: `make routers`.

Phase one, studies/routers-select.yaml, tries settings of every router and chooses by accuracy on
images that are not in the test set. Phase two, studies/routers.yaml, trains the chosen settings on
other seeds and uses the test set once. docs/routers.md has the rule.
"""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moe.engine.divergence import COLUMN, split
from moe.study.columns import ROUTER_MEASURES
from moe.study.params import Params
from moe.study.tables import RESULTS_DIR, read_table, run_columns

ROUTERS_DIR = RESULTS_DIR / "routers"
CELL = ["recipe", "ne", "k"]
SETTING = ["lc", "learning_rate"]
DIGITS_OF_MEANS = 9  # round mean accuracies, so that rounding errors do not decide a tie

FIRST_SEED, SEEDS = 100, 20  # of phase two; phase one has seeds below 100
MOST_NE, FEW_K = 16, 2  # the cell whose settings the questions on expert sizes take
LIMITED = "switch"
CAPACITY_FACTORS = (1.0, 1.25, 2.0)
# (ne, k, hidden): 160 hidden units in all, 40 of them active
GRAINS = ((4, 1, 40), (8, 2, 20), (16, 4, 10), (32, 8, 5))
GRAINED = {
    "switch": GRAINS,
    "deepseek-v3": GRAINS[1:],  # with one expert at work its router never trains
    "dense-active": GRAINS[:1],
    "dense-total": GRAINS[:1],
}


class RouterStudy(NamedTuple):
    """select: the runs of phase one; chosen: a row for each router, ne and k; runs: phase two at
    all settings; main: `main_comparison` of these; diverged: runs of phase two that are left out.
    """

    select: pd.DataFrame
    chosen: pd.DataFrame
    runs: pd.DataFrame
    main: pd.DataFrame
    diverged: list[Any]


def read_router_study(folder: Path = ROUTERS_DIR) -> RouterStudy | None:
    """Read the committed tables; None before `make routers` was run."""
    if not (folder / "runs.csv").exists():
        return None
    select, _ = split(read_table(folder / "select.csv"))
    runs, diverged = split(read_table(folder / "runs.csv"))
    chosen = pd.read_csv(folder / "chosen.csv")
    return RouterStudy(select, chosen, runs, main_comparison(runs, chosen), diverged)


def kept(runs: pd.DataFrame, more: tuple[str, ...] = ()) -> pd.DataFrame:
    """The columns of runs.csv that the comparison needs."""
    return runs[[*run_columns(runs), *ROUTER_MEASURES, *more]]


def choose(select: pd.DataFrame) -> pd.DataFrame:
    """The setting of each router, ne and k with the highest mean accuracy over seeds.

    select: runs of phase one. Ties go to the smaller lc, then to the smaller learning rate. A
    setting with a diverged run is not chosen. Columns CELL, SETTING, accuracy, seeds.
    """
    means = select.groupby([*CELL, *SETTING], as_index=False).agg(
        accuracy=("accuracy", "mean"), seeds=("seed", "nunique"), diverged=(COLUMN, "max")
    )
    means["accuracy"] = means["accuracy"].round(DIGITS_OF_MEANS)
    sound = means[means["diverged"] == 0].drop(columns="diverged")
    order = [*CELL, "accuracy", *SETTING]
    best = sound.sort_values(order, ascending=[name != "accuracy" for name in order])
    return best.drop_duplicates(CELL).reset_index(drop=True)


def main_comparison(runs: pd.DataFrame, chosen: pd.DataFrame) -> pd.DataFrame:
    """The main comparison of phase two: the chosen settings, with experts of the usual width and no
    capacity. Of the settings, only lc remains a column."""
    width = runs["hidden"].mode().iloc[0]
    plain = runs[(runs["hidden"] == width) & np.isinf(runs["capacity_factor"])]
    of_chosen = plain.merge(chosen[[*CELL, *SETTING]], on=[*CELL, *SETTING])
    return of_chosen.drop(columns=["hidden", "capacity_factor", "learning_rate"])


def second_phase(chosen: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The sweeps of phase two."""
    at = {tuple(row[name] for name in CELL): row for row in chosen.to_dict("records")}
    for (recipe, ne, k), row in at.items():
        yield _sweep("chosen", recipe, ne, k, row)
    for (recipe, ne, k), row in at.items():
        if recipe == LIMITED:
            limited = {"capacity_factor": list(CAPACITY_FACTORS)}
            yield _sweep("with a capacity", recipe, ne, k, row, **limited)
    for recipe, grains in GRAINED.items():
        row = at.get((recipe, MOST_NE, FEW_K)) or at[recipe, MOST_NE, 1]
        for ne, k, hidden in grains:
            yield _sweep("160 hidden units", recipe, ne, k, row, hidden=[hidden])


def _sweep(why: str, recipe: str, ne: int, k: int, row: Any, **more: list[Any]) -> dict[str, Any]:
    return {
        "name": f"{why}: {recipe}, ne = {ne}, k = {k}",
        "recipe": [recipe],
        "ne": [ne],
        "k": [k],
        "lc": [row["lc"]],
        "learning_rate": [row["learning_rate"]],
        **more,
        "seeds": {"from": FIRST_SEED, "count": SEEDS},
    }


HEADER = """\
# The comparison of routers, phase two: what phase one chose, on other seeds and all of MNIST, with
# one look at the test set. `make routers` writes this file from phase one's choice; it is not to be
# edited. Then: does a capacity hurt, and what do more and smaller experts bring?
# {runs:,} runs of {epochs} epochs of 60,000 images.

data:
  dataset: mnist

sweeps:
"""


TAIL = """\

train:
  epochs: {epochs}
  batch_size: {batch_size}
  learning_rate: {learning_rate}        # every sweep has its own
  hidden: {hidden}

analyze:
  pictured_digits: 10
  null_tables: 1

track:
  experiment: moe-mnist

runtime:
  device: auto
  engine: auto
  executor: local
  workers: auto
  experts_per_shard: auto
  most_runs: 20_000
"""


def second_phase_file(chosen: pd.DataFrame, first: Params) -> str:
    """params.yaml of phase two. first: params of phase one; training is the same."""
    sweeps = list(second_phase(chosen))
    lines = [f"  - {_yaml(sweep)}" for sweep in sweeps]
    runs = SEEDS * sum(len(sweep.get("capacity_factor", [0])) for sweep in sweeps)
    train = first.train
    head = HEADER.format(runs=runs, epochs=train.epochs)
    tail = TAIL.format(**asdict(train))
    return f"{head}{chr(10).join(lines)}\n{tail}"


def _yaml(value: Any) -> str:
    """A value as YAML in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(part)}' for key, part in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    # A name with commas needs quotes; YAML reads 1e-04, without a dot, as a string.
    return f'"{value}"' if isinstance(value, str) else np.format_float_positional(value, trim="-")
