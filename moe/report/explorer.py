"""The explorer: one HTML file with all of a study's results, to turn the knobs of.

Whole tables go into it as JSON: numbers by trial and seed, pictures and gates of seed 0 alone.
"""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe.analysis.divergence import without
from moe.analysis.results import DIGITS, Tables, counts_of
from moe.report.playground import ENGINE
from moe.report.single_page import render
from moe.study.runs import TRIAL_KEYS, Trial
from moe.study.tables import PICTURES_DIR, picture_of, read_table

CURVES = ("network_loss", "gate_loss", "test_accuracy")


def write_explorer(tables: Tables, dataset: str, template: Path, path: Path) -> None:
    """Write the page; the same tables always give the same bytes.

    template: the folder of the templates of the report.
    """
    html = render(
        template / "explorer.html",
        _data(tables, dataset),
        ["common.css", "explorer.css"],
        script=["common.js", "explorer.js"],
        dataset=dataset,
    )
    path.write_text(html, encoding="utf-8")


def _data(tables: Tables, dataset: str) -> dict[str, Any]:
    """trials: one object each, whose lists run over its seeds."""
    history = dict(list(tables.history.groupby(TRIAL_KEYS)))
    confusion = dict(list(tables.confusion.groupby(TRIAL_KEYS)))
    slots = dict(list(tables.slots.groupby(TRIAL_KEYS)))
    digits = read_table(tables.folder / "digits.csv")
    gates = dict(list(without(digits, tables.diverged).groupby(TRIAL_KEYS)))
    trials = []
    for key, runs in tables.runs.groupby(TRIAL_KEYS):
        trial = Trial(*key)
        runs = runs.sort_values("seed")
        trials.append(
            {
                **trial._asdict(),
                "seeds": runs["seed"].tolist(),
                "accuracy": _short(runs["accuracy"]),
                "networkLoss": _short(runs["network_loss"]),
                "gateLoss": _short(runs["gate_loss"]),
                "classes": [_short(row) for row in _accuracies(runs)],
                "confusion": _by_seed(confusion[key], ["digit"], "predicted"),
                "slots": _by_seed(slots[key], ["expert"], "digit"),
                "curves": {name: _curve(history[key], name) for name in CURVES},
                "picture": _as_uri(picture_of(trial, tables.folder)),
                "gates": _gates(gates[key], trial.ne) if key in gates else [],
            }
        )
    _, first = next(iter(digits.groupby(TRIAL_KEYS)))
    return {
        "dataset": dataset,
        "trials": trials,
        "trainable": ENGINE,
        "digits": first["digit"].tolist(),
        "digitsPicture": _as_uri(tables.folder / PICTURES_DIR.name / "digits.png"),
    }


def _short(values: Any) -> list[float]:
    """As the tables have them: six digits."""
    return [float(f"{value:.6g}") for value in np.asarray(values, float)]


def _accuracies(runs: pd.DataFrame) -> np.ndarray:
    return runs[[f"accuracy_{digit}" for digit in DIGITS]].to_numpy()


def _by_seed(table: pd.DataFrame, order: list[str], prefix: str) -> list[list[int]]:
    """For each seed the counts, row after row."""
    groups = table.sort_values(["seed", *order]).groupby("seed")
    return [counts_of(rows, prefix).ravel().tolist() for _, rows in groups]


def _curve(history: pd.DataFrame, name: str) -> list[list[float]]:
    """For each seed the values over epochs."""
    groups = history.sort_values(["seed", "epoch"]).groupby("seed")
    return [[float(f"{v:.4g}") for v in rows[name]] for _, rows in groups]


def _gates(table: pd.DataFrame, ne: int) -> list[list[Any]]:
    """For each pictured digit: the prediction, then expert and gate of those that see it."""
    told = []
    for row in table.to_dict("records"):
        pairs = [(expert, row[f"gate_{expert}"]) for expert in range(ne)]
        seen = [n for expert, gate in pairs if gate > 0 for n in (expert, round(gate, 4))]
        told.append([row["predicted"], *seen])
    return told


def _as_uri(path: Path) -> str:
    if not path.exists():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
