"""Many starts of the same thing at once: one study, nothing doubled, nothing damaged."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.test_pipeline import Copy, sweep

STARTS = 20


def tiny(folder: Path, source: Path, **axes: list | int) -> Copy:
    copy = Copy(folder, root=source)
    sweeps = sweep(**{"recipe": ["blog", "shazeer"], "seeds": 1, **axes})
    copy.params(data={"dataset": "mnist-5k"}, sweeps=sweeps, train={"epochs": 1})
    return copy


def start(copy: Copy, *command: str) -> subprocess.Popen:
    return subprocess.Popen(
        command,
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Copy:
    """The same study, started once."""
    copy = tiny(tmp_path_factory.mktemp("alone"), source)
    copy.repro()
    return copy


def assert_as_alone(copy: Copy, alone: Copy) -> None:
    assert copy.outputs() == alone.outputs()
    assert not list((copy.folder / ".cache/shards").glob("*.damaged"))
    names = copy.tracked()["tags.mlflow.runName"]
    assert sorted(names) == sorted(alone.tracked()["tags.mlflow.runName"])
    assert set(copy.tracked()["status"]) == {"FINISHED"}


def test_twenty_trainings_on_one_checkout_take_turns(
    alone: Copy, source: Path, tmp_path: Path
) -> None:
    copy = tiny(tmp_path, source)
    copy.run(sys.executable, "-m", "stages.download")
    started = [start(copy, sys.executable, "-m", "stages.train") for _ in range(STARTS)]
    said = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0] * STARTS, said
    # The first found nothing, and all after it found everything.
    trained = [out for out, _ in said if "0 of 6 runs are in the store, 6 to train" in out]
    found = [out for out, _ in said if "6 of 6 runs are in the store, 0 to train" in out]
    assert (len(trained), len(found)) == (1, STARTS - 1)
    waited = [err for _, err in said if "train: waiting for another stage" in err]
    assert waited
    copy.repro()
    assert_as_alone(copy, alone)


def test_twenty_repros_on_one_checkout_make_one_study(
    alone: Copy, source: Path, tmp_path: Path
) -> None:
    copy = tiny(tmp_path, source)
    started = [start(copy, "dvc", "repro") for _ in range(STARTS)]
    said = [process.communicate() for process in started]
    statuses = [process.returncode for process in started]
    assert 0 in statuses
    for status, (_, err) in zip(statuses, said, strict=True):
        if status:  # DVC's own words
            assert "lock" in err.lower(), err
            assert "Traceback" not in err
    copy.repro()
    assert "up to date" in copy.repro()
    assert_as_alone(copy, alone)


def test_two_studies_that_share_a_store_stay_correct(
    alone: Copy, source: Path, tmp_path: Path
) -> None:
    copies = [tiny(tmp_path / "one", source), tiny(tmp_path / "other", source, ne=[1, 2, 3])]
    (tmp_path / "cache").mkdir()
    for copy in copies:
        (copy.folder / ".cache").symlink_to(tmp_path / "cache")
        copy.run(sys.executable, "-m", "stages.download")
    started = [start(copy, sys.executable, "-m", "stages.train") for copy in copies]
    for process in started:
        out, err = process.communicate()
        assert process.returncode == 0, out + err
    for copy in copies:
        copy.repro()
    assert_as_alone(copies[0], alone)
    keys = ["recipe", "ne", "k", "lc", "seed"]
    small, large = (pd.read_csv(copy.folder / "results/runs.csv") for copy in copies)
    assert len(large) == 10
    pd.testing.assert_frame_equal(large.merge(small[keys], on=keys), small)
