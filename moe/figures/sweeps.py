"""Figures about the knobs: lc and k over ne, balance, capacity."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from moe import costs
from moe.figures import style
from moe.figures.style import Figure, canvas, lc_colors, ne_axis, plot_lines
from moe.results import Tables, cells, mean_over_ne, over_seeds

POINTS = 100  # shares are shown in per cent


def effect_of_lc_on_accuracy(tables: Tables) -> Figure | None:
    """Figure 2."""
    runs = _lc_sweep(tables.runs, tables.recipes)
    if runs is None:
        return None
    by_ne = over_seeds(runs, ["recipe", "lc", "ne"], "accuracy")
    by_lc = over_seeds(
        mean_over_ne(runs, ["recipe", "lc"], "accuracy"), ["recipe", "lc"], "accuracy"
    )
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(
        len(tables.recipes), 2, 9, 3.2 * len(tables.recipes), width_ratios=[2.2, 1]
    )
    for (left, right), recipe in zip(axes, tables.recipes, strict=True):
        plot_lines(left, cells(by_ne, recipe=recipe), "ne", "lc", colors, "lc = {}", POINTS)
        ne_axis(left, list(runs["ne"]))
        left.set(title=f"{recipe}: accuracy over ne", ylabel="test accuracy, %")
        left.legend(ncols=2)
        _points_over_lc(right, cells(by_lc, recipe=recipe), colors, POINTS)
        right.set(title="mean over ne", ylabel="test accuracy, %")
    best = by_lc.loc[by_lc.groupby("recipe")["mean"].idxmax()]
    peaks = "; ".join(
        f"{row.recipe} peaks at lc = {row.lc:g} with {row.mean:.2%}" for row in _rows(best)
    )
    return Figure(
        2,
        "effect-of-lc-on-accuracy",
        "Effect of lc on accuracy",
        f"Test accuracy at k = 2, a line for each lc, with 95 % bands over seeds; on the right the "
        f"mean over ne. {_sentence(peaks)}",
        f"Lines of test accuracy over the number of experts, one for each lc, for "
        f"{' and '.join(tables.recipes)}; {peaks}.",
        pd.concat([by_ne, by_lc.assign(ne="mean")]),
        drawing,
    )


def effect_of_lc_on_gate_loss(tables: Tables) -> Figure | None:
    """Figure 3."""
    return _effect_on_loss(
        tables, 3, "gate_loss", "gate loss", "The gate loss, unweighted so that lines compare,"
    )


def effect_of_lc_on_network_loss(tables: Tables) -> Figure | None:
    """Figure 4."""
    return _effect_on_loss(tables, 4, "network_loss", "network loss", "The network loss")


def _effect_on_loss(
    tables: Tables, number: int, column: str, name: str, what: str
) -> Figure | None:
    runs = _lc_sweep(tables.runs, tables.recipes)
    history = _lc_sweep(tables.history, tables.recipes)
    if runs is None or history is None:
        return None
    by_ne = over_seeds(runs, ["recipe", "lc", "ne"], column)
    by_epoch = over_seeds(
        mean_over_ne(history, ["recipe", "lc", "epoch"], column), ["recipe", "lc", "epoch"], column
    )
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(len(tables.recipes), 2, 9, 3.2 * len(tables.recipes))
    for (left, right), recipe in zip(axes, tables.recipes, strict=True):
        plot_lines(left, cells(by_ne, recipe=recipe), "ne", "lc", colors, "lc = {}")
        ne_axis(left, list(runs["ne"]))
        left.set(title=f"{recipe}: {name} on the test set", ylabel=name)
        left.legend(ncols=2)
        plot_lines(right, cells(by_epoch, recipe=recipe), "epoch", "lc", colors)
        right.set(title="in training, mean over ne", xlabel="epoch", ylabel=name)
        right.locator_params(axis="x", integer=True)
        if column == "gate_loss":
            left.set_ylim(bottom=0)
            right.set_ylim(bottom=0)
    ends = over_seeds(mean_over_ne(runs, ["recipe", "lc"], column), ["recipe", "lc"], column)
    first, last = min(ends["lc"]), max(ends["lc"])
    moves = "; ".join(
        f"{recipe}: {_mean(ends, recipe, first):.3g} at lc = {first:g}, "
        f"{_mean(ends, recipe, last):.3g} at lc = {last:g}"
        for recipe in tables.recipes
    )
    return Figure(
        number,
        f"effect-of-lc-on-{name.replace(' ', '-')}",
        f"Effect of lc on the {name}",
        f"{what} at the end, over ne (left), and over epochs, as the mean over ne (right); k = 2, "
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
    colors = {k: style.K.get(k, style.GREY) for k in set(runs["k"])}
    drawing, axes = canvas(1, len(tables.recipes) + 1, 4.2 * len(tables.recipes) + 3, 3.8)
    for ax, recipe in zip(axes[0], tables.recipes, strict=False):
        plot_lines(ax, cells(by_ne, recipe=recipe), "ne", "k", colors, "k = {}", POINTS)
        if len(repaired_by_ne):
            ax.plot(
                repaired_by_ne["ne"],
                POINTS * repaired_by_ne["mean"],
                color=style.RECIPE["switch"],
                marker="*",
                linestyle="--",
                label="switch, k = 1",
            )
        ne_axis(ax, list(runs["ne"]))
        ax.set(title=f"{recipe}: accuracy over ne", ylabel="test accuracy, %")
        ax.legend(ncols=2)
    last = axes[0][-1]
    plot_lines(last, gradients, "ne", "recipe", style.RECIPE)
    ne_axis(last, list(gradients["ne"]))
    last.set(title="k = 1: what reaches the router", ylabel="norm of the router's gradient")
    last.legend()
    change = "; ".join(
        f"from the fewest experts to the most {recipe} changes by {_gain(by_ne, recipe, 1):+.1f} "
        f"points at k = 1 and {_gain(by_ne, recipe, 2):+.1f} at k = 2"
        for recipe in tables.recipes
    )
    still = [
        recipe
        for recipe, group in gradients.groupby("recipe")
        if float(group["mean"].abs().max()) == 0
    ]
    zero = f" With k = 1 the gradient is exactly 0 under {' and '.join(still)}." if still else ""
    return Figure(
        5,
        "effect-of-k",
        "Effect of k",
        f"Test accuracy over ne, a line for each k; the dashed line is k = 1 as Switch "
        f"Transformers does it. On the right the mean gradient norm of the router at k = 1."
        f"{zero} {_sentence(change)}",
        f"Lines of accuracy over ne for each k, and the router's gradient norm at k = 1. "
        f"{_sentence(change)}",
        pd.concat([by_ne, repaired_by_ne, gradients.assign(k=1, measure="router_grad_norm")]),
        drawing,
    )


def balance(tables: Tables) -> Figure | None:
    """Figure 12."""
    runs = _lc_sweep(tables.runs, tables.recipes)
    history = _lc_sweep(tables.history, tables.recipes)
    if runs is None or history is None:
        return None
    worst = over_seeds(runs, ["recipe", "lc", "ne"], "max_violation")
    dead = over_seeds(runs, ["recipe", "lc", "ne"], "dead_experts")
    keys = ["recipe", "lc", "epoch"]
    epochs = over_seeds(mean_over_ne(history, keys, "max_violation"), keys, "max_violation")
    colors = lc_colors(sorted(set(runs["lc"])))
    drawing, axes = canvas(len(tables.recipes), 3, 12, 3.2 * len(tables.recipes))
    for row, recipe in zip(axes, tables.recipes, strict=True):
        plot_lines(row[0], cells(worst, recipe=recipe), "ne", "lc", colors, "lc = {}")
        row[0].set(title=f"{recipe}: MaxVio over ne", ylabel="MaxVio (0 = balanced)")
        row[0].legend()
        plot_lines(row[1], cells(dead, recipe=recipe), "ne", "lc", colors)
        row[1].set(title="dead experts", ylabel="experts without an image")
        plot_lines(row[2], cells(epochs, recipe=recipe), "epoch", "lc", colors)
        row[2].set(title="MaxVio over epochs, mean over ne", xlabel="epoch", ylabel="MaxVio")
        row[2].locator_params(axis="x", integer=True)
        for ax in row[:2]:
            ne_axis(ax, list(runs["ne"]))
        for ax in row:
            ax.set_ylim(bottom=0)
    most = dead.loc[dead["mean"].idxmax()]
    return Figure(
        12,
        "balance",
        "Balance",
        f"How far the busiest expert is above the mean (MaxVio), and how many experts get no test "
        f"image at all; k = 2, 95 % bands over seeds. At worst {most['mean']:.1f} of "
        f"{most['ne']} experts are dead on average ({most['recipe']}, lc = {most['lc']:g}).",
        "Lines of MaxVio and of dead experts over ne and epochs, one for each lc.",
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
    drawing, axes = canvas(1, 2, 9.5, 3.8)
    left, right = axes[0]
    counted = accuracy.drop_duplicates("ne").sort_values("ne")
    for column, color, marker in (("parameters", style.BASE, "o"), ("flops", "#D55E00", "s")):
        label = "parameters" if column == "parameters" else "FLOPs per image"
        left.plot(counted["ne"], counted[column] / 1e3, color=color, marker=marker, label=label)
    ne_axis(left, list(counted["ne"]))
    left.set_yscale("log")
    left.set(title="what it holds and what it costs", ylabel="thousands")
    left.legend()
    plot_lines(right, accuracy, "parameters", "recipe", style.RECIPE, "{}", POINTS)
    right.set_xscale("log")
    right.set(title="accuracy over size", xlabel="parameters", ylabel="test accuracy, %")
    right.legend()
    small, large = counted[counted["ne"] > 1].iloc[0], counted.iloc[-1]
    return Figure(
        14,
        "capacity-and-compute",
        "Capacity and compute",
        f"At k = 2 (1 for one expert), from {small['ne']} to {large['ne']} experts the parameters "
        f"grow {large['parameters'] / small['parameters']:.1f} times and the operations per image "
        f"{large['flops'] / small['flops']:.2f} times: with experts as small as these the router "
        "is not free.",
        "Parameters and FLOPs over the number of experts, and accuracy over parameters.",
        accuracy,
        drawing,
    )


def _lc_sweep(table: pd.DataFrame, recipes: Sequence[str]) -> pd.DataFrame | None:
    """The cells with k = 2, if there is more than one lc."""
    swept = cells(table, recipe=list(recipes), k=2)
    return swept if swept["lc"].nunique() > 1 else None


def _usual_lc(runs: pd.DataFrame) -> float:
    return 1.0 if (runs["lc"] == 1).any() else float(runs["lc"].mode()[0])


def _points_over_lc(ax, table: pd.DataFrame, colors, scale: float) -> None:
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


def _mean(table: pd.DataFrame, recipe: str, lc: float) -> float:
    return float(cells(table, recipe=recipe, lc=lc)["mean"].iloc[0])


def _gain(table: pd.DataFrame, recipe: str, k: int) -> float:
    points = cells(table, recipe=recipe, k=k).sort_values("ne")["mean"]
    return POINTS * float(points.iloc[-1] - points.iloc[0]) if len(points) else float("nan")


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
