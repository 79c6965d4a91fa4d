"""SIGINT, SIGTERM and a broken stdout: a stage stops at once and says what is kept."""

import os
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
    """Training of many short shards by two workers, which takes minutes in all."""
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
    """The statuses of all MLflow runs; empty if training stopped before any was created."""
    mlflow.set_tracking_uri(copy.environment["MLFLOW_TRACKING_URI"])
    if mlflow.get_experiment_by_name("moe-mnist") is None:
        return set()
    return set(copy.tracked()["status"])


@pytest.mark.slow
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
    # Two seconds are the command's limit; the rest allows for a busy machine.
    assert time.monotonic() - begin < 2 + 3
    assert process.returncode == status, out + err
    (line,) = err.splitlines()
    assert line.startswith(f"stopped by {name}: ")
    assert "of 400 runs are finished and kept" in line
    assert line.endswith("; run the same command to resume")
    _, alive = psutil.wait_procs(tree, timeout=5)
    assert not alive
    assert "RUNNING" not in in_mlflow(training)


CLEANING_UP = """
import time
from stages.command import command, when_stopped

@command
def keeper():
    when_stopped(lambda: "3 of 4 are kept")
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        time.sleep({seconds})
        print("clean", flush=True)

keeper()
"""


@pytest.mark.parametrize(("seconds", "cleaned"), [(0, "clean\n"), (60, "")])
def test_it_says_what_is_kept_at_once_and_cleans_up_for_two_seconds_at_most(
    seconds: float, cleaned: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CLEANING_UP.format(seconds=seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "ready\n"
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    line = process.stderr.readline()
    assert time.monotonic() - begin < GRACE / 2
    assert line == "stopped by SIGTERM: 3 of 4 are kept; run the same command to resume\n"
    process.send_signal(signal.SIGINT)  # a second one changes nothing
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - begin < 2 + 3
    assert process.returncode == 143
    assert (out, err) == (cleaned, "")


PRINTING = """
from stages.command import command, when_stopped

@command
def printer():
    when_stopped(lambda: "3 of 4 are kept")
    for _ in range({lines}):
        print("a line")

printer()
"""


@pytest.mark.parametrize("lines", [1, 100_000])  # at the end, and long before it
@pytest.mark.parametrize(
    ("stdout", "reason"),
    [("full", "[Errno 28] No space left on device"), ("closed", "[Errno 32] Broken pipe")],
)
def test_stdout_that_takes_nothing_more(stdout: str, reason: str, lines: int) -> None:
    if stdout == "full":
        target = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, target = os.pipe()
        os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", PRINTING.format(lines=lines)],
        stdout=target,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(target)
    assert done.returncode == 2
    assert done.stderr == f"Error: {reason}; 3 of 4 are kept; run the same command to resume\n"


@pytest.mark.slow
def test_what_was_kept_is_what_the_next_start_finds(training: Copy) -> None:
    kept = stores(training)
    assert kept > 0
    training.params(sweeps=sweep(recipe=["blog", "shazeer"], ne=[2, 4], seeds=1))
    done = training.run(sys.executable, "-m", "stages.train")
    assert "of 8 runs are in the store" in done.stdout
    assert "0 of 8 runs" not in done.stdout
    assert not list(Path(training.folder, ".cache/shards").glob("*.damaged"))
