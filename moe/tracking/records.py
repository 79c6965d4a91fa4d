"""The trials and runs that MLflow shows, derived from a study's tables.

A trial has the means over its seeds, with 95 % intervals (Student's t) under `ci/`. A run has its
columns of runs.csv, and the curves of history.csv under `epoch/`, one step per epoch. Accuracies of
single classes are under `class/`. MLflow groups its charts by these prefixes.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moe.engine import HISTORY
from moe.engine.divergence import COLUMN
from moe.statistics import mean_with_interval
from moe.study.runs import Run, Trial, digest, exactly
from moe.study.tables import by_trial, run_columns, runs_in, trial_columns

SHARES = ("accuracy", "train_accuracy", "dropped", "nmi", "nmi_null")  # at most 1
# Colours of points in MLflow's charts, one for each k, so that a chart over ne shows k
COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d", "#bab0ac")


class Record(NamedTuple):
    """A trial or a run, as it is written to MLflow. curves: (metric, step, value)."""

    name: str
    level: str
    trial: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Sequence[tuple[str, int, float]] = ()
    diverged: bool = False

    @property
    def content(self) -> str:
        """A digest of all fields."""
        return digest(list(self))

    @property
    def tags(self) -> dict[str, str]:
        """The tags, without `content`, which is written last to mark a complete record."""
        tags = {"level": self.level, "trial": self.trial}
        return {**tags, COLUMN: "true"} if self.diverged else tags


def trial_name(trial: Trial) -> str:
    """A name that sorts by recipe and ne, such as "blog ne=08 k=2 lc=0.1"."""
    settings = "".join(f" {name}={exactly(value)}" for name, value in trial.settings)
    return f"{trial.recipe} ne={trial.ne:02d} k={trial.k} lc={exactly(trial.lc)}{settings}"


def trial_records(runs: pd.DataFrame) -> Iterator[Record]:
    """One for each trial of runs.csv, sorted."""
    for trial, all_seeds in by_trial(runs):
        of_trial = sound(all_seeds)
        metrics: dict[str, float] = {}
        for column in _measures(runs):
            mean, low, high = mean_with_interval(of_trial[column].to_numpy(float))
            metrics[_metric(column)] = float(f"{mean:.6g}")  # the digits of the tables
            if len(of_trial) > 1 and not _is_of_class(column):
                # An interval by Student's t may leave the possible range: clip it. No measure is
                # negative.
                most = 1.0 if column in SHARES else np.inf
                metrics[f"ci/{column}_low"] = float(np.clip(low, 0, most))
                metrics[f"ci/{column}_high"] = float(np.clip(high, 0, most))
        yield Record(
            trial_name(trial),
            "trial",
            trial_name(trial),
            {**as_params(trial.columns), "seeds": str(len(all_seeds))},
            metrics,
            diverged=bool(_diverged(all_seeds).any()),
        )


def run_records(runs: pd.DataFrame, history: pd.DataFrame) -> Iterator[Record]:
    """One for each row of runs.csv."""
    curves: dict[Run, list[tuple[str, int, float]]] = {}
    for run, row in zip(runs_in(history), history.to_dict("records"), strict=True):
        points = [(f"epoch/{name}", int(row["epoch"]), float(row[name])) for name in HISTORY]
        curves.setdefault(run, []).extend(points)
    measures = _measures(runs)
    for run, row in zip(runs_in(runs), runs.to_dict("records"), strict=True):
        yield Record(
            f"{trial_name(run.trial)} seed={run.seed:02d}",
            "run",
            trial_name(run.trial),
            as_params(run.columns),
            {_metric(column): float(row[column]) for column in measures},
            curves[run],
            bool(row.get(COLUMN, False)),
        )


def color(record: Record) -> str:
    """The colour of the record's points in MLflow's charts."""
    return COLORS[(int(record.params["k"]) - 1) % len(COLORS)]


def best_trial(runs: pd.DataFrame) -> tuple[Trial, float]:
    """The trial with the highest mean accuracy on the test set, and that mean."""
    names = trial_columns(runs)
    means = sound(runs).groupby(names)["accuracy"].mean().fillna(-np.inf)
    at = int(means.to_numpy().argmax())
    trial = Trial.of(dict(zip(names, list(means.index)[at], strict=True)))
    return trial, float(means.iloc[at])


def _measures(runs: pd.DataFrame) -> list[str]:
    return [name for name in runs.columns if name not in (*run_columns(runs), COLUMN)]


def _is_of_class(column: str) -> bool:
    return re.fullmatch(r"accuracy_\d+", column) is not None


def _metric(column: str) -> str:
    return f"class/{column}" if _is_of_class(column) else column


def sound(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs that did not diverge; all runs, if all diverged."""
    diverged = _diverged(runs)
    return runs if diverged.all() else runs[~diverged]


def _diverged(runs: pd.DataFrame) -> np.ndarray:
    return runs.get(COLUMN, pd.Series(0, runs.index)).to_numpy(bool)


def as_params(cell: Mapping[str, Any]) -> dict[str, str]:
    """Values as MLflow params."""
    return {name: exactly(value) for name, value in cell.items()}
