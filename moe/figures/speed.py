"""The cost of a training step, compared with the usual ways to train."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from moe.analysis.results import MissingCellsError, Tables
from moe.figures.drawn import Drawn, figure
from moe.figures.style import BASE, GREY, MARKERS, canvas, ne_axis

NAMES = {
    "module": "module, tensors resident",
    "dataloader": "module, DataLoader",
    "mixture-of-experts": "mixture-of-experts",
    "st-moe-pytorch": "st-moe-pytorch",
    "vmap": "torch.func vmap",
    "fused": "our fused engine",
    "fused-bf16": "our fused engine, bf16",
    "kernel": "our kernel",
    "kernel-avx2": "our kernel, AVX2",
}
OURS = {
    "kernel": BASE,
    "kernel-avx2": "#56B4E9",
    "fused": "#009E73",
    "fused-bf16": "#E69F00",
}
PARTS = {"products": "our kernel's products", "adam": "our kernel's Adam"}


@figure("what-a-step-costs", "What a step costs", order=16)
def what_a_step_costs(tables: Tables) -> Drawn:
    """Bars over the study's mix of cells, and lines over ne; from benchmarks/results.json."""
    if tables.benchmark is None:
        raise MissingCellsError("benchmarks/results.json, which `make bench` writes")
    found = tables.benchmark
    costs = found["mix"]["median_ms"]
    order = [name for name in sorted(costs, key=costs.__getitem__) if name in NAMES]
    cells = [sum(ms is not None for ms in found["mix"]["ms"][name]) for name in order]
    every = len(found["mix"]["cells"])
    labels = [
        NAMES[name] + (f"\n({count} of {every} cells)" if count < every else "")
        for name, count in zip(order, cells, strict=True)
    ]
    drawing, ((bars, curves),) = canvas(1, 2, 4.2, width_ratios=[1, 1.05])
    _bars(bars, labels, [costs[name] for name in order], [OURS.get(n, GREY) for n in order])
    _curves(curves, found["over_ne"])
    ours = "kernel" if "kernel" in costs else "fused"
    times = found[f"{ours}_vs_module_per_core"]
    machine = found["machine"]
    return Drawn(
        "Milliseconds for one batch of one run, forward, backward and Adam, on one core "
        f"({machine['cpu']}, {found['date']}): the median over {every} cells "
        "in the study's proportions, and over the number of experts. The usual sparse-dispatch "
        f"module, its data resident in memory, takes {times:.0f} times as long as {NAMES[ours]}, "
        "whose cost hardly grows with ne: it touches only what is not zero and who was chosen.",
        f"Bars of the time of a training step for {len(order)} ways to train, {NAMES[order[0]]} "
        f"the shortest, {NAMES[order[-1]]} the longest; lines over the number of experts.",
        pd.DataFrame(
            {
                "way": [NAMES[name] for name in order],
                "ms, median of the mix": [costs[name] for name in order],
                "cells": cells,
                "ms at ne = 10, k = 2": [found["ne10_k2"][name]["ms"] for name in order],
            }
        ),
        drawing,
    )


def _bars(ax: Axes, labels: list[str], ms: list[float], colors: list[str]) -> None:
    ax.barh(range(len(labels)), ms, color=colors, height=0.7)
    for y, cost in enumerate(ms):
        ax.text(1.1 * cost, y, f"{cost:#.2g}", va="center", fontsize=8)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_xscale("log")
    ax.set_xlim(min(ms) / 2, max(ms) * 3)
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("ms per run and step, one core")
    ax.set_title("The study's cells, median")


def _curves(ax: Axes, over_ne: dict[str, Any]) -> None:
    ways = ("module", "fused", "kernel")
    shown = [(name, "ms", NAMES[name], "-", OURS.get(name, GREY)) for name in ways]
    shown += [("kernel", part, label, ":", BASE) for part, label in PARTS.items()]
    for (way, part, label, dash, color), marker in zip(shown, MARKERS, strict=False):
        points = [(int(ne), costs[way][part]) for ne, costs in over_ne.items() if way in costs]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, dash, marker=marker, color=color, label=label)
    ne_axis(ax, [int(ne) for ne in over_ne])
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylabel("ms per run and step")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 12)  # room for the legend
    ax.set_title("Over ne, at k = 2")
    ax.legend(loc="lower right", fontsize=8)
