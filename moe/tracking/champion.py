"""The best model of a study, logged and registered.

Each study logs the model of its trial with the highest mean accuracy, of the first seed, and
registers it as a version of the model NAME-on-DATASET. The alias `champion` names the best of these
versions, so a short experiment does not replace a better study's.
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
    """Of the registered model that has the studies of a data set as its versions."""
    return re.sub(r"[/:]", "_", f"{experiment}-on-{dataset}")  # which MLflow does not allow


def keep_champion(
    store: MlflowClient, run: Any, study: Study, runs: pd.DataFrame, experiment: str
) -> None:
    """Keep one model of the study, registered, and the alias on the best version."""
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
    """The oldest whole model with that content, and all others of the study."""
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
            name=re.sub(r"[/:.%\"']", "_", trial_name(trial)),  # which MLflow does not allow
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
    """The installed version, without a local part such as +cpu, which no registry has."""
    return f"{name}=={metadata.version(name).partition('+')[0]}"


def _code(trial: Trial, folder: Path) -> list[str]:
    """Copies of what the model is made of, without what belongs to this machine."""
    sources = [PACKAGE, *([EXTENSIONS] if ":" in trial.recipe else [])]
    ignore = shutil.ignore_patterns("__pycache__", "*.so")
    return [str(shutil.copytree(path, folder / path.name, ignore=ignore)) for path in sources]


def _register(
    store: MlflowClient, name: str, model: Any, study: Study, trial: Trial, accuracy: float
) -> None:
    """One version for the study, and the alias on the best of all studies."""
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
