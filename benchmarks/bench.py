"""python -m benchmarks.bench: time every way to train, interleaved, on the same data.

All on one thread. Times are medians over rounds, in milliseconds per run and step: one batch of one
run, forward, backward and Adam. The stacked ways (fused, vmap) train as many runs of a cell at once
as a shard of the study holds; their time is divided by that number.
"""

import datetime
import importlib.metadata
import json
import math
import os
import platform
import random
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch
from rich.console import Console
from rich.table import Table

from benchmarks import ours, rivals, roofline
from benchmarks.scaling import throughput
from benchmarks.timing import Case, Cost, Impossible, Way, side_by_side
from moe.data.dataset import Dataset
from moe.engine import kernel
from moe.study.grid import runs_of
from moe.study.params import Params, read_params
from moe.study.runs import Trial
from moe.study.workers import single_thread, worker_count
from moe.train.shards import EXPERTS_PER_SHARD

WAYS = {**rivals.WAYS, **ours.WAYS}
ONE_CELL = Trial("logits", ne=10, k=2, lc=1.0)
PACKAGES = ("torch", "torchvision", "numpy", "mixture-of-experts", "st-moe-pytorch")
ON_CUDA = (12, 120, 1200)  # runs in a stack of ONE_CELL


class Effort(NamedTuple):
    """How much to measure. seconds: per turn; the others are a sweep's points, or counts."""

    cells: int
    rounds: int
    seconds: float
    over_ne: tuple[int, ...]
    over_k: tuple[int, ...]
    over_runs: tuple[int, ...]
    seconds_of_workers: float


FULL = Effort(24, 5, 0.15, (1, 2, 4, 8, 16, 32, 64), (1, 2, 4, 8, 16), (1, 2, 4, 8, 16, 32), 3.0)
QUICK = Effort(2, 1, 0.02, (8, 64), (2, 4), (1, 4), 0.3)


@click.command()
@click.option("--data", default="data", type=click.Path(path_type=Path), help="The IDX files.")
@click.option("--into", type=click.Path(path_type=Path), help="Output folder.")
@click.option("--quick", is_flag=True, help="A smoke test: its timings are meaningless.")
def main(data: Path, into: Path | None, quick: bool) -> None:
    """Measure, print a table, and write results.json, which the report draws as its figure 17.

    The output folder is benchmarks/, or .work/benchmarks/ with --quick.
    """
    begin, console = time.perf_counter(), Console()
    single_thread()
    into = into or Path(".work/benchmarks" if quick else "benchmarks")
    into.mkdir(parents=True, exist_ok=True)
    params = read_params()
    bench = Bench(params, Dataset(data), QUICK if quick else FULL, console)
    results = {**about(data, quick, params), **bench.measure()}
    results["seconds"] = round(time.perf_counter() - begin)
    (into / "results.json").write_text(json.dumps(rounded(results), indent=1) + "\n")
    show(results, console)
    console.print(f"{into}/results.json: {results['seconds']} s")


# --- measuring


