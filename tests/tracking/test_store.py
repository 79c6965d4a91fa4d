"""Where MLflow keeps its runs: addresses of every kind, a checkout that moves, an older layout."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from moe.study.grid import study_digest
from moe.study.params import Params
from moe.tracking.experiments import names_of
from moe.tracking.store import TrackingError, client, database_of
from moe.tracking.study import Results
from moe.tracking.sync import sync
from tests.tracking.conftest import everything, models, start_stage, write_working_folder


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("sqlite:///mlflow.db", ("mlflow.db", "")),
        ("sqlite:////data/mlflow.db", ("/data/mlflow.db", "")),
        ("sqlite:///q.db?timeout=60", ("q.db", "timeout=60")),
        ("sqlite:///q.db?timeout=60&check_same_thread=false", None),
        ("sqlite:////a?b/mlflow.db", ("/a?b/mlflow.db", "")),
        ("sqlite:////a?b=c/mlflow.db", ("/a?b=c/mlflow.db", "")),
        ("sqlite+pysqlite:///mlflow.db", ("mlflow.db", "")),
    ],
)
def test_the_path_and_the_query_of_a_sqlite_address(
    uri: str, expected: tuple[str, str] | None
) -> None:
    path, query = database_of(uri) or (None, None)
    assert (str(path), query) == (expected or ("q.db", "timeout=60&check_same_thread=false"))


@pytest.mark.parametrize("uri", ["http://127.0.0.1:5000", "postgresql://db/x", "databricks"])
def test_other_addresses_are_left_alone(uri: str) -> None:
    assert database_of(uri) is None


@pytest.mark.parametrize("uri", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_is_refused(
    uri: str,
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError, match="name a file"):
        sync(params, study[1])
    assert not (here / ":memory:").exists()


@pytest.mark.parametrize(
    "name",
    ["what?", *(pytest.param(n, marks=pytest.mark.slow) for n in ("100%", "a b", "#1", "ä?b=c"))],
)
def test_the_path_may_hold_special_characters(
    name: str,
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    migrated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = here / name
    folder.mkdir()
    shutil.move(here / "weights", folder / "weights")
    before = set(here.iterdir())
    shutil.copyfile(migrated, folder / "mlflow.db")
    write_working_folder(folder, params, study[1])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    process = start_stage("track", folder)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (9,)
    kept = {path.name for path in (folder / "mlruns").rglob("*") if path.is_file()}
    assert kept >= {"runs.csv", "MLmodel", "a.svg"}
    assert set(here.iterdir()) == before  # nothing outside of the folder


def test_a_path_with_an_escape_is_refused(
    tmp_path: Path, params: Params, study: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pct%20y"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match="%20"):
        sync(params, study[1])
    assert not (folder / "mlflow.db").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["100%y", "what?", "q.db?timeout=60"])
def test_a_database_is_created_whatever_its_path(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    query = "timeout" in name
    path = tmp_path / "q.db" if query else tmp_path / name / "mlflow.db"
    uri = f"sqlite:///{tmp_path}/{name}" + ("" if query else "/mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert [experiment.name for experiment in client().search_experiments()] == ["Default"]
    assert path.exists()
    assert [file.name for file in path.parent.glob(".mlflow*")] == []


@pytest.mark.slow
def test_a_checkout_that_was_renamed_takes_its_artifacts_along(
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, new = here / "old", here / "new"
    old.mkdir()
    shutil.move(here / "weights", old / "weights")
    shutil.move(here / "mlflow.db", old / "mlflow.db")
    write_working_folder(old, params, study[1])

    def track(folder: Path) -> str:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        process = start_stage("track", folder)  # as in a new process: MLflow caches addresses
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        (model,) = models()
        return model.model_id

    monkeypatch.chdir(here)
    before = track(old)
    old.rename(new)
    assert track(new) == before
    assert not old.exists()
    champion = mlflow.pyfunc.load_model("models:/moe-mnist-on-mnist-5k@champion")
    assert champion.predict(np.zeros((1, 784), np.float32)).shape == (1, 10)
    with sqlite3.connect(new / "mlflow.db") as database:
        assert f"{old}/" not in "\n".join(database.iterdump())


# --- the nested layout of earlier versions


def nested(params: Params, results: Results, study: str, experiment: str) -> None:
    """A study's parent run with its trials and runs as children, as version 0.1 wrote it."""
    store = client()
    tags = {"study": study, "level": "study", "dataset": "mnist"}
    parent = store.create_run(experiment, tags=tags, run_name=f"study {study[:8]} on mnist")
    names = [("trial", f"logits/ne={ne}/k=1/lc=1") for ne in (1, 2)]
    names += [
        ("run", f"logits/ne={row['ne']}/k=1/lc=1/seed={row['seed']}")
        for row in results.runs.to_dict("records")
    ]
    for level, name in names:
        child = {"study": study, "level": level, "mlflow.parentRunId": parent.info.run_id}
        run = store.create_run(experiment, tags=child, run_name=name)
        store.set_terminated(run.info.run_id, "FINISHED")
    store.set_terminated(parent.info.run_id, "FINISHED")


def test_the_nested_layout_is_brought_over_without_doubles(
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    undisturbed: list[dict[str, Any]],
) -> None:
    name = params.track.experiment
    experiment = client().create_experiment(name, (here / "mlruns").as_uri())
    nested(params, study[1], study_digest(params), experiment)
    nested(params, study[1], "f" * 64, experiment)  # of another study, whose results are not here
    sync(params, study[1])
    assert everything(params) == undisturbed
    kept = client().search_runs([experiment])
    assert {run.data.tags["study"] for run in kept} == {"f" * 64}
    assert len(kept) == 9
    assert client().get_experiment(experiment).name == f"{name} (nested, {experiment})"
    for run in kept:
        client().delete_run(run.info.run_id)
    sync(params, study[1])
    assert client().get_experiment(experiment).lifecycle_stage == "deleted"
    assert [each.name for each in client().search_experiments()] == [
        *reversed(names_of(name)),
        "Default",
    ]


@pytest.mark.slow
def test_make_ui_s_command(here: Path, params: Params, study: tuple[Path, Results]) -> None:
    """It prints links to the views, and starts MLflow on loopback only."""
    sync(params, study[1])
    write_working_folder(here, params, study[1])
    fake = here / "bin/mlflow"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "$@; store $MLFLOW_BACKEND_STORE_URI"\n')
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "stages.ui", "--port", "5987"]

    def run() -> subprocess.CompletedProcess:
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    links = [line for line in done.stdout.splitlines() if "viewStateShareKey" in line]
    assert len(links) == 4
    assert all(line.startswith("  http://127.0.0.1:5987/#/experiments/1/runs?") for line in links)
    started = f"ui --host 127.0.0.1 --port 5987; store sqlite:///{here}/mlflow.db"
    assert done.stdout.splitlines()[-1] == started
    with socket.create_server(("127.0.0.1", 5987)):
        done = run()
    assert done.returncode == 2
    assert done.stderr.startswith("Error: port 5987: ")
    assert "choose another" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    environment["MLFLOW_TRACKING_URI"] = "postgresql://me:s3cr3t@127.0.0.1:9/x"
    done = run()
    assert done.returncode == 2
    assert "s3cr3t" not in done.stdout + done.stderr
