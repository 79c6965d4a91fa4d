"""Our engines behind the rivals' interface; neither counts the tests after each epoch."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

import numpy as np
import torch

from benchmarks.timing import Case, Cost, Impossible, Take, Way, clocked
from moe.data import batch_order
from moe.engine import fused, kernel
from moe.grid import Run

SEEDS = 2  # of a fused stack, each with its own batches: about what the study's shards have
STEPS = 4  # of the fused engine between two looks at the clock


def fused_on(device: torch.device) -> Way:
    """The fused engine in float32. Another precision would be another argument, and another way."""

    def way(case: Case) -> Take:
        runs = [Run(*case.trial, seed=i % SEEDS) for i in range(case.runs)]
        runs.sort(key=lambda run: run.seed)
        x, y = case.data.train_x.to(device), case.data.train_y.to(device).long()
        stack = fused.Stack(runs, x.shape[1], case.settings, device, torch.float32)
        orders = [batch_order(s, 0, len(x), case.settings.batch_size) for s in stack.seeds]
        parts = cycle(torch.stack(orders, 1).to(device).split(STEPS))

        def steps() -> int:
            part = next(parts)
            stack.train_epoch(x, y, part, 0)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return len(part) * len(runs)

        return clocked(steps)

    return way


def kernel_at(level: str | None) -> Way:
    """The C kernel at an instruction set, None for the machine's best.

    It is timed by its own clock, which leaves out Python's part between epochs, about 1 %.
    """

    def way(case: Case) -> Take:
        with at_level(level):
            if not kernel.available():
                raise Impossible(kernel.why_not())
            try:
                kernel.level_in_use()
            except ValueError as error:
                raise Impossible(str(error)) from None
        run, epoch = Run(*case.trial, seed=0), replace(case.settings, epochs=1)
        steps_per_epoch = len(case.data.train_x) // epoch.batch_size

        def take(seconds: float) -> Cost:
            spent, steps = np.zeros(2), 0
            while not steps or spent.sum() < seconds:
                with at_level(level):
                    kernel.train([run], case.data, epoch, seconds=spent)
                steps += steps_per_epoch
            products, adam = (1000 * spent / steps).tolist()
            return Cost(products + adam, products, adam)

        return take

    return way


@contextlib.contextmanager
def at_level(level: str | None) -> Iterator[None]:
    """The kernel's instruction set, chosen as a user would; None: the machine's best."""
    before = os.environ.pop(kernel.LEVEL_VARIABLE, None)
    try:
        if level:
            os.environ[kernel.LEVEL_VARIABLE] = level
        yield
    finally:
        os.environ.pop(kernel.LEVEL_VARIABLE, None)
        if before is not None:
            os.environ[kernel.LEVEL_VARIABLE] = before


WAYS: dict[str, Way] = {
    "fused": fused_on(torch.device("cpu")),
    "kernel": kernel_at(None),
    "kernel-avx2": kernel_at("avx2"),
}
