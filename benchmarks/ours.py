"""Our engines with the rivals' interface; the tests after each epoch are not timed."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from benchmarks.timing import Case, Cost, Impossible, Take, Way, clocked
from moe.engine import fused, kernel
from moe.study.train_settings import Precision

SEEDS = 2  # in a fused stack, each with its own batches: about as many as in the study's shards
STEPS = 4  # of the fused engine between two readings of the clock


def fused_on(device: torch.device, precision: Precision = "float32") -> Way:
    """The fused engine, with its large products in the given precision."""

    def way(case: Case) -> Take:
        runs = [case.trial.run(i % SEEDS) for i in range(case.runs)]
        runs.sort(key=lambda run: run.seed)
        settings = replace(case.settings, precision=precision)
        stack = fused.Stack(runs, case.data, settings, device)
        stack.begin_epoch(0)
        left = len(stack.batches)

        def steps() -> int:
            nonlocal left
            if left < STEPS:
                stack.begin_epoch(0)
                left = len(stack.batches)
            for _ in range(STEPS):
                stack.step()
            left -= STEPS
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            return STEPS * len(runs)

        return clocked(steps)

    return way


def kernel_at(level: str | None) -> Way:
    """The C kernel at an instruction set, None for the machine's best.

    It is timed by its own clock, which excludes Python's overhead between epochs, about 1 %.
    """

    def way(case: Case) -> Take:
        with at_level(level):
            if not kernel.available():
                raise Impossible(kernel.why_not())
            try:
                kernel.level_in_use()
            except ValueError as error:
                raise Impossible(str(error)) from None
        run, epoch = case.trial.run(0), replace(case.settings, epochs=1)
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
    """Set the kernel's instruction set by the environment variable; None: the machine's best."""
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
    "fused-bf16": fused_on(torch.device("cpu"), "bf16"),
    "kernel": kernel_at(None),
    "kernel-avx2": kernel_at("avx2"),
}
