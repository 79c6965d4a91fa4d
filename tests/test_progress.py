"""Progress of stages: texts, times left, and where the results are."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from moe.study import progress
from moe.study.params import read_params
from moe.study.progress import TrainingProgress, runs_of_a_study, shown
from moe.tracking import live

ROOT = Path(__file__).parent.parent


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The module's clock, set by the test."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_no_time_left_is_shown_before_it_can_be_known(clock: list[float]) -> None:
    work = runs_of_a_study(100)
    assert str(work) == "0/100 runs"
    clock[0] += 60  # imports, workers that start
    work.add(10)
    assert str(work) == "10/100 runs"
    clock[0] += 2
    work.add(5)
    assert str(work) == "15/100 runs"
    clock[0] += 2
    work.add(15)
    # 20 runs in the 4 seconds since the first 10: 5 a second, 70 left
    assert str(work) == "30/100 runs, about 0:14 left"
    work.add(70)
    assert str(work) == "100/100 runs"


def test_training_says_what_it_is_at(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """40 runs of 5 epochs of 1,000 images; 10 of them are in the store."""
    training = TrainingProgress(dict.fromkeys(range(40), 5), 1_000)
    assert str(training.work) == "reading the store of finished runs"
    training.on_runs(range(10))
    assert capsys.readouterr().out == "10 of 40 runs are in the store, 30 to train\n"
    assert str(training.work) == "starting workers"
    training.on_epochs(2, 0.5, 0)
    assert str(training.work) == "52/200 epochs, 10/40 runs finished"
    clock[0] += 4
    training.on_epochs(20, 0.9, 0)
    # 20 epochs of 1,000 images in 4 seconds; 128 epochs at 5 a second
    assert str(training.work) == (
        "72/200 epochs, 10/40 runs finished, 0.01M samples/s, about 0:26 left"
    )
    # The moving average: 0.9 of 0.5 and 0.1 of 0.9
    assert training.measures() == {
        "runs_done": 10, "epochs_done": 72, "mean_accuracy": pytest.approx(0.54)
    }  # fmt: skip
    training.on_epochs(128, 0.9, 0)
    training.on_runs(range(10, 40))
    assert str(training.work) == "40 runs finished, writing them to weights/"


def test_lines_where_there_is_no_terminal(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first line at once, then at most one every five seconds, and the last."""
    work = runs_of_a_study(10)
    with shown(work):
        for _ in range(10):
            work.add()
            clock[0] += 2
    assert capsys.readouterr().out.splitlines() == [
        "0/10 runs",
        # After 6, 12 and 18 seconds; a run in two seconds, from 4 seconds on
        "4/10 runs, about 0:12 left",
        "7/10 runs, about 0:06 left",
        "10/10 runs",
        "10/10 runs",
    ]


def test_an_mlflow_that_is_late_is_not_said_to_be_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For example, if importing MLflow takes longer than training."""
    ready = threading.Event()
    monkeypatch.setattr(live, "PATIENCE", 0.1)
    monkeypatch.setattr(live.Live, "_show", lambda self: ready.wait(10))
    with live.Live(read_params(ROOT / "params.yaml"), dict) as telling:
        telling.tell()
    ready.set()
    assert capsys.readouterr().out == (
        "warning: no live progress: MLflow was not ready in time; track will show the results\n"
    )


@pytest.mark.parametrize(
    ("set_by_make", "command"), [({}, ["moe-mnist", "ui"]), ({"MOE_BY_MAKE": "1"}, ["make", "ui"])]
)
def test_the_next_steps_are_lines_to_click_or_to_copy(
    tmp_path: Path, set_by_make: dict[str, str], command: list[str]
) -> None:
    folder = tmp_path / "a b"
    (folder / "reports").mkdir(parents=True)
    for name in ("index", "explorer"):
        (folder / "reports" / f"{name}.html").touch()
    done = subprocess.run(
        [sys.executable, "-m", "stages.next_steps"],
        cwd=folder,
        env={**os.environ, **set_by_make},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split() for line in done.stdout.splitlines() if line] == [
        ["Open", "next:"],
        ["report", f"file://{tmp_path}/a%20b/reports/index.html"],
        ["explorer", f"file://{tmp_path}/a%20b/reports/explorer.html"],
        ["MLflow", *command],
    ]
