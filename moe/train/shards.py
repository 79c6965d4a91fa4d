"""Splits a study into shards, trains the runs that are not yet in the store, and collects all runs.

A shard is a group of runs that train together: one recipe, equal settings, neighbouring seeds. The
split depends only on the study, not on what is already finished, so an interrupted study ends with
bit-identical results. (With the kernel, a run's result depends on that run alone. With the fused
engine, it may depend, within rounding, on the other runs of its shard.)
"""

import contextlib
import functools
import itertools
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from moe.data.dataset import Dataset
from moe.engine import fused, kernel
from moe.errors import UserError
from moe.study.params import Params, Runtime
from moe.study.runs import Run
from moe.study.train_settings import Train, with_settings
from moe.study.workers import Send, in_threads, in_workers, worker_count
from moe.train.ray_executor import in_cluster
from moe.train.run_key import machine_kind, run_keys
from moe.train.run_store import Store, Trained, pack

EXPERTS_PER_SHARD = 120  # on a CPU; larger stacks do not fit into its caches
SEEDS_PER_SHARD = 8  # on a CPU, where each seed's batches are gathered and multiplied separately
# Experts × epochs × images per shard: well under a minute of work
LONGEST_WORK = {"cpu": 120 * 5 * 60_000, "cuda": 12_000 * 5 * 60_000}
SHARE_OF_MEMORY = 0.5  # of a GPU's free memory

Shard = tuple[Run, ...]


class Settings(NamedTuple):
    """The parts of Params that training needs, for callers without a params.yaml."""

    train: Train
    runtime: Runtime


class Computation(NamedTuple):
    """What a worker needs besides the runs.

    engines: by recipe; settings: the study's, without those that it sweeps; machines: by engine,
    the kind of machine in the runs' keys.
    """

    engines: dict[str, str]
    device: str
    settings: Train
    machines: dict[str, str]


class Epochs(NamedTuple):
    """A worker's message: this many runs have finished another epoch, with this test accuracy.

    memory: the peak memory of the worker, or of its GPU, in bytes.
    """

    runs: int
    accuracy: float
    memory: int


