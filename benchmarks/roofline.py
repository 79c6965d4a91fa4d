"""What an engine could at best cost on this machine, measured in turn with the engine itself.

Of the fused engine: its two large matrix products and one fused Adam on stacked weights of the
same size, by torch alone, with nothing between. Seeds share one product here.

Of the kernel: the multiply-adds that its cell cannot do without (non-zero pixels × experts chosen,
router included, no padding), at the core's peak rate from registers; and torch's fused Adam alone
on as many parameters. The first is out of reach, since each of those multiply-adds also loads, and
in the backward pass stores, a row of weights. The second can be beaten: the kernel passes over the
rows of pixels that are never lit.
"""

import ctypes
import functools
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.ours import at_level
from benchmarks.timing import Case, Cost, Impossible, Take, Way, clocked
from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.engine import kernel
from moe.model import costs

LANES = {"baseline": 4, "avx2": 8, "avx512": 16}
FLAGS = {"baseline": (), "avx2": ("-mavx2", "-mfma"), "avx512": ("-mavx512f", "-mfma")}


def fused_alone(case: Case) -> Take:
    """Z = W xᵀ, the transposed product, and Adam, for all experts of the case."""
    D, H, B = case.data.train_x.shape[1], case.settings.hidden, case.settings.batch_size
    G, C = case.runs * case.trial.ne, case.data.classes
    W = torch.randn(G, 1 + H, D)
    stack = [W, torch.randn(G, H), torch.randn(G, C, H), torch.randn(G, C)]
    optimizer = _adam(stack)
    x = numbers(case.data.train_x[:B])
    Z = torch.empty(G * (1 + H), B)
    grad = W.grad
    assert grad is not None

    def step() -> int:
        torch.mm(W.view(-1, D), x.T, out=Z)
        torch.mm(Z, x, out=grad.view(-1, D))
        optimizer.step()
        return case.runs

    return clocked(step)


def kernel_bound(level: str | None) -> Way:
    """The kernel's arithmetic at peak rate, and Adam alone."""

    def way(case: Case) -> Take:
        with at_level(level):
            try:
                peak = _peak(kernel.level_in_use())
            except (ValueError, OSError) as error:
                raise Impossible(str(error)) from None
        flops = flops_per_step(case)
        optimizer = _adam([torch.randn(_parameters(case))])

        def adam() -> int:
            optimizer.step()
            return 1

        def take(seconds: float) -> Cost:
            begin, done, sink = time.perf_counter(), 0.0, ctypes.c_float()
            while (elapsed := time.perf_counter() - begin) < seconds / 2 or not done:
                done += peak(100_000, 0.999, 0.001, sink)
            products = 1000 * flops * elapsed / done
            alone = clocked(adam)(seconds / 2).ms
            return Cost(products + alone, products, alone)

        return take

    return way


def flops_per_step(case: Case) -> float:
    """The kernel's multiply-adds, each counted as 2: of a batch, forward and backward."""
    trial, H, C = case.trial, case.settings.hidden, case.data.classes
    lit = _lit_pixels(case.data)
    learns = trial.ne > 1 and (trial.k > 1 or trial.recipe == "switch")
    router = lit * trial.ne * ((trial.ne > 1) + learns)
    first_layers = 2 * lit * trial.k * H
    second_layers = 3 * trial.k * H * C  # forward, the weights' gradient, the hidden's gradient
    return 2 * case.settings.batch_size * (router + first_layers + second_layers)


@functools.lru_cache(maxsize=1)
def _lit_pixels(data: Dataset) -> float:
    """The mean number of non-zero pixels of a training image."""
    return float((data.train_x > 0).sum() / len(data.train_x))


def _parameters(case: Case) -> int:
    sizes = (case.settings.hidden, case.data.train_x.shape[1], case.data.classes)
    return costs.parameters(case.trial.ne, *sizes)


def _adam(weights: list[torch.Tensor]) -> torch.optim.Adam:
    for weight in weights:
        weight.grad = torch.randn_like(weight)
    return torch.optim.Adam(weights, fused=True)


@functools.cache
def _peak(level: str) -> Any:
    """peak.c's function for an instruction set; OSError where it cannot be compiled."""
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / "peak.so"
        compiler, source = os.environ.get("CC", "cc"), Path(__file__).with_name("peak.c")
        command = [compiler, "-O3", "-ffp-contract=fast", "-shared", "-fPIC", *FLAGS[level]]
        command += [f"-DLANES={LANES[level]}", "-o", str(built), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except subprocess.CalledProcessError as error:
            raise OSError(f"peak.c does not compile: {error.stderr.decode()}") from None
        function = ctypes.CDLL(str(built)).chains
    real = ctypes.c_float
    function.restype = ctypes.c_double
    function.argtypes = [ctypes.c_int64, real, real, ctypes.POINTER(real)]
    return function


WAYS: dict[str, Way] = {
    "fused alone": fused_alone,
    "kernel bound": kernel_bound(None),
    "kernel-avx2 bound": kernel_bound("avx2"),
}
