"""MLflow, with a real SQLite store and a real server: what is there, and that it is there once."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from moe import tracking
from moe.data import Dataset, pixels
from moe.engine import HISTORY, fused
from moe.evaluation import evaluate
from moe.grid import RUN_KEYS, TRIAL_KEYS, runs_of
from moe.live import Live
from moe.params import Params, Sweep, Train, read_params
from moe.tracking import Results, TrackingError, sync
from moe.weights import model_of, read_models, write_weights

ROOT = Path(__file__).parent.parent
SETTINGS = Train(epochs=2, batch_size=128, learning_rate=0.001, hidden=4)


@pytest.fixture(scope="module")
def params() -> Params:
    """ne = 1, 2 at k = 1 × 3 seeds: 2 trials, 6 runs."""
    default = read_params(ROOT / "params.yaml")
    return replace(
        default, sweeps=(Sweep("small", ("logits",), (1, 2), (1,), (1.0,), 3),), train=SETTINGS
    )


@pytest.fixture(scope="module")
def study(
    params: Params, mnist_5k: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Results]:
    """A folder with the weights of a small study, truly trained, and its tables."""
    folder = tmp_path_factory.mktemp("study")
    runs = runs_of(params.sweeps)
    trained = fused.train(runs, mnist_5k, SETTINGS, torch.device("cpu"))
    write_weights(
        {run: result.weights for run, result in zip(runs, trained, strict=True)},
        folder / "weights",
    )
    rows, history = [], []
    x, y = pixels(mnist_5k.test_x), mnist_5k.test_y.long()
    for run, result in zip(runs, trained, strict=True):
        found = evaluate(model_of(run.trial, result.weights), x, y)
        classes = {
            f"accuracy_{digit}": v for digit, v in enumerate(found.class_accuracies.tolist())
        }
        rows.append({**run._asdict(), "accuracy": found.accuracy, **classes})
        for epoch, measures in enumerate(result.history.tolist(), start=1):
            history.append(
                {**run._asdict(), "epoch": epoch, **dict(zip(HISTORY, measures, strict=True))}
            )
    (folder / "runs.csv").write_text("a table")
    results = Results(
        pd.DataFrame(rows), pd.DataFrame(history), [folder / "runs.csv"], mnist_5k.digest
    )
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
    """All runs of the experiment, with the history of every metric, but for ids.

    Timestamps are relative to the parent's start; the parent's own, of each sync, are left out.
    """
    client = tracking.client()
    experiment = client.get_experiment_by_name(params.track.experiment)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert len(set(names.values())) == len(runs)
    begun = min(run.info.start_time for run in runs)
    dump = []
    for run in sorted(runs, key=lambda run: run.info.run_name):
        is_parent = run.data.tags["level"] == "study"
        metrics = {
            name: [
                (point.step, point.value, 0 if is_parent else point.timestamp - begun)
                for point in client.get_metric_history(run.info.run_id, name)
            ]
            for name in run.data.metrics
        }
        tags = dict(run.data.tags)
        tags["mlflow.parentRunId"] = names.get(tags.get("mlflow.parentRunId"), "")
        tags = {name: v for name, v in tags.items() if not name.startswith("mlflow.log-model")}
        entry = {"name": names[run.info.run_id], "status": run.info.status, "tags": tags}
        dump.append({**entry, "params": run.data.params, "metrics": metrics})
    return dump


def test_what_is_there(here: Path, params: Params, study: tuple[Path, Results]) -> None:
    _, results = study
    assert sync(params, results) == {"study": 1, "trial": 2, "run": 6}
    dump = everything(params)
    levels = pd.Series([run["tags"]["level"] for run in dump]).value_counts()
    assert levels.to_dict() == {"study": 1, "trial": 2, "run": 6}
    assert {run["status"] for run in dump} == {"FINISHED"}
    by_name = {run["name"]: run for run in dump}
    for row in results.runs.to_dict("records"):
        run = by_name[f"logits/ne={row['ne']}/k=1/lc=1/seed={row['seed']}"]
        assert run["params"] == {
            **{name: str(row[name]) for name in RUN_KEYS},
            **{name: str(value) for name, value in vars(SETTINGS).items()},
        }
        assert run["tags"]["seed"] == str(row["seed"])
        assert run["tags"]["data_digest"] == results.data_digest
        for name in set(row) - set(RUN_KEYS):
            assert run["metrics"][name] == [(0, row[name], 0)]
        curve = results.history.merge(pd.DataFrame([row])[RUN_KEYS])
        for name in HISTORY:
            expected = list(zip(curve["epoch"], curve[name], [0, 0], strict=True))
            assert run["metrics"][f"epoch/{name}"] == expected
    for (_, ne, _, _), of_trial in results.runs.groupby(TRIAL_KEYS):
        metrics = by_name[f"logits/ne={ne}/k=1/lc=1"]["metrics"]
        assert metrics["accuracy"][0][1] == pytest.approx(of_trial["accuracy"].mean())
        # Three seeds: t(0.975, 2) = 4.303
        half = 4.3027 * of_trial["accuracy"].std() / 3**0.5
        low, high = (metrics[f"accuracy_{end}"][0][1] for end in ("low", "high"))
        assert high - low == pytest.approx(2 * half, rel=1e-4)


def test_twice_adds_nothing(here: Path, params: Params, study: tuple[Path, Results]) -> None:
    sync(params, study[1])
    before = everything(params)
    ids = {
        run.info.run_id
        for run in mlflow.search_runs(output_format="list", search_all_experiments=True)
    }
    sync(params, study[1])
    assert everything(params) == before
    assert ids == {
        run.info.run_id
        for run in mlflow.search_runs(output_format="list", search_all_experiments=True)
    }


def test_stopped_half_way_and_repeated_it_ends_the_same(
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    migrated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync(params, study[1])
    undisturbed = everything(params)
    shutil.copyfile(migrated, here / "again.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/again.db")
    stop_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        sync(params, study[1])
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/again.db")
    sync(params, study[1])
    assert everything(params) == undisturbed


def stop_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sync die in the middle of its n-th run: created, but without its metrics."""
    log_batch, made = mlflow.MlflowClient.log_batch, []

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(1)
        if len(made) > calls:
            raise KeyboardInterrupt
        return log_batch(self, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", dies)


def test_other_results_replace_the_old(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    _, results = study
    sync(params, results)
    changed = results.runs.copy()
    changed.loc[0, "accuracy"] = 0.123
    sync(params, results._replace(runs=changed))
    dump = {run["name"]: run for run in everything(params)}
    assert len(dump) == 9
    assert dump["logits/ne=1/k=1/lc=1/seed=0"]["metrics"]["accuracy"][0][1] == 0.123
    mean = changed["accuracy"].mean()
    assert parent_of(params).data.metrics["mean_accuracy"] == pytest.approx(mean)
    assert mean < results.runs["accuracy"].mean()
    sync(params, results)  # and back: the same numbers at another time
    assert parent_of(params).data.metrics["mean_accuracy"] > mean
    assert len(models()) == 1


def test_a_running_leftover_of_a_killed_training_is_taken_over(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    client = tracking.client()
    experiment = tracking._experiment(client, params.track.experiment)
    tracking._parent(client, experiment, params)
    sync(params, study[1])
    dump = everything(params)
    assert len(dump) == 9
    assert {run["status"] for run in dump} == {"FINISHED"}


def test_two_at_once_leave_no_double(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    threads = [threading.Thread(target=sync, args=(params, study[1])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(everything(params)) == 9


def test_the_best_model_loads_and_predicts(
    here: Path, params: Params, study: tuple[Path, Results], mnist_5k: Dataset
) -> None:
    _, results = study
    sync(params, results)
    (logged,) = models()
    served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    best_ne = int(results.runs.groupby("ne")["accuracy"].mean().idxmax())
    model = next(model for run, model in read_models(0) if run.ne == best_ne)
    x = pixels(mnist_5k.test_x[:20])
    expected = model(x)[0].softmax(-1).detach().numpy()
    np.testing.assert_allclose(served.predict(x.numpy()), expected, atol=1e-6)


def models() -> list[Any]:
    experiments = [found.experiment_id for found in mlflow.search_experiments()]
    return mlflow.search_logged_models(experiment_ids=experiments, output_format="list")


def test_live_progress_ends_as_the_training_does(here: Path, params: Params) -> None:
    def fail_in_training() -> None:
        with Live(params, lambda: {"runs_done": 3.0}) as live:
            live.tell()
            wait_for(lambda: "live/runs_done" in parent_of(params).data.metrics)
            assert parent_of(params).info.status == "RUNNING"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_training()
    wait_for(lambda: parent_of(params).info.status == "FAILED")


def parent_of(params: Params) -> Any:
    client = tracking.client()
    experiment = tracking._experiment(client, params.track.experiment)
    return tracking._parent(client, experiment, params)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited 60 seconds")


# --- a server


@pytest.fixture
def start_server(here: Path) -> Iterator[Callable[[], tuple[str, subprocess.Popen]]]:
    """Starts a server on the working folder's database; returns its address and process."""
    started = []

    def start() -> tuple[str, subprocess.Popen]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", address.partition(":")[2], "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{here}/mlflow.db"),
            *("--artifacts-destination", str(here / "artifacts")),
        ]
        quiet = subprocess.DEVNULL
        started.append(
            subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)
        )
        wait_for(lambda: answers(address))
        return address, started[-1]

    yield start
    for process in started:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    import signal

    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def test_a_server_that_dies_in_the_middle_costs_one_more_make_track(
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    start_server: Callable[[], tuple[str, subprocess.Popen]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, process = start_server()
    log_batch, made = mlflow.MlflowClient.log_batch, []

    def last_breath(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(1)
        if len(made) == 4:
            stop(process)
        return log_batch(self, *args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(mlflow.MlflowClient, "log_batch", last_breath)
        patched.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@{address}")
        with pytest.raises(TrackingError) as raised:
            sync(params, study[1])
    message = str(raised.value)
    assert "make track" in message
    assert "\n" not in message
    assert "secret" not in message
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{start_server()[0]}")
    sync(params, study[1])
    dump = everything(params)
    assert len(dump) == 9
    assert {run["status"] for run in dump} == {"FINISHED"}


def answers(address: str) -> bool:
    import requests

    try:
        return requests.get(f"http://{address}/health", timeout=1).ok
    except requests.RequestException:
        return False


def test_no_server_at_all(
    here: Path, params: Params, study: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as raised:
        sync(params, study[1])
    assert "secret" not in str(raised.value)
    assert "make track" in str(raised.value)
