"""The explorer: one HTML file with all of a study's results and controls for recipe, ne, k and lc.

It embeds whole tables as JSON: numbers for each trial and seed, pictures and gates of one seed.
"""

import base64
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe.analysis.results import Tables, at_settings, counts_of, settings_text
from moe.engine.divergence import without
from moe.recipes import in_order
from moe.report.playground import ENGINE, MOST_EXPERTS
from moe.report.single_page import render
from moe.study.runs import TRIAL_KEYS, Trial
from moe.study.tables import PICTURES_DIR, read_table

SCRIPTS = ("state", "controls", "charts", "experts", "page")
CURVES = ("network_loss", "gate_loss", "test_accuracy")


def write_explorer(tables: Tables, template: Path, path: Path) -> None:
    """Write the page; equal tables give identical bytes.

    template: the folder of the report's templates.
    """
    html = render(
        template / "explorer.html",
        explorer_data(tables),
        ["common.css", "explorer.css"],
        script=["neighbours.js", "common.js", *(f"explorer/{name}.js" for name in SCRIPTS)],
        dataset=tables.dataset.title,
        sample=tables.dataset.sample,
    )
    path.write_text(html, encoding="utf-8")


def explorer_data(tables: Tables) -> dict[str, Any]:
    """The data of the page. trials: one object each, with lists over its seeds; numbers that are
    not finite are None, null in JSON."""
    digits = read_table(tables.folder / "digits.csv")
    one_model = digits.drop_duplicates(["image"])  # every model has the same images
    pictured = without(digits, tables.diverged)
    parts = sorted((tables, *tables.others), key=lambda part: part.settings)
    return {
        "dataset": tables.dataset.title,
        "item": tables.dataset.item,
        "items": tables.dataset.items,
        "sample": tables.dataset.sample,
        "classNames": list(tables.dataset.class_names),
        "imageShape": list(tables.dataset.image_shape or ()),
        "recipes": in_order(tables.all_runs["recipe"]),
        "settings": [settings_text(part.settings) for part in parts if part.settings],
        "picturedSeed": tables.pictured_seed,
        "trials": [trial for part in parts for trial in _trials(part, pictured)],
        # The playground trains on digits
        "trainable": ENGINE if tables.dataset.item == "digit" else (),
        "mostTrainable": MOST_EXPERTS,
        "digits": one_model["digit"].tolist(),
        "digitsPicture": _as_uri(tables.folder / PICTURES_DIR.name / "digits.png"),
    }


def _trials(tables: Tables, pictured: pd.DataFrame) -> list[dict[str, Any]]:
    """The trials at the settings of the tables."""
    history = dict(list(tables.history.groupby(TRIAL_KEYS)))
    confusion = dict(list(tables.confusion.groupby(TRIAL_KEYS)))
    slots = dict(list(tables.slots.groupby(TRIAL_KEYS)))
    gates = dict(list(at_settings(pictured, tables.settings).groupby(TRIAL_KEYS)))
    settings = {"settings": settings_text(tables.settings)} if tables.settings else {}
    trials = []
    for key, runs in tables.runs.groupby(TRIAL_KEYS):
        trial = Trial(*key)
        runs = runs.sort_values("seed")
        trials.append(
            {
                **trial.columns,
                **settings,
                "seeds": runs["seed"].tolist(),
                "accuracy": _short(runs["accuracy"]),
                "networkLoss": _short(runs["network_loss"]),
                "gateLoss": _short(runs["gate_loss"]),
                "gradient": _short(runs["router_grad_norm_max"]),
                "classes": [_short(row) for row in runs[tables.accuracies].to_numpy()],
                "confusion": _by_seed(confusion[key], ["digit"], "predicted"),
                "slots": _by_seed(slots[key], ["expert"], "digit"),
                "curves": {name: _curve(history[key], name) for name in CURVES},
                "picture": _as_uri(tables.picture_of(trial)),
                "gates": _gates(gates[key], trial.ne) if key in gates else [],
            }
        )
    return trials


def _short(values: Any, form: str = "{:.6g}") -> list[float | None]:
    """Round to six digits, as in the tables."""
    return [
        float(form.format(value)) if math.isfinite(value) else None
        for value in np.asarray(values, float)
    ]


def _by_seed(table: pd.DataFrame, order: list[str], prefix: str) -> list[list[int]]:
    """The counts of each seed, flattened."""
    groups = table.sort_values(["seed", *order]).groupby("seed")
    return [counts_of(rows, prefix).ravel().tolist() for _, rows in groups]


def _curve(history: pd.DataFrame, name: str) -> list[list[float | None]]:
    """The values of each seed over epochs."""
    groups = history.sort_values(["seed", "epoch"]).groupby("seed")
    return [_short(rows[name], "{:.4g}") for _, rows in groups]


def _gates(table: pd.DataFrame, ne: int) -> list[list[Any]]:
    """For each pictured image: the prediction, then each of its experts with the gate."""
    shown = []
    for row in table.to_dict("records"):
        pairs = [(expert, row[f"gate_{expert}"]) for expert in range(ne)]
        seen = [n for expert, gate in pairs if gate > 0 for n in (expert, round(gate, 4))]
        shown.append([row["predicted"], *seen])
    return shown


def _as_uri(path: Path) -> str:
    if not path.exists():
        return ""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
