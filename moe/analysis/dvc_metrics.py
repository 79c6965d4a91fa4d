"""What `dvc metrics` and `dvc plots` show: headline numbers, and a CSV file for each plot.

They work for any recipes, k and lc. Means are over seeds.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from moe.analysis.results import at_settings, cells
from moe.study.runs import TRIAL_KEYS, Settings, Trial
from moe.study.tables import trial_columns, write_table

CURVES = ["train_accuracy", "test_accuracy"]


def headline(runs: pd.DataFrame, settings: Settings = ()) -> dict[str, Any]:
    """The number of runs, and each recipe's accuracy with one expert and in its best trial.

    runs: runs.csv. settings: the swept settings at which base is taken. base: by recipe, the mean
    at ne = 1, if the study has it; best: by recipe, the highest mean of a trial.
    """
    trials = runs.groupby(trial_columns(runs))["accuracy"].mean()
    base = cells(at_settings(runs, settings), ne=1).groupby("recipe")["accuracy"].mean()
    best = trials.groupby("recipe").max()
    return {
        "runs": len(runs),
        "base": {recipe: round(value, 5) for recipe, value in base.items()},
        "best": {recipe: round(value, 5) for recipe, value in best.items()},
    }


def best_trials(runs: pd.DataFrame) -> dict[str, Trial]:
    """The trial with the highest mean accuracy, by recipe."""
    trials = runs.groupby(TRIAL_KEYS)["accuracy"].mean()
    return {
        str(recipe): Trial(*of_recipe.idxmax())  # type: ignore[misc]
        for recipe, of_recipe in trials.groupby("recipe")
    }


def write_plots(
    runs: pd.DataFrame, history: pd.DataFrame, confusion: pd.DataFrame, folder: Path
) -> None:
    """Write accuracy_over_ne.csv, accuracy_over_lc.csv, training/RECIPE.csv, confusion/RECIPE.csv.

    The tables are for one combination of the settings that a study sweeps. Training curves and
    confusion are from each recipe's best trial. Confusion is from the trial's first seed, one row
    for each test image.
    """
    write_table(accuracy_over_ne(runs), folder / "accuracy_over_ne.csv")
    write_table(accuracy_over_lc(runs), folder / "accuracy_over_lc.csv")
    for recipe, trial in best_trials(runs).items():
        of_trial = cells(history, **trial.columns)
        curves = of_trial.groupby("epoch")[CURVES].mean().reset_index()
        write_table(curves, folder / "training" / f"{recipe}.csv")
        first = cells(confusion, **trial.columns)
        first = cells(first, seed=first["seed"].min())
        write_table(images_of(first), folder / "confusion" / f"{recipe}.csv")


def accuracy_over_ne(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe, k and ne, at the lc with the most ne for that recipe and k.

    Ties go to the lc nearest to 1. series: a label with recipe, k and lc.
    """
    rows = []
    for (recipe, k), group in runs.groupby(["recipe", "k"]):
        by_lc = group.groupby("lc")["ne"].nunique()
        lc = max(by_lc.index, key=lambda lc: (by_lc[lc], -abs(lc - 1)))
        series = f"{recipe} k={k} lc={lc:g}"
        for ne, accuracy in cells(group, lc=lc).groupby("ne")["accuracy"]:
            rows.append({"series": series, "ne": ne, "accuracy": accuracy.mean()})
    return pd.DataFrame(rows)


def accuracy_over_lc(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe, k and lc: the mean over the ne that all lc of that recipe and k share.

    Only recipes and k with more than one lc; if there are none, all of them.
    """
    rows = []
    several = runs.groupby(["recipe", "k"])["lc"].transform("nunique") > 1
    for (recipe, k), group in (runs[several] if several.any() else runs).groupby(["recipe", "k"]):
        swept = [set(of_lc["ne"]) for _, of_lc in group.groupby("lc")]
        common = cells(group, ne=set.intersection(*swept))
        by_lc = common.groupby(["lc", "ne"])["accuracy"].mean().groupby("lc").mean()
        for lc, accuracy in by_lc.items():
            rows.append({"series": f"{recipe} k={k}", "lc": lc, "accuracy": accuracy})
    return pd.DataFrame(rows, columns=["series", "lc", "accuracy"])


def images_of(confusion: pd.DataFrame) -> pd.DataFrame:
    """Expand counts to one row per image, since DVC's confusion template counts rows."""
    return pd.DataFrame(_images(confusion.to_dict("records")), columns=["actual", "predicted"])


def _images(counts: list[Mapping[Any, Any]]) -> Iterator[tuple[int, int]]:
    for row in counts:
        for column, count in row.items():
            if column.startswith("predicted_"):
                yield from [(row["digit"], int(column.removeprefix("predicted_")))] * count
