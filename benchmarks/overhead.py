"""python -m benchmarks.overhead: the overhead of a shard beyond its training, and its size.

A thousand empty shards run on this machine's workers and on a local Ray cluster, one CPU for each
worker. The shards are those of params.yaml, repeated. Times per shard are from the first result to
the last, so they exclude the start-up; medians over repeats.
"""

import datetime
import functools
import importlib.util
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from moe.data.download import fetch
from moe.engine import HISTORY, Trained
from moe.model.layer import MoE
from moe.study.grid import runs_of
from moe.study.params import Params, read_params
from moe.study.tables import RESULTS_DIR
from moe.study.workers import in_workers, worker_count
from moe.train.ray_executor import in_cluster
from moe.train.run_store import Store, pack
from moe.train.shards import EXPERTS_PER_SHARD, SEEDS_PER_SHARD, Limits, Shard, cut

PIXELS, CLASSES = 784, 10  # of MNIST
KEY = "0" * 64

Over = Callable[[Any, list[Shard], Path], Iterator[Any]]


@click.command()
@click.option("--shards", "count", default=1000, show_default=True, help="Empty shards.")
@click.option("--repeats", default=3, show_default=True)
def main(count: int, repeats: int) -> None:
    """Measure, and print a table."""
    params = read_params()
    runs = runs_of(params.sweeps)
    pieces = list(cut(runs, Limits(EXPERTS_PER_SHARD, SEEDS_PER_SHARD)))
    tasks = list(itertools.islice(itertools.cycle(pieces), count))
    print(f"{datetime.date.today()}, {os.cpu_count()} cores, median of {repeats} repeats (range)")
    print(f"study: {len(runs):,} runs in {len(pieces)} shards")
    with tempfile.TemporaryDirectory() as name:
        entry = sizes(params, pieces, Path(name) / "store")
        data = Path(name) / "data"
        fetch("mnist-5k", data, data)
        executors: dict[str, Over] = {"local workers": over_workers}
        if importlib.util.find_spec("ray"):
            executors["Ray"] = over_ray
        for executor, over in executors.items():
            for case, size in {"nothing comes back": 0, "an entry comes back": entry}.items():
                function = functools.partial(
                    empty_here if over is over_workers else empty, size=size
                )
                times = [timed(over(function, tasks, data), count) for _ in range(repeats)]
                starting, each = zip(*times, strict=True)
                first = statistics.median(starting)
                print(f"{executor}: {case}: {shown(each)} ms a shard, first after {first:.1f} s")


def sizes(params: Params, pieces: list[Shard], folder: Path) -> int:
    """Print the size of a study's results and the store's times; returns an entry's bytes."""
    entries = [packed(piece, params) for piece in pieces]
    runs = sum(map(len, pieces))
    entry = round(sum(map(len, entries)) / len(entries))
    tables = sum(path.stat().st_size for path in RESULTS_DIR.glob("*.csv"))
    each = sum(map(len, entries)) / runs
    print(f"entry of the store: {entry / 1e6:.2f} MB a shard, {each / 1e3:.0f} kB a run")
    print(f"tables in results/: {tables / runs / 1e3:.2f} kB a run")
    store, adding = Store(folder), []
    for number, (piece, content) in enumerate(zip(pieces, entries, strict=True)):
        names = {f"{KEY}{number}-{place}": str(run) for place, run in enumerate(piece)}
        begin = time.perf_counter()
        store.add(content, names)
        adding.append(1000 * (time.perf_counter() - begin))
    begin = time.perf_counter()
    store.find({f"{KEY}{number}-0" for number in range(len(entries))})
    finding = 1000 * (time.perf_counter() - begin) / len(entries)
    print(f"store: adding {statistics.median(adding):.1f} ms an entry, finding {finding:.1f} ms")
    return entry


def packed(shard: Shard, params: Params) -> bytes:
    """An entry as large as the shard's own, of untrained models."""
    import torch

    history = torch.zeros(params.train.epochs, len(HISTORY))
    trained = {}
    for run in shard:
        model = MoE(PIXELS, params.train.hidden, CLASSES, run.ne, run.k, run.recipe, seed=0)
        trained[str(run)] = Trained(model.state_dict(), history.clone())
    return pack(trained)


# --- over an executor


def over_workers(function: Any, tasks: list[Shard], data: Path) -> Iterator[Any]:
    return in_workers(function, tasks, worker_count("auto"))


def over_ray(function: Any, tasks: list[Shard], data: Path) -> Iterator[Any]:
    return in_cluster(function, tasks, data, on_gpu=False)


def empty_here(task: Shard, send: Any, size: int) -> bytes:
    return bytes(size)


def empty(task: Shard, folder: Path, send: Any, size: int) -> bytes:
    return bytes(size)


def timed(results: Iterator[Any], count: int) -> tuple[float, float]:
    """Seconds until the first result, and milliseconds for each after it."""
    begin = time.perf_counter()
    next(results)
    first = last = time.perf_counter()
    for _ in results:
        last = time.perf_counter()
    return first - begin, 1000 * (last - first) / (count - 1)


def shown(values: tuple[float, ...]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
