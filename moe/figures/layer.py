"""A diagram of the layer."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

from moe.analysis.results import Tables
from moe.figures import style
from moe.figures.drawn import Drawn, figure
from moe.figures.style import canvas

EXPERTS = 4
CHOSEN = {1: 0.7, 3: 0.3}  # expert: gate
ROUTER, ON, OFF = style.INK, style.MIXTURE, "#c4c4c4"
FILLS = {ROUTER: "#eef0f2", ON: "#fcefcf", OFF: "white"}


@figure("the-layer", "The mixture-of-experts layer", order=1)
def the_layer(tables: Tables) -> Drawn:
    info = tables.dataset
    kind = "pixels" if info.image_shape else "numbers"
    layers = f"{info.in_features or 'x'} → {tables.hidden} → {len(tables.classes)}"
    drawing, axes = canvas(1, 1, 3.7)
    ax = axes[0][0]
    ax.set(xlim=(0, 19.6), ylim=(0.2, 8), aspect="equal")
    ax.set_axis_off()
    _box(
        ax,
        (0.3, 3.3),
        2.2,
        1.8,
        f"input x\n{info.in_features} {kind}" if info.in_features else "input x",
        ROUTER,
    )
    _box(ax, (4.2, 0.4), 2.8, 1.5, "router\nx · W", ROUTER)
    _box(ax, (8.0, 0.4), 4.9, 1.5, "top k, softmax\n(here k = 2)", ROUTER)
    _arrow(ax, (2.5, 4.0), (4.2, 1.2), ROUTER)
    _arrow(ax, (7.0, 1.15), (8.0, 1.15), ROUTER)
    for expert in range(EXPERTS):
        gate, y = CHOSEN.get(expert), 7.1 - 1.35 * expert
        color = ON if gate else OFF
        _box(ax, (8.0, y - 0.5), 4.9, 1.0, f"expert {expert}: {layers}", color)
        _arrow(ax, (2.5, 4.2), (8.0, y), color, dashed=not gate)
        ax.add_patch(
            Circle((14.4, y), 0.56, facecolor=FILLS[color], edgecolor=color, linewidth=1.8)
        )
        text = f"{gate:.1f}" if gate else "0"
        ink = style.INK if gate else style.GREY
        ax.text(14.4, y, text, ha="center", va="center", fontsize=10.5, color=ink)
        _arrow(ax, (12.9, y), (13.85, y), color, dashed=not gate)
        _arrow(ax, (14.95, y), (16.55, 4.5), color, dashed=not gate)
    _arrow(ax, (12.9, 1.15), (14.4, 2.4), ROUTER)
    ax.text(14.3, 1.35, "gates", color=ROUTER, fontsize=10.5, ha="left")
    ax.add_patch(Circle((17.0, 4.4), 0.5, facecolor="white", edgecolor=style.INK, linewidth=1.8))
    ax.text(17.0, 4.38, "Σ", ha="center", va="center", fontsize=14)
    _arrow(ax, (17.5, 4.4), (18.3, 4.4), style.INK)
    ax.text(18.4, 4.4, "y", va="center", fontsize=13, style="italic")
    gates = [{"expert": e, "gate": CHOSEN.get(e, 0.0)} for e in range(EXPERTS)]
    return Drawn(
        "The router scores every expert; the k best see the input, and their outputs are added "
        "with the gates as weights. Grey experts do no work for this input, which is the point: "
        "capacity grows with the number of experts, work with k.",
        "A drawing: an input goes to a router and to two of four experts, whose outputs are "
        "weighted by gates 0.7 and 0.3 and summed.",
        pd.DataFrame(gates),
        drawing,
    )


def _box(
    ax: Axes, corner: tuple[float, float], width: float, height: float, text: str, color: str
) -> None:
    style_of_box = "round,pad=0,rounding_size=0.18"
    box = FancyBboxPatch(
        corner, width, height, style_of_box, facecolor=FILLS[color], edgecolor=color, linewidth=1.8
    )
    ax.add_patch(box)
    middle = (corner[0] + width / 2, corner[1] + height / 2)
    ink = style.GREY if color == OFF else style.INK
    ax.text(*middle, text, ha="center", va="center", fontsize=10.5, color=ink)


def _arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    color: str,
    dashed: bool = False,
) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start,
            end,
            arrowstyle="-|>",
            mutation_scale=11,
            color=color,
            linewidth=1.0 if dashed else 1.6,
            linestyle=":" if dashed else "-",
            shrinkA=0,
            shrinkB=0,
        )
    )
