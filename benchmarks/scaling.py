"""The kernel in several processes at once: how throughput scales with cores."""

import multiprocessing
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from moe.data.dataset import Dataset
from moe.engine import kernel
from moe.study.runs import Trial
from moe.study.train_settings import Train
from moe.study.workers import single_thread

START = 120  # seconds for workers to import torch and map the data


def throughput(
    workers: int, trials: list[Trial], folder: Path, settings: Train, seconds: float
) -> float:
    """Runs times steps per second of all workers together, tests after each epoch included.

    Each trains the trials, one epoch each, for about `seconds`; all start at the same time.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(workers)
    task = (trials, folder, replace(settings, epochs=1), seconds)
    with context.Pool(workers, _meet_at, (barrier,)) as pool:
        return sum(pool.starmap(_rate, [task] * workers, chunksize=1))


_barrier: threading.Barrier | None = None


def _meet_at(barrier: Any) -> None:
    global _barrier
    _barrier = barrier


def _rate(trials: list[Trial], folder: Path, settings: Train, seconds: float) -> float:
    """Runs times steps per second of this worker."""
    single_thread()
    data = Dataset(folder)
    runs = [trial.run(0) for trial in trials]
    steps_per_run = len(data.train_x) // settings.batch_size
    kernel.train(runs[:1], data, settings)
    assert _barrier is not None
    _barrier.wait(START)  # also ensures that each worker has one task
    begin, steps = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        for run in runs:
            kernel.train([run], data, settings)
            steps += steps_per_run
    return steps / (time.perf_counter() - begin)
