"""The origin of results, as MLflow shows it: data, code and user."""

import getpass
import hashlib
import subprocess

from mlflow import data as mlflow_data
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.entities import DatasetInput, InputTag
from torch import Tensor

from moe.data.dataset import Dataset

# Files that a run writes: git status ignores them, since they are not code changes
OUTPUTS = (":!results", ":!reports", ":!dvc.lock")


def dataset_inputs(name: str, data: Dataset) -> list[DatasetInput]:
    """The training and test splits, each with its digest."""
    return [
        _input(name, "train", data.train_x, data.train_y),
        _input(name, "test", data.test_x, data.test_y),
    ]


def _input(name: str, split: str, x: Tensor, y: Tensor) -> DatasetInput:
    sha = hashlib.sha256(x.numpy())
    sha.update(y.numpy())
    source = CodeDatasetSource({"mlflow.source.name": "stages/download.py", "dataset": name})
    dataset = mlflow_data.from_numpy(
        x.numpy(), source, targets=y.numpy(), name=name, digest=sha.hexdigest()[:8]
    )
    entity = dataset._to_mlflow_entity()  # MLflow has no public function for it
    return DatasetInput(entity, [InputTag("mlflow.data.context", split)])


def origin_tags(source: str) -> dict[str, str]:
    """The tags that MLflow's fluent API sets, but MlflowClient does not.

    source: the source file, relative to the root of the project.
    """
    tags = {"mlflow.source.name": source, "mlflow.source.type": "LOCAL"}
    try:
        tags["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        tags["mlflow.user"] = "unknown"
    commit = _git("rev-parse", "HEAD")
    if not commit:
        return tags
    dirty = _git("status", "--porcelain", "--untracked-files=no", "--", ".", *OUTPUTS)
    return {**tags, "mlflow.source.git.commit": commit, "git_dirty": str(bool(dirty)).lower()}


def _git(*words: str) -> str:
    """git's output; "" outside of a repository or without git."""
    try:
        return subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
