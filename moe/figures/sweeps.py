"""Figures about the weight of the gate loss, lc: accuracy, the two losses, balance."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from moe.analysis.confirmed import study_text
from moe.analysis.results import (
    PER_CENT,
    Tables,
    cells,
    lc_sweep,
    mean_over_ne,
    over_seeds,
)
from moe.figures.drawn import Drawn, figure
from moe.figures.style import (
    canvas,
    empty,
    error_bars,
    lc_colors,
    legend_above,
    ne_axis,
    plot_lines,
)
from moe.study.runs import exactly

NO_COMMON_NE = "no ne that every lc has"


@figure("effect-of-lc-on-accuracy", "Effect of lc on accuracy", order=2, for_claims=True)
def effect_of_lc_on_accuracy(tables: Tables) -> Drawn:
    runs = lc_sweep(tables.runs, tables.recipes)
    recipes, keys = _recipes(runs), ["recipe", "lc"]
    by_ne = over_seeds(runs, ["recipe", "lc", "ne"], "accuracy")
    by_lc = over_seeds(mean_over_ne(runs, keys, "accuracy"), keys, "accuracy")
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(2, len(recipes), 6.6, height_ratios=[1.5, 1])
    for (above, below), recipe in zip(axes.T, recipes, strict=True):
        plot_lines(above, cells(by_ne, recipe=recipe), "ne", "lc", colors, "lc = {}", PER_CENT)
        ne_axis(above, list(cells(runs, recipe=recipe)["ne"]))
        above.set(title=f"{recipe}: accuracy over ne", ylabel="test accuracy, %")
        _points_over_lc(below, cells(by_lc, recipe=recipe), colors)
        below.set_title(f"{recipe}: mean over ne")
    legend_above(drawing, _longest(axes[0]), len(colors))
    best = by_lc.loc[by_lc.groupby("recipe")["mean"].idxmax()] if len(by_lc) else by_lc
    peaks = "; ".join(
        f"{row.recipe} is highest at lc = {exactly(row.lc)} with {row.mean:.2%}"
        for row in best.itertuples()
    )
    peaks = f" {sentence(peaks)}" if peaks else ""
    return Drawn(
        f"Above, test accuracy at {_k(runs)} over the number of experts, a line for each lc; "
        f"below, its mean over the ne that every lc has. Bands and whiskers are 95 % intervals "
        f"over "
        f"seeds, of which {_seeds(runs)}.{peaks}{_without(tables, recipes)}",
        f"Lines of test accuracy over the number of experts, one for each lc, for "
        f"{' and '.join(recipes)}.{peaks}",
        pd.concat([by_ne.astype({"ne": object}), by_lc.assign(ne="mean")]),
        drawing,
    )


@figure("effect-of-lc-on-gate-loss", "Effect of lc on the gate loss", order=3)
def effect_of_lc_on_gate_loss(tables: Tables) -> Drawn:
    what = "The gate loss, unweighted so that lines compare,"
    return _effect_on_loss(tables, "gate_loss", "gate loss", what)


@figure("effect-of-lc-on-network-loss", "Effect of lc on the network loss", order=4)
def effect_of_lc_on_network_loss(tables: Tables) -> Drawn:
    return _effect_on_loss(tables, "network_loss", "network loss, nats", "The network loss")


def _effect_on_loss(tables: Tables, column: str, label: str, what: str) -> Drawn:
    at_the_end = tables.for_claims
    runs = lc_sweep(at_the_end.runs, tables.recipes)
    history = lc_sweep(tables.history, tables.recipes)
    recipes, name = _recipes(runs), label.split(",")[0]
    by_ne = over_seeds(runs, ["recipe", "lc", "ne"], column)
    keys = ["recipe", "lc", "epoch"]
    by_epoch = over_seeds(mean_over_ne(history, keys, column), keys, column)
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(2, len(recipes), 6.4)
    for (above, below), recipe in zip(axes.T, recipes, strict=True):
        plot_lines(above, cells(by_ne, recipe=recipe), "ne", "lc", colors, "lc = {}")
        ne_axis(above, list(cells(runs, recipe=recipe)["ne"]))
        above.set(title=f"{recipe}: test set, at the end", ylabel=label)
        _over_epochs(below, cells(by_epoch, recipe=recipe), colors)
        below.set_title(f"{recipe}: in training, mean over ne")
        if column == "gate_loss":
            above.set_ylim(bottom=0)
            below.set_ylim(bottom=0)
    for ax in axes[1]:
        if ax.axison:
            ax.set_ylabel(label)
    legend_above(drawing, _longest(axes[0]), len(colors))
    ends = over_seeds(mean_over_ne(runs, ["recipe", "lc"], column), ["recipe", "lc"], column)
    moves = "; ".join(
        f"{recipe}: "
        + ", ".join(f"{row.mean:.3g} at lc = {exactly(row.lc)}" for row in of.itertuples())
        for recipe, of in ends.groupby("recipe", sort=False)
    )
    moves = f" Mean over ne at the end: {moves}." if moves else ""
    study = _of_the_end(by_ne, at_the_end)
    return Drawn(
        f"{what} over ne at the end (above), and over epochs as the mean over ne (below); "
        f"{_k(runs)}, 95 % bands over seeds.{moves}{study}{_without(tables, recipes)}",
        f"Lines of the {name} over ne and over epochs, one for each lc.{moves}",
        pd.concat([by_ne, by_epoch]),
        drawing,
    )


@figure("balance", "Balance", order=12)
def balance(tables: Tables) -> Drawn:
    at_the_end = tables.for_claims
    runs = lc_sweep(at_the_end.runs, tables.routing)
    history = lc_sweep(tables.history, tables.routing)
    recipes = _recipes(runs)
    worst = over_seeds(runs, ["recipe", "lc", "ne"], "max_violation")
    dead = over_seeds(runs, ["recipe", "lc", "ne"], "dead_experts")
    keys = ["recipe", "lc", "epoch"]
    epochs = over_seeds(mean_over_ne(history, keys, "max_violation"), keys, "max_violation")
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(3, len(recipes), 8.2)
    for (first, second, third), recipe in zip(axes.T, recipes, strict=True):
        plot_lines(first, cells(worst, recipe=recipe), "ne", "lc", colors, "lc = {}")
        first.set(title=f"{recipe}: imbalance", ylabel="MaxVio (0: even)")
        plot_lines(second, cells(dead, recipe=recipe), "ne", "lc", colors)
        second.set(title=f"{recipe}: dead experts", ylabel=f"without {tables.dataset.a_sample}")
        _over_epochs(third, cells(epochs, recipe=recipe), colors)
        third.set_title(f"{recipe}: in training, mean over ne")
        if third.axison:
            third.set_ylabel("MaxVio (0: even)")
        for ax in (first, second):
            ne_axis(ax, list(cells(runs, recipe=recipe)["ne"]))
        for ax in (first, second, third):
            ax.set_ylim(bottom=0)
    legend_above(drawing, _longest(axes[0]), len(colors))
    most = dead.loc[dead["mean"].idxmax()]
    summary = (
        f"At worst {most['mean']:.1f} of {most['ne']} experts are dead on average "
        f"({most['recipe']}, lc = {exactly(most['lc'])})."
        if most["mean"] > 0
        else "No expert is dead."
    )
    return Drawn(
        f"How far the busiest expert is above the mean (MaxVio, over the whole test set), and how "
        f"many experts get no test {tables.dataset.sample} at all; {_k(runs)}, 95 % bands over "
        f"seeds. {summary}"
        f"{_of_the_end(worst, at_the_end)}{_without(tables, recipes)}",
        f"Lines of MaxVio and of dead experts over ne and epochs, one for each lc. {summary}",
        pd.concat(
            [
                worst.assign(measure="max_violation"),
                dead.assign(measure="dead_experts"),
                epochs.assign(measure="max_violation"),
            ]
        ),
        drawing,
    )


def _points_over_lc(ax: Axes, table: pd.DataFrame, colors: dict[float, Any]) -> None:
    """One point with its interval for each lc, evenly spaced since 0 has no logarithm."""
    if table.empty:
        empty(ax, NO_COMMON_NE)
        return
    for place, lc in enumerate(table["lc"]):
        point = cells(table, lc=lc)
        error_bars(
            ax, [place], point, PER_CENT, color=colors[lc], marker="o", markersize=8, capsize=4
        )
    ax.set_xticks(range(len(table)), [exactly(lc) for lc in table["lc"]])
    ax.set(xlabel="lc", ylabel="test accuracy, %")
    ax.margins(x=0.15)


def _over_epochs(ax: Axes, table: pd.DataFrame, colors: dict[float, Any]) -> None:
    if table.empty:
        empty(ax, NO_COMMON_NE)
        return
    plot_lines(ax, table, "epoch", "lc", colors)
    ax.set_xlabel("epoch")
    ax.locator_params(axis="x", integer=True)


def _recipes(runs: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(runs["recipe"]))


def _longest(axes: Any) -> Axes:
    """The panel with the most lines, which the legend lists."""
    return max(axes, key=lambda ax: len(ax.lines))


def _k(runs: pd.DataFrame) -> str:
    """Such as "k = 2"."""
    by_k = runs.groupby("k", sort=False)["recipe"].unique()
    if len(by_k) == 1:
        return f"k = {by_k.index[0]}"
    return " and ".join(f"k = {k} ({', '.join(names)})" for k, names in by_k.items())


def _seeds(runs: pd.DataFrame) -> str:
    """A phrase on how many seeds a cell has."""
    counts = runs.groupby(["recipe", "lc", "ne"])["seed"].nunique()
    if counts.min() == counts.max():
        return f"every cell has {counts.min()}"
    return f"cells have {counts.min()} to {counts.max()}"


def _without(tables: Tables, recipes: list[str]) -> str:
    """A sentence on which of the report's recipes a figure over lc leaves out."""
    absent = [name for name in tables.recipes if name not in recipes]
    return f" Not shown: {' and '.join(absent)}, without two lc to compare." if absent else ""


def _of_the_end(drawn: pd.DataFrame, shown: Tables) -> str:
    """A sentence on which study the panels on the end of training show; epochs: this study."""
    study = study_text(drawn, shown)
    return f" {study.removesuffix('.')}, but over epochs of the exploratory one." if study else ""


def sentence(text: str) -> str:
    """Capitalise the first letter and add a full stop."""
    return f"{text[:1].upper()}{text[1:]}." if text else ""
