"""How ways to train are timed side by side: in turn, over and over, on the same cell and data."""

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
    """What is to be trained: so many runs of a cell; ways that train one at a time train one."""

    trial: Trial
    runs: int
    data: Dataset
    settings: Train


class Cost(NamedTuple):
    """Milliseconds per run and step: one batch of one run, forward, backward and Adam.

    products, adam: the parts of it where a way can tell them apart, else NaN.
    """

    ms: float
    products: float = math.nan
    adam: float = math.nan


Take = Callable[[float], Cost]  # trains on for about so many seconds


class Impossible(Exception):  # noqa: N818, it is no error: a cell that a way has no word for
    """A way cannot train a cell, or not here; the message says why."""


Way = Callable[[Case], Take]  # raises Impossible


def clocked(work: Callable[[], int]) -> Take:
    """work: does a little, at least a step, and returns for how many runs times steps."""

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
    """The medians over rounds of each way's turns, of about so many seconds each.

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
