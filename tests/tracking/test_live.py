"""Live progress on the study's run, which ends as the training does."""

import threading
from pathlib import Path
from typing import Any

import pytest

from moe.study.params import Params
from moe.tracking import study_run as tracking
from moe.tracking.experiments import open_experiments
from moe.tracking.live import Live
from moe.tracking.store import client
from moe.tracking.study import Study
from tests.tracking.conftest import wait_for


def run_of(params: Params) -> Any:
    store = client()
    studies = open_experiments(store, params.track.experiment).studies
    return tracking.open_study_run(store, studies, Study.of(params))


def test_live_progress_ends_as_the_training_does(here: Path, params: Params) -> None:
    def fail_in_training() -> None:
        with Live(params, lambda: {"runs_done": 3.0}) as live:
            live.tell()
            wait_for(lambda: "live/runs_done" in run_of(params).data.metrics)
            assert run_of(params).info.status == "RUNNING"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_training()
    wait_for(lambda: run_of(params).info.status == "FAILED")


def test_an_interrupted_training_is_killed_there_before_all_is_unwound(
    here: Path, params: Params
) -> None:
    def status() -> str:
        return run_of(params).info.status

    with Live(params, lambda: {"runs_done": 3.0}) as live:
        live.tell()
        wait_for(lambda: "live/runs_done" in run_of(params).data.metrics)
        assert status() == "RUNNING"
        live.interrupt()
        wait_for(lambda: status() == "KILLED")


def test_a_training_that_was_over_too_soon_leaves_no_run_running(
    here: Path, params: Params
) -> None:
    """The run is made by MLflow as RUNNING, and the signal arrives just then."""
    over = threading.Event()
    find_or_make = tracking.open_study_run

    def and_over(*args: Any) -> Any:
        over.set()
        return find_or_make(*args)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tracking, "open_study_run", and_over)
        tracking.show_live(params, lambda: {"runs_done": 3.0}, over, lambda: "KILLED")
    assert run_of(params).info.status == "KILLED"
    assert "live/runs_done" not in run_of(params).data.metrics
