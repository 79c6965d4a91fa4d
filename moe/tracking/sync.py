"""MLflow: one parent run a study, a run for every trial and every run of it; idempotent.

The only module that knows MLflow. Levels, as a tag:
level=study  the parent: the study's counts, its report and tables as artifacts, the best trial's
             model; while it trains, epochs done, runs done and accuracy;
level=trial  one for each (recipe, ne, k, lc): means over seeds, with 95 % intervals (Student's t);
level=run    one for each seed of it: the columns of runs.csv, and the curves of history.csv under
             `epoch/…`, a step an epoch.

A child run carries a digest of what it holds. A sync leaves a finished run with the right digest
alone, and writes anew what is missing, half written or out of date: running it twice adds nothing,
and a lost database comes back. The children's timestamps are the parent's start.
"""

import contextlib
import hashlib
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

# Before the import: MLflow reads them once. A server that hangs must not hold us up for minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it has the password
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.entities import LoggedModelStatus, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from requests.exceptions import RequestException
from safetensors.torch import save_file
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from moe.data.dataset import CLASSES
from moe.engine import HISTORY
from moe.errors import UserError, without_secrets
from moe.model.weights import read_models
from moe.statistics import mean_with_interval
from moe.study.grid import study_digest
from moe.study.params import Params
from moe.study.runs import RUN_KEYS, TRIAL_KEYS, Run, Trial, digest

