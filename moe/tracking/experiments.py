"""A study's three experiments in MLflow.

NAME has a row for each trial, NAME-runs one for each run, NAME-studies one for each study, with its
report, its best model, and its progress while it trains. Three experiments, because MLflow always
folds nested runs under their parent: in a single experiment, the first page showed only one row.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mlflow.entities import Experiment, ViewType
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from moe.tracking.store import artifact_location, follow_a_move

PAGE = 5_000
# MLflow 3.17 opens the model-training view if the link has a workflowType, or by this tag.
KIND = {"mlflow.experimentKind": "custom_model_development"}


class Experiments(NamedTuple):
    """The ids of the three experiments."""

    trials: str
    runs: str
    studies: str


def names_of(name: str) -> Experiments:
    """The experiments' names, from the name in params.yaml."""
    return Experiments(name, f"{name}-runs", f"{name}-studies")


def open_experiments(store: MlflowClient, name: str) -> Experiments:
    """Find or create the experiments."""
    _set_aside_the_nested_layout(store, name)
    found = Experiments(*(_open(store, each) for each in names_of(name)))
    location = artifact_location()
    for experiment in map(store.get_experiment, found):
        if location and experiment.artifact_location != location:
            follow_a_move(experiment.artifact_location)
    return found


def _open(store: MlflowClient, name: str) -> str:
    found = store.get_experiment_by_name(name)
    if found is None:
        try:
            return store.create_experiment(name, artifact_location(), KIND)
        except MlflowException:  # another process was faster
            found = store.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":  # the name cannot be used again
        store.restore_experiment(found.experiment_id)
    return found.experiment_id


def _set_aside_the_nested_layout(store: MlflowClient, name: str) -> None:
    """Rename an experiment of earlier versions, which held studies, trials and runs together.

    Other studies in it are kept until they are tracked again.
    """
    found = store.get_experiment_by_name(name)
    if found and found.lifecycle_stage == "active":
        nested = store.search_runs([found.experiment_id], "tags.level = 'study'", max_results=1)
        if nested:
            store.rename_experiment(found.experiment_id, _nested_name(name, found))


def _nested_name(name: str, experiment: Experiment) -> str:
    return f"{name} (nested, {experiment.experiment_id})"


def delete_nested_runs(store: MlflowClient, name: str, study: str) -> None:
    """Delete a study's runs in the nested layout, and the experiment once it is empty."""
    query = f"name LIKE '{_quoted(name)} (nested, %'"
    for experiment in store.search_experiments(filter_string=query):
        if experiment.name == _nested_name(name, experiment):
            for run in search(store, experiment.experiment_id, f"tags.study = '{study}'"):
                store.delete_run(run.info.run_id)
            if not search(store, experiment.experiment_id, ""):
                store.delete_experiment(experiment.experiment_id)


def _quoted(name: str) -> str:
    return name.replace("'", "_")  # in LIKE, _ matches any character


def search(store: MlflowClient, experiment: str, query: str) -> list[Any]:
    """All active runs that a query finds."""
    found, token = [], None
    while True:
        page = store.search_runs([experiment], query, ViewType.ACTIVE_ONLY, PAGE, None, token)
        found += page
        token = page.token
        if not token:
            return found


def set_experiment_tags(store: MlflowClient, experiment: str, tags: Mapping[str, str]) -> None:
    """Set the tags that differ."""
    present = store.get_experiment(experiment).tags
    for name, value in tags.items():
        if present.get(name) != value:
            store.set_experiment_tag(experiment, name, value)


def age(run: Any) -> tuple[int, str]:
    """Sort key for duplicates: the oldest first."""
    return run.info.start_time, run.info.run_id


@contextlib.contextmanager
def killed_if_interrupted(store: MlflowClient, run_id: str) -> Iterator[None]:
    """On Ctrl-C, mark the run KILLED. (Not after an MLflow error: the call would fail again.)"""
    try:
        yield
    except BaseException as stop:
        if not isinstance(stop, Exception):
            store.set_terminated(run_id, "KILLED")
        raise
