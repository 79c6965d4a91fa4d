"""MLflow, with a real SQLite store and a real server: what is there, and that it is there once."""

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR

from moe.analysis.evaluation import evaluate
from moe.data.batches import pixels
from moe.data.dataset import Dataset
from moe.data.download import fetch
from moe.engine import HISTORY, fused
from moe.model.weights import HISTORY_FILE, model_of, read_models, weights_file
from moe.study.grid import runs_of
from moe.study.params import Params, Sweep, Track, read_params
from moe.study.runs import RUN_KEYS, TRIAL_KEYS
from moe.study.train_settings import Train
from moe.tracking import sync as tracking
from moe.tracking.live import Live
from moe.tracking.sync import Results, TrackingError, sync
from moe.train.run_store import pack

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
    (folder / "weights").mkdir()
    for seed in range(3):
        cohort = {str(run): t for run, t in zip(runs, trained, strict=True) if run.seed == seed}
        weights_file(seed, folder / "weights").write_bytes(pack(cohort))
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


@pytest.mark.parametrize(("code", "is_tried_again"), [(BAD_REQUEST, True), (INTERNAL_ERROR, False)])
def test_what_a_store_refuses_once_is_looked_at_again(
    code: int,
    is_tried_again: bool,
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    undisturbed: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where another sync inserts the parent's parameters in the same moment."""
    log_batch, refused = mlflow.MlflowClient.log_batch, []

    def refuses_once(self: Any, run_id: str, *args: Any, **kwargs: Any) -> Any:
        if not refused and self.get_run(run_id).data.tags["level"] == "study":
            refused.append(run_id)
            raise MlflowException("UNIQUE constraint failed", code)
        return log_batch(self, run_id, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuses_once)
    if is_tried_again:
        sync(params, study[1])
        assert everything(params) == undisturbed
    else:
        with pytest.raises(TrackingError, match="UNIQUE constraint failed"):
            sync(params, study[1])
    assert len(refused) == 1


def test_of_several_models_the_oldest_whole_one_stays(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    sync(params, study[1])
    (first,) = models()
    client, parent = tracking.client(), parent_of(params)

    def another(content: str) -> Any:
        return client.create_logged_model(
            parent.info.experiment_id,
            source_run_id=parent.info.run_id,
            tags={"content": content},
        )

    another(first.tags["content"])  # of a sync that died
    for content in (first.tags["content"], "of other results"):
        client.finalize_logged_model(another(content).model_id, LoggedModelStatus.READY)
    assert len(models()) == 4
    sync(params, study[1])
    assert [model.model_id for model in models()] == [first.model_id]
    client.delete_logged_model(first.model_id)
    sync(params, study[1])
    assert len(models()) == 1


def test_a_model_taken_away_while_it_is_written_is_written_again(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    """As by a sync that has just found a whole one."""
    taken: list[str] = []

    def take_away() -> None:
        client, end = tracking.client(), time.monotonic() + 60
        while not taken and time.monotonic() < end:
            for model in models():
                client.delete_logged_model(model.model_id)
                taken.append(model.model_id)

    sync(params, study[1])
    client = tracking.client()
    for model in models():
        client.delete_logged_model(model.model_id)
    thread = threading.Thread(target=take_away)
    thread.start()
    sync(params, study[1])
    thread.join()
    (model,) = models()
    assert taken
    assert model.model_id not in taken


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


def test_an_interrupted_training_is_killed_there_before_all_is_unwound(
    here: Path, params: Params
) -> None:
    def status() -> str:
        return parent_of(params).info.status

    with Live(params, lambda: {"runs_done": 3.0}) as live:
        live.tell()
        wait_for(lambda: "live/runs_done" in parent_of(params).data.metrics)
        assert status() == "RUNNING"
        live.interrupt()
        wait_for(lambda: status() == "KILLED")


def test_a_training_that_was_over_too_soon_leaves_no_run_running(
    here: Path, params: Params
) -> None:
    """The run is made by MLflow as RUNNING, and the signal arrives just then."""
    over = threading.Event()
    find_or_make = tracking._parent

    def and_over(*args: Any) -> Any:
        over.set()
        return find_or_make(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracking, "_parent", and_over)
        tracking.show_live(params, lambda: {"runs_done": 3.0}, over, lambda: "KILLED")
    assert parent_of(params).info.status == "KILLED"
    assert "live/runs_done" not in parent_of(params).data.metrics


def parent_of(params: Params) -> Any:
    client = tracking.client()
    experiment = tracking._experiment(client, params.track.experiment)
    return tracking._parent(client, experiment, params)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(900):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("waited 90 seconds")


# --- a server


class Server(NamedTuple):
    """A real `mlflow server` on loopback. folder: where it keeps everything."""

    address: str
    folder: Path


@pytest.fixture(scope="module")
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


# --- a server that is away


class Line:
    """A line to a server on which everything passes, until it is `cut` or `hangs`.

    after: the number of requests that still pass. No server: it is so from the first on.
    """

    def __init__(self, server: str | None, fate: str, after: int = 0) -> None:
        self.server, self.fate, self.left = server, fate, after
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.listening.getsockname()[1]}"
        self.asked = 0
        self.held: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self.listening.accept()
            except OSError:
                return  # closed
            self.held.append(caller)
            threading.Thread(target=self._hold, args=(caller,), daemon=True).start()

    def _hold(self, caller: socket.socket) -> None:
        # Whoever closes a connection meanwhile leaves -1 as its descriptor.
        with contextlib.suppress(OSError, ValueError):
            self._answer(caller)

    def _answer(self, caller: socket.socket) -> None:
        """One connection: each request goes to the server, its answer back."""
        server = None
        while asked := self._read(caller):
            self.asked += 1
            self.left -= 1
            if self.left < 0:
                if self.fate == "cut":
                    self.close()
                return  # hangs: the connection stays open, and nobody answers
            assert self.server is not None
            host, port = self.server.split(":")
            server = server or socket.create_connection((host, int(port)))
            server.sendall(asked)
            while not select.select([caller], [], [], 0)[0]:
                if select.select([server], [], [], 0.01)[0]:
                    answer = server.recv(1 << 16)
                    if not answer:
                        server = None
                        caller.shutdown(socket.SHUT_WR)
                        return
                    caller.sendall(answer)

    def mend(self) -> None:
        """From now on everything passes, at the same address."""
        self.left = sys.maxsize
        if self.fate == "cut":
            host, port = self.address.split(":")
            self.listening = socket.create_server((host, int(port)))
            threading.Thread(target=self._serve, daemon=True).start()

    def _read(self, caller: socket.socket) -> bytes:
        """A whole request, headers and body."""
        data = b""
        while b"\r\n\r\n" not in data:
            part = caller.recv(1 << 16)
            if not part:
                return b""
            data += part
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: *(\d+)", head)
        while length and len(body) < int(length[1]):
            part = caller.recv(1 << 16)
            body += part
            data += part
        return data

    def close(self) -> None:
        # Closing alone would leave the thread in accept(), and with it the port open.
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        for one in (self.listening, *self.held):
            one.close()


@pytest.fixture
def line() -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def lay(*args: Any) -> Line:
        lines.append(Line(*args))
        return lines[-1]

    yield lay
    for one in lines:
        one.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second is enough to know that nobody answers."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


# Requests that pass: none; those of half the runs; all of them, and it is lost among the artifacts.
@pytest.mark.parametrize(
    ("fate", "after"), [("cut", 20), ("cut", 45), ("hangs", 0), ("hangs", 20), ("hangs", 45)]
)
@pytest.mark.usefixtures("impatient")
def test_a_server_lost_in_the_middle_costs_one_more_make_track(
    fate: str,
    after: int,
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
    undisturbed: list[dict[str, Any]],
) -> None:
    lost = line(server.address, fate, after)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@{lost.address}")
    started = time.monotonic()
    with pytest.raises(TrackingError) as raised:
        sync(apart, study[1])
    assert time.monotonic() - started < 45  # bounded, on a busy machine too
    assert lost.asked > after  # so it was lost, and not something else wrong
    message = str(raised.value)
    assert "the results are complete" in message
    assert "make track brings it up to date" in message
    assert "\n" not in message
    assert "s3cr3t" not in message
    lost.mend()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    sync(apart, study[1])
    assert everything(apart) == undisturbed


@pytest.fixture(scope="module")
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


def test_two_checkouts_that_track_at_once_leave_no_double(
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    undisturbed: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their locks are two; both begin before either has written anything."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{server.address}")
    write_working_folder(here, apart, study[1])
    other = here / "other"
    other.mkdir()
    for name in ("params.yaml", "weights", "data", "results", "reports"):
        (shutil.copytree if (here / name).is_dir() else shutil.copyfile)(here / name, other / name)
    both = [start_stage("track", folder) for folder in (here, other)]
    for process in both:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
    dump = everything(apart)
    levels = [run["tags"]["level"] for run in dump]
    assert [levels.count(level) for level in ("study", "trial", "run")] == [1, 2, 6]
    assert {run["status"] for run in dump} == {"FINISHED"}
    children = [run for run in dump if run["tags"]["level"] != "study"]
    for child, expected in zip(children, undisturbed, strict=False):
        assert child["name"] == expected["name"]
        assert child["metrics"] == expected["metrics"]
    # Nobody's child is an orphan.
    (parent,) = [run["name"] for run in dump if run["tags"]["level"] == "study"]
    assert {run["tags"]["mlflow.parentRunId"] for run in children} == {parent}


def write_working_folder(folder: Path, params: Params, results: Results) -> None:
    """What stages find in a folder, the tables of a small study among it."""
    from ruamel.yaml import YAML

    yaml = YAML()
    tree = yaml.load(ROOT / "params.yaml")
    sweep = params.sweeps[0]
    tree["data"]["dataset"] = "mnist-5k"
    tree["sweeps"] = [
        {"name": "small", "recipe": list(sweep.recipe), "ne": list(sweep.ne)}
        | {"k": list(sweep.k), "lc": list(sweep.lc), "seeds": sweep.seeds}
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
    for name in ("index.html", "explorer.html", "metrics.json", "claims.json", "figures/a.svg"):
        (folder / "reports" / name).write_text("a report")


def start_stage(name: str, folder: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", f"stages.{name}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.usefixtures("impatient")
def test_training_goes_on_without_a_server_with_one_warning(
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_working_folder(here, apart, study[1])
    outputs = [here / HISTORY_FILE, *sorted((here / "weights").glob("*.safetensors"))]
    assert len(outputs) == 1 + 3  # seeds

    def train_from_nothing() -> tuple[str, list[bytes]]:
        shutil.rmtree(here / ".cache", ignore_errors=True)
        for path in outputs:
            path.unlink(missing_ok=True)
        process = start_stage("train", here)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, out + err
        assert "Traceback" not in err
        return out + err, [path.read_bytes() for path in outputs]

    said, expected = train_from_nothing()
    assert "warning" not in said
    for away in (line(None, "cut"), line(None, "hangs"), line(server.address, "cut", 4)):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@{away.address}/?token=t0k3n")
        said, written = train_from_nothing()
        assert written == expected
        assert said.count("warning") == 1, said
        assert "warning: no live progress: MLflow" in said
        assert "s3cr3t" not in said
        assert "t0k3n" not in said
        if away.server:
            continue  # by now it is one that refuses
        process = start_stage("track", here)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 2
        (complaint,) = err.splitlines()
        assert "make track brings it up to date" in complaint
        assert "s3cr3t" not in out + err
        assert "t0k3n" not in out + err
        assert [path.read_bytes() for path in outputs] == expected


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:s3cr3t@127.0.0.1:9",
        "http://me:p@s3cr3t@127.0.0.1:9/?token=s3cr3t",
        "postgresql://me:s3cr3t@127.0.0.1:9/runs",
        "nonsense://me:s3cr3t@nowhere",
        "http://me:s3cr3t@[",
    ],
)
def test_what_is_no_server_at_all(
    uri: str,
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as raised:
        sync(params, study[1])
    assert "s3cr3t" not in str(raised.value)
    assert "make track" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_deleted_experiment_comes_back(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    sync(params, study[1])
    before = everything(params)
    client = tracking.client()
    experiment = client.get_experiment_by_name(params.track.experiment)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)
    sync(params, study[1])
    assert [run["name"] for run in everything(params)] == [run["name"] for run in before]


def test_a_password_stays_in_the_address(
    here: Path,
    apart: Params,
    study: tuple[Path, Results],
    server: Server,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sync that goes well says and keeps nothing of it: no log, no tag, no artifact."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:s3cr3t@{server.address}")
    sync(apart, study[1])
    said = capfd.readouterr()
    assert "s3cr3t" not in said.out + said.err
    kept = [path for path in server.folder.rglob("*") if path.is_file()]
    assert {"mlflow.db", "log", "runs.csv", "MLmodel"} <= {path.name for path in kept}
    for path in kept:
        assert b"s3cr3t" not in path.read_bytes(), path


def test_the_served_model_holds_no_pickle(
    here: Path, params: Params, study: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    sync(params, study[1])
    (logged,) = models()
    kept = [path for path in (here / "mlruns").rglob("*") if path.is_file()]
    assert "served.py" in {path.name for path in kept}
    for path in kept:
        assert path.suffix not in (".pkl", ".pickle", ".pt", ".pth")
        assert not path.read_bytes().startswith(b"\x80"), path  # as every pickle does

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("unpickles")

    for name in ("load", "loads"):
        monkeypatch.setattr(f"cloudpickle.{name}", refuse)
        monkeypatch.setattr(f"pickle.{name}", refuse)
    served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    assert served.predict(np.zeros((1, 784), np.float32)).shape == (1, 10)
