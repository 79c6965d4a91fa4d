"""Figures by class: accuracies and confusion."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from moe.analysis.results import (
    PER_CENT,
    MissingCellsError,
    Tables,
    at_usual,
    base,
    cells,
    counts_of,
    over_seeds,
    usual_of,
    where,
)
from moe.figures import style
from moe.figures.drawn import Drawn, figure, ref
from moe.figures.style import canvas, empty, error_bars, heatmap, legend_above, spread
from moe.figures.sweeps import sentence

FEWEST_SHOWN = 5  # images: smaller counts are not printed, so that the pattern shows
BRIGHTEST_ERROR = 0.1  # of a class's images: the end of the colour scale of errors
SHOWN_NE = (4, 8, 16)  # those that the study has; if none, others
MOST_SIZES, MOST_PANELS = 10, 3
LONG_NAME = 2  # characters: longer class names are rotated
NEEDS_BASE = "one expert (ne = 1) and more experts of the same recipe"


def with_base(table: pd.DataFrame, tables: Tables) -> tuple[pd.DataFrame, str]:
    """The rows of the base and of the mixtures at the usual k and lc, for recipes that have both;
    and these k and lc as text."""
    at = usual_of(tables, tables.recipes)
    both = {name: cell for name, cell in at.items() if len(base(table, name))}
    if not both:
        raise MissingCellsError(NEEDS_BASE)
    mixtures = at_usual(table, both)
    rows = [mixtures[mixtures["ne"] > 1], *(base(table, name) for name in both)]
    return pd.concat(rows), where(both)


@figure("accuracy-by-class", "Accuracy by class", order=6, for_claims=True)
def accuracy_by_class(tables: Tables) -> Drawn:
    runs, at = with_base(tables.runs, tables)
    recipes = list(dict.fromkeys(runs["recipe"]))
    sizes = spread(list(set(runs["ne"]) - {1}), MOST_SIZES)
    names = tables.accuracies
    long = runs[["recipe", "ne", "seed", *names]].melt(
        ["recipe", "ne", "seed"], names, "label", "accuracy"
    )
    long["label"] = long["label"].str.rpartition("_")[2].astype(int)
    means = over_seeds(long, ["recipe", "ne", "label"], "accuracy")
    drawing, axes = canvas(
        len(sizes), len(recipes), max(2.4, len(sizes) + 1), sharex=True, sharey="col"
    )
    for row, ne in zip(axes, sizes, strict=True):
        for ax, recipe in zip(row, recipes, strict=True):
            if cells(means, recipe=recipe, ne=ne).empty:
                empty(ax, f"{recipe} has no ne = {ne}")
                continue
            _bars(ax, means, recipe, ne)
            ax.set_xticks(list(tables.classes), tables.dataset.class_names)
            _turn_long(ax, tables)
            ax.grid(visible=False, axis="x")
            ax.set_ylabel(f"ne = {ne}", fontweight="bold")
    legend_above(drawing, next(ax for ax in axes.flat if ax.axison), 2)
    for column, recipe in enumerate(recipes):
        least = PER_CENT * float(cells(means, recipe=recipe)["mean"].min())
        drawn = [ax for ax in axes[:, column] if ax.axison]
        drawn[0].set_ylim(max(0, 10 * (least // 10) - 10), 100)
        drawn[0].set_title(f"{recipe}: test accuracy, %")
        drawn[-1].set_xlabel(tables.dataset.item)
        drawn[-1].tick_params(labelbottom=True)
    worst = [means.loc[cells(means, recipe=r, ne=1)["mean"].idxmin()] for r in recipes]
    weak = sentence(
        "; ".join(
            f"the weakest {tables.dataset.item} of the {row['recipe']} base is "
            f"{tables.dataset.class_names[row['label']]} with {row['mean']:.1%}"
            for row in worst
        )
    )
    shown = ", ".join(map(str, sizes))
    return Drawn(
        f"Test accuracy of each {tables.dataset.item}, the base model (one expert) in blue beside "
        f"ne experts, {at}, a row for each ne; whiskers are 95 % intervals over seeds, and the "
        f"axes "
        f"do not begin at 0. {weak}",
        f"Bars of accuracy by {tables.dataset.item}, base beside mixture, for ne = {shown}. {weak}",
        means,
        drawing,
    )


def _bars(ax: Axes, means: pd.DataFrame, recipe: str, ne: int) -> None:
    for offset, size, color, hatch, label in (
        (-0.2, 1, style.BASE, "", "base, one expert"),
        (0.2, ne, style.MIXTURE, "//", "ne experts"),
    ):
        bars = cells(means, recipe=recipe, ne=size).sort_values("label")
        look = {"color": color, "hatch": hatch, "edgecolor": "white", "linewidth": 0.5}
        x = bars["label"] + offset
        ax.bar(x, PER_CENT * bars["mean"], 0.38, label=label, **look)
        error_bars(ax, x, bars, PER_CENT, elinewidth=0.8, ecolor=style.INK)


@figure("confusion-of-the-base", "Confusion of the base model", order=7, for_claims=True)
def confusion_of_the_base(tables: Tables) -> Drawn:
    of_recipe = {name: base(tables.confusion, name) for name in tables.recipes}
    of_recipe = {name: rows for name, rows in of_recipe.items() if len(rows)}
    if not of_recipe:
        raise MissingCellsError("one expert, ne = 1")
    panels = [(f"{name}, {_seeds(rows)}", mean_counts(rows)) for name, rows in of_recipe.items()]
    first = next(iter(of_recipe))
    runs = base(tables.runs, first)
    weakest = runs.loc[runs[tables.accuracies].min(axis=1).idxmin()]
    one = cells(of_recipe[first], seed=weakest["seed"]).sort_values("digit")
    panels.append((f"{first}, seed {weakest['seed']} only", counts_of(one, "predicted")))
    drawing, axes = canvas(1, len(panels), 3.5)
    image = None
    for ax, (title, counts) in zip(axes[0], panels, strict=True):
        image = _confusion(ax, counts, title)
        class_axes(ax, tables, title, ax in axes[:, 0], last=True)
    _error_scale(drawing, image, axes, tables)
    label = int(np.argmin([weakest[name] for name in tables.accuracies]))
    item, name = tables.dataset.item, tables.dataset.class_names[label]
    samples = tables.dataset.samples
    share = f"{weakest[tables.accuracies[label]]:.0%} of the {samples} of {item} {name}"
    return Drawn(
        f"Test {samples} by true {item} (row) and prediction (column), of models with one expert, "
        f"mean over seeds; the diagonal, what is right, is pale, so that the errors show: the "
        f"brighter, the larger the share of the {item}'s {samples} (counts below {FEWEST_SHOWN} "
        f"are left out). On the right, of the {first} models, the one whose weakest {item} is "
        f"weakest: it is right on {share}.",
        f"Confusion matrices of base models. The one on the right, seed {weakest['seed']} of "
        f"{first}, is right on {share}.",
        _as_table(panels, tables),
        drawing,
        dense=True,
    )


@figure("confusion-of-experts", "Confusion of mixtures", order=8)
def confusion_of_experts(tables: Tables) -> Drawn:
    table, at = with_base(tables.confusion, tables)
    recipes = list(dict.fromkeys(table["recipe"]))
    present = set(table["ne"]) - {1}
    sizes = [ne for ne in SHOWN_NE if ne in present] or spread(list(present), MOST_PANELS)
    recipes = [name for name in recipes if len(cells(table, recipe=name, ne=sizes))]
    rows = 2 * len(recipes)
    drawing, axes = canvas(rows, len(sizes), 2.75 * rows)
    panels, image, largest = [], None, []
    for place, recipe in enumerate(recipes):
        of_recipe = cells(table, recipe=recipe)
        lines = axes[2 * place : 2 * place + 2]
        of_base = mean_counts(cells(of_recipe, ne=1))
        found = {ne: cells(of_recipe, ne=ne) for ne in sizes}
        counts = {ne: mean_counts(rows) for ne, rows in found.items() if len(rows)}
        reach = max(1.0, *(float(np.abs(c - of_base).max()) for c in counts.values()))
        change = None
        for above, below, ne in zip(*lines, sizes, strict=True):
            if ne not in counts:
                empty(above, f"{recipe} has no ne = {ne}")
                below.set_axis_off()
                continue
            panels.append((f"{recipe}, ne = {ne}", counts[ne]))
            image = _confusion(above, counts[ne])
            less = counts[ne] - of_base
            texts = np.where(np.abs(less) >= FEWEST_SHOWN, np.char.mod("%+.0f", less), "")
            change = heatmap(below, less, (-reach, reach), style.SIGNED, texts)
            is_first, is_last = ne == next(iter(counts)), place == len(recipes) - 1
            class_axes(above, tables, f"{recipe}, ne = {ne}", is_first)
            class_axes(below, tables, f"ne = {ne} less base", is_first, is_last)
        _error_scale(drawing, image, lines[:1], tables)
        bar = drawing.colorbar(change, ax=lines[1:], fraction=0.028, pad=0.01)
        bar.set_label(f"{tables.dataset.samples} more (red), less (blue)")
        bar.outline.set_visible(False)
        largest.append(_largest_change(counts[max(counts)] - of_base, recipe, max(counts), tables))
    item = tables.dataset.item
    return Drawn(
        f"Test {tables.dataset.samples} by true {item} and prediction, mean over seeds, {at}, on "
        f"the scale of {ref('confusion-of-the-base')}; below each, what changes against the base "
        f"of the same recipe: red is more, blue less. Off the diagonal, blue is an error that the "
        f"experts make less often. Numbers below {FEWEST_SHOWN} are left out here, not in the "
        f"table.",
        f"Confusion matrices for ne = {', '.join(map(str, sizes))} and their differences from the "
        f"base. {sentence('; '.join(largest))}",
        _as_table(panels, tables),
        drawing,
        dense=True,
    )


def mean_counts(confusion: pd.DataFrame) -> np.ndarray:
    """(classes, classes): mean counts over seeds, a row for each true class."""
    columns = [name for name in confusion if str(name).startswith("predicted_")]
    return counts_of(confusion.groupby("digit")[columns].mean(), "predicted")


def _seeds(rows: pd.DataFrame) -> str:
    count = rows["seed"].nunique()
    return f"{count} seed{'s' if count > 1 else ''}"


def _confusion(ax: Axes, counts: np.ndarray, title: str = "") -> Any:
    """Draw errors on the colour scale, the diagonal pale. Returns the image, for a colour bar."""
    right = np.eye(len(counts), dtype=bool)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    texts = np.where(counts >= FEWEST_SHOWN, np.char.mod("%.0f", counts), "")
    return heatmap(ax, np.where(right, np.nan, shares), (0, BRIGHTEST_ERROR), texts=texts)


def _error_scale(drawing: Any, image: Any, axes: Any, tables: Tables) -> None:
    bar = drawing.colorbar(image, ax=axes, fraction=0.028, pad=0.01, extend="max")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bar.set_label(f"share of the {tables.dataset.item}")
    bar.outline.set_visible(False)


def _largest_change(change: np.ndarray, recipe: str, ne: int, tables: Tables) -> str:
    """The error whose frequency drops most from the base to the experts."""
    off = change.copy()
    np.fill_diagonal(off, 0)
    true, predicted = np.unravel_index(off.argmin(), off.shape)
    names = tables.dataset.class_names
    if off.min() >= 0:
        return f"{recipe} at ne = {ne} makes no error less often"
    return (
        f"{recipe} at ne = {ne} takes {names[true]} for {names[predicted]} less often, by "
        f"{-off.min():.0f} {tables.dataset.samples}"
    )


def class_axes(
    ax: Axes, tables: Tables, title: str, first: bool = True, last: bool = False
) -> None:
    """Label axes only at the edges of a grid of panels."""
    ax.set_xticks(list(tables.classes), tables.dataset.class_names)
    ax.set_yticks(list(tables.classes), tables.dataset.class_names)
    _turn_long(ax, tables)
    ax.set_title(title)
    ax.set_ylabel(f"true {tables.dataset.item}" if first else "")
    ax.set_xlabel("predicted" if last else "")


def _turn_long(ax: Axes, tables: Tables) -> None:
    if max(map(len, tables.dataset.class_names)) > LONG_NAME:
        ax.tick_params(axis="x", rotation=90)


def _as_table(panels: list[tuple[str, np.ndarray]], tables: Tables) -> pd.DataFrame:
    names, item = tables.dataset.class_names, tables.dataset.item
    columns = [f"predicted {name}" for name in names]
    parts = [
        pd.DataFrame(counts, columns=columns).assign(**{"model": title, item: names})
        for title, counts in panels
    ]
    return pd.concat(parts)[["model", item, *columns]]
