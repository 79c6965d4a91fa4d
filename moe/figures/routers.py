"""The published routers side by side."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from moe.analysis.recipe_comparison import most_experts, side_by_side
from moe.analysis.results import MissingCellsError, Tables, cells, over_seeds
from moe.figures import style
from moe.figures.drawn import Drawn, figure
from moe.figures.style import empty, legend_above, ne_axis, plot_lines, spread
from moe.recipes import in_order, recipe_named

MEASURES = (
    ("max_violation", "imbalance, MaxVio", 1),
    ("nmi", "specialisation, NMI", 1),
    ("dropped", "slots dropped in training, %", 100),
)
MOST_K = 3  # panels
PER_CENT = 100


@figure("routers-side-by-side", "The routers side by side", order=15)
def routers_side_by_side(tables: Tables) -> Drawn:
    """Accuracy over ne for each k; balance, specialisation and drops at the most experts."""
    if tables.routers.empty:
        raise MissingCellsError("three recipes, or the table of `make routers`")
    runs, table = tables.routers, side_by_side(tables.routers)
    recipes = in_order(runs["recipe"])
    most, seeds = most_experts(tables.routers), runs["seed"].nunique()
    drawing = Drawing(figsize=(style.WIDTH, 7.2), layout="constrained")
    upper, lower = np.ravel(drawing.subfigures(2, 1, height_ratios=[1.15, 1]))
    shown_k = spread(list(runs["k"]), MOST_K)
    over_ne = over_seeds(runs, ["recipe", "k", "ne"], "accuracy")
    curves = np.atleast_1d(upper.subplots(1, len(shown_k)))
    for ax, k in zip(curves, shown_k, strict=True):
        _accuracy(ax, cells(over_ne, k=k), recipes)
        ax.set_title(f"k = {k}: accuracy over ne")
    curves[0].set_ylabel("test accuracy, %")
    upper.legend(*_all_labels(curves, recipes), loc="outside right upper")
    at_most = cells(table, ne=most)
    choosing = [recipe for recipe in recipes if recipe_named(recipe).chooses]
    axes = lower.subplots(1, len(MEASURES), sharey=True)
    for ax, (name, label, scale) in zip(axes, MEASURES, strict=True):
        if cells(at_most, recipe=choosing).empty:
            empty(ax, "no router chooses")
            continue
        _dots(ax, at_most, name, scale, choosing)
        ax.set_title(label, fontsize=9)
    has_several = any(at_most["k"] > 1)
    for label, face in (("k = 1", "white"), ("k > 1", style.GREY))[: 1 + has_several]:
        axes[-1].plot([], [], "o", color=style.GREY, markerfacecolor=face, label=label)
    legend_above(lower, axes[-1], 2)
    best = at_most.loc[at_most["accuracy"].idxmax()]
    even = at_most.dropna(subset=["max_violation"])
    says_even = f"The most even at ne = {most} is {_most_even(even)}." if len(even) else ""
    return Drawn(
        f"Above, test accuracy with 95 % bands over seeds, of which there are {seeds}; below, at "
        f"ne = {most}, a dot for each recipe and k, filled from k = 2 on, with 95 % intervals. "
        f"Networks that choose nothing have no dot. The most accurate at ne = {most} is "
        f"{best['recipe']} with k = {best['k']} ({best['accuracy']:.2%}). {says_even}",
        f"Lines of accuracy over the number of experts for {len(recipes)} recipes, and dots of "
        f"their balance, specialisation and dropped slots at {most} experts; {best['recipe']} is "
        f"the most accurate. {says_even}",
        table,
        drawing,
    )


def _most_even(table: pd.DataFrame) -> str:
    row = table.loc[table["max_violation"].idxmin()]
    return f"{row['recipe']} with k = {row['k']} (MaxVio {row['max_violation']:.2f})"


def _accuracy(ax: Axes, means: pd.DataFrame, recipes: list[str]) -> None:
    markers = dict(zip(recipes, itertools.cycle(style.MARKERS), strict=False))
    for name in recipes:
        of_recipe = cells(means, recipe=name)
        if not of_recipe.empty:
            plot_lines(ax, of_recipe, "ne", "recipe", style.RECIPE, scale=PER_CENT)
            ax.lines[-1].set_marker(markers[name])
    ne_axis(ax, list(means["ne"]))


def _all_labels(axes: np.ndarray, recipes: list[str]) -> tuple[list[Any], list[str]]:
    """Handles of a legend: no panel has all recipes."""
    by_name = {line.get_label(): line for ax in axes for line in ax.lines}
    shown = [name for name in recipes if name in by_name]
    return [by_name[name] for name in shown], shown


def _dots(ax: Axes, table: pd.DataFrame, name: str, scale: float, rows: list[str]) -> None:
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
