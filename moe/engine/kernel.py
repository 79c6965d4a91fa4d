"""The run-major kernel, for CPUs: trains one run completely before it starts the next.

It reads only non-zero inputs, a fifth of all in MNIST, and computes only chosen experts. A step
takes a twentieth of the operations of the dense stack, hardly more with more experts, and the state
of a run mostly fits in the cache of its core. kernel.c does the work; router.c has the parts that
differ between recipes. The package's build compiles both if it finds a C compiler. This module owns
the arrays that they work on. It calls them for a tenth of a second at a time, so that Ctrl-C is
handled promptly.

Axes: N samples, D inputs, E experts, H hidden, C classes. For kernel.c, rows of E, H or C weights
are padded to whole vectors.

A run's result depends, to the bit, only on its cell, the settings, the data and the instruction
set: not on other runs, and not on how its training is split into calls.
"""

import ctypes
import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64, Int32, UInt8
from torch import Tensor

from moe.data.batches import batch_order, random_draws
from moe.data.dataset import Dataset
from moe.engine import HISTORY, Trained
from moe.engine.pixel_lists import CACHE, Lists, PixelLists, pixel_lists
from moe.errors import UserError
from moe.model.layer import initial_weights
from moe.recipes import recipe_named
from moe.study.runs import Run
from moe.study.train_settings import Train

RECIPES = (  # in the order of kernel.c: the recipes that route each image independently
    *("blog", "logits", "switch", "shazeer", "gshard", "mixtral", "loss-free", "deepseek-v3"),
    *("shared-expert", "top-p", "random", "dense-active", "dense-total"),
)
NO_RECIPE = "the kernel does not have {}; the fused engine has every recipe"
LEVELS = ("baseline", "avx2", "avx512")  # in the order of kernel.c
LEVEL_VARIABLE = "MOE_KERNEL_LEVEL"
MOST_EXPERTS = MOST_CLASSES = 1024  # this and MOST_INPUTS: limits of kernel.c
MOST_INPUTS = 2**16
SLICE_SECONDS = 0.1
BY_INPUT = ("router.weight", "noise.weight", "experts.w1")  # parts whose second axis is D


class LevelError(UserError, ValueError):
    """MOE_KERNEL_LEVEL is unknown, or this machine does not support it."""


def source_files() -> list[Path]:
    """The C files that the library is built from; an installation may not include them."""
    return sorted(Path(__file__).parent.glob("*.c"))


def available() -> bool:
    """Whether kernel.c was built here and can be used."""
    return why_not() is None


def why_not() -> str | None:
    """Why the kernel cannot be used, in one line; None if it can."""
    try:
        _library()
    except OSError as error:
        return " ".join(str(error).split())
    return None


def build() -> str:
    """The compiler and flags that kernel.c was built with: they can affect rounding."""
    return _library().moe_build().decode()


def level_in_use() -> str:
    """The instruction set in use, one of LEVELS: the machine's best, or MOE_KERNEL_LEVEL if set.

    Raises LevelError if it is unknown or this machine does not support it.
    """
    best = _library().moe_best_level()
    level = os.environ.get(LEVEL_VARIABLE) or LEVELS[best]
    if level not in LEVELS[: best + 1]:
        has = ", ".join(LEVELS[: best + 1])
        raise LevelError(f"{LEVEL_VARIABLE} = {level!r}, but this machine has {has}")
    return level


# --- training


