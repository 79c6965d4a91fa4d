"""A small study, truly trained, and real stores: SQLite databases and a server on loopback."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd
import pytest
import torch

from moe.analysis.evaluation import evaluate
from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.data.download import fetch
from moe.engine import HISTORY, fused
from moe.model.weights import model_of, weights_file
from moe.study.grid import runs_of
from moe.study.params import Params, Sweep, Track, read_params
from moe.study.train_settings import Train
from moe.tracking.experiments import names_of
from moe.tracking.store import client
from moe.tracking.study import Results
from moe.tracking.sync import sync
from moe.train.run_store import pack

ROOT = Path(__file__).parents[2]
SETTINGS = Train(epochs=2, batch_size=128, learning_rate=0.001, hidden=4)


@pytest.fixture(scope="session")
def params() -> Params:
    """ne = 1, 2 at k = 1 × 3 seeds: 2 trials, 6 runs."""
    default = read_params(ROOT / "params.yaml")
    return replace(
        default, sweeps=(Sweep("small", ("logits",), (1, 2), (1,), (1.0,), 3),), train=SETTINGS
    )


@pytest.fixture(scope="session")
def study(
    params: Params, mnist_5k: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Results]:
    """A folder with the weights of a small study, truly trained, and its tables."""
    folder = tmp_path_factory.mktemp("study")
    runs = runs_of(params.sweeps)
    trained = fused.train(runs, mnist_5k, SETTINGS, torch.device("cpu"))
    (folder / "weights").mkdir()
    for seed in range(3):
        cohort = {str(run): t for run, t in zip(runs, trained, strict=True) if run.seed == seed}
        weights_file(seed, folder / "weights").write_bytes(pack(cohort))
    rows, history = [], []
    x, y = numbers(mnist_5k.test_x), mnist_5k.test_y.long()
    for run, result in zip(runs, trained, strict=True):
        found = evaluate(model_of(run.trial, result.weights), x, y)
        classes = {
            f"accuracy_{digit}": v for digit, v in enumerate(found.class_accuracies.tolist())
        }
        rows.append({**run.columns, "accuracy": found.accuracy, **classes})
        for epoch, measures in enumerate(result.history.tolist(), start=1):
            history.append(
                {**run.columns, "epoch": epoch, **dict(zip(HISTORY, measures, strict=True))}
            )
    (folder / "runs.csv").write_text("a table")
    results = Results(pd.DataFrame(rows), pd.DataFrame(history), [folder / "runs.csv"], mnist_5k)
    return folder, results


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty MLflow database; making its tables takes seconds, so once for all."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # all of it into the one file
    return path


@pytest.fixture
def here(
    study: tuple[Path, Results], migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A working folder with the study's weights and an empty database of its own."""
    shutil.copytree(study[0] / "weights", tmp_path / "weights")
    shutil.copyfile(migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


def everything(params: Params) -> list[dict[str, Any]]:
    """All runs of the three experiments, with every metric's history, without ids.

    Times are relative to the study's start; those of its own run, of each sync, are left out.
    """
    store, dump = client(), []
    runs = []
    for name in names_of(params.track.experiment):
        experiment = store.get_experiment_by_name(name)
        assert experiment is not None
        runs += store.search_runs([experiment.experiment_id], max_results=1000)
    assert len({run.info.run_name for run in runs}) == len(runs)
    begun = next(run.info.start_time for run in runs if run.data.tags["level"] == "study")
    for run in sorted(runs, key=lambda run: run.info.run_name):
        is_study = run.data.tags["level"] == "study"
        metrics = {
            name: [
                (point.step, point.value, 0 if is_study else point.timestamp - begun)
                for point in store.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        # Notes hold the ids of experiments, and the study's content its note.
        ids = ("mlflow.note.content", "mlflow.log-model.history", *(["content"] * is_study))
        tags = {name: value for name, value in run.data.tags.items() if name not in ids}
        inputs = [
            (each.dataset.name, each.dataset.digest, each.tags[0].value)
            for each in run.inputs.dataset_inputs
        ]
        entry = {"name": run.info.run_name, "status": run.info.status, "tags": tags}
        start = run.info.start_time - begun
        entry |= {"params": run.data.params, "metrics": metrics, "start": start}
        dump.append({**entry, "inputs": sorted(inputs)})
    return dump


def run_ids() -> set[str]:
    found = mlflow.search_runs(output_format="list", search_all_experiments=True)
    return {run.info.run_id for run in found}


def study_run(params: Params) -> Any:
    store = client()
    experiment = store.get_experiment_by_name(names_of(params.track.experiment).studies)
    assert experiment is not None
    (run,) = store.search_runs([experiment.experiment_id])
    return run


def models() -> list[Any]:
    client()  # of the store that the variable names now
    experiments = [found.experiment_id for found in mlflow.search_experiments()]
    return mlflow.search_logged_models(experiment_ids=experiments, output_format="list")


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(900):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited 90 seconds")


class Server(NamedTuple):
    """A real `mlflow server` on loopback. folder: where it keeps everything."""

    address: str
    folder: Path


@pytest.fixture(scope="session")
def server(migrated: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests, since it takes long to start; each has an experiment of its own there."""
    folder = tmp_path_factory.mktemp("server")
    shutil.copyfile(migrated, folder / "mlflow.db")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
        *("--port", address.partition(":")[2], "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(lambda: answers(address))
            yield Server(address, folder)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def apart(params: Params, request: pytest.FixtureRequest) -> Params:
    """The same study in an experiment that no other test uses."""
    return replace(params, track=Track(request.node.name))


def answers(address: str) -> bool:
    import requests

    try:
        return requests.get(f"http://{address}/health", timeout=1).ok
    except requests.RequestException:
        return False


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a second without an answer there is no server."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


# Requests that pass: none; those of half the runs; all of them, and it is lost among the artifacts.


@pytest.fixture(scope="session")
def undisturbed(
    study: tuple[Path, Results],
    params: Params,
    migrated: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> list[dict[str, Any]]:
    """What MLflow has where nothing happened."""
    folder = tmp_path_factory.mktemp("undisturbed")
    shutil.copytree(study[0] / "weights", folder / "weights")
    shutil.copyfile(migrated, folder / "mlflow.db")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        sync(params, study[1])
        return everything(params)


def write_working_folder(folder: Path, params: Params, results: Results) -> None:
    """What stages find in a folder, the tables of a small study among it."""
    from ruamel.yaml import YAML

    yaml = YAML()
    tree = yaml.load(ROOT / "params.yaml")
    sweep = params.sweeps[0]
    tree["data"]["dataset"] = "mnist-5k"
    tree["sweeps"] = [
        {"name": "small", "recipe": list(sweep.recipe), "ne": list(sweep.ne)}
        | {"k": list(sweep.k), "lc": list(sweep.lc), "seeds": len(sweep.seeds)}
    ]
    tree["train"] = {
        name: value for name, value in vars(SETTINGS).items() if name != "capacity_factor"
    }
    tree["track"]["experiment"] = params.track.experiment
    tree["runtime"]["workers"] = 1
    yaml.dump(tree, folder / "params.yaml")
    fetch("mnist-5k", folder / "data", folder)
    (folder / "results").mkdir()
    results.runs.to_csv(folder / "results/runs.csv", index=False)
    results.history.to_csv(folder / "results/history.csv", index=False)
    (folder / "reports/figures").mkdir(parents=True)
    for name in (
        "index.html",
        "explorer.html",
        "playground.html",
        "metrics.json",
        "claims.json",
        "figures/a.svg",
    ):
        (folder / "reports" / name).write_text("a report")


def start_stage(name: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", f"stages.{name}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)
