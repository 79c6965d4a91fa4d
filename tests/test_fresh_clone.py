"""A fresh clone that has DVC's cache and nothing else; an unpacked archive without git.

The study has k = 1 only, so that the table of coactivated experts has no row.
"""

import shutil
import sys
from pathlib import Path

import pytest

from tests.test_pipeline import Copy, sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """Of a small study that was run to the end and committed."""
    folder = tmp_path_factory.mktemp("fresh")
    origin = Copy(folder / "origin")
    sweeps = sweep(recipe=["logits"], k=[1], seeds=1)
    origin.params(data={"dataset": "mnist-5k"}, sweeps=sweeps, train={"epochs": 1})
    origin.repro()
    origin.run("git", "add", "-A")
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    origin.run("git", *who, "commit", "-qm", "a study")
    origin.run("git", "clone", "-q", ".", str(folder / "clone"))
    origin.folder = folder / "clone"
    origin.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{origin.folder}/mlflow.db"
    shutil.copytree(folder / "origin/.dvc/cache", origin.folder / ".dvc/cache")
    return origin


def test_repro_restores_the_weights_and_fills_mlflow(clone: Copy) -> None:
    before = clone.outputs()
    said = clone.repro()
    assert "Stage 'train' is cached" in said
    assert "Running stage 'train'" not in said
    assert clone.tracked()["tags.level"].value_counts().to_dict() == {
        "study": 1,
        "trial": 2,
        "run": 2,
    }
    after = {name: text for name, text in clone.outputs().items() if "tracked" not in name}
    assert after == before
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in clone.repro()


def test_mlflow_knows_the_commit(clone: Copy) -> None:
    commit = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    runs = clone.tracked()
    assert set(runs["tags.mlflow.source.git.commit"]) == {commit}
    assert set(runs["tags.git_dirty"]) == {"false"}


def test_the_readme_s_best_model_predicts(clone: Copy) -> None:
    readme = (clone.folder / "README.md").read_text(encoding="utf-8")
    (code,) = [part for part in readme.split("```python\n")[1:] if "import mlflow" in part]
    code = code.partition("```")[0] + (
        "assert probabilities.shape == (3, 10)\n"
        "assert abs(probabilities.sum(1) - 1).max() < 1e-5\n"
        "signature = model.metadata.signature\n"
        "assert signature.inputs.inputs[0].shape == (-1, 784)\n"
        "assert signature.outputs.inputs[0].shape == (-1, 10)\n"
        "assert model.input_example.shape == (1, 784)\n"
    )
    clone.run(sys.executable, "-c", code)


def test_nothing_but_the_cache_was_there(clone: Copy) -> None:
    store: Path = clone.folder / ".cache/shards"
    assert not store.exists()


def test_an_unpacked_archive_without_git(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    copy.params(data={"dataset": "mnist-5k"})
    shutil.rmtree(tmp_path / ".git")
    assert "not a git repository" in copy.run("dvc", "status", check=False).stderr
    said = copy.run(sys.executable, "-m", "stages.check").stdout
    assert "after git init, remove it: dvc config --local --unset core.no_scm" in said
    assert "git" not in copy.run(sys.executable, "-m", "stages.check").stdout
    copy.run("dvc", "repro", "download")
    assert (tmp_path / "data/train-images-idx3-ubyte").exists()
