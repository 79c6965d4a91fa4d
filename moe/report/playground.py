"""The playground: one HTML file in which a mixture of experts trains, on mnist-5k.

Its engine is JavaScript, in reports/template/playground. This module embeds the data, and the
study's numbers for the guided tour. docs/playground.md explains how it works.
"""

import base64
import json
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import UInt8

from moe.analysis.results import Tables, cells
from moe.data.idx import read_idx
from moe.data.sets import dataset_named
from moe.recipes import RECIPES
from moe.report.single_page import render

ENGINE = (
    "blog",
    "logits",
    "switch",
    "shazeer",
    "loss-free",
    "deepseek-v3",
    "random",
    "dense-total",
)
MOST_EXPERTS = 16  # that the page has room for
TRAINER = ["random.js", "math.js", "images.js", "engine.js", "worker.js"]
SCRIPTS = ["../neighbours.js", "../common.js", "panels.js", "pad.js", "tour.js", "page.js"]
STYLES = ["../common.css", "playground.css"]
MAP_FILE = "map.json"  # the position of each test image


def write_playground(tables: Tables, template: Path, path: Path) -> None:
    """Write the page; equal tables give identical bytes.

    template: the folder of the report's templates.
    """
    folder = template / "playground"
    images, labels, trained_on = mnist_5k()
    data = {
        "packed": base64.b64encode(zlib.compress(images.tobytes(), 9)).decode(),
        "labels": "".join(map(str, labels)),
        "trainCount": trained_on,
        "places": json.loads((folder / MAP_FILE).read_text(encoding="utf-8")),
        "mostExperts": MOST_EXPERTS,
        "recipes": [about_recipe(name) for name in ENGINE if name in RECIPES],
        "facts": tour_facts(tables),
    }
    html = render(folder / "playground.html", data, STYLES, trainer=TRAINER, script=SCRIPTS)
    path.write_text(html, encoding="utf-8")


def mnist_5k() -> tuple[UInt8[np.ndarray, "N D"], UInt8[np.ndarray, " N"], int]:
    """All images and labels, training set first, and the size of the training set."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        dataset_named("mnist-5k").fetch(folder, folder)
        images, labels = (
            [np.array(read_idx(folder / f"{part}-{kind}-ubyte")) for part in ("train", "t10k")]
            for kind in ("images-idx3", "labels-idx1")
        )
    return np.concatenate(images).reshape(-1, 784), np.concatenate(labels), len(labels[0])


def about_recipe(name: str) -> dict[str, Any]:
    recipe = RECIPES[name]
    return {
        "name": name,
        "color": recipe.color,
        "source": recipe.source,
        # The page has neither a capacity nor a z-loss
        "gates": recipe.gates.replace("`", "").partition("; with a capacity factor")[0],
        "gateLoss": recipe.gate_loss.partition(", and a z-loss")[0],
        "lc": recipe.lc,
        "onlyK": recipe.least_k if recipe.least_k == recipe.most_k else None,
        "bias": recipe.selection_bias,
    }


def tour_facts(tables: Tables) -> dict[str, Any]:
    """The study's numbers in the tour: means over seeds, None if the study lacks the runs.

    The tour is about digits, so for a study of other images all are None.
    """
    runs = tables.runs if tables.dataset.item == "digit" else tables.runs[:0]
    one_expert = cells(runs, ne=8, k=1, lc=1)
    logits, switch = (cells(one_expert, recipe=name) for name in ("logits", "switch"))
    paired = set(logits["seed"]) & set(switch["seed"])
    few, many = (cells(runs, recipe="logits", ne=ne, k=2, lc=1) for ne in (4, 16))
    bases = {name: cells(runs, recipe=name, ne=1) for name in ("blog", "logits")}
    lowest = {name: base[tables.accuracies].min(axis=1) for name, base in bases.items()}
    return {
        "deadWithout": _mean(cells(runs, recipe="logits", ne=12, k=2, lc=0)["dead_experts"]),
        "deadWith": _mean(cells(runs, recipe="logits", ne=12, k=2, lc=1)["dead_experts"]),
        "logits": _mean(cells(logits, seed=paired)["accuracy"]),
        "switch": _mean(cells(switch, seed=paired)["accuracy"]),
        "droppedByBlog": _mean(lowest["blog"] < 0.5),
        "droppedByLogits": _mean(lowest["logits"] < 0.5),
        "classesOfFew": _mean(few["classes_per_expert"]),
        "classesOfMany": _mean(many["classes_per_expert"]),
    }


def _mean(values: pd.Series) -> dict[str, Any] | None:
    return {"mean": float(values.mean()), "runs": len(values)} if len(values) else None


def place_images() -> list[list[int]]:
    """The position of each test image on the map, 0 … 1000 in x and y: t-SNE of the pixels.

    t-SNE differs visibly between processors, so map.json is kept in git:
    `python -m moe.report.playground` writes it.
    """
    from sklearn.manifold import TSNE

    images, _, trained_on = mnist_5k()
    spots = TSNE(init="pca", random_state=0, perplexity=20).fit_transform(images[trained_on:] / 255)
    spots = (spots - spots.min(0)) / np.ptp(spots, axis=0)
    return (1000 * spots).round().astype(int).tolist()


if __name__ == "__main__":
    path = Path("reports/template/playground") / MAP_FILE
    path.write_text(json.dumps(place_images(), separators=(",", ":")), encoding="utf-8")
