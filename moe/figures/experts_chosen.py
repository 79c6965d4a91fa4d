"""Figures over the number of experts: the effect of k, and the cost of capacity."""

import itertools

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from moe.analysis.results import (
    PER_CENT,
    MissingCellsError,
    Tables,
    accuracy_slopes,
    at_usual,
    cells,
    change_over_ne,
    interval_text,
    over_seeds,
    usual_of,
    where,
)
from moe.figures import style
from moe.figures.drawn import Drawn, figure
from moe.figures.style import canvas, empty, error_bars, legend_above, ne_axis, plot_lines
from moe.figures.sweeps import sentence
from moe.model import costs
from moe.recipes import in_order
from moe.study.runs import exactly

FREE = 1.05  # ratio of FLOPs above which the caption mentions the router's cost


@figure("effect-of-k", "Effect of k", order=5, for_claims=True)
def effect_of_k(tables: Tables) -> Drawn:
    at = {recipe: _lc(tables, recipe) for recipe in in_order(tables.runs["recipe"])}
    shown = tables.recipes
    runs = pd.concat([cells(tables.runs, recipe=recipe, lc=lc) for recipe, lc in at.items()])
    of_shown = cells(runs, recipe=shown)
    if of_shown.groupby("recipe")["k"].nunique().max() < 2:
        raise MissingCellsError("two values of k at one lc")
    by_ne = over_seeds(of_shown, ["recipe", "k", "ne"], "accuracy")
    at_1 = runs[(runs["k"] == 1) & (runs["ne"] > 1)]
    gradients = over_seeds(at_1, ["recipe", "ne"], "router_grad_norm")
    trained = {name for name, of in at_1.groupby("recipe") if of["router_grad_norm_max"].max() > 0}
    others = [name for name in at if name in trained and name not in shown]
    others_at_1 = over_seeds(cells(runs, recipe=others, k=1), ["recipe", "k", "ne"], "accuracy")
    slopes = accuracy_slopes(tables.runs, {name: at[name] for name in (*shown, *others)})
    colors = {k: style.K.get(k, style.GREY) for k in set(of_shown["k"])}
    drawing, axes = canvas(2, 2, 7)
    for ax, recipe in zip(axes[0], shown, strict=False):
        plot_lines(ax, cells(by_ne, recipe=recipe), "ne", "k", colors, "k = {}", PER_CENT)
        for other, marker in zip(others, itertools.cycle("*hpd"), strict=False):
            _other_line(ax, cells(others_at_1, recipe=other), other, marker)
        ne_axis(ax, [*of_shown["ne"], *others_at_1["ne"]])
        ax.set(title=f"{recipe}: accuracy over ne", ylabel="test accuracy, %")
    for ax in axes[0][len(shown) :]:
        ax.set_axis_off()
    legend_above(drawing, max(axes[0], key=lambda ax: len(ax.lines)), len(colors) + len(others))
    _slopes_over_k(axes[1][0], slopes)
    _gradients(axes[1][1], gradients)
    still = [
        str(recipe)
        for recipe, group in at_1.groupby("recipe")
        if float(group["router_grad_norm_max"].abs().max()) == 0
    ]
    zero = f" With k = 1 the gradient is exactly 0 under {' and '.join(still)}." if still else ""
    repair = (
        f"; dashed, k = 1 of {' and '.join(others)}, whose router trains there" if others else ""
    )
    change = "; ".join(filter(None, (_changes(tables, name, at[name]) for name in shown)))
    change = f" Within each seed, {change}." if change else ""
    lcs = sorted({at[name] for name in (*shown, *others)})
    return Drawn(
        f"Above, test accuracy over ne, a line for each k{repair}. Below, on the left, what a "
        f"doubling of the experts brings at each k (the slope of accuracy on log2 ne); on the "
        f"right the mean gradient norm of the router at k = 1.{zero} "
        f"lc = {', '.join(exactly(lc) for lc in lcs)}; 95 % intervals over seeds.{change}",
        f"Lines of accuracy over ne for each k, slopes of accuracy at each k, and the router's "
        f"gradient norm at k = 1.{zero}{change}",
        pd.concat(
            [
                by_ne,
                others_at_1,
                slopes.assign(measure="points per doubling of ne"),
                gradients.assign(k=1, measure="router_grad_norm"),
            ]
        ),
        drawing,
    )


def _lc(tables: Tables, recipe: str) -> float:
    """The lc at which a recipe has the most k; 1 wins ties."""
    runs = cells(tables.runs, recipe=recipe)
    by_lc = runs.groupby("lc")["k"].nunique()
    return max(by_lc.index, key=lambda lc: (by_lc[lc], lc == 1, (runs["lc"] == lc).sum(), -lc))


def _changes(tables: Tables, recipe: str, lc: float) -> str:
    """The change from the fewest to the most experts, at the two smallest k that have both."""
    found = {
        k: change_over_ne(tables.runs, recipe, int(k), lc)
        for k in sorted(set(cells(tables.runs, recipe=recipe, lc=lc)["k"]))
    }
    ranges = [
        f"{interval_text(change.value, change.low, change.high, '{:+.1f}')} points at k = {k} from "
        f"{change.fewest} to {change.most} experts"
        for k, change in found.items()
        if change
    ]
    return f"{recipe} changes by {' and '.join(ranges[:2])}" if ranges else ""


