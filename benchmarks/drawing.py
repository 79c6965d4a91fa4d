"""The figure: what a step of a run costs, by way, and as experts are added."""

from pathlib import Path
from typing import Any

from moe.figures.style import BASE, GREY, MARKERS, RECIPE, canvas, ne_axis

OURS = {"kernel": BASE, "kernel-avx2": RECIPE["shazeer"], "fused": RECIPE["logits"]}
RIVAL = GREY
LINES = {"module": GREY, "fused": OURS["fused"], "kernel": OURS["kernel"]}
PARTS = {"products": "kernel, its products alone", "adam": "kernel, its Adam alone"}


def draw(results: dict[str, Any], path: Path) -> None:
    """Write an SVG: the same results always give the same bytes."""
    drawing, ((bars, curves),) = canvas(1, 2, 10, 4.2)
    _bars(bars, results)
    _curves(curves, results)
    drawing.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _bars(ax: Any, results: dict[str, Any]) -> None:
    costs = results["mix"]["median_ms"]
    names = sorted(costs, key=lambda name: costs[name])
    ms = [costs[name] for name in names]
    ax.barh(range(len(names)), ms, color=[OURS.get(name, RIVAL) for name in names], height=0.7)
    for y, cost in enumerate(ms):
        ax.text(1.08 * cost, y, f"{cost:#.2g}", va="center", fontsize=9)
    ax.set_yticks(range(len(names)), [_label(name, results["mix"]["ms"][name]) for name in names])
    ax.set_xscale("log")
    ax.set_xlim(min(ms) / 2, max(ms) * 2)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(f"ms per run and step, one core, batch {results['batch_size']}")
    ax.set_title("The study's mix of cells, median")


def _label(name: str, costs: list[float | None]) -> str:
    """With how many cells it is the median of, where a way cannot train them all."""
    done = sum(ms is not None for ms in costs)
    return name if done == len(costs) else f"{name}\n({done} of {len(costs)} cells)"


def _curves(ax: Any, results: dict[str, Any]) -> None:
    over_ne = results["over_ne"]
    shown = [(name, "ms", name, "-", color) for name, color in LINES.items()]
    shown += [("kernel", part, label, ":", OURS["kernel"]) for part, label in PARTS.items()]
    experts = [int(ne) for ne in over_ne]
    for (way, part, label, dash, color), marker in zip(shown, MARKERS, strict=False):
        points = [(int(ne), costs[way][part]) for ne, costs in over_ne.items() if way in costs]
        if points:
            x, y = zip(*points, strict=True)
            ax.plot(x, y, dash, marker=marker, color=color, label=label)
    ne_axis(ax, experts)
    ax.set_yscale("log")
    ax.set_ylabel("ms per run and step")
    ax.set_ylim(bottom=ax.get_ylim()[0] / 4)  # room for the legend
    ax.set_title("Over ne, k = 2 (1 where ne = 1)")
    ax.legend(loc="lower right", fontsize=8)
