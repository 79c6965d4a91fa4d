"""The best model: logged, registered, loaded and served."""

import os
import re
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import requests
from mlflow.entities import LoggedModelStatus

from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.model.weights import read_models
from moe.study.params import Params
from moe.tracking.store import client
from moe.tracking.study import Results, Study
from moe.tracking.sync import sync
from tests.tracking.conftest import ROOT, answers, models, study_run, wait_for

NAME = "moe-mnist-on-mnist"


def test_the_best_model_loads_and_predicts(
    here: Path, params: Params, study: tuple[Path, Results], mnist_5k: Dataset
) -> None:
    _, results = study
    sync(params, results)
    (logged,) = models()
    served = mlflow.pyfunc.load_model(f"models:/{logged.model_id}")
    best_ne = int(results.runs.groupby("ne")["accuracy"].mean().idxmax())
    model = next(model for run, model in read_models(0) if run.ne == best_ne)
    x = numbers(mnist_5k.test_x[:20])
    expected = model(x)[0].softmax(-1).detach().numpy()
    np.testing.assert_allclose(served.predict(x.numpy()), expected, atol=1e-6)


def test_of_several_models_the_oldest_whole_one_stays(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    sync(params, study[1])
    (first,) = models()
    store, run = client(), study_run(params)

    def another(content: str) -> Any:
        return store.create_logged_model(
            run.info.experiment_id, source_run_id=run.info.run_id, tags={"content": content}
        )

    another(first.tags["content"])  # of a sync that died
    for content in (first.tags["content"], "of other results"):
        store.finalize_logged_model(another(content).model_id, LoggedModelStatus.READY)
    assert len(models()) == 4
    sync(params, study[1])
    assert [model.model_id for model in models()] == [first.model_id]
    store.delete_logged_model(first.model_id)
    sync(params, study[1])
    (second,) = models()
    assert second.model_id != first.model_id
    assert champion().source == f"models:/{second.model_id}"


def champion(name: str = NAME) -> Any:
    return client().get_model_version_by_alias(name, "champion")


def test_it_is_registered_with_what_a_user_asks_first(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    _, results = study
    sync(params, results)
    means = results.runs.groupby("ne")["accuracy"].mean()
    best, top = int(means.idxmax()), float(means.max())
    (logged,) = models()
    assert logged.name == f"logits ne={best:02d} k=1 lc=1"
    cell = {"recipe": "logits", "ne": str(best), "k": "1", "lc": "1"}
    assert cell.items() <= logged.params.items()
    version = champion()
    assert version.tags["trial"] == logged.name
    card = str(client().get_registered_model(NAME).description)
    for part in (f"{top:.2%}", "(N, 784)", "28 × 28", f"models:/{NAME}@champion", "test set"):
        assert part in card
    described = logged.tags["mlflow.note.content"]
    of_seed_0 = results.runs.query("seed == 0").loc[lambda rows: rows["ne"].eq(best)]
    assert f"{of_seed_0['accuracy'].item():.2%}" in described
    requirements = (here / "mlruns").rglob("requirements.txt")
    (lines,) = [path.read_text().split() for path in requirements]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\d.]+", line)] == []


def test_a_worse_study_does_not_become_the_champion(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    _, results = study
    sync(params, results)
    before = champion()
    worse = results.runs.assign(accuracy=results.runs["accuracy"] / 2)
    shorter = replace(params, train=replace(params.train, epochs=1))  # of another digest
    sync(shorter, results._replace(runs=worse))
    assert len(client().search_model_versions(f"name = '{NAME}'")) == 2
    assert champion().version == before.version
    sync(params, results._replace(runs=worse.assign(accuracy=worse["accuracy"] / 2)))
    versions = {one.version: one for one in client().search_model_versions(f"name = '{NAME}'")}
    assert len(versions) == 2
    assert champion().tags["study"] == Study.of(shorter).short


@pytest.mark.slow
def test_it_loads_without_this_checkout(
    here: Path, params: Params, study: tuple[Path, Results], tmp_path_factory: Any
) -> None:
    """From the copy of the package that is logged with it, also for a recipe of the user's own."""
    sync(params, study[1])
    code = (
        "import sys\n"
        "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\n"
        f"sys.path[:] = [p for p in sys.path if not p.startswith({str(ROOT)!r}) or '.venv' in p]\n"
        "import mlflow, numpy\n"
        f"mlflow.set_tracking_uri('sqlite:///{here}/mlflow.db')\n"
        f"model = mlflow.pyfunc.load_model('models:/{NAME}@champion')\n"
        "print(model.predict(numpy.zeros((2, 784), numpy.float32)).shape)\n"
        "import moe; print(moe.__file__)\n"
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    shape, where = done.stdout.splitlines()[-2:]
    assert shape == "(2, 10)"
    assert where.startswith(str(here / "mlruns"))


@pytest.mark.slow
def test_mlflow_models_serve_answers(
    here: Path, params: Params, study: tuple[Path, Results], mnist_5k: Dataset
) -> None:
    sync(params, study[1])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
        *("-m", f"models:/{NAME}@champion", "--host", "127.0.0.1", "--port", str(port)),
    ]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where MLflow looks for uvicorn
    with (here / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PATH": path},
        )
    try:
        wait_for(lambda: answers(f"127.0.0.1:{port}"))
        x = numbers(mnist_5k.test_x[:3]).numpy()
        url = f"http://127.0.0.1:{port}/invocations"
        reply = requests.post(url, json={"inputs": x.tolist()}, timeout=60)
        assert reply.ok, reply.text
        answered = np.asarray(reply.json()["predictions"])
        expected = mlflow.pyfunc.load_model(f"models:/{NAME}@champion").predict(x)
        np.testing.assert_allclose(answered, expected, atol=1e-5)
        picture = requests.post(url, json={"inputs": x.reshape(3, 28, 28).tolist()}, timeout=60)
        assert picture.status_code == 400
        assert "(-1, 784)" in picture.text
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
