"""MLflow's own pages in a real browser: what `make ui` shows of a study."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import quote

import mlflow
import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from moe.data.dataset import Dataset
from moe.study.params import read_params
from moe.study.tables import read_table
from moe.tracking import sync as tracking
from moe.tracking.experiments import names_of
from moe.tracking.pages import links
from moe.tracking.study import Results
from tests.browser.conftest import ROOT, Visit
from tests.tracking.conftest import answers, wait_for

SECONDS = 60_000  # milliseconds that a busy machine may take for a page
README_FILTER = "params.recipe = 'logits' and params.k = '2'"


class Ui(NamedTuple):
    """An `mlflow ui` on loopback. runs: what results/runs.csv has."""

    address: str
    trials: str
    views: dict[str, str]
    runs: pd.DataFrame


@pytest.fixture(scope="module")
def ui(mnist_5k: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """The trials of the committed study with one seed each, and without a model."""
    folder = tmp_path_factory.mktemp("ui")
    shutil.copyfile(ROOT / "params.yaml", folder / "params.yaml")
    table, history = (read_table(ROOT / f"results/{name}.csv") for name in ("runs", "history"))
    few = {"lc": [0.1, 1.0], "seed": [0]}
    runs, history = (t[t["lc"].isin(few["lc"]) & t["seed"].isin([0])] for t in (table, history))
    with socket.socket() as free, pytest.MonkeyPatch.context() as patched:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
        patched.chdir(folder)
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        patched.setattr(tracking, "keep_champion", lambda *args: None)
        params = read_params()
        tracking.sync(params, Results(runs, history, [folder / "params.yaml"], mnist_5k))
        experiment = mlflow.get_experiment_by_name(names_of(params.track.experiment).trials)
        assert experiment is not None
        views = links()
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", port]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "DO_NOT_TRACK": "1",
    }
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", "1"],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=environment,
            cwd=folder,
        )
    try:
        wait_for(lambda: answers(f"127.0.0.1:{port}"))
        yield Ui(f"http://127.0.0.1:{port}/", experiment.experiment_id, views, runs)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def page(visit: Visit) -> Page:
    visit.page.set_default_timeout(SECONDS)
    return visit.page


def rows_of(page: Page) -> list[str]:
    """The names of the rows on screen."""
    page.locator("[role=row] [data-testid=run-name], [role=row] a[href*='/runs/']").first.wait_for()
    return page.locator("[role=row] a[href*='/runs/']").all_inner_texts()


def test_the_first_page_is_the_trials_with_their_columns(ui: Ui, page: Page) -> None:
    (title,) = [title for title in ui.views if "best first" in title]
    page.goto(ui.address + ui.views[title])
    names = rows_of(page)
    means = ui.runs.groupby(["recipe", "ne", "k", "lc"])["accuracy"].mean()
    recipe, ne, k, lc = means.index[means.to_numpy().argmax()]
    assert names[0] == f"{recipe} ne={ne:02d} k={k} lc={lc:g}"
    headers = page.locator("[role=columnheader]").all_inner_texts()
    shown = {text.strip() for text in headers}
    assert {"accuracy", "max_violation"} <= shown
    assert page.get_by_text("Model training").first.is_visible()


def test_the_filter_of_the_readme_finds_what_the_table_has(ui: Ui, page: Page) -> None:
    assert README_FILTER in (ROOT / "README.md").read_text(encoding="utf-8")
    query = f"workflowType=machine_learning&searchFilter={quote(README_FILTER)}"
    page.goto(f"{ui.address}#/experiments/{ui.trials}/runs?{query}")
    table = ui.runs.query("recipe == 'logits' and k == 2")
    count = len(table.drop_duplicates(["recipe", "ne", "k", "lc"]))
    expect(page.get_by_text(f"{count} matching runs")).to_be_visible(timeout=SECONDS)


def test_a_view_draws_accuracy_over_ne(ui: Ui, page: Page) -> None:
    (title,) = [title for title in ui.views if "over ne" in title]
    page.goto(ui.address + ui.views[title])
    plot = page.locator(".js-plotly-plot").first
    plot.wait_for()
    page.wait_for_function(
        "document.querySelector('.js-plotly-plot')?.data?.some(t => t.x?.length)"
    )
    data = page.evaluate(
        "document.querySelector('.js-plotly-plot').data.flatMap("
        "t => Array.from(t.x ?? []).map((x, i) => [Number(x), Number(t.y[i])]))"
    )
    of_recipe = ui.runs[ui.runs["recipe"] == title.rpartition(", ")[2]]
    table = of_recipe[of_recipe["lc"] == 1.0]
    expected = sorted(zip(table["ne"].astype(float), table["accuracy"], strict=True))
    assert sorted(map(tuple, data)) == [(x, pytest.approx(y)) for x, y in expected]


def test_twenty_trials_compare(ui: Ui, page: Page) -> None:
    store = mlflow.MlflowClient(ui.address)
    chosen = store.search_runs([ui.trials], "params.recipe = 'logits'", max_results=20)
    assert len(chosen) == 20
    ids = ",".join(f'"{run.info.run_id}"' for run in chosen)
    words = f'runs=[{ids}]&experiments=["{ui.trials}"]'
    page.goto(f"{ui.address}#/compare-runs?{quote(words, safe='=&')}")
    expect(page.get_by_text("Comparing 20 Runs").first).to_be_visible(timeout=SECONDS)
    plot = page.locator(".js-plotly-plot .parcoords").first
    plot.wait_for(state="attached")
    dimensions = page.evaluate(
        "document.querySelector('.js-plotly-plot').data[0].dimensions.map(d => d.label)"
    )
    assert "accuracy" in dimensions
    assert {"ne", "k"} & set(dimensions)
    assert not {"batch_size", "epochs", "seeds"} & set(dimensions)
