"""Figures of the comparison of routers: accuracy and balance, weights, gains, sizes, decisions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from moe.analysis import router_answers as answers
from moe.analysis.results import PER_CENT, MissingCellsError, Tables, cells
from moe.analysis.router_study import MOST_NE, RouterStudy
from moe.figures import style
from moe.figures.drawn import Drawn, figure
from moe.figures.style import MARKERS, canvas, empty, legend_above, ne_axis
from moe.recipes import in_order, recipe_named
from moe.study.runs import exactly

NEEDS = "the tables of `make routers`"
EVEN = 0.01  # the left end of logarithmic MaxVio axes, also used for 0
PLACES = {"max_violation": "test set", "max_violation_batch": "a training batch",
          "max_violation_epoch": "an epoch"}  # fmt: skip
SHAPES = dict(zip(PLACES, "osD", strict=True))
GROUPS = (
    ("weight of the gate loss", lambda r: not r.selection_bias and r.knob is None),
    ("step of the bias", lambda r: r.selection_bias),
    ("p, or iterations", lambda r: r.knob is not None),
)
CONTROLS = ("random", "dense-active", "dense-total")


def study_of(tables: Tables) -> RouterStudy:
    """The comparison of routers. Raises MissingCellsError if it has not been run."""
    if tables.router_study is None:
        raise MissingCellsError(NEEDS)
    return tables.router_study


@figure("router-front", "Accuracy and balance", order=16)
def router_front(tables: Tables) -> Drawn:
    """Phase one over lc as curves, chosen values marked; below, three kinds of balance."""
    study = study_of(tables)
    table = cells(answers.by_weight(study), ne=MOST_NE)
    recipes = [name for name in in_order(table["recipe"]) if recipe_named(name).chooses]
    drawing = Drawing(figsize=(style.WIDTH, 8.4), layout="constrained")
    upper, lower = np.ravel(drawing.subfigures(2, 1, height_ratios=[1, 1]))
    axes = upper.subplots(1, 2, sharex=True)
    for ax, k in zip(axes, (1, 2), strict=True):
        for recipe in recipes:
            points = cells(table, recipe=recipe, k=k).sort_values("lc")
            x, y = points["max_violation"].clip(EVEN), PER_CENT * points["accuracy"]
            look = {"color": style.RECIPE[recipe], "marker": marker(recipe, recipes)}
            ax.plot(x, y, label=recipe, linewidth=1, markersize=4, **look)
            best = points["chosen"].to_numpy(bool)
            ax.plot(x[best], y[best], linestyle="", markersize=9, markeredgecolor=style.INK, **look)
        ax.set_xscale("log")
        ax.set(title=f"k = {k}: phase one", xlabel="MaxVio")
        _above(ax, table[(table["k"] == k) & table["recipe"].isin(recipes)])
    axes[0].set_ylabel("accuracy on the images to choose on, %")
    handles, labels = axes[1].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside right center", fontsize=8)
    found = cells(answers.means(study), ne=MOST_NE)
    axes = lower.subplots(1, 2, sharey=True)
    for ax, k in zip(axes, (1, 2), strict=True):
        _balance(ax, cells(found, k=k), recipes)
        ax.set_title(f"k = {k}: phase two")
    handles, labels = axes[0].get_legend_handles_labels()
    lower.legend(handles, labels, loc="outside upper right", ncols=3)
    return Drawn(
        f"Above, phase one at ne = {MOST_NE} and the chosen learning rate: a curve over the values "
        f"of lc for each router, MaxVio below {EVEN:g} drawn there; large with a dark edge, what "
        f"was chosen. Axes begin where most points are. Below, phase two, mean over seeds with "
        f"95 % intervals: the busiest expert over the mean, minus 1, on the test set, in a "
        f"training batch and over an epoch of training.",
        f"Curves of accuracy over MaxVio for {len(recipes)} routers, and dots of their balance.",
        pd.concat([table.assign(phase="one"), found.assign(phase="two")]),
        drawing,
    )


def marker(recipe: str, recipes: Sequence[str]) -> str:
    return MARKERS[recipes.index(recipe) % len(MARKERS)]


def _above(ax: Axes, table: pd.DataFrame) -> None:
    """Limit the axis to hide the few low points that would squeeze the others."""
    y = PER_CENT * table["accuracy"].to_numpy()
    if len(y):
        middle, top = np.median(y), y.max()
        low = max(y.min(), middle - 3 * max(top - middle, 0.2))
        ax.set_ylim(low - 0.3, top + 0.3)


def _balance(ax: Axes, table: pd.DataFrame, recipes: Sequence[str]) -> None:
    for place, (name, label) in enumerate(PLACES.items()):
        for row in cells(table, recipe=list(recipes)).to_dict("records"):
            recipe = str(row["recipe"])
            y, color = recipes.index(recipe) + 0.22 * (place - 1), style.RECIPE[recipe]
            low, value, high = (max(EVEN, row[f"{name}{end}"]) for end in ("_low", "", "_high"))
            ax.plot([low, high], [y, y], color=color, linewidth=1.2)
            ax.plot(value, y, SHAPES[name], color=color, markersize=5)
        ax.plot([], [], SHAPES[name], color=style.GREY, label=label)
    ax.set_xscale("log")
    ax.set_yticks(range(len(recipes)), recipes)
    ax.set_ylim(len(recipes) - 0.5, -0.5)
    ax.set_xlabel("MaxVio")


@figure("router-weights", "Which weight?", order=17)
def router_weights(tables: Tables) -> Drawn:
    """Accuracy, MaxVio and dead experts over lc, for each kind of lc."""
    study = study_of(tables)
    table = cells(answers.by_weight(study), ne=MOST_NE)
    several = table.groupby(["recipe", "k"])["lc"].transform("nunique") > 1
    table = table[several]
    drawing, axes = canvas(3, len(GROUPS), 9, sharex="col")
    recipes = in_order(table["recipe"])
    for column, (title, is_in) in zip(axes.T, GROUPS, strict=True):
        names = [name for name in recipes if is_in(recipe_named(name))]
        of_group = cells(table, recipe=names)
        values = sorted(set(of_group["lc"]))
        if not values:
            empty(column[0], f"no router has a {title}")
            continue
        for ax, (name, label, scale) in zip(column, WEIGHED, strict=True):
            for recipe in names:
                for k in (1, 2):
                    _over_weights(ax, cells(of_group, recipe=recipe, k=k), name, scale, values, k)
            ax.set_xticks(range(len(values)), [exactly(lc) for lc in values], fontsize=8)
            if ax in axes[:, 0]:
                ax.set_ylabel(label)
        column[0].set_title(title, fontsize=9)
        column[1].set_yscale("symlog", linthresh=0.1)
        column[1].set_ylim(bottom=0)
        column[2].set_ylim(-0.1, max(1, 1.1 * of_group["dead_experts"].max()))
        column[-1].set_xlabel("lc")
    lines = [
        axes[0, 0].plot([], [], color=style.RECIPE[name], marker="o", label=name)[0]
        for name in recipes
    ]
    for k, dash in DASHES.items():
        lines += axes[0, 0].plot([], [], dash, color=style.GREY, label=f"k = {k}")
    drawing.legend(handles=lines, loc="outside upper center", ncols=5, fontsize=8)
    return Drawn(
        f"Phase one at ne = {MOST_NE}, the learning rate as chosen for each router, mean over "
        f"three seeds: accuracy on the images to choose on, MaxVio, and experts "
        f"without an image; large, the chosen value. Values of lc are evenly spaced; those of "
        f"different routers mean different things.",
        f"Lines of accuracy, MaxVio and dead experts over lc for {len(recipes)} routers.",
        table,
        drawing,
    )


DASHES = {1: "--", 2: "-"}
WEIGHED = (
    ("accuracy", "accuracy, %", PER_CENT),
    ("max_violation", "MaxVio", 1),
    ("dead_experts", "dead experts", 1),
)


def _over_weights(
    ax: Axes, points: pd.DataFrame, name: str, scale: float, values: list[float], k: int
) -> None:
    if points.empty:
        return
    points = points.sort_values("lc")
    x = np.array([values.index(lc) for lc in points["lc"]])
    y = scale * points[name].to_numpy()
    color, best = style.RECIPE[points["recipe"].iloc[0]], points["chosen"].to_numpy(bool)
    ax.plot(x, y, DASHES[k], marker="o", markersize=3, color=color, linewidth=1.2)
    ax.plot(x[best], y[best], "o", markersize=8, color=color, markeredgecolor=style.INK)


@figure("router-gains", "What does a router learn?", order=18)
def router_gains(tables: Tables) -> Drawn:
    """Each router minus each control."""
    study = study_of(tables)
    table = answers.gains(study)
    rows = [(recipe, k) for recipe in in_order(table["recipe"]) for k in (1, 2)]
    rows = [row for row in rows if len(cells(table, recipe=row[0], k=row[1]))]
    drawing, axes = canvas(1, len(CONTROLS), 0.24 * len(rows) + 1.2, sharey=True)
    for ax, control in zip(axes[0], CONTROLS, strict=True):
        for y, (recipe, k) in enumerate(rows):
            for row in cells(table, recipe=recipe, k=k, control=control).to_dict("records"):
                whisker(ax, y, row, style.RECIPE[recipe], filled=k > 1)
        ax.axvline(0, color=style.INK, linewidth=1)
        ax.set(title=f"less {control}", xlabel="points of accuracy")
    axes[0, 0].set_yticks(range(len(rows)), [f"{recipe}, k = {k}" for recipe, k in rows])
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    return Drawn(
        f"Phase two at ne = {MOST_NE}: accuracy less that of three controls, within each seed, "
        f"with 95 % intervals: random keeps its initial router; dense-active is one network as "
        f"large as the k experts at work; dense-total is one as large as all {MOST_NE}. Filled "
        f"from k = 2 on.",
        "Dots of differences in accuracy from three controls, a row for each router and k.",
        table,
        drawing,
    )


def whisker(ax: Axes, y: float, row: dict[str, Any], color: str, filled: bool = True) -> None:
    """A dot with its interval, at height y."""
    ax.plot([row["low"], row["high"]], [y, y], color=color, linewidth=1.5)
    face = color if filled else "white"
    ax.plot(row["difference"], y, "o", color=color, markerfacecolor=face, markersize=5)


@figure("router-grains", "More and smaller experts", order=19)
def router_grains(tables: Tables) -> Drawn:
    """160 hidden units in ne experts, 40 of them active."""
    table = answers.grains(study_of(tables))
    drawing, ((ax, balance),) = canvas(1, 2, 3.6)
    mixed = [name for name in in_order(table["recipe"]) if recipe_named(name).chooses]
    for recipe in in_order(table["recipe"]):
        rows, color = cells(table, recipe=recipe).sort_values("ne"), style.RECIPE[recipe]
        if recipe in mixed:
            ax.plot(rows["ne"], PER_CENT * rows["accuracy"], "o-", color=color, label=recipe)
            band = (PER_CENT * rows[end] for end in ("low", "high"))
            ax.fill_between(rows["ne"], *band, color=color, alpha=0.15, linewidth=0)
            balance.plot(rows["ne"], rows["max_violation"], "o-", color=color)
        else:
            level = PER_CENT * rows["accuracy"].iloc[0]
            ax.axhline(level, color=color, linestyle="--", label=recipe)
    for each in (ax, balance):
        ne_axis(each, list(cells(table, recipe=mixed)["ne"]))
    ax.set(title="accuracy", ylabel="test accuracy, %")
    balance.set(title="imbalance on the test set", ylabel="MaxVio")
    balance.set_ylim(bottom=0)
    legend_above(drawing, ax, 4)
    return Drawn(
        "Phase two: 160 hidden units in all, 40 of them at work for an image, in ne experts of "
        "160/ne units each, of which ne/4 are chosen. Means over seeds with 95 % bands; dashed, "
        "one dense network of 40 units (dense-active) and one of 160 (dense-total). Learning "
        f"rate and lc are those chosen for ne = {MOST_NE}, k = 2, not for each size.",
        "Lines of accuracy and MaxVio over the number of experts at a constant number of units.",
        table,
        drawing,
    )


@figure("router-choices", "A shared expert, normalised gates, a capacity", order=20)
def router_choices(tables: Tables) -> Drawn:
    """The effect of single decisions on accuracy, balance and dead experts."""
    table = answers.choices(study_of(tables))
    keys = ["question", "one", "other", "ne", "k"]
    rows = table[keys].drop_duplicates().to_dict("records")
    colors = dict(zip(dict.fromkeys(table["question"]), DECISIONS, strict=False))
    drawing, axes = canvas(1, 3, 0.26 * len(rows) + 1.2, sharey=True)
    for ax, (measure, label, _) in zip(axes[0], WEIGHED, strict=True):
        for y, row in enumerate(rows):
            for found in cells(table, **row, measure=measure).to_dict("records"):
                whisker(ax, y, found, colors[row["question"]])
        ax.axvline(0, color=style.INK, linewidth=1)
        ax.set(title=label.replace("accuracy, %", "accuracy, points"), xlabel="difference")
    names = [f"{r['one']} − {r['other']}, ne = {r['ne']}, k = {r['k']}" for r in rows]
    axes[0, 0].set_yticks(range(len(rows)), names, fontsize=8)
    axes[0, 0].set_ylim(len(rows) - 0.5, -0.5)
    return Drawn(
        "Phase two: what one decision changes within each seed, with 95 % intervals. A shared "
        "expert against switch with the same k; gates divided by their sum against gates that are "
        "not; a capacity of switch against none (factor 1: no expert may take more than its even "
        "share).",
        "Dots of differences in accuracy, MaxVio and dead experts, a row each.",
        table,
        drawing,
    )


DECISIONS = ("#0072B2", "#D55E00", "#CC79A7", "#009E73")
