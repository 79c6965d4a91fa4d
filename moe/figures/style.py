"""One visual language: the same colour for the same ne, k, lc or recipe everywhere.

Okabe and Ito's colours for what has no order, cividis for what has; markers repeat what colours
say; the base model, one expert, is always blue.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

BASE = "#0072B2"
INK, GREY, PALE = "#222222", "#767676", "#e3e3e3"
RECIPE = {
    "blog": "#D55E00",
    "logits": "#009E73",
    "switch": "#CC79A7",
    "shazeer": "#56B4E9",
    "gshard": "#E69F00",
    "loss-free": "#000000",
    "random": "#999999",
    "dense-active": "#8C6D31",
    "dense-total": "#5254A3",
}
K = {1: "#000000", 2: "#D55E00", 3: "#009E73", 4: "#56B4E9"}
MARKERS = "osD^vPX*<>"
COUNTS = "cividis"
SIGNED = "RdBu_r"

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
    "svg.hashsalt": "moe-mnist",  # else ids in an SVG are drawn at random
    "savefig.facecolor": "white",
    "figure.constrained_layout.use": True,
}


mpl.rcParams.update(STYLE)


class Figure(NamedTuple):
    """A figure as the report needs it.

    table: the numbers that were drawn. dense: better as PNG than as SVG.
    """

    number: int
    slug: str
    title: str
    caption: str
    alt: str
    table: pd.DataFrame
    drawing: Drawing
    dense: bool = False

    @property
    def file_name(self) -> str:
        """Such as 02-effect-of-lc-on-accuracy.svg."""
        return f"{self.number:02}-{self.slug}.{'png' if self.dense else 'svg'}"

    def to_bytes(self) -> bytes:
        """The file: the same figure always gives the same bytes."""
        file = io.BytesIO()
        if self.dense:
            self.drawing.savefig(file, format="png", dpi=130, metadata={"Software": None})
        else:
            self.drawing.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        return file.getvalue()


def canvas(
    rows: int, columns: int, width: float, height: float, **options: Any
) -> tuple[Drawing, np.ndarray]:
    """A drawing of rows × columns axes; width and height in inches."""
    drawing = Drawing(figsize=(width, height), layout="constrained")
    return drawing, drawing.subplots(rows, columns, squeeze=False, **options)


def lc_colors(values: Sequence[float]) -> dict[float, Any]:
    """Light to dark as lc grows."""
    steps = np.linspace(0.92, 0.05, max(len(values), 2))
    return dict(zip(sorted(values), colormaps["viridis"](steps), strict=False))


def plot_lines(
    ax: Axes,
    table: pd.DataFrame,
    x: str,
    line: str,
    colors: Mapping[Any, Any],
    label: str = "{}",
    scale: float = 1,
) -> None:
    """A line with a 95 % band for each value of column `line`; table: as of tables.over_seeds."""
    for (value, points), marker in zip(table.groupby(line), MARKERS, strict=False):
        xs = points[x].to_numpy(float)
        name = value if isinstance(value, str) else f"{value:g}"
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
        ax.fill_between(xs, low, high, color=colors[value], alpha=0.16, linewidth=0)


def ne_axis(ax: Axes, values: Sequence[int]) -> None:
    """Experts on a logarithmic axis, since each doubling is as much as the last."""
    ax.set_xscale("log", base=2)
    shown = [value for value in sorted(set(values)) if value not in (7, 12)]
    ax.set_xticks(shown, [str(value) for value in shown])
    ax.minorticks_off()
    ax.set_xlabel("experts, ne")


def heatmap(
    ax: Axes,
    values: np.ndarray,
    limits: tuple[float, float],
    cmap: str = COUNTS,
    texts: np.ndarray | None = None,
) -> Any:
    """values (rows, columns); texts: what to write into the cells."""
    ax.grid(visible=False)
    image = ax.imshow(values, cmap=cmap, vmin=limits[0], vmax=limits[1], aspect="auto")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.tick_params(length=0)
    if texts is not None:
        for (row, column), text in np.ndenumerate(texts):
            red, green, blue, _ = image.cmap(image.norm(values[row, column]))
            dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
            color = "white" if dark else INK
            ax.text(column, row, text, ha="center", va="center", color=color, fontsize=6.5)
    return image
