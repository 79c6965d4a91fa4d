"""Figures about the knobs: lc and k over ne, balance, capacity."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from moe.analysis.results import Tables, accuracy_slopes, cells, lc_sweep, mean_over_ne, over_seeds
from moe.figures import style
from moe.figures.style import Figure, canvas, lc_colors, legend_above, ne_axis, plot_lines
from moe.model import costs

POINTS = 100  # shares are shown in per cent


def effect_of_lc_on_accuracy(tables: Tables) -> Figure | None:
    """Figure 2."""
    runs = lc_sweep(tables.runs, tables.recipes)
    if runs is None:
        return None
    by_ne = over_seeds(runs, ["recipe", "lc", "ne"], "accuracy")
    by_lc = over_seeds(
        mean_over_ne(runs, ["recipe", "lc"], "accuracy"), ["recipe", "lc"], "accuracy"
    )
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(2, len(tables.recipes), 6.6, height_ratios=[1.5, 1])
    for (above, below), recipe in zip(axes.T, tables.recipes, strict=True):
        plot_lines(above, cells(by_ne, recipe=recipe), "ne", "lc", colors, "lc = {}", POINTS)
        ne_axis(above, list(runs["ne"]))
        above.set(title=f"{recipe}: accuracy over ne", ylabel="test accuracy, %")
        _points_over_lc(below, cells(by_lc, recipe=recipe), colors, POINTS)
        below.set(title=f"{recipe}: mean over ne", ylabel="test accuracy, %")
    legend_above(drawing, axes[0][0], len(colors))
    best = by_lc.loc[by_lc.groupby("recipe")["mean"].idxmax()]
    peaks = "; ".join(
        f"{row.recipe} peaks at lc = {row.lc:g} with {row.mean:.2%}" for row in _rows(best)
    )
    return Figure(
        2,
        "effect-of-lc-on-accuracy",
        "Effect of lc on accuracy",
        f"Above, test accuracy at k = 2 over the number of experts, a line for each lc; below, its "
        f"mean over ne, where the curve has its peak. Bands and whiskers are 95 % "
        f"intervals over the {_seeds(runs)} seeds that every lc has. {_sentence(peaks)}",
        f"Lines of test accuracy over the number of experts, one for each lc, for "
        f"{' and '.join(tables.recipes)}; {peaks}.",
        pd.concat([by_ne, by_lc.assign(ne="mean")]),
        drawing,
    )


def effect_of_lc_on_gate_loss(tables: Tables) -> Figure | None:
    """Figure 3."""
    return _effect_on_loss(
        tables, 3, "gate_loss", "gate loss, CV²", "The gate loss, unweighted so that lines compare,"
    )


def effect_of_lc_on_network_loss(tables: Tables) -> Figure | None:
    """Figure 4."""
    return _effect_on_loss(tables, 4, "network_loss", "network loss, nats", "The network loss")


def _effect_on_loss(
    tables: Tables, number: int, column: str, label: str, what: str
) -> Figure | None:
    runs = lc_sweep(tables.runs, tables.recipes)
    history = lc_sweep(tables.history, tables.recipes)
    if runs is None or history is None:
        return None
    name = label.split(",")[0]
    by_ne = over_seeds(runs, ["recipe", "lc", "ne"], column)
    by_epoch = over_seeds(
        mean_over_ne(history, ["recipe", "lc", "epoch"], column), ["recipe", "lc", "epoch"], column
    )
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(2, len(tables.recipes), 6.4)
    for (above, below), recipe in zip(axes.T, tables.recipes, strict=True):
        plot_lines(above, cells(by_ne, recipe=recipe), "ne", "lc", colors, "lc = {}")
        ne_axis(above, list(runs["ne"]))
        above.set(title=f"{recipe}: test set, at the end", ylabel=label)
        plot_lines(below, cells(by_epoch, recipe=recipe), "epoch", "lc", colors)
        below.set(title=f"{recipe}: in training, mean over ne", xlabel="epoch", ylabel=label)
        below.locator_params(axis="x", integer=True)
        if column == "gate_loss":
            above.set_ylim(bottom=0)
            below.set_ylim(bottom=0)
    legend_above(drawing, axes[0][0], len(colors))
    ends = over_seeds(mean_over_ne(runs, ["recipe", "lc"], column), ["recipe", "lc"], column)
    moves = "; ".join(
        f"{recipe}: "
        + ", ".join(
            f"{row.mean:.3g} at lc = {row.lc:g}" for row in _rows(cells(ends, recipe=recipe))
        )
        for recipe in tables.recipes
    )
    return Figure(
        number,
        f"effect-of-lc-on-{name.replace(' ', '-')}",
        f"Effect of lc on the {name}",
        f"{what} over ne at the end (above), and over epochs as the mean over ne (below); k = 2, "
        f"95 % bands over seeds. Mean over ne at the end: {moves}.",
        f"Lines of the {name} over ne and over epochs, one for each lc. {moves}.",
        pd.concat([by_ne, by_epoch]),
        drawing,
    )


def effect_of_k(tables: Tables) -> Figure | None:
    """Figure 5."""
    runs = cells(tables.runs, recipe=tables.recipes, lc=_usual_lc(tables.runs))
    if runs["k"].nunique() < 2:
        return None
    by_ne = over_seeds(runs, ["recipe", "k", "ne"], "accuracy")
    repaired = cells(tables.runs, recipe="switch", k=1, lc=_usual_lc(tables.runs))
    repaired_by_ne = over_seeds(repaired, ["recipe", "k", "ne"], "accuracy")
    at_1 = cells(tables.runs, k=1, lc=_usual_lc(tables.runs))
    at_1 = at_1[at_1["ne"] > 1]
    gradients = over_seeds(at_1, ["recipe", "ne"], "router_grad_norm")
    slopes = accuracy_slopes(tables.runs, [*tables.recipes, "switch"])
    colors = {k: style.K.get(k, style.GREY) for k in set(runs["k"])}
    drawing, axes = canvas(2, 2, 7)
    for ax, recipe in zip(axes[0], tables.recipes, strict=False):
        plot_lines(ax, cells(by_ne, recipe=recipe), "ne", "k", colors, "k = {}", POINTS)
        if len(repaired_by_ne):
            _switch_line(ax, repaired_by_ne)
        ne_axis(ax, list(runs["ne"]))
        ax.set(title=f"{recipe}: accuracy over ne", ylabel="test accuracy, %")
    for ax in axes[0][len(tables.recipes) :]:
        ax.set_axis_off()
    legend_above(drawing, axes[0][0], len(colors) + 1)
    _slopes_over_k(axes[1][0], slopes)
    last = axes[1][1]
    plot_lines(last, gradients, "ne", "recipe", style.RECIPE)
    ne_axis(last, list(gradients["ne"]))
    last.set(title="k = 1: what reaches the router", ylabel="norm of its gradient")
    last.legend()
    change = "; ".join(
        f"from the fewest experts to the most {recipe} changes by {_gain(by_ne, recipe, 1):+.1f} "
        f"points at k = 1 and {_gain(by_ne, recipe, 2):+.1f} at k = 2"
        for recipe in tables.recipes
    )
    still = [
        str(recipe)
        for recipe, group in gradients.groupby("recipe")
        if float(group["mean"].abs().max()) == 0
    ]
    zero = f" With k = 1 the gradient is exactly 0 under {' and '.join(still)}." if still else ""
    repair = "; the dashed line is k = 1 as Switch Transformers does it" if len(repaired) else ""
    return Figure(
        5,
        "effect-of-k",
        "Effect of k",
        f"Above, test accuracy over ne, a line for each k{repair}. Below, on the left, what a "
        f"doubling of the experts brings at each k (the slope of accuracy on log2 ne); on the "
        f"right the mean gradient norm of the router at k = 1.{zero} 95 % intervals over seeds. "
        f"{_sentence(change)}",
        f"Lines of accuracy over ne for each k, slopes of accuracy at each k, and the router's "
        f"gradient norm at k = 1. {_sentence(change)}",
        pd.concat(
            [
                by_ne,
                repaired_by_ne,
                slopes.assign(measure="points per doubling of ne"),
                gradients.assign(k=1, measure="router_grad_norm"),
            ]
        ),
        drawing,
    )


def _switch_line(ax: Axes, table: pd.DataFrame) -> None:
    """In the colour of k = 1, which it is; the line and its marker say that it is another way."""
    xs = table["ne"].to_numpy(float)
    ax.plot(
        xs,
        POINTS * table["mean"],
        color=style.K[1],
        marker="*",
        markersize=8,
        linestyle="--",
        label="switch, k = 1",
    )
    ax.fill_between(
        xs, POINTS * table["low"], POINTS * table["high"], color=style.K[1], alpha=0.1, linewidth=0
    )


def _slopes_over_k(ax: Axes, table: pd.DataFrame) -> None:
    """A point with its interval for each recipe and k, recipes beside each other."""
    if table.empty:
        ax.set_axis_off()
        return
    names = list(dict.fromkeys(table["recipe"]))
    for place, (name, marker) in enumerate(zip(names, style.MARKERS, strict=False)):
        points = cells(table, recipe=name)
        ax.errorbar(
            points["k"] + 0.16 * (place - (len(names) - 1) / 2),
            points["mean"],
            [points["mean"] - points["low"], points["high"] - points["mean"]],
            color=style.RECIPE[name],
            marker=marker,
            markersize=6,
            linestyle="",
            capsize=3,
            label=name,
        )
    ax.axhline(0, color=style.GREY, linewidth=1)
    ax.set_xticks(sorted(set(table["k"])))
    ax.set(title="what a doubling of ne brings", xlabel="k", ylabel="points per doubling")
    ax.legend()


def balance(tables: Tables) -> Figure | None:
    """Figure 12."""
    runs = lc_sweep(tables.runs, tables.recipes)
    history = lc_sweep(tables.history, tables.recipes)
    if runs is None or history is None:
        return None
    worst = over_seeds(runs, ["recipe", "lc", "ne"], "max_violation")
    dead = over_seeds(runs, ["recipe", "lc", "ne"], "dead_experts")
    keys = ["recipe", "lc", "epoch"]
    epochs = over_seeds(mean_over_ne(history, keys, "max_violation"), keys, "max_violation")
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(3, len(tables.recipes), 8.2)
    for (first, second, third), recipe in zip(axes.T, tables.recipes, strict=True):
        plot_lines(first, cells(worst, recipe=recipe), "ne", "lc", colors, "lc = {}")
        first.set(title=f"{recipe}: imbalance", ylabel="MaxVio (0: even)")
        plot_lines(second, cells(dead, recipe=recipe), "ne", "lc", colors)
        second.set(title=f"{recipe}: dead experts", ylabel="without an image")
        plot_lines(third, cells(epochs, recipe=recipe), "epoch", "lc", colors)
        third.set(
            title=f"{recipe}: in training, mean over ne", xlabel="epoch", ylabel="MaxVio (0: even)"
        )
        third.locator_params(axis="x", integer=True)
        for ax in (first, second):
            ne_axis(ax, list(runs["ne"]))
        for ax in (first, second, third):
            ax.set_ylim(bottom=0)
    legend_above(drawing, axes[0][0], len(colors))
    most = dead.loc[dead["mean"].idxmax()]
    return Figure(
        12,
        "balance",
        "Balance",
        f"How far the busiest expert is above the mean (MaxVio), and how many experts get no test "
        f"image at all; k = 2, 95 % bands over seeds. At worst {most['mean']:.1f} of "
        f"{most['ne']} experts are dead on average ({most['recipe']}, lc = {most['lc']:g}).",
        f"Lines of MaxVio and of dead experts over ne and epochs, one for each lc; at worst "
        f"{most['mean']:.1f} of {most['ne']} experts are dead.",
        pd.concat(
            [
                worst.assign(measure="max_violation"),
                dead.assign(measure="dead_experts"),
                epochs.assign(measure="max_violation"),
            ]
        ),
        drawing,
    )


def capacity_and_compute(tables: Tables) -> Figure | None:
    """Figure 14."""
    runs = cells(tables.runs, recipe=tables.recipes, lc=_usual_lc(tables.runs))
    runs = runs[runs["k"] == runs["ne"].clip(upper=2)]
    if runs["ne"].nunique() < 2:
        return None
    accuracy = over_seeds(runs, ["recipe", "ne"], "accuracy")
    accuracy["parameters"] = [costs.parameters(ne, tables.hidden) for ne in accuracy["ne"]]
    accuracy["flops"] = [
        costs.flops_per_sample(ne, min(ne, 2), tables.hidden) for ne in accuracy["ne"]
    ]
    drawing, axes = canvas(1, 2, 3.7)
    left, right = axes[0]
    counted = accuracy.drop_duplicates("ne").sort_values("ne")
    for column, name, line, marker in (
        ("parameters", "parameters", "-", "o"),
        ("flops", "FLOPs per image", "--", "s"),
    ):
        left.plot(counted["ne"], counted[column], line, color=style.INK, marker=marker, label=name)
    ne_axis(left, list(counted["ne"]))
    left.set_yscale("log")
    left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.yaxis.set_major_formatter(EngFormatter(sep=""))
    left.yaxis.set_minor_formatter(NullFormatter())
    left.set(title="what it holds, what it costs", ylabel="count")
    left.legend()
    plot_lines(right, accuracy, "parameters", "recipe", style.RECIPE, "{}", POINTS)
    base = accuracy[accuracy["ne"] == 1]
    if len(base):
        place = {"color": style.BASE, "linestyle": "", "marker": "o", "markersize": 8, "zorder": 3}
        right.plot(base["parameters"], POINTS * base["mean"], label="base, ne = 1", **place)
    right.set_xscale("log")
    right.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    right.xaxis.set_major_formatter(EngFormatter(sep=""))
    right.xaxis.set_minor_formatter(NullFormatter())
    right.set(title="accuracy over size", xlabel="parameters", ylabel="test accuracy, %")
    right.legend(loc="lower right")
    small, large = counted[counted["ne"] > 1].iloc[0], counted.iloc[-1]
    grown = (
        f"from {small['ne']} to {large['ne']} experts the parameters grow "
        f"{large['parameters'] / small['parameters']:.1f} times and the operations per image "
        f"{large['flops'] / small['flops']:.2f} times"
    )
    return Figure(
        14,
        "capacity-and-compute",
        "Capacity and compute",
        f"At k = 2 (1 for one expert), {grown}: with experts as small as these the router is not "
        "free. Blue points are the base; 95 % bands over seeds.",
        f"Parameters and FLOPs over the number of experts, and accuracy over parameters; {grown}.",
        accuracy,
        drawing,
    )


def _usual_lc(runs: pd.DataFrame) -> float:
    return 1.0 if (runs["lc"] == 1).any() else float(runs["lc"].mode()[0])


def _points_over_lc(ax: Axes, table: pd.DataFrame, colors: Any, scale: float) -> None:
    """One point with its interval for each lc, evenly spaced since 0 has no logarithm."""
    for place, (row, marker) in enumerate(zip(_rows(table), style.MARKERS, strict=False)):
        error = [[scale * (row.mean - row.low)], [scale * (row.high - row.mean)]]
        options = {"color": colors[row.lc], "marker": marker, "markersize": 8, "capsize": 4}
        ax.errorbar([place], [scale * row.mean], error, **options)
    ax.set_xticks(range(len(table)), [f"{lc:g}" for lc in table["lc"]])
    ax.set_xlabel("lc")
    ax.margins(x=0.15)


def _rows(table: pd.DataFrame) -> Any:
    return table.itertuples(index=False)


def _seeds(runs: pd.DataFrame) -> int:
    return runs["seed"].nunique()


def _gain(table: pd.DataFrame, recipe: str, k: int) -> float:
    points = cells(table, recipe=recipe, k=k).sort_values("ne")["mean"]
    return POINTS * float(points.iloc[-1] - points.iloc[0]) if len(points) else float("nan")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
