"""Figure 16: the published routers, asked the same questions."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from moe.analysis.recipe_comparison import side_by_side
from moe.analysis.results import Tables, cells, over_seeds
from moe.figures import style
from moe.figures.style import Figure, legend_above, ne_axis, plot_lines
from moe.recipes import in_order, recipe_named

MEASURES = (
    ("max_violation", "imbalance, MaxVio", 1),
    ("nmi", "specialisation, NMI", 1),
    ("dropped", "slots dropped in training, %", 100),
)


def routers_side_by_side(tables: Tables) -> Figure | None:
    """Accuracy over ne for each k; balance, specialisation and drops at the most experts."""
    if tables.routers.empty:
        return None
    runs, table = tables.routers, side_by_side(tables.routers)
    recipes = in_order(runs["recipe"])
    most, seeds = int(runs["ne"].max()), runs["seed"].nunique()
    drawing = Drawing(figsize=(style.WIDTH, 7.2), layout="constrained")
    upper, lower = np.ravel(drawing.subfigures(2, 1, height_ratios=[1.15, 1]))
    all_k = sorted(set(runs["k"]))
    over_ne = over_seeds(runs, ["recipe", "k", "ne"], "accuracy")
    curves = np.atleast_1d(upper.subplots(1, len(all_k)))
    for ax, k in zip(curves, all_k, strict=True):
        _accuracy(ax, cells(over_ne, k=k), recipes)
        ax.set_title(f"k = {k}: accuracy over ne")
    curves[0].set_ylabel("test accuracy, %")
    upper.legend(*_all_labels(curves, recipes), loc="outside right upper")
    at_most = cells(table, ne=most)
    axes = lower.subplots(1, len(MEASURES), sharey=True)
    for ax, (name, label, scale) in zip(axes, MEASURES, strict=True):
        _dots(ax, at_most, name, scale, recipes)
        ax.set_title(label, fontsize=9)
    for k, face in ((1, "white"), (2, style.GREY)):
        axes[-1].plot([], [], "o", color=style.GREY, markerfacecolor=face, label=f"k = {k}")
    legend_above(lower, axes[-1], 2)
    best = at_most.loc[at_most["accuracy"].idxmax()]
    even = at_most.loc[at_most["max_violation"].idxmin()]
    return Figure(
        16,
        "routers-side-by-side",
        "The routers side by side",
        f"Above, test accuracy with 95 % bands over {seeds} seeds; below, at ne = {most}, a dot "
        "for each recipe and k, filled at k = 2, with 95 % intervals. The dense controls choose "
        f"nothing, so that they have no dot. Most accurate at ne = {most} is {best['recipe']} with "
        f"k = {best['k']} ({best['accuracy']:.2%}), most even {even['recipe']} with "
        f"k = {even['k']} (MaxVio {even['max_violation']:.2f}).",
        f"Lines of accuracy over the number of experts for {len(recipes)} recipes, and dots of "
        f"their balance, specialisation and dropped slots at {most} experts; {best['recipe']} is "
        f"the most accurate, {even['recipe']} the most even.",
        table,
        drawing,
    )


def _accuracy(ax: Axes, means: pd.DataFrame, recipes: list[str]) -> None:
    markers = dict(zip(recipes, style.MARKERS, strict=False))
    for name in recipes:
        of_recipe = cells(means, recipe=name)
        if not of_recipe.empty:
            plot_lines(ax, of_recipe, "ne", "recipe", style.RECIPE, scale=100)
            ax.lines[-1].set_marker(markers[name])
    ne_axis(ax, list(means["ne"]))


def _all_labels(axes: np.ndarray, recipes: list[str]) -> tuple[list[Any], list[str]]:
    """Of a legend: no panel has all recipes."""
    by_name = {line.get_label(): line for ax in axes for line in ax.lines}
    return [by_name[name] for name in recipes], recipes


def _dots(ax: Axes, table: pd.DataFrame, name: str, scale: float, recipes: list[str]) -> None:
    rows = [recipe for recipe in recipes if recipe_named(recipe).chooses]
    for row in cells(table, recipe=rows).to_dict("records"):
        recipe, k = str(row["recipe"]), int(row["k"])
        y = rows.index(recipe) + (0.14 if k > 1 else -0.14)
        color = style.RECIPE[recipe]
        low, high = (scale * row[f"{name}_{end}"] for end in ("low", "high"))
        ax.plot([low, high], [y, y], color=color, linewidth=1.4)
        face = color if k > 1 else "white"
        ax.plot(scale * row[name], y, "o", color=color, markerfacecolor=face)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xlim(left=min(0, ax.get_xlim()[0]))