STORE = "sqlite:///mlflow.db"
LOCK = Path(".cache/track.lock")
PAGE = 5_000
NEEDED_TO_PREDICT = ("torch", "numpy", "safetensors", "jaxtyping", "pydantic", "ruamel.yaml")
BATCH = 1_000  # MLflow's limit on the metrics of one call
LIVE_SECONDS = 10
LONGEST_REASON = 300  # characters of what MLflow has to say
PASSES = 6  # of a sync; one that meets no other needs two, to write and to look
# What a store answers, among else, where another sync has just deleted or inserted the same: look
# again. (One that does not answer, or breaks, has INTERNAL_ERROR.)
REFUSALS = ("BAD_REQUEST", "INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
# ImportError: a database whose driver is not installed; ValueError: an address that is none
FAILURES = (MlflowException, RequestException, SQLAlchemyError, OSError, ImportError, ValueError)

# urllib3 warns of each new attempt, with the query of the address.
for _logger in ("mlflow", "alembic", "urllib3"):
    logging.getLogger(_logger).setLevel(logging.ERROR)


class TrackingError(UserError):
    """MLflow cannot be brought up to date; the message says what to run when it can."""


class Results(NamedTuple):
    """What a sync reads. artifacts: files and folders for the parent."""

    runs: pd.DataFrame
    history: pd.DataFrame
    artifacts: Sequence[Path]
    data_digest: str


def client() -> MlflowClient:
    """For MLFLOW_TRACKING_URI, or mlflow.db in the working folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or STORE
    scheme, _, path = uri.partition(":///")
    if scheme == "sqlite":
        _create_database(Path(path))
    mlflow.set_tracking_uri(uri)
    return MlflowClient(uri)


def _create_database(path: Path) -> None:
    """All of it or nothing: killed amid MLflow's migrations, a database would stay broken."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(LOCK.with_name("database.lock")):
        if path.exists():
            return
        unfinished = path.with_name(f".{path.name}.unfinished")
        unfinished.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        migrate = (
            f"import mlflow; mlflow.MlflowClient({f'sqlite:///{unfinished}'!r}).search_runs(['0'])"
        )
        # A process of its own, so that nothing holds the file when it gets its name.
        done = subprocess.run([sys.executable, "-c", migrate], capture_output=True, text=True)
        if done.returncode:
            raise MlflowException(f"{path} cannot be made: {done.stderr.strip()[-200:]}")
        unfinished.rename(path)


@event.listens_for(Engine, "connect")
def _quick_sqlite(connection: Any, record: object) -> None:
    # A commit that waits for the disk makes a run cost half a second; the sync can be repeated.
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


@contextlib.contextmanager
def failures_as_one_line(consequence: str) -> Iterator[None]:
    """MLflow's own errors as TrackingError, without the secrets of a tracking URI."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FAILURES as error:
        uri = without_secrets(os.environ.get("MLFLOW_TRACKING_URI") or STORE)
        raise TrackingError(f"MLflow at {uri}: {_reason(error)}; {consequence}") from None


def _reason(error: Exception) -> str:
    """In words that fit on a line, without secrets. MLflow names the first cause last."""
    text = without_secrets(" ".join(str(error).split())) or type(error).__name__
    if len(text) <= LONGEST_REASON:
        return text
    return f"{text[: LONGEST_REASON // 2]} ... {text[-LONGEST_REASON // 2 :]}"


def _command() -> str:
    """What tracks the study of this folder: its own, or that of a copy of the pipeline."""
    here = Path.cwd()
    return f"make {here.name}" if here.parent.name == ".work" else "make track"


# --- the sync


def sync(params: Params, results: Results) -> dict[str, int]:
    """Bring MLflow up to date; returns the number of runs by level.

    Of one checkout one sync works at a time. Those of two may meet on a server, each writing what
    it does not find: so a sync looks again until nothing is left to do, and all keep the same one
    of each double.
    """
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    later = f"the results are complete, and when MLflow is back, {_command()} brings it up to date"
    with failures_as_one_line(later), FileLock(LOCK):
        store = client()
        wanted = [*_trials(results.runs), *_runs(results)]
        for left in reversed(range(PASSES)):
            try:
                if not _bring_up_to_date(store, params, results, wanted):
                    break
            except MlflowException as error:
                if not left or error.error_code not in REFUSALS:
                    raise
    counts = {"study": 1, "trial": 0, "run": 0}
    for child in wanted:
        counts[child.tags["level"]] += 1
    return counts


def _bring_up_to_date(
    store: MlflowClient, params: Params, results: Results, wanted: Sequence["Child"]
) -> int:
    """Write and delete what differs from what is wanted; returns how much it was."""
    experiment = _experiment(store, params.track.experiment)
    parent = _parent(store, experiment, params)
    common = {
        **_code_version(),
        "study": study_digest(params),
        "dataset": params.data.dataset,
        "data_digest": results.data_digest,
        "mlflow.parentRunId": parent.info.run_id,
    }
    settings = {name: str(value) for name, value in asdict(params.train).items()}
    present = _present(store, experiment, common["study"])
    changes = 0
    with _killed_if_interrupted(store, parent.info.run_id):
        for child in wanted:
            found = present.pop(child.name, [])
            good = [run for run in found if _is_good(run, child, parent.info.run_id)]
            kept = min(good, key=_age, default=None)
            for run in found:
                if run is not kept:
                    store.delete_run(run.info.run_id)
                    changes += 1
            if kept is None:
                _write(store, experiment, parent.info.start_time, child, common, settings)
                changes += 1
        for leftover in present.values():  # of a trial or seed that the study no longer has
            for run in leftover:
                store.delete_run(run.info.run_id)
                changes += 1
        changes += _finish_parent(store, parent, params, results, wanted)
    return changes


def _age(run: Any) -> tuple[int, str]:
    """What all syncs order doubles by."""
    return run.info.start_time, run.info.run_id


@contextlib.contextmanager
def _killed_if_interrupted(store: MlflowClient, run_id: str) -> Iterator[None]:
    """Ctrl-C leaves no run RUNNING. (A failure of MLflow itself would only fail again.)"""
    try:
        yield
    except BaseException as stop:
        if not isinstance(stop, Exception):
            store.set_terminated(run_id, "KILLED")
        raise


class Child(NamedTuple):
    """A trial or run as MLflow shall have it. curves: (metric, step, value)."""

    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Sequence[tuple[str, int, float]] = ()

    @property
    def content(self) -> str:
        """A digest of it all."""
        return digest([self.name, self.params, self.metrics, self.curves])


def _trials(runs: pd.DataFrame) -> Iterator[Child]:
    measures = [name for name in runs.columns if name not in RUN_KEYS]
    for key, of_trial in runs.groupby(TRIAL_KEYS):
        trial = Trial(*key)
        metrics: dict[str, float] = {"seeds": len(of_trial)}
        for name in measures:
            mean, low, high = mean_with_interval(of_trial[name].to_numpy())
            metrics[name] = float(mean)
            if len(of_trial) > 1:
                metrics |= {f"{name}_low": float(low), f"{name}_high": float(high)}
        tags = {"level": "trial", "recipe": trial.recipe, "cell": digest(list(trial))}
        yield Child(str(trial), tags, _as_params(trial), metrics)


def _runs(results: Results) -> Iterator[Child]:
    curves = {
        Run(*key): [
            (f"epoch/{name}", int(row["epoch"]), float(row[name]))
            for row in rows.to_dict("records")
            for name in HISTORY
        ]
        for key, rows in results.history.groupby(RUN_KEYS)
    }
    for row in results.runs.to_dict("records"):
        run = Run(*(row.pop(name) for name in RUN_KEYS))
        tags = {
            "level": "run",
            "recipe": run.recipe,
            "seed": str(run.seed),
            "cell": digest(list(run)),
        }
        metrics = {str(name): float(value) for name, value in row.items()}
        yield Child(str(run), tags, _as_params(run), metrics, curves[run])


def _as_params(cell: Trial | Run) -> dict[str, str]:
    return {
        name: repr(value) if isinstance(value, float) else str(value)
        for name, value in cell._asdict().items()
    }


def _experiment(store: MlflowClient, name: str) -> str:
    found = store.get_experiment_by_name(name)
    if found is None:
        try:
            return store.create_experiment(name, _artifact_location(store))
        except MlflowException:  # somebody else was first
            found = store.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":  # its name stays taken
        store.restore_experiment(found.experiment_id)
    return found.experiment_id


def _artifact_location(store: MlflowClient) -> str | None:
    """Beside a SQLite store, whichever copy of the pipeline is first; a server knows its own."""
    scheme, _, path = store.tracking_uri.partition(":///")
    return (Path(path).resolve().parent / "mlruns").as_uri() if scheme == "sqlite" else None


def _parent(store: MlflowClient, experiment: str, params: Params) -> Any:
    """The study's run: the oldest of those that bear its digest, or a new one."""
    study = study_digest(params)
    query = f"tags.study = '{study}' and tags.level = 'study'"
    with FileLock(LOCK.with_name("parent.lock")):  # a training and a sync may both ask for it
        found = store.search_runs([experiment], query, max_results=PAGE)
        if not found:
            tags = {
                "study": study,
                "level": "study",
                "dataset": params.data.dataset,
                **_code_version(),
            }
            name = f"study {study[:8]} on {params.data.dataset}"
            store.create_run(experiment, tags=tags, run_name=name)
            # Another checkout, which has other locks, may have made one meanwhile.
            found = store.search_runs([experiment], query, max_results=PAGE)
        oldest, *doubles = sorted(found, key=_age)
        for double in doubles:
            store.delete_run(double.info.run_id)
        return oldest


def _present(store: MlflowClient, experiment: str, study: str) -> dict[str, list[Any]]:
    """The study's trials and runs that MLflow has, by name."""
    by_name: dict[str, list[Any]] = {}
    token = None
    while True:
        query = f"tags.study = '{study}' and tags.level != 'study'"
        page = store.search_runs([experiment], query, ViewType.ACTIVE_ONLY, PAGE, None, token)
        for run in page:
            by_name.setdefault(run.info.run_name, []).append(run)
        token = page.token
        if not token:
            return by_name


def _is_good(run: Any, child: Child, parent_id: str) -> bool:
    tags = run.data.tags
    return (
        run.info.status == "FINISHED"
        and tags.get("content") == child.content
        and tags.get("mlflow.parentRunId") == parent_id
    )


def _write(
    store: MlflowClient,
    experiment: str,
    when: int,
    child: Child,
    tags: Mapping[str, str],
    settings: Mapping[str, str],
) -> None:
    all_tags = {**tags, **child.tags, "content": child.content}
    run_id = store.create_run(experiment, when, all_tags, child.name).info.run_id
    metrics = [Metric(name, value, when, 0) for name, value in child.metrics.items()]
    metrics += [Metric(name, value, when, step) for name, step, value in child.curves]
    params = [Param(name, value) for name, value in {**child.params, **settings}.items()]
    with _killed_if_interrupted(store, run_id):
        store.log_batch(run_id, metrics[:BATCH], params)
        for start in range(BATCH, len(metrics), BATCH):
            store.log_batch(run_id, metrics[start : start + BATCH])
        store.set_terminated(run_id, "FINISHED", when)


def _finish_parent(
    store: MlflowClient, parent: Any, params: Params, results: Results, wanted: Sequence[Child]
) -> int:
    """The parent's metrics, artifacts and model; how much of it there was to do."""
    run_id = parent.info.run_id
    accuracy = results.runs["accuracy"]
    metrics = {
        "runs": sum(child.tags["level"] == "run" for child in wanted),
        "trials": sum(child.tags["level"] == "trial" for child in wanted),
        "mean_accuracy": float(accuracy.mean()),
        "best_accuracy": float(results.runs.groupby(TRIAL_KEYS)["accuracy"].mean().max()),
    }
    content = digest([metrics, [_file_digest(path) for path in results.artifacts]])
    is_new = parent.data.tags.get("content") != content or parent.info.status != "FINISHED"
    if is_new:
        _log_study(store, parent, params, results, metrics)
    changes = is_new + _keep_one_model(store, parent, results.runs, content)
    if changes:
        store.set_tag(run_id, "content", content)
        store.set_terminated(run_id, "FINISHED")
    return changes


def _log_study(
    store: MlflowClient,
    parent: Any,
    params: Params,
    results: Results,
    metrics: Mapping[str, float],
) -> None:
    """The parent's metrics and artifacts."""
    run_id = parent.info.run_id
    settings = {name: str(value) for name, value in asdict(params.train).items()}
    tags = {"data_digest": results.data_digest, **_code_version()}
    # Of values with one timestamp MLflow shows the greatest; of earlier and later ones, the last.
    now = time.time_ns() // 1_000_000
    store.log_batch(
        run_id,
        [
            Metric(name, value, now, 0)
            for name, value in metrics.items()
            if parent.data.metrics.get(name) != value  # a sync that broke off was here before
        ],
        [Param(name, value) for name, value in settings.items()],
        [RunTag(name, value) for name, value in tags.items()],
    )
    for path in results.artifacts:
        log = store.log_artifacts if path.is_dir() else store.log_artifact
        log(run_id, str(path), *([path.name] if path.is_dir() else []))


def _keep_one_model(store: MlflowClient, parent: Any, runs: pd.DataFrame, content: str) -> int:
    """The parent has one model, whole and of these results; how many were written and deleted.

    Nothing is deleted before there is a good one: of two syncs that write theirs at once, neither
    may take the other's away and leave none.
    """
    changes = 0
    found, good = _models(store, parent, content)
    if not good:
        _log_best_model(runs, parent.info.run_id, content)
        found, good = _models(store, parent, content)
        changes += 1
    for model in found if good else []:
        if model is not good[0]:
            store.delete_logged_model(model.model_id)
            changes += 1
    return changes


def _models(store: MlflowClient, parent: Any, content: str) -> tuple[list[Any], list[Any]]:
    """All models of a parent, oldest first, and those that are whole and of these results."""
    query = f"source_run_id = '{parent.info.run_id}'"
    found = store.search_logged_models([parent.info.experiment_id], query)
    found = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
    good = [
        model
        for model in found
        if model.tags.get("content") == content and model.status == LoggedModelStatus.READY
    ]
    return found, good


def _log_best_model(runs: pd.DataFrame, run_id: str, content: str) -> None:
    """The first seed's model of the trial with the best mean, as moe/tracking/served.py says."""
    means = runs.groupby(TRIAL_KEYS)["accuracy"].mean()
    trial = Trial(*list(means.index)[int(means.argmax())])
    seed = int(runs.set_index(TRIAL_KEYS).loc[[trial], "seed"].min())
    model = next(model for run, model in read_models(seed) if run.trial == trial)
    example = np.zeros((1, model.router.in_features), np.float32)
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=run_id):
        weights = Path(folder) / "weights.safetensors"
        save_file(model.state_dict(), weights, {"trial": json.dumps(list(trial))})
        mlflow.pyfunc.log_model(
            name="best",
            python_model=str(Path(__file__).parent / "served.py"),
            artifacts={"weights": str(weights)},
            code_paths=[str(Path(__file__).parent)],
            signature=infer_signature(example, example[:, :CLASSES]),
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in NEEDED_TO_PREDICT],
            tags={"content": content},
        )