def _other_line(ax: Axes, table: pd.DataFrame, recipe: str, marker: str) -> None:
    """A line for k = 1 of a recipe that has no panel."""
    xs, color = table["ne"].to_numpy(float), style.RECIPE[recipe]
    look = {"color": color, "marker": marker, "markersize": 8, "linestyle": "--"}
    ax.plot(xs, PER_CENT * table["mean"], label=f"{recipe}, k = 1", **look)
    low, high = PER_CENT * table["low"], PER_CENT * table["high"]
    ax.fill_between(xs, low, high, color=color, alpha=0.1, linewidth=0)


def _gradients(ax: Axes, gradients: pd.DataFrame) -> None:
    if gradients.empty:
        empty(ax, "no cells with k = 1 and ne > 1")
        return
    plot_lines(ax, gradients, "ne", "recipe", style.RECIPE)
    ne_axis(ax, list(gradients["ne"]))
    ax.set(title="k = 1: what reaches the router", ylabel="norm of its gradient")
    ax.legend()


def _slopes_over_k(ax: Axes, table: pd.DataFrame) -> None:
    """A point with its interval for each recipe and k, recipes side by side."""
    if table.empty:
        empty(ax, "slopes need three ne and two seeds at one k")
        return
    names = list(dict.fromkeys(table["recipe"]))
    for place, (name, marker) in enumerate(
        zip(names, itertools.cycle(style.MARKERS), strict=False)
    ):
        points = cells(table, recipe=name)
        x = points["k"] + 0.16 * (place - (len(names) - 1) / 2)
        look = {"color": style.RECIPE[name], "marker": marker, "markersize": 6, "capsize": 3}
        error_bars(ax, x, points, label=name, **look)
    ax.axhline(0, color=style.GREY, linewidth=1)
    ax.set_xticks(sorted(set(table["k"])))
    ax.set(title="what a doubling of ne brings", xlabel="k", ylabel="points per doubling")
    ax.legend()


@figure("capacity-and-compute", "Capacity and compute", order=14)
def capacity_and_compute(tables: Tables) -> Drawn:
    at = usual_of(tables, tables.recipes)
    runs = at_usual(tables.runs, at)
    if runs["ne"].nunique() < 2:
        raise MissingCellsError("two values of ne at one k and lc")
    size = (tables.hidden, tables.dataset.in_features, len(tables.classes))
    accuracy = over_seeds(runs, ["recipe", "ne"], "accuracy")
    accuracy["parameters"] = [costs.parameters(ne, *size) for ne in accuracy["ne"]]
    accuracy["flops"] = [
        costs.flops_per_sample(ne, min(ne, at[recipe].k), *size)
        for recipe, ne in zip(accuracy["recipe"], accuracy["ne"], strict=True)
    ]
    drawing, axes = canvas(1, 2, 3.7)
    left, right = axes[0]
    widest = max(at, key=lambda name: cells(accuracy, recipe=name)["ne"].nunique())
    counted = cells(accuracy, recipe=widest).sort_values("ne")
    for column, name, line, marker in (
        ("parameters", "parameters", "-", "o"),
        ("flops", f"FLOPs per {tables.dataset.sample}", "--", "s"),
    ):
        left.plot(counted["ne"], counted[column], line, color=style.INK, marker=marker, label=name)
    ne_axis(left, list(counted["ne"]))
    left.set_yscale("log")
    left.set(title=f"what it holds, what it costs (k = {at[widest].k})", ylabel="count")
    left.legend()
    plot_lines(right, accuracy, "parameters", "recipe", style.RECIPE, "{}", PER_CENT)
    base = accuracy[accuracy["ne"] == 1]
    if len(base):
        place = {"color": style.BASE, "linestyle": "", "marker": "o", "markersize": 8, "zorder": 3}
        right.plot(base["parameters"], PER_CENT * base["mean"], label="base, ne = 1", **place)
    right.set_xscale("log")
    for axis in (left.yaxis, right.xaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(EngFormatter(sep=""))
        axis.set_minor_formatter(NullFormatter())
    right.set(title="accuracy over size", xlabel="parameters", ylabel="test accuracy, %")
    right.legend(loc="lower right")
    grown = _grown(counted, tables.dataset.sample)
    blue = " Blue points are the base;" if len(base) else ""
    return Drawn(
        f"At {where(at)}{' (1 for one expert)' if len(base) else ''}. {grown}{blue} 95 % bands "
        "over seeds.",
        f"Parameters and FLOPs over the number of experts, and accuracy over parameters. {grown}",
        accuracy,
        drawing,
    )


def _grown(counted: pd.DataFrame, sample: str) -> str:
    """How parameters and FLOPs grow, from the fewest experts (above 1) to the most."""
    many = counted[counted["ne"] > 1]
    small = (many if len(many) > 1 else counted).iloc[0]
    large = counted.iloc[-1]
    if small["ne"] == large["ne"]:
        return ""
    flops = large["flops"] / small["flops"]
    dear = ": with experts as small as these the router is not free" if flops > FREE else ""
    return sentence(
        f"from {small['ne']} to {large['ne']} experts the parameters grow "
        f"{large['parameters'] / small['parameters']:.1f} times and the operations per {sample} "
        f"{flops:.2f} times{dear}"
    )
