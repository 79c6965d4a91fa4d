"""A fresh clone that has pulled from a DVC remote; an unpacked archive without git.

The study has only k = 1, so the table of coactivated experts has no rows.
"""

import shutil
import sys
from pathlib import Path

import pytest

from tests.test_pipeline import Copy, sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A clone of a small, finished and committed study."""
    folder = tmp_path_factory.mktemp("fresh")
    origin = Copy(folder / "origin")
    sweeps = sweep(recipe=["logits"], k=[1], seeds=1)
    origin.params(data={"dataset": "mnist-5k"}, sweeps=sweeps, train={"epochs": 1})
    origin.repro()
    origin.run("dvc", "remote", "add", "--default", "storage", str(folder / "remote"))
    origin.run("dvc", "push")
    origin.run("git", "add", "-A")
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    origin.run("git", *who, "commit", "-qm", "a study")
    origin.run("git", "clone", "-q", ".", str(folder / "clone"))
    origin.folder = folder / "clone"
    origin.environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{origin.folder}/mlflow.db"
    return origin


def test_the_committed_report_is_up_to_date_without_weights(clone: Copy) -> None:
    """As in CI, which has no remote."""
    assert "up to date" in clone.run("dvc", "status", "report").stdout
    assert not (clone.folder / "weights").exists()


def test_after_a_pull_repro_trains_nothing_and_fills_mlflow(clone: Copy) -> None:
    before = clone.outputs()
    clone.run("dvc", "pull")
    assert (clone.folder / "weights/seed-000.safetensors").stat().st_nlink == 2  # DVC's cache
    said = clone.repro()
    assert [line for line in said.splitlines() if line.startswith("Running")] == [
        "Running stage 'track':"
    ]
    assert clone.tracked()["tags.level"].value_counts().to_dict() == {
        "study": 1,
        "trial": 2,
        "run": 2,
    }
    after = {name: text for name, text in clone.outputs().items() if "tracked" not in name}
    assert after == before
    assert clone.run("git", "status", "--porcelain").stdout == ""
    assert "up to date" in clone.run("dvc", "status").stdout


def test_mlflow_knows_the_commit(clone: Copy) -> None:
    commit = clone.run("git", "rev-parse", "HEAD").stdout.strip()
    runs = clone.tracked()
    assert set(runs["tags.mlflow.source.git.commit"]) == {commit}
    assert set(runs["tags.git_dirty"]) == {"false"}


def test_the_readme_s_best_model_predicts(clone: Copy) -> None:
    readme = (clone.folder / "README.md").read_text(encoding="utf-8")
    (code,) = [part for part in readme.split("```python\n")[1:] if "import mlflow" in part]
    code = code.partition("```")[0].replace("-on-mnist@", "-on-mnist-5k@") + (
        "assert probabilities.shape == (3, 10)\n"
        "assert abs(probabilities.sum(1) - 1).max() < 1e-5\n"
        "signature = model.metadata.signature\n"
        "assert signature.inputs.inputs[0].shape == (-1, 784)\n"
        "assert signature.outputs.inputs[0].shape == (-1, 10)\n"
        "assert model.input_example.shape == (1, 784)\n"
    )
    clone.run(sys.executable, "-c", code)


def test_no_finished_run_was_there(clone: Copy) -> None:
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
