"""The best model of a study, logged and registered.

Each study logs the first seed's model of the trial with the highest mean accuracy, and registers it
as a version of the model NAME-on-DATASET. The alias `champion` points to the best version, so a
short experiment does not replace the model of a better study.
"""

import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import LoggedModelStatus
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient
from safetensors.torch import save_file

from moe.model.weights import read_models
from moe.recipes import EXTENSIONS
from moe.study.runs import Trial, digest
from moe.tracking.notes import NOTE, champion_note, model_note, of_trial
from moe.tracking.records import as_params, best_trial, trial_name
from moe.tracking.study import Study

ALIAS = "champion"
SERVED = Path(__file__).with_name("served.py")
PACKAGE = SERVED.parents[1]
NEEDED_TO_PREDICT = ("torch", "numpy", "safetensors", "jaxtyping", "pydantic", "ruamel.yaml")


def registered_name(experiment: str, dataset: str) -> str:
    """The name of the registered model, which has one version for each study of a data set."""
    return re.sub(r"[/:]", "_", f"{experiment}-on-{dataset}")  # MLflow does not allow / and :


def keep_champion(
    store: MlflowClient, run: Any, study: Study, runs: pd.DataFrame, experiment: str
) -> None:
    """Log and register one model of the study, and point the alias to the best version."""
    trial, accuracy = best_trial(runs)
    its_runs = of_trial(runs, trial)
    content = digest(
        [list(trial.columns.values()), its_runs.to_dict("records"), SERVED.read_text()]
    )
    good, others = _models(store, run, content)
    if good is None:
        _log_model(
            trial,
            int(its_runs["seed"].min()),
            run.info.run_id,
            content,
            model_note(trial, its_runs, study),
        )
        good, others = _models(store, run, content)
    name = registered_name(experiment, study.dataset)
    if good is not None:
        _register(store, name, good, study, trial, accuracy)
    for model in others:
        store.delete_logged_model(model.model_id)


def _models(store: MlflowClient, run: Any, content: str) -> tuple[Any | None, list[Any]]:
    """The study's oldest complete model with that content, and all its other models."""
    query = f"source_run_id = '{run.info.run_id}'"
    found = store.search_logged_models([run.info.experiment_id], query)
    found = sorted(found, key=lambda model: (model.creation_timestamp, model.model_id))
    good = [
        model
        for model in found
        if model.tags.get("content") == content
        and model.status == LoggedModelStatus.READY
        and store.list_logged_model_artifacts(model.model_id)
    ]
    return (good[0] if good else None), [model for model in found if model not in good[:1]]


def _log_model(trial: Trial, seed: int, run_id: str, content: str, note: str) -> None:
    model = next(model for run, model in read_models(seed) if run.trial == trial)
    example = np.zeros((1, model.router.in_features), np.float32)
    answer = np.zeros((1, model.experts.b2.shape[-1]), np.float32)
    with tempfile.TemporaryDirectory() as folder, mlflow.start_run(run_id=run_id):
        weights = Path(folder) / "weights.safetensors"
        save_file(model.state_dict(), weights, {"trial": str(trial)})
        mlflow.pyfunc.log_model(
            name=re.sub(r"[/:.%\"']", "_", trial_name(trial)),  # MLflow does not allow these
            python_model=str(SERVED),
            artifacts={"weights": str(weights)},
            code_paths=_code(trial, Path(folder)),
            signature=infer_signature(example, answer),
            input_example=example,
            pip_requirements=[_requirement(name) for name in NEEDED_TO_PREDICT],
            params=as_params(trial.columns),
            tags={"content": content, NOTE: note},
        )


def _requirement(name: str) -> str:
    """The installed version, without a local part such as +cpu, which is not on PyPI."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"


def _code(trial: Trial, folder: Path) -> list[str]:
    """Copy the sources that the model needs, without compiled files."""
    sources = [PACKAGE, *([EXTENSIONS] if ":" in trial.recipe else [])]
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    return [str(shutil.copytree(path, folder / path.name, ignore=ignore)) for path in sources]


def _register(
    store: MlflowClient, name: str, model: Any, study: Study, trial: Trial, accuracy: float
) -> None:
    """Register one version for the study, and point the alias to the best of all studies."""
    try:
        store.get_registered_model(name)
    except MlflowException:
        store.create_registered_model(name)
    versions = list(store.search_model_versions(f"name = '{name}'"))
    source = f"models:/{model.model_id}"
    of_study = [one for one in versions if one.tags.get("study") == study.short]
    if not any(one.source == source for one in of_study):
        tags = {"study": study.short, "trial": trial_name(trial), "accuracy": f"{accuracy:.6g}"}
        note = model.tags[NOTE]
        run_id, model_id = model.source_run_id, model.model_id
        store.create_model_version(name, source, run_id, tags, description=note, model_id=model_id)
    for old in of_study:
        if old.source != source:
            store.delete_model_version(name, old.version)
    _name_champion(store, name, study)


def _name_champion(store: MlflowClient, name: str, study: Study) -> None:
    versions = store.search_model_versions(f"name = '{name}'")
    best = max(versions, key=lambda one: (float(one.tags.get("accuracy", 0)), -int(one.version)))
    registered = store.get_registered_model(name)
    if str(registered.aliases.get(ALIAS)) != str(best.version):
        store.set_registered_model_alias(name, ALIAS, str(best.version))
    note = champion_note(name, best.tags, study.dataset)
    if registered.description != note:
        store.update_registered_model(name, note)