def train(
    runs: Sequence[Run],
    data: Dataset,
    settings: Train,
    on_epoch: Callable[[Float64[Tensor, "1"]], None] | None = None,
    *,
    cache: Path = CACHE,
    seconds: Float64[np.ndarray, "2"] | None = None,
) -> list[Trained]:
    """Train runs of any of RECIPES; one result for each, in the given order.

    on_epoch: called after each epoch of each run with that run's test accuracy.
    cache: folder for the lists of the data set's inputs, shared by processes.
    seconds: if given, the seconds spent on products and on Adam are added to it.

    Raises ValueError if the kernel does not support a run, and OSError if it is not built.
    """
    for run in runs:
        check(run, data)
    library, level = _library(), LEVELS.index(level_in_use())
    lists = pixel_lists(data, cache)
    results = {}
    for i in sorted(range(len(runs)), key=lambda i: runs[i].seed):
        training = _Training(runs[i], data, lists, settings, library, level, seconds)
        history = []
        for epoch in range(settings.epochs):
            measures = {**training.train_epoch(epoch), **training.test()}
            history.append([measures[name] for name in HISTORY])
            if on_epoch:
                on_epoch(torch.tensor([measures["test_accuracy"]], dtype=torch.float64))
        results[i] = Trained(training.weights(), torch.tensor(history, dtype=torch.float64))
    return [results[i] for i in range(len(runs))]


def check(run: Run, data: Dataset) -> None:
    """Raise ValueError if the kernel cannot train the run; the message says what is allowed."""
    if run.recipe not in RECIPES:
        raise ValueError(f"{run}: {NO_RECIPE.format(run.recipe)}")
    if not 1 <= run.k <= run.ne <= MOST_EXPERTS:
        raise ValueError(f"{run}: the kernel needs 1 <= k <= ne <= {MOST_EXPERTS}")
    if reason := recipe_named(run.recipe).why_not_k(run.k):
        raise ValueError(f"{run}: {reason}")
    if reason := why_not_data(data):
        raise ValueError(f"{data.folder or 'the data set'}: {reason}")


def why_not_data(data: Dataset) -> str | None:
    """Why the kernel cannot train on a data set; None if it can."""
    inputs, test_inputs = data.train_x.shape[1], data.test_x.shape[1]
    if inputs != test_inputs:
        return f"{inputs} inputs in training, {test_inputs} in the test"
    if inputs > MOST_INPUTS:
        return f"{inputs} inputs, but the kernel takes {MOST_INPUTS}"
    if data.classes > MOST_CLASSES:
        return f"{data.classes} classes, but the kernel takes {MOST_CLASSES}"
    return None


# Runs of a seed share their batches and follow one another: cache a few epochs.
_batch_order = functools.lru_cache(maxsize=64)(batch_order)
_random_draws = functools.lru_cache(maxsize=8)(random_draws)