def train_study(
    params: Params | Settings,
    runs: Sequence[Run],
    data: Dataset,
    store: Store,
    on_epochs: Callable[[Epochs], None] = lambda epochs: None,
    on_runs: Callable[[Sequence[Run]], None] = lambda runs: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[Run, Trained]:
    """Load the study's runs from the store; train and store those that are missing.

    data: if it has a folder, worker processes train; if it is in memory, threads of this process.
    on_epochs: called during training.
    on_runs: called with finished runs, first with those found in the store.
    say: called with a line for each recipe that the kernel cannot train.
    """
    device = device_named(params.runtime.device)
    engines = engines_of(runs, params, device, data, say)
    keys = run_keys(runs, params.train, data.digest, device, engines)
    stored = store.load(keys.values())
    on_runs([run for run in runs if keys[run] in stored])
    missing = [
        tuple(run for run in shard if keys[run] not in stored)
        for shard in shards_of(runs, params, device, data)
    ]
    shards = sorted(filter(None, missing), key=lambda shard: -sum(run.ne for run in shard))
    machines = {engine: machine_kind(engine, device) for engine in set(engines.values())}
    computation = Computation(engines, str(device), params.train, machines)
    on_cuda = device.type == "cuda"
    workers = 1 if on_cuda else worker_count(params.runtime.workers)
    if data.folder is None:
        work = functools.partial(_train, data=data, computation=computation)
        done = in_threads(work, shards, workers, on_epochs)
    elif params.runtime.executor == "ray":
        work = functools.partial(_train_on_node, computation=computation)
        done = in_cluster(work, shards, data.folder, on_cuda, on_epochs)
    else:
        work = functools.partial(_train_here, data.folder, computation=computation)
        done = in_workers(work, shards, workers, on_epochs)
    with contextlib.closing(done):  # stops the workers even if a notebook keeps the traceback
        for shard, packed in done:
            store.add(packed, {keys[run]: str(run) for run in shard})
            on_runs(shard)
    trained = stored | store.load(set(keys.values()) - stored.keys())
    lost = [str(run) for run in runs if keys[run] not in trained]
    if lost:
        raise UserError(
            f"{store.folder}: {lost[0]} and {len(lost) - 1} other runs were removed while training "
            "ran; run the same command again"
        )
    return {run: trained[keys[run]] for run in runs}


def store_cohorts(
    params: Params, trained: Mapping[Run, Trained], data: Dataset, store: Store
) -> dict[int, Path]:
    """Merge a trained study into one file of the store for each seed; these replace its shards."""
    device = device_named(params.runtime.device)
    engines = engines_of(list(trained), params, device, data)
    keys = run_keys(list(trained), params.train, data.digest, device, engines)
    cohorts = {}
    for seed in sorted({run.seed for run in trained}):
        cohort = {run: result for run, result in trained.items() if run.seed == seed}
        packed = pack({str(run): result for run, result in cohort.items()})
        cohorts[seed] = store.add(packed, {keys[run]: str(run) for run in cohort})
    store.keep_instead(cohorts.values())
    return cohorts


class Limits(NamedTuple):
    """The size limits of a shard; a run beyond them gets a shard of its own."""

    experts: int
    seeds: int


def shards_of(
    runs: Sequence[Run], params: Params | Settings, device: torch.device, data: Dataset
) -> Iterator[Shard]:
    """Split a study into shards, each of runs with equal settings."""
    in_order = sorted(runs, key=lambda run: run.settings)
    for settings, same in itertools.groupby(in_order, key=lambda run: run.settings):
        own = Settings(with_settings(params.train, settings), params.runtime)
        yield from cut(list(same), limits(own, device, data))


def limits(params: Params | Settings, device: torch.device, data: Dataset) -> Limits:
    """On a CPU, limits that fit its caches; on a GPU, as much as fits in memory."""
    samples, inputs = data.train_x.shape
    asked = params.runtime.experts_per_shard
    if asked == "auto" and device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        asked = experts_in(free, params.train, inputs, data.classes)
    elif asked == "auto":
        asked = EXPERTS_PER_SHARD
    in_time = LONGEST_WORK[device.type] // (params.train.epochs * samples)
    seeds = SEEDS_PER_SHARD if device.type == "cpu" else len(data.train_x)
    return Limits(min(asked, in_time), seeds)


def experts_in(free: int, settings: Train, inputs: int, classes: int) -> int:
    """How many experts a GPU with this many free bytes trains at once.

    A power of two: results depend, within rounding, on how the study is split, so small changes in
    free memory must not change the split.
    """
    fit = int(SHARE_OF_MEMORY * free / fused.bytes_per_expert(settings, inputs, classes))
    return 2 ** max(0, fit.bit_length() - 1)


def cut(runs: Sequence[Run], most: Limits) -> Iterator[Shard]:
    """Split runs of equal settings into shards."""
    in_order = sorted(runs, key=lambda run: (run.recipe, run.seed, run))
    for _, same_recipe in itertools.groupby(in_order, key=lambda run: run.recipe):
        shard: list[Run] = []
        for run in same_recipe:
            experts = sum(other.ne for other in (*shard, run))
            seeds = {other.seed for other in (*shard, run)}
            if shard and (experts > most.experts or len(seeds) > most.seeds):
                yield tuple(shard)
                shard = []
            shard.append(run)
        yield tuple(shard)


def engines_of(
    runs: Sequence[Run],
    params: Params | Settings,
    device: torch.device,
    data: Dataset,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, str]:
    """The engine of each recipe, by runtime.engine: auto is the kernel if it can train all of the
    recipe's runs.

    say: called with one line for each recipe for which auto does not select the kernel.
    Raises UserError if the kernel is requested and cannot be used.
    """
    asked, engines = params.runtime.engine, {}
    for recipe in sorted({run.recipe for run in runs}):
        of_recipe = (run for run in runs if run.recipe == recipe)
        precisions = {with_settings(params.train, run.settings).precision for run in of_recipe}
        reason = _not_for_kernel(recipe, device, precisions, data)
        if asked == "kernel" and reason:
            raise UserError(f"runtime.engine: 'kernel': {reason}; use auto or fused")
        if asked == "auto" and reason:
            say(f"{recipe}: trained by the fused engine, because {reason}")
        engines[recipe] = "fused" if asked == "fused" or reason else "kernel"
    return engines


def _not_for_kernel(
    recipe: str, device: torch.device, precisions: set[str], data: Dataset
) -> str | None:
    """Why the kernel cannot train a recipe on a data set; None if it can."""
    if device.type != "cpu":
        return f"the kernel does not work on {device}"
    if others := sorted(precisions - {"float32"}):
        return f"the kernel computes in float32, not {others[0]}"
    if recipe not in kernel.RECIPES:
        return kernel.NO_RECIPE.format(recipe)
    return kernel.why_not_data(data) or kernel.why_not()


def device_named(name: str) -> torch.device:
    """The device that runtime.device names; UserError if this machine does not have it."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            f"runtime.device: {name!r}: this machine has {torch.cuda.device_count()} CUDA devices "
            "that torch can use; use auto or cpu"
        )
    return device


def _train_here(folder: Path, shard: Shard, send: Send, computation: Computation) -> bytes:
    return _train(shard, send, _data(folder), computation)


def _train_on_node(shard: Shard, folder: Path, send: Send, computation: Computation) -> bytes:
    return _train(shard, send, _data(folder), computation)


def _train(shard: Shard, send: Send, data: Dataset, computation: Computation) -> bytes:
    """Train a shard; returns an entry for the store."""
    engine, device = computation.engines[shard[0].recipe], torch.device(computation.device)
    settings = with_settings(computation.settings, shard[0].settings)  # equal in the whole shard
    expected, here = computation.machines[engine], machine_kind(engine, device)
    if here != expected:
        raise UserError(
            f"a node is {here}, but the study is computed on {expected}: results would differ in "
            f"their last bits; use nodes of one kind, or set {kernel.LEVEL_VARIABLE}"
        )

    def on_epoch(accuracy: Tensor) -> None:
        send(Epochs(len(accuracy), float(accuracy.mean()), _peak_memory(device)))

    def train(runs: Shard) -> list[Trained]:
        if engine == "kernel":
            return kernel.train(runs, data, settings, on_epoch)
        return fused.train(runs, data, settings, device, on_epoch=on_epoch)

    trained = split_where_memory_is_short(train, shard)
    return pack({str(run): result for run, result in zip(shard, trained, strict=True)})


def split_where_memory_is_short(
    train: Callable[[Shard], list[Trained]], shard: Shard
) -> list[Trained]:
    """train(shard); if it runs out of memory, train its halves one after the other.

    Raises UserError if a single run does not fit.
    """
    try:
        return train(shard)
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
    if len(shard) == 1:
        raise UserError(f"{shard[0]}: not enough memory to train this run")
    half = len(shard) // 2
    halves = (shard[:half], shard[half:])
    return [result for part in halves for result in split_where_memory_is_short(train, part)]


def _is_out_of_memory(error: Exception) -> bool:
    # torch has an exception type for this only on CUDA; on a CPU, the message has to be matched.
    words = "not enough memory", "can't allocate memory"
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
        word in str(error) for word in words
    )


def _peak_memory(device: torch.device) -> int:
    """The peak memory of this process, or of its GPU, in bytes."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    status = Path("/proc/self/status")
    if status.exists():  # getrusage includes the memory of the process that started this one
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@functools.cache
def _data(folder: Path) -> Dataset:
    return Dataset(folder)
