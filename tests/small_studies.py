"""Complete studies in seconds: tiny training, then evaluate, analyze, report and explorer."""

import inspect
import json
import re
import shutil
import warnings
from collections.abc import Callable, Sequence
from html import unescape
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from ruamel.yaml import YAML
from safetensors.torch import save_file

from moe.analysis.confirmed import confirmed
from moe.analysis.kept import read_kept
from moe.analysis.results import Tables, read_tables
from moe.claims import judged
from moe.claims.confirmatory import CONFIRM_DIR
from moe.data.dataset import Dataset
from moe.data.idx import write_idx
from moe.engine import HISTORY, Trained, fused
from moe.figures import Figure
from moe.figures.drawn import own_style
from moe.model.weights import HISTORY_FILE, WEIGHTS_DIR, weights_file
from moe.report.explorer import write_explorer
from moe.report.page import TEMPLATE_DIR, write_report
from moe.study.grid import runs_of
from moe.study.params import Params, read_params
from moe.study.runs import Run
from moe.study.tables import RESULTS_DIR, write_table
from moe.study.train_settings import Train, with_settings
from stages.analyze import analyze
from stages.evaluate import evaluate

ROOT = Path(__file__).parent.parent
TRAIN_IMAGES, TEST_IMAGES = 200, 100
NOT_A_NUMBER = re.compile(r"\b(nan|NaN|inf|Infinity|None(?! of\b)|undefined)\b")


class Rendered(NamedTuple):
    """tables; html: the report; explorer: its data; texts: all text of the page and figures."""

    tables: Tables
    html: str
    explorer: dict[str, Any]
    texts: str
    drawn: set[str]


def committed() -> Tables:
    """The tables in results/, with the confirmatory study for figures and texts about claims."""
    tables, kept = read_tables(ROOT / RESULTS_DIR, hidden=10), read_kept(ROOT / CONFIRM_DIR)
    assert kept is not None
    return tables._replace(confirmed=confirmed(tables, kept.tables, kept.params.train))


def write_data(data: Dataset, folder: Path) -> None:
    """Write a small data set: the first images of each class."""
    parts = (("train", data.train_x, data.train_y, TRAIN_IMAGES // 10),)
    parts += (("t10k", data.test_x, data.test_y, TEST_IMAGES // 10),)
    for part, x, y, count in parts:
        labels = y.numpy()
        rows = np.concatenate([np.flatnonzero(labels == label)[:count] for label in range(10)])
        np.random.default_rng(0).shuffle(rows)
        write_idx(folder / f"{part}-images-idx3-ubyte", x.numpy()[rows].reshape(-1, 28, 28))
        write_idx(folder / f"{part}-labels-idx1-ubyte", labels[rows])


def write_params(
    folder: Path, sweeps: list[dict[str, Any]], dataset: str = "mnist-5k", **train: Any
) -> Params:
    """Write a params.yaml that passes `python -m stages.check`."""
    yaml = YAML()
    tree = yaml.load(ROOT / "params.yaml")
    tree["data"]["dataset"] = dataset
    tree["sweeps"] = [{"name": f"sweep {i}", "seeds": 2, **s} for i, s in enumerate(sweeps)]
    tree["train"] |= {"epochs": 1, "batch_size": 50, "hidden": 4, **train}
    tree["analyze"] |= {"pictured_digits": 10, "null_tables": 2}
    tree["runtime"] |= {"workers": 1, "device": "cpu"}
    yaml.dump(tree, folder / "params.yaml")
    return read_params(folder / "params.yaml")


Trainer = Callable[[Sequence[Run], Dataset, Train], list[Trained]]


def by_fused(runs: Sequence[Run], data: Dataset, settings: Train) -> list[Trained]:
    return fused.train(runs, data, settings, torch.device("cpu"))


def train(params: Params, trainer: Trainer = by_fused) -> None:
    """Write the outputs of the stage train, without a store."""
    runs, data = runs_of(params.sweeps), Dataset()
    trained = {}
    for recipe, settings in dict.fromkeys((run.recipe, run.settings) for run in runs):
        group = [run for run in runs if (run.recipe, run.settings) == (recipe, settings)]
        results = trainer(group, data, with_settings(params.train, settings))
        trained |= dict(zip(group, results, strict=True))
    trained = {run: trained[run] for run in runs}
    WEIGHTS_DIR.mkdir()
    for seed in {run.seed for run in runs}:
        weights = {
            f"{run}/{name}": tensor
            for run, result in trained.items()
            if run.seed == seed
            for name, tensor in result.weights.items()
        }
        save_file(weights, weights_file(seed))
    rows = [
        {**run.columns, "epoch": epoch, **dict(zip(HISTORY, measures, strict=True))}
        for run, result in trained.items()
        for epoch, measures in enumerate(result.history.tolist(), start=1)
    ]
    write_table(rows, HISTORY_FILE)


def render(
    folder: Path,
    data: Dataset,
    sweeps: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    **settings: Any,
) -> Rendered:
    """Train, evaluate, analyze and report a study in an empty folder; warnings are errors."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "reports").mkdir(parents=True)
    (folder / "data").mkdir()
    (folder / TEMPLATE_DIR).symlink_to(ROOT / TEMPLATE_DIR)
    write_data(data, folder / "data")
    monkeypatch.chdir(folder)
    return whole(write_params(folder, sweeps, **settings), monkeypatch)


def whole(params: Params, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """Every stage but download, in the current folder; warnings are errors."""
    train(params)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inspect.unwrap(evaluate.callback)()
        inspect.unwrap(analyze.callback)()
        return report(params, monkeypatch)


def report(params: Params, monkeypatch: pytest.MonkeyPatch) -> Rendered:
    """The report and the explorer of the tables in the current folder. Figures are drawn, but not
    rendered or laid out, which would take most of the time."""
    words: list[str] = []
    drawn: set[str] = set()

    def without_pixels(figure: Figure) -> bytes:
        assert figure.drawn is not None
        drawn.add(figure.slug)
        drawing = figure.drawn.drawing
        drawing.set_layout_engine("none")
        with own_style():
            FigureCanvasAgg(drawing)
            drawing.draw_without_rendering()
        words.extend(text.get_text() for text in drawing.findobj(Text) if text.get_visible())
        return b""

    monkeypatch.setattr(Figure, "to_bytes", without_pixels)
    tables = read_tables(RESULTS_DIR, params.train.hidden, params.data.dataset, params.train)
    reports = Path("reports")
    write_report(tables, params, judged(tables), reports)
    write_explorer(tables, TEMPLATE_DIR, reports / "explorer.html")
    html = (reports / "index.html").read_text(encoding="utf-8")
    explorer = (reports / "explorer.html").read_text(encoding="utf-8")
    (data,) = re.findall(
        r'<script id="data" type="application/json">(.*?)</script>', explorer, re.S
    )
    return Rendered(
        tables,
        html,
        json.loads(data, parse_constant=_refuse),
        "\n".join([*words, text_of(html)]),
        drawn,
    )


def text_of(html: str) -> str:
    """The visible text of a page."""
    html = re.sub(r"<(style|script)\b.*?</\1>", " ", html, flags=re.S)
    alts = " ".join(re.findall(r'alt="([^"]*)"', html))
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html) + alts))


def assert_says_no_nan(rendered: Rendered) -> None:
    found = NOT_A_NUMBER.search(rendered.texts)
    assert found is None, rendered.texts[max(0, found.start() - 200) : found.end() + 100]
    assert "⟦" not in rendered.texts


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