class _Training:
    """Trains one run; holds its weights and Adam's moments in kernel.c's layout."""

    def __init__(
        self,
        run: Run,
        data: Dataset,
        lists: PixelLists,
        settings: Train,
        library: ctypes.CDLL,
        level: int,
        seconds: Float64[np.ndarray, "2"] | None,
    ) -> None:
        self.run, self.columns, self.settings = run, lists.columns, settings
        self.recipe = recipe = recipe_named(run.recipe)
        self.classes = data.classes
        self.library, self.level = library, level
        self.labels = [y.numpy().astype(np.int32) for y in (data.train_y, data.test_y)]
        self.train_images = _Images.of(lists.train, self.labels[0])
        self.test_images = _Images.of(lists.test, self.labels[1])
        self.train_samples, self.test_samples = len(data.train_y), len(data.test_y)
        self._lay_out()
        self.reach = np.zeros(1 + run.ne, np.int64)
        steps = self.train_samples // settings.batch_size
        self.struct = _Run(
            inputs=len(lists.columns),
            experts=run.ne,
            chosen=run.ne if run.recipe == "dense-total" else run.k,
            hidden=settings.hidden,
            classes=data.classes,
            batch=settings.batch_size,
            recipe=RECIPES.index(run.recipe),
            noise=recipe.trainable_noise,
            draws_apart=steps * settings.batch_size,
            longest=max(int(np.diff(part.offset).max()) for part in lists[1:]),
            capacity=_capacity(run, settings) if recipe.has_capacity else -1,
            loss_coef=recipe.weight_of(run.lc),
            z_loss=settings.z_loss if recipe.has_z_loss else 0.0,
            learning_rate=settings.learning_rate,
            knob=run.lc,
            bias_step=run.lc,
            weights=self.weights_and_moments[0].ctypes.data,
            first=self.weights_and_moments[1].ctypes.data,
            second=self.weights_and_moments[2].ctypes.data,
            bias=self.bias.ctypes.data,
            reach=self.reach.ctypes.data,
            seconds=None if seconds is None else seconds.ctypes.data,
        )
        self.scratch = _aligned(library.moe_scratch_bytes(level, self.struct))
        self.struct.scratch = self.scratch.ctypes.data

    def _lay_out(self) -> None:
        """Allocate kernel.c's arrays, with the parameters of the state dict as views into them."""
        D, E, H, C = len(self.columns), self.run.ne, self.settings.hidden, self.classes
        lanes = self.library.moe_lanes(self.level)
        of_experts, h, c = (-(-n // lanes) * lanes for n in (E, H, C))
        router = of_experts * (1 + self.recipe.trainable_noise)
        ends = np.cumsum([h, H * c, c, D * h])
        count = D * router + E * int(ends[-1])
        self.bias = _aligned(4 * of_experts).view(np.float32)
        self.weights_and_moments = [_aligned(4 * count).view(np.float32) for _ in range(3)]
        weights = self.weights_and_moments[0]
        b1, W2, b2, W1, _ = np.split(weights[D * router :].reshape(E, -1), ends, axis=1)
        self.parts = {
            "router.weight": weights[: D * router].reshape(D, router)[:, :E].T,
            "experts.w1": W1.reshape(E, D, h)[:, :, :H],
            "experts.b1": b1[:, :H],
            "experts.w2": W2.reshape(E, H, c)[:, :, :C],
            "experts.b2": b2[:, :C],
        }
        initial = initial_weights(self.run.seed, E, D, H, C)
        for name, part in self.parts.items():
            values = initial[name].numpy()
            part[...] = values[:, self.columns] if name in BY_INPUT else values
        if self.recipe.trainable_noise:  # initialised to 0, like the bias
            noise = weights[: D * router].reshape(D, router)[:, of_experts:]
            self.parts["noise.weight"] = noise[:, :E].T
        if self.recipe.selection_bias:
            self.parts["selection_bias"] = self.bias[:E]

    def weights(self) -> dict[str, Tensor]:
        """The state dict for MoE."""
        weights = {}
        for name, part in self.parts.items():
            values = part.copy()
            if name in BY_INPUT:
                values[:, self.columns] = part
            weights[name] = torch.from_numpy(values)
        return weights

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass over the batches; returns the training measures."""
        batches = _batch_order(
            self.run.seed, epoch, self.train_samples, self.settings.batch_size
        ).numpy()
        sums, done, steps = _Sums(), 0, len(batches)
        draws, kind = None, self.recipe.draws
        if kind:
            of_epoch = (self.run.seed, epoch, self.run.ne, steps, self.settings.batch_size)
            draws = _random_draws(kind, *of_epoch).numpy()
        while done < steps:
            done = self.library.moe_train(
                *(self.level, self.struct, self.train_images, batches.ctypes.data),
                *(None if draws is None else draws.ctypes.data, done, steps, SLICE_SECONDS, sums),
            )
        return {
            "network_loss": sums.network_loss / steps,
            "gate_loss": sums.gate_loss / steps,
            "train_accuracy": sums.accuracy / steps,
            "router_grad_norm": sums.router_grad_norm / steps,
            "router_grad_norm_max": sums.router_grad_norm_max,
            "dropped": sums.dropped / steps,
        }

    def test(self) -> dict[str, float]:
        """The measures on the test set."""
        tokens = np.zeros(self.run.ne)
        correct, done = ctypes.c_int64(), 0
        while done < self.test_samples:
            done = self.library.moe_test(
                *(self.level, self.struct, self.test_images, done, self.test_samples),
                *(SLICE_SECONDS, correct, tokens.ctypes.data),
            )
        routed = tokens[self.recipe.shared :]
        return {
            "test_accuracy": correct.value / self.test_samples,
            "max_violation": float(routed.max() / routed.mean()) - 1,
            "dead_experts": float((routed == 0).sum()),
        }


def _capacity(run: Run, settings: Train) -> int:
    """An expert's slots per batch, −1 for no limit; the same arithmetic as gating.py."""
    if settings.capacity_factor is None:
        return -1
    top_k, num_experts = torch.tensor(run.k), torch.tensor(run.ne)
    return int((settings.capacity_factor * top_k * settings.batch_size / num_experts).ceil())


def _aligned(count: int) -> UInt8[np.ndarray, " count"]:
    """Zeroed bytes that start on a cache line."""
    memory = np.zeros(count + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + count]


# --- kernel.c


class _Images(ctypes.Structure):
    """Images of kernel.c."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in ("index", "grey", "value", "offset", "label")
    )

    @classmethod
    def of(cls, lists: Lists, labels: Int32[np.ndarray, " N"]) -> "_Images":
        """Pointers into the arrays; the caller has to keep these alive."""
        value = lists.value.ctypes.data
        pair = (value, None) if lists.value.dtype == np.uint8 else (None, value)
        others = (lists.offset.ctypes.data, labels.ctypes.data)
        return cls(lists.column.ctypes.data, *pair, *others)


class _Run(ctypes.Structure):
    """Run of kernel.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("inputs", "experts", "chosen", "hidden", "classes")),
        *((name, ctypes.c_int64) for name in ("batch", "recipe", "noise", "draws_apart")),
        *((name, ctypes.c_int64) for name in ("longest", "capacity")),
        *((name, ctypes.c_double) for name in ("loss_coef", "z_loss", "learning_rate")),
        *((name, ctypes.c_double) for name in ("knob", "bias_step")),
        ("steps", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("weights", "first", "second", "bias")),
        *((name, ctypes.c_void_p) for name in ("reach", "scratch", "seconds")),
    )


