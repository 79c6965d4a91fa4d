"""Time several ways to train, interleaved, on the same cell and data."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import NamedTuple

import numpy as np
from torch import Tensor

from moe.data.batches import batch_order
from moe.data.dataset import Dataset
from moe.study.runs import Trial
from moe.study.train_settings import Train


class Case(NamedTuple):
    """The work to time: a number of runs of a cell. Ways without stacking train only one."""

    trial: Trial
    runs: int
    data: Dataset
    settings: Train


class Cost(NamedTuple):
    """Milliseconds per run and step: one batch of one run, forward, backward and Adam.

    products, adam: parts of the total, if the way measures them, else NaN.
    """

    ms: float
    products: float = math.nan
    adam: float = math.nan


Take = Callable[[float], Cost]  # continues training for about that many seconds


class Impossible(Exception):  # noqa: N818, not an error: the way does not support a cell
    """A way cannot train a cell, or not on this machine; the message says why."""


Way = Callable[[Case], Take]  # raises Impossible


def clocked(work: Callable[[], int]) -> Take:
    """work: trains at least a step, and returns the number of runs times steps."""

    def take(seconds: float) -> Cost:
        begin, done = time.perf_counter(), 0
        while True:
            done += work()
            elapsed = time.perf_counter() - begin
            if elapsed >= seconds:
                return Cost(1000 * elapsed / done)

    return take


def side_by_side(
    ways: Mapping[str, Way], case: Case, rounds: int, seconds: float
) -> dict[str, Cost]:
    """The median over rounds of each way's turns, which last about `seconds` each.

    Ways that cannot train the cell are left out. A disturbance of the machine affects all ways.
    """
    takes = {}
    for name, way in ways.items():
        try:
            takes[name] = way(case)
        except Impossible:
            continue
        takes[name](seconds / 4)  # caches, allocators, lazy initialisation
    turns = {name: [] for name in takes}
    for _ in range(rounds):
        for name, take in takes.items():
            turns[name].append(take(seconds))
    return {name: Cost(*np.median(costs, axis=0).tolist()) for name, costs in turns.items()}


def endless_batches(case: Case) -> Iterator[Tensor]:
    """Batches (B,) of sample indices, epoch after epoch, in seed 0's order."""
    for epoch in count():
        yield from batch_order(0, epoch, len(case.data.train_x), case.settings.batch_size)
