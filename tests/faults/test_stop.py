"""SIGINT and SIGTERM to `dvc repro`, and to the stage that talks to MLflow: nothing is left behind.

What a stage does with a signal of its own is in tests/test_signals.py.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest

from tests.faults.test_kill import in_mlflow, running_stage, start, study
from tests.test_pipeline import Copy

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, source: Path) -> Copy:
    """A copy where nothing was stopped."""
    copy = study(tmp_path_factory.mktemp("whole"), source)
    copy.repro()
    return copy


def wait_until(is_so, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def assert_over_in_two_seconds(tree: list[psutil.Process], begin: float) -> None:
    _, alive = psutil.wait_procs(tree, timeout=30)
    assert not alive
    # Two seconds are ours; the rest is for a machine that is busy with other work.
    assert time.monotonic() - begin < 2 + 3


def runs_of(copy: Copy, level: str) -> int:
    """How many MLflow has by now, maybe before it has an experiment."""
    mlflow.set_tracking_uri(copy.environment["MLFLOW_TRACKING_URI"])
    query = f"tags.level = '{level}'"
    return len(mlflow.search_runs(filter_string=query, search_all_experiments=True))


@pytest.mark.parametrize("stage", ["train", "analyze", "track"])
@pytest.mark.parametrize("name", SIGNALS)
def test_repro_stops_and_goes_on(
    name: str, stage: str, whole: Copy, source: Path, tmp_path: Path
) -> None:
    """SIGINT as by Ctrl-C, to all of the terminal's processes; SIGTERM only to DVC."""
    copy = study(tmp_path, source)
    process = start(copy)
    wait_until(lambda: running_stage(process) == stage)
    if stage == "train":
        wait_until(lambda: len(list((copy.folder / ".cache/shards").glob("*.safetensors"))) > 2)
    else:
        time.sleep(0.5)
    tree = psutil.Process(process.pid).children(recursive=True)
    begin = time.monotonic()
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.terminate()
    said, _ = process.communicate(timeout=30)
    assert_over_in_two_seconds(tree, begin)
    assert process.returncode != 0
    # When DVC itself ends, it is SIGTERM that its stage hears of.
    (line,) = (line for line in said.splitlines() if line.startswith("stopped by "))
    assert line.startswith(f"stopped by {name}: ")
    assert line.endswith("; run the same command to resume")
    assert "Traceback" not in said
    copy.repro()
    assert copy.outputs() == whole.outputs()
    assert in_mlflow(copy) == in_mlflow(whole)


@pytest.mark.parametrize(("name", "status"), SIGNALS.items())
def test_track_leaves_no_run_running(
    name: str, status: int, whole: Copy, source: Path, tmp_path: Path
) -> None:
    copy = study(tmp_path, source)
    copy.repro()
    (copy.folder / "mlflow.db").unlink()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.track"],
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until((copy.folder / "mlflow.db").exists)
    wait_until(lambda: runs_of(copy, "trial") > 1)
    begin = time.monotonic()
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 2 + 3
    assert process.returncode == status, out + err
    (line,) = err.strip().splitlines()
    assert line.startswith(f"stopped by {name}: ")
    assert "RUNNING" not in set(copy.tracked()["status"])
    assert runs_of(copy, "run") < 20
    copy.run(sys.executable, "-m", "stages.track")
    assert in_mlflow(copy) == in_mlflow(whole)
