"""The style of all figures: the same ne, k, lc or recipe has the same colour everywhere.

Recipes have Okabe and Ito's colours; k (violet) and lc (green) have shades, since they are ordered.
No colour means two things in one figure. Heatmaps use cividis. Markers are redundant with colours.
The base model (one expert) is always blue, and a mixture compared with it orange.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from moe.recipes import recipe_named
from moe.study.runs import exactly

WIDTH = 7.6  # inches: with text of 10 points, still readable at half a page's width
BASE, MIXTURE = "#0072B2", "#E69F00"
INK, GREY, PALE = "#222222", "#767676", "#e3e3e3"
K = {1: "#000000", 2: "#5A189A", 3: "#9D4EDD", 4: "#C9A0F0"}
MARKERS = "osD^vPX*<>"  # reused if there are more lines
SHOWN_NE = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)  # tick labels: others would overlap
FEW_TICKS = 3  # up to this many values of ne are all labelled
MOST_LEGEND_COLUMNS = 5
LONG_TEXT = 4  # characters, in a cell of a heatmap
COUNTS = "cividis"
SIGNED = "RdBu_r"

DPI = 180

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.7,
    "lines.markersize": 5,
    "svg.hashsalt": "moe-mnist",  # makes ids in an SVG deterministic
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
}


class RecipeColors(dict[str, str]):
    """The colour that each recipe declares."""

    def __missing__(self, name: str) -> str:
        return recipe_named(name).color


RECIPE = RecipeColors()


def canvas(rows: int, columns: int, height: float, **options: Any) -> tuple[Drawing, np.ndarray]:
    """A drawing of rows × columns axes as wide as a page; height in inches."""
    drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
    return drawing, drawing.subplots(rows, columns, squeeze=False, **options)


def lc_colors(values: Sequence[float]) -> dict[float, Any]:
    """Light to dark as lc grows."""
    steps = np.linspace(0.8, 0.08, max(len(values), 2))[: len(values)]
    return dict(zip(sorted(values), colormaps["viridis"](steps), strict=True))


def plot_lines(
    ax: Axes,
    table: pd.DataFrame,
    x: str,
    line: str,
    colors: Mapping[Any, Any],
    label: str = "{}",
    scale: float = 1,
) -> None:
    """A line with a 95 % band for each value of column `line`; table: from results.over_seeds."""
    for (value, points), marker in zip(table.groupby(line), itertools.cycle(MARKERS), strict=False):
        xs = points[x].to_numpy(float)
        name = value if isinstance(value, str) else exactly(value)
        ax.plot(
            xs,
            scale * points["mean"],
            color=colors[value],
            marker=marker,
            label=label.format(name),
            markeredgecolor="white",
            markeredgewidth=0.6,
        )
        low, high = scale * points["low"], scale * points["high"]
        ax.fill_between(xs, low, high, color=colors[value], alpha=0.14, linewidth=0)


def ne_axis(ax: Axes, values: Sequence[int]) -> None:
    """Use a logarithmic axis for the number of experts."""
    ax.set_xscale("log", base=2)
    present = sorted(set(values))
    shown = present if len(present) <= FEW_TICKS else [ne for ne in present if ne in SHOWN_NE]
    shown = shown or present[:: max(1, len(present) // FEW_TICKS)]
    if len(present) == 1:  # a logarithmic axis with one value has no limits
        ax.set_xlim(present[0] / 1.5, present[0] * 1.5)
    ax.set_xticks(shown, [str(value) for value in shown])
    ax.minorticks_off()
    ax.set_xlabel("experts, ne")


def legend_above(drawing: Any, ax: Axes, columns: int) -> None:
    """One legend above all panels of a figure or subfigure, where it hides no line."""
    handles, labels = ax.get_legend_handles_labels()
    columns = min(columns, MOST_LEGEND_COLUMNS)
    drawing.legend(handles, labels, loc="outside upper center", ncols=columns)


def error_bars(ax: Axes, x: Any, table: pd.DataFrame, scale: float = 1, **options: Any) -> None:
    """Points with whiskers; table: from results.over_seeds. A single seed has no whisker."""
    mean, low, high = (scale * table[name].to_numpy(float) for name in ("mean", "low", "high"))
    # Because of rounding, the interval of a share may not include its value.
    errors = np.maximum(np.nan_to_num([mean - low, high - mean]), 0)
    ax.errorbar(x, mean, errors, linestyle="", **options)


def empty(ax: Axes, text: str) -> None:
    """Write into an empty panel which cells the study lacks."""
    ax.set_axis_off()
    place = {"ha": "center", "va": "center", "transform": ax.transAxes, "wrap": True}
    ax.text(0.5, 0.5, text, color=GREY, fontsize=9, **place)


def spread(values: Sequence[int], most: int) -> list[int]:
    """At most `most` of the values, evenly chosen, with the first and the last."""
    values = sorted(set(values))
    if len(values) <= most:
        return values
    places = np.linspace(0, len(values) - 1, most).round().astype(int)
    return [values[place] for place in places]


def heatmap(
    ax: Axes,
    values: np.ndarray,
    limits: tuple[float, float],
    cmap: str = COUNTS,
    texts: np.ndarray | None = None,
    text_size: float = 7,
) -> Any:
    """Draw values (rows, columns), pale where nan; texts: labels of the cells."""
    ax.grid(visible=False)
    ax.set_facecolor(PALE)
    image = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
    if texts is not None:
        for (row, column), text in np.ndenumerate(texts):
            if not text:
                continue
            red, green, blue, _ = image.cmap(image.norm(values[row, column]))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5 and np.isfinite(values[row, column])
            size = text_size if len(text) < LONG_TEXT else text_size - 1
            place = {"ha": "center", "va": "center", "fontsize": size}
            ax.text(column, row, text, color="white" if dark else INK, **place)
    return image
