"""The study's own run in MLflow: its counts, report and tables, and progress while it trains."""

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient

from moe.study.grid import runs_of
from moe.study.params import Params
from moe.study.runs import digest
from moe.study.tables import trial_columns
from moe.study.train_settings import with_settings
from moe.tracking.experiments import Experiments, age, open_experiments, search
from moe.tracking.notes import study_note
from moe.tracking.origin import dataset_inputs, origin_tags
from moe.tracking.records import best_trial, sound
from moe.tracking.store import LOCKS, client, failures_as_one_line
from moe.tracking.study import Results, Study

LIVE_SECONDS = 10


def open_study_run(store: MlflowClient, experiment: str, study: Study) -> Any:
    """Find or create the study's run; keep only the oldest, if another checkout wrote one too."""
    query = f"tags.study = '{study.short}'"
    with FileLock(LOCKS / "study.lock"):  # training and a sync may both open it
        found = sorted(search(store, experiment, query), key=age)
        for double in found[1:]:
            for model in store.search_logged_models(
                [experiment], f"source_run_id = '{double.info.run_id}'"
            ):
                store.delete_logged_model(model.model_id)
            store.delete_run(double.info.run_id)
        if found:
            return found[0]
        tags = {**study.tags, "level": "study", **origin_tags("dvc.yaml")}
        return store.create_run(experiment, tags=tags, run_name=study.name)


def finish_study_run(
    store: MlflowClient, run: Any, experiments: Experiments, study: Study, results: Results
) -> None:
    """Write the run's params, metrics, artifacts, data set and description, unless up to date."""
    metrics = {
        "best_accuracy": best_trial(results.runs)[1],
        "mean_accuracy": float(sound(results.runs)["accuracy"].mean()),
        "runs": float(len(results.runs)),
        "trials": float(results.runs.groupby(trial_columns(results.runs)).ngroups),
    }
    note = study_note(experiments, study, results.runs, run.info.run_id)
    content = digest([metrics, note, [_file_digest(path) for path in results.artifacts]])
    run_id, is_new = run.info.run_id, run.data.tags.get("content") != content
    # If only the database was copied or restored, its artifacts are missing.
    if is_new or run.info.status != "FINISHED" or not _has_all(store, run_id, results.artifacts):
        _log(store, run_id, study, results, metrics)
        tags = {**origin_tags("dvc.yaml"), "mlflow.note.content": note, "content": content}
        for name, value in tags.items():
            store.set_tag(run_id, name, value)
        store.update_run(run_id, "FINISHED")  # does not change the end time


def _log(
    store: MlflowClient, run_id: str, study: Study, results: Results, metrics: Mapping[str, float]
) -> None:
    # MLflow shows the value with the largest step, then the latest time. Times are not reliable:
    # clocks are set back, and differ between machines.
    points = store.get_metric_history(run_id, "runs")
    present = store.get_run(run_id).data.metrics  # of an interrupted sync
    step, now = max((point.step + 1 for point in points), default=0), _milliseconds()
    store.log_batch(
        run_id,
        [
            Metric(name, value, now, step)
            for name, value in metrics.items()
            if present.get(name) != value
        ],
        [Param(name, value) for name, value in _train_params(study.params).items()],
    )
    store.log_inputs(run_id, dataset_inputs(study.dataset, results.data))
    for path in results.artifacts:
        log = store.log_artifacts if path.is_dir() else store.log_artifact
        log(run_id, str(path), *([path.name] if path.is_dir() else []))


def _train_params(params: Params) -> dict[str, str]:
    """The settings of `train`; a setting that the study sweeps has all its values."""
    values = {name: str(value) for name, value in asdict(params.train).items()}
    runs = runs_of(params.sweeps)
    for name, _ in runs[0].settings:
        swept = {getattr(with_settings(params.train, run.settings), name) for run in runs}
        values[name] = ", ".join(sorted(map(str, swept)))
    return values


def _has_all(store: MlflowClient, run_id: str, artifacts: Sequence[Path]) -> bool:
    """Whether MLflow has all artifacts, by name and size."""
    sizes = {item.path: item.file_size for item in store.list_artifacts(run_id)}
    for folder in (path for path in artifacts if path.is_dir()):
        if folder.name in sizes:
            files = store.list_artifacts(run_id, folder.name)
            sizes |= {item.path: item.file_size for item in files}
    wanted = {
        str(file.relative_to(path.parent)): file.stat().st_size
        for path in artifacts
        for file in _files(path)
    }
    return wanted.items() <= sizes.items()


def _files(path: Path) -> list[Path]:
    return sorted(filter(Path.is_file, path.rglob("*"))) if path.is_dir() else [path]


def _file_digest(path: Path) -> str:
    parts = [hashlib.sha256(file.read_bytes()).hexdigest() for file in _files(path)]
    return digest([path.name, parts])


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


def show_live(
    params: Params,
    measure: Callable[[], Mapping[str, float]],
    over: threading.Event,
    status: Callable[[], str],
) -> None:
    """Log training progress to the study's run every few seconds until training is over.

    measure: returns the metrics to log; status: returns how the training ended.
    """
    with failures_as_one_line("training goes on without it"):
        store = client()
        experiments = open_experiments(store, params.track.experiment)
        if over.is_set():
            return
        run = open_study_run(store, experiments.studies, Study.of(params))
        run_id = run.info.run_id
        if not over.is_set():
            store.update_run(run_id, "RUNNING")
        elif run.info.status != "RUNNING":  # RUNNING: new, or left by a training that was killed
            return
        for step in itertools.count():
            is_over = over.wait(LIVE_SECONDS if step else 0)
            if status() == "KILLED":  # only time for one call
                break
            now, measures = _milliseconds(), measure().items()
            store.log_batch(
                run_id, [Metric(f"live/{name}", value, now, step) for name, value in measures]
            )
            if is_over:
                break
        store.set_terminated(run_id, status())