class _Sums(ctypes.Structure):
    """Sums of kernel.c."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("network_loss", "gate_loss", "accuracy")),
        *((name, ctypes.c_double) for name in ("router_grad_norm", "router_grad_norm_max")),
        ("dropped", ctypes.c_double),
    )


@functools.cache
def _library() -> ctypes.CDLL:
    """Load the library that setup.py built from kernel.c; OSError, in one line, if it is missing or
    was built from a different source."""
    built = [Path(__file__).with_name(f"_kernel{suffix}") for suffix in EXTENSION_SUFFIXES]
    library = next((path for path in built if path.exists()), None)
    again = "install the package again (make setup), with a C compiler"
    if library is None:
        raise OSError(f"the C kernel is not built: {again}")
    loaded = ctypes.CDLL(str(library))
    if not hasattr(loaded, "moe_build"):
        raise OSError(f"{library.name} is another library: {again}")
    for text in (loaded.moe_source, loaded.moe_build):
        text.restype = ctypes.c_char_p
    if sources := source_files():
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()
        if loaded.moe_source().decode() != digest:
            raise OSError(f"{library.name} was built from another kernel.c: {again}")
    sizes = loaded.moe_sizeof_run(), loaded.moe_sizeof_sums()
    assert sizes == (ctypes.sizeof(_Run), ctypes.sizeof(_Sums)), sizes  # mirrored by hand above
    integer, real, pointer = ctypes.c_int64, ctypes.c_double, ctypes.c_void_p
    run, images = ctypes.POINTER(_Run), ctypes.POINTER(_Images)
    loaded.moe_best_level.restype = ctypes.c_int
    loaded.moe_lanes.argtypes = [ctypes.c_int]
    loaded.moe_scratch_bytes.restype = integer
    loaded.moe_scratch_bytes.argtypes = [ctypes.c_int, run]
    loaded.moe_train.restype = integer
    loaded.moe_train.argtypes = [
        *(ctypes.c_int, run, images, pointer, pointer),
        *(integer, integer, real, ctypes.POINTER(_Sums)),
    ]
    loaded.moe_test.restype = integer
    loaded.moe_test.argtypes = [
        *(ctypes.c_int, run, images, integer, integer, real, ctypes.POINTER(integer), pointer)
    ]
    return loaded