def _file_digest(path: Path) -> str:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    parts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()]
    return digest([path.name, parts])


def _code_version() -> dict[str, str]:
    """The git tags that MLflow's client, unlike its fluent interface, never sets."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()

    commit = git("rev-parse", "HEAD")
    if not commit:
        return {}
    # Of what makes the results: those themselves are new after every run.
    results = (":!results", ":!reports", ":!dvc.lock")
    dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".", *results)
    return {"mlflow.source.git.commit": commit, "git_dirty": str(bool(dirty)).lower()}


# --- while it trains


def show_live(
    params: Params,
    measure: Callable[[], Mapping[str, float]],
    over: threading.Event,
    status: Callable[[], str],
) -> None:
    """Log a study's progress on its parent run every few seconds until it is over.

    measure: what to show; status: how the training ended, asked when it is over.
    """
    with failures_as_one_line("training goes on without it"):
        store = client()
        experiment = _experiment(store, params.track.experiment)
        if over.is_set():
            return
        parent = _parent(store, experiment, params)
        run_id = parent.info.run_id
        if not over.is_set():
            store.update_run(run_id, "RUNNING")
        elif parent.info.status != "RUNNING":  # else it is a new one, or a killed training's
            return
        for step in itertools.count():
            is_over = over.wait(LIVE_SECONDS if step else 0)
            if status() == "KILLED":  # there is time for one thing
                break
            now = time.time_ns() // 1_000_000
            measures = measure().items()
            store.log_batch(
                run_id, [Metric(f"live/{name}", value, now, step) for name, value in measures]
            )
            if is_over:
                break
        store.set_terminated(run_id, status())
