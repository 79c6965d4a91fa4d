"""SIGINT and SIGTERM: a stage stops at once, says what is kept, and leaves nothing behind."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest

from stages.command import GRACE
from tests.test_pipeline import Copy, sweep


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A training of many shards over two workers, each short, and minutes in all."""
    copy = Copy(tmp_path_factory.mktemp("training"))
    copy.params(
        data={"dataset": "mnist-5k"},
        sweeps=sweep(recipe=["blog", "shazeer"], ne=[2, 4], seeds=50),
        train={"epochs": 20},
        runtime={"experts_per_shard": 8, "workers": 2},
    )
    copy.run(sys.executable, "-m", "stages.download")
    return copy


def stores(copy: Copy) -> int:
    return len(list((copy.folder / ".cache/shards").glob("*.safetensors")))


def in_mlflow(copy: Copy) -> set[str]:
    """The statuses of all runs; none where it stopped before MLflow had any."""
    mlflow.set_tracking_uri(copy.environment["MLFLOW_TRACKING_URI"])
    if mlflow.get_experiment_by_name("moe-mnist") is None:
        return set()
    return set(copy.tracked()["status"])


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_training_stops_at_once_and_says_what_is_kept(
    name: str, status: int, training: Copy
) -> None:
    before = stores(training)
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=training.folder,
        env=training.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(600):
        if stores(training) > before + 1:
            break
        time.sleep(0.1)
    tree = psutil.Process(process.pid).children(recursive=True)
    assert len(tree) >= 2
    begin = time.monotonic()
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=30)
    # Two seconds are ours; the rest is for a machine that is busy with other tests.
    assert time.monotonic() - begin < 2 + 3
    assert process.returncode == status, out + err
    (line,) = err.splitlines()
    assert line.startswith(f"stopped by {name}: ")
    assert "of 400 runs are finished and kept" in line
    assert line.endswith("the same command goes on")
    _, alive = psutil.wait_procs(tree, timeout=5)
    assert not alive
    assert "RUNNING" not in in_mlflow(training)


ORDER = """
import time
from stages.command import command, when_interrupted

@command
def keeper():
    when_interrupted(say=lambda: "3 of 4 are kept", do=lambda: print("at once", flush=True))
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep({seconds})

keeper()
"""


# To set things right takes no time, just as long as is granted, or for ever.
@pytest.mark.parametrize("seconds", [0, GRACE, 60])
def test_the_line_is_the_same_if_what_sets_things_right_is_cut_short(seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ORDER.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "at once\n"
    assert time.monotonic() - begin < GRACE / 2
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 2 + 3
    assert process.returncode == 143
    assert err == "stopped by SIGTERM: 3 of 4 are kept; the same command goes on\n"


def test_what_was_kept_is_what_the_next_start_finds(training: Copy) -> None:
    kept = stores(training)
    assert kept > 0
    training.params(sweeps=sweep(recipe=["blog", "shazeer"], ne=[2, 4], seeds=1))
    done = training.run(sys.executable, "-m", "stages.train")
    assert "of 8 runs are in the store" in done.stdout
    assert "0 of 8 runs" not in done.stdout
    assert not list(Path(training.folder, ".cache/shards").glob("*.damaged"))
