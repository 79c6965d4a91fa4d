"""`dvc exp run` in a copy of the checkout, as --temp and --queue do."""

from pathlib import Path

import mlflow
import pytest

from moe.train.run_store import Store
from tests.test_pipeline import Copy, sweep

pytestmark = pytest.mark.slow


def test_an_experiment_in_a_copy_uses_the_checkout(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    del copy.environment["MLFLOW_TRACKING_URI"]
    sweeps = sweep(recipe=["logits"], ne=[2], k=[1], seeds=1)
    copy.params(data={"dataset": "mnist-5k"}, sweeps=sweeps, train={"epochs": 1})
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    copy.run("git", *who, "commit", "-qam", "a study")
    done = copy.run("dvc", "exp", "run", "--temp", "--set-param", "sweeps.0.seeds=2")

    assert "0 of 2 runs are in the store, 2 to train" in done.stdout
    assert "kernel" not in done.stdout + done.stderr  # no message that it is unavailable
    entries = Store(tmp_path / ".cache/shards").entries()
    names = {name for entry in entries for name in entry.runs.values()}
    assert names == {f"logits/ne=2/k=1/lc=1/seed={seed}" for seed in (0, 1)}
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = mlflow.get_experiment_by_name("moe-mnist")
    assert experiment is not None
    assert experiment.artifact_location == (tmp_path / "mlruns").as_uri()

    # The checkout is unchanged; the experiment's results are in a commit.
    assert copy.run("git", "status", "--porcelain").stdout == ""
    header, *rows = copy.run("dvc", "exp", "show", "--csv").stdout.splitlines()
    assert len(header.split(",")) < 80
    assert len(rows) == 3  # workspace, its commit, the experiment