class Bench:
    """One run of the benchmark."""

    def __init__(self, params: Params, data: Dataset, effort: Effort, console: Console) -> None:
        self.params, self.data, self.effort, self.console = params, data, effort, console

    def measure(self) -> dict[str, Any]:
        """Everything in results.json except the machine."""
        effort = self.effort
        mix = mix_of(self.params, effort.cells)
        with self.console.status("") as status:
            status.update("the study's mix of cells")
            absent = self.absent()
            in_mix = [self.costs(WAYS, trial) for trial in mix]
            one_cell = self.costs(WAYS, ONE_CELL)
            status.update("over the number of experts")
            ways = {name: WAYS[name] for name in ("module", "fused", "kernel")}
            over_ne = {
                ne: self.costs(ways, ONE_CELL._replace(ne=ne, k=min(2, ne)))
                for ne in effort.over_ne
            }
            status.update("over k")
            over_k = {k: self.costs(ways, ONE_CELL._replace(ne=16, k=k)) for k in effort.over_k}
            status.update("over the runs in a shard")
            stacking = {name: WAYS[name] for name in ("fused", "vmap")}
            over_runs = {n: self.costs(stacking, ONE_CELL, n) for n in effort.over_runs}
            status.update("the rooflines")
            roof = self.costs({**ours.WAYS, **roofline.WAYS}, ONE_CELL)
            status.update("over the number of workers")
            over_workers = self.over_workers(mix)
            status.update("on a GPU")
            cuda = self.on_cuda()
        return {
            **headline(in_mix, over_ne, roof),
            "mix": {
                "cells": [str(trial) for trial in mix],
                "ms": {name: [costs[name].ms if name in costs else None for costs in in_mix]
                       for name in WAYS if name not in absent},
                "median_ms": medians(in_mix),
            },
            "ne10_k2": one_cell,
            "over_ne": over_ne,
            "over_k_at_ne16": over_k,
            "over_runs_in_a_shard": over_runs,
            "run_steps_per_second_over_workers": over_workers,
            "roofline": {"is": " ".join((roofline.__doc__ or "").split()), "ne10_k2": roof},
            "cuda": cuda,
            "absent": absent,
        }  # fmt: skip

    def case(self, trial: Trial, runs: int | None = None) -> Case:
        """A case of a trial. runs: by default, as many as fill a shard."""
        runs = runs or max(1, EXPERTS_PER_SHARD // trial.ne)
        return Case(trial, runs, self.data, self.params.train)

    def costs(
        self, ways: Mapping[str, Way], trial: Trial, runs: int | None = None
    ) -> dict[str, Cost]:
        case = self.case(trial, runs)
        return side_by_side(ways, case, self.effort.rounds, self.effort.seconds)

    def absent(self) -> dict[str, str]:
        """The ways that cannot even train ONE_CELL, and why."""
        reasons = {}
        for name, way in WAYS.items():
            try:
                way(self.case(ONE_CELL))
            except Impossible as reason:
                reasons[name] = str(reason)
        return reasons

    def over_workers(self, mix: list[Trial]) -> dict[int, float]:
        """The kernel's runs times steps per second, median over rounds."""
        if not kernel.available():
            return {}
        most = worker_count("auto")
        counts = sorted({min(2**i, most) for i in range(most.bit_length() + 1)})
        turns: dict[int, list[float]] = {count: [] for count in counts}
        trials = random.Random(0).sample(mix, len(mix))  # a short turn covers cells of every size
        for _ in range(min(2, self.effort.rounds)):
            for count in counts:
                turns[count].append(
                    throughput(
                        count,
                        trials,
                        self.data.folder,
                        self.params.train,
                        self.effort.seconds_of_workers,
                    )
                )
        return {count: statistics.median(rates) for count, rates in turns.items()}

    def on_cuda(self) -> Any:
        """The fused engine on the first GPU, by the runs in its stack."""
        if not torch.cuda.is_available():
            return "not measured"
        ways = {"fused": ours.fused_on(torch.device("cuda"))}
        costs = {runs: self.costs(ways, ONE_CELL, runs) for runs in ON_CUDA}
        return {"card": torch.cuda.get_device_name(), "ne10_k2_over_runs": costs}


def mix_of(params: Params, count: int) -> list[Trial]:
    """A proportional sample of the study's cells: every n-th run that the kernel can train.

    Runs are sorted by k, then ne, so that all k and ne are represented.
    """
    runs = [run for run in runs_of(params.sweeps) if run.recipe in kernel.RECIPES]
    runs.sort(key=lambda run: (run.k, run.ne, run))
    start = random.Random(0).random()
    return [runs[int((i + start) * len(runs) / count)].trial for i in range(count)]


# --- derived numbers


def headline(
    in_mix: list[dict[str, Cost]], over_ne: dict[int, dict[str, Cost]], roof: dict[str, Cost]
) -> dict[str, float | None]:
    """The ratios that the README quotes; None where a way is missing."""
    found: dict[str, float | None] = {}
    for rival in ("module", "dataloader"):
        for name, suffix in (("kernel", ""), ("kernel-avx2", "_avx2")):
            found[f"kernel_vs_{rival}_per_core{suffix}"] = ratio(in_mix, rival, name)
        found[f"fused_vs_{rival}_per_core"] = ratio(in_mix, rival, "fused")
    small, large = (over_ne[ne].get("kernel") for ne in (8, 64))
    grows = large.products / small.products if small and large else None
    found["products_ratio_ne64_over_ne8"] = grows
    found["fused_over_roofline"] = roof["fused"].ms / roof["fused alone"].ms
    for name in ("kernel", "kernel-avx2"):
        cost, bound = roof.get(name), roof.get(f"{name} bound")
        suffix = name.removeprefix("kernel").replace("-", "_")
        for part in ("products", "adam"):
            value = getattr(cost, part) / getattr(bound, part) if cost and bound else None
            found[f"kernel_{part}_over_roofline{suffix}"] = value
    return found


def ratio(in_mix: list[dict[str, Cost]], slow: str, fast: str) -> float | None:
    """The median over cells of one way's cost over the other's, where both were measured."""
    both = [costs for costs in in_mix if slow in costs and fast in costs]
    return statistics.median(c[slow].ms / c[fast].ms for c in both) if both else None


def medians(in_mix: list[dict[str, Cost]]) -> dict[str, float]:
    """ms per run and step, median over the cells that a way can train."""
    names = [name for name in WAYS if any(name in costs for costs in in_mix)]
    return {
        name: statistics.median(costs[name].ms for costs in in_mix if name in costs)
        for name in names
    }


def about(data: Path, quick: bool, params: Params) -> dict[str, Any]:
    """The circumstances."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "quick": quick,
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "kernel_level": kernel.level_in_use() if kernel.available() else None,
            "torch_level": torch.backends.cpu.get_cpu_capability(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
        "data": str(data),
        "batch_size": params.train.batch_size,
        "unit": "ms per run and step: one batch of one run, forward, backward and Adam; "
        "one thread; medians",
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def rounded(value: Any) -> Any:
    """Convert to JSON values: numbers with four digits, costs as objects, without unknown ones."""
    if isinstance(value, Cost):
        return {k: rounded(v) for k, v in value._asdict().items() if not math.isnan(v)}
    if isinstance(value, dict):
        return {str(key): rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


# --- output


def show(results: dict[str, Any], console: Console) -> None:
    """The table on the terminal."""
    machine = results["machine"]
    table = Table(title=f"ms per run and step, one core of {machine['cpu']}")
    for column in ("way", "study's mix", "ne=10 k=2", "cells", "÷ kernel", "÷ module"):
        table.add_column(column, justify="left" if column == "way" else "right", no_wrap=True)
    of_mix, one_cell = results["mix"], results["ne10_k2"]
    in_mix = [
        {name: Cost(ms[i]) for name, ms in of_mix["ms"].items() if ms[i] is not None}
        for i in range(len(of_mix["cells"]))
    ]
    for name in WAYS:
        if name in results["absent"]:
            table.add_row(name, results["absent"][name])
            continue
        measured = sum(name in costs for costs in in_mix)
        over = [ratio(in_mix, name, other) for other in ("kernel", "module")]
        median = of_mix["median_ms"].get(name)
        table.add_row(
            name,
            *("—" if ms is None else f"{ms:.3f}" for ms in (median, one_cell[name].ms)),
            str(measured),
            *("—" if times is None else f"{times:.2f}" for times in over),
        )
    console.print(table)
    for name, value in results.items():
        if isinstance(value, float):
            console.print(f"{name}: {value:.2f}")
    console.print(f"cuda: {rounded(results['cuda'])}")


if __name__ == "__main__":
    main()
