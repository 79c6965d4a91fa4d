"""Figures that compare the study on Fashion-MNIST with that on MNIST."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from moe.analysis.results import (
    PER_CENT,
    MissingCellsError,
    Tables,
    base,
    cells,
    lc_sweep,
    mean_over_ne,
    over_seeds,
)
from moe.figures import style
from moe.figures.drawn import Drawn, figure, ref
from moe.figures.dropped import dropped_classes
from moe.figures.experts import what_routers_look_for
from moe.figures.style import canvas, empty, error_bars, legend_above, ne_axis
from moe.study.tables import exactly

# The recipes and k that the source's claims about k compare
LINES = (("blog", 2, "-"), ("logits", 2, "-"), ("logits", 1, ":"), ("switch", 1, "--"))


def _both(tables: Tables) -> tuple[Tables, Tables]:
    if tables.beyond is None:
        raise MissingCellsError("the study on Fashion-MNIST: make fashion")
    return tables, tables.beyond


@figure("beyond-mnist", "MNIST and Fashion-MNIST", order=16)
def beyond_mnist(tables: Tables) -> Drawn:
    both = _both(tables)
    drawing, axes = canvas(2, 3, 6.4, sharey="col")
    parts = []
    all_lc = sorted({lc for of in both for lc in over_lc(of)["lc"]})
    for line, of in zip(axes, both, strict=True):
        found = {"lc": over_lc(of), "experts": over_ne(of), "lost": dropped_classes(of)[1]}
        _draw_lc(line[0], found["lc"], all_lc)
        _draw_ne(line[1], found["experts"])
        _draw_lost(line[2], found["lost"])
        line[0].set_ylabel(f"{of.dataset.title}\npoints above the smallest lc")
        line[1].set_ylabel("points above one expert")
        parts += [t.assign(data=of.dataset.title, panel=name) for name, t in found.items()]
    for ax, title in zip(axes[0], ("effect of lc", "effect of ne", "lost classes"), strict=True):
        ax.set_title(title)
    legend_above(drawing, axes[0][1], len(LINES))
    shares = "; ".join(
        f"{of.dataset.title}: "
        + ", ".join(f"{r.recipe} {r.dropped} of {r.models}" for r in part.itertuples())
        for of, part in zip(both, parts[2::3], strict=True)
    )
    return Drawn(
        "Above MNIST, below Fashion-MNIST, each column on one scale. Left, what a weight of the "
        "gate loss adds to test accuracy at k = 2, mean over ne; middle, what more experts add to "
        "the accuracy of one expert, lc = 1; right, the share of base models that are right on "
        f"less than half of some class. Differences are within the seed, with 95 % intervals. "
        f"Models that lose a class: {shares}.",
        f"Points of accuracy over lc and over ne, and shares of base models that lose a class, for "
        f"both data sets. Models that lose a class: {shares}.",
        pd.concat(parts, ignore_index=True)[
            ["data", "panel", "recipe", "k", "lc", "ne", "mean", "share", "low", "high"]
        ],
        drawing,
    )


def over_lc(tables: Tables) -> pd.DataFrame:
    """Columns recipe, lc, mean, low, high, seeds: points above the smallest lc, within the seed."""
    try:
        swept = lc_sweep(tables.runs, tables.recipes)
    except MissingCellsError:
        swept = tables.runs.head(0)
    by_seed = mean_over_ne(swept, ["recipe", "lc"], "accuracy")
    wide = by_seed.pivot_table("accuracy", ["recipe", "seed"], "lc").dropna()
    return _over_seeds(wide, ["recipe"], "lc", wide.columns.min() if len(wide) else None)


def over_ne(tables: Tables) -> pd.DataFrame:
    """Columns recipe, k, ne, mean, low, high, seeds: points above one expert, within the seed."""
    parts = []
    for recipe, k, _ in LINES:
        runs = cells(tables.runs, recipe=recipe, k=k, lc=1.0)
        runs = runs[runs["ne"] >= max(2, k)]
        one = base(tables.runs, recipe).set_index("seed")["accuracy"]
        runs = runs[runs["seed"].isin(one.index)]
        above = PER_CENT * (runs["accuracy"] - runs["seed"].map(one))
        parts.append(runs[["recipe", "k", "ne", "seed"]].assign(points=above))
    return over_seeds(pd.concat(parts), ["recipe", "k", "ne"], "points")


def _over_seeds(wide: pd.DataFrame, by: Sequence[str], column: str, first: object) -> pd.DataFrame:
    if first is None:
        return over_seeds(pd.DataFrame(columns=[*by, column, "points"]), [*by, column], "points")
    points = PER_CENT * wide.sub(wide[first], axis=0)
    long = points.stack().rename("points").reset_index()
    return over_seeds(long, [*by, column], "points")


def _draw_lc(ax: Axes, table: pd.DataFrame, values: Sequence[float]) -> None:
    if table.empty:
        empty(ax, "no two values of lc at one k")
        return
    for place, (recipe, points) in enumerate(table.groupby("recipe", sort=False)):
        x = [values.index(lc) + 0.14 * (place - 0.5) for lc in points["lc"]]
        look = {"color": style.RECIPE[str(recipe)], "marker": style.MARKERS[place]}
        error_bars(ax, x, points, capsize=3, markersize=6, **look)
    ax.axhline(0, color=style.GREY, linewidth=1)
    ax.set_xticks(range(len(values)), [exactly(lc) for lc in values])
    ax.set_xlabel("lc")


def _draw_ne(ax: Axes, table: pd.DataFrame) -> None:
    if table.empty:
        empty(ax, "no base model, or no more experts at lc = 1")
        return
    for place, (recipe, k, dashes) in enumerate(LINES):
        points = cells(table, recipe=recipe, k=k)
        if points.empty:
            continue
        x, color = points["ne"].to_numpy(float), style.RECIPE[recipe]
        look = {"color": color, "linestyle": dashes, "marker": style.MARKERS[place]}
        ax.plot(x, points["mean"], label=f"{recipe}, k = {k}", **look)
        ax.fill_between(x, points["low"], points["high"], color=color, alpha=0.14, linewidth=0)
    ax.axhline(0, color=style.GREY, linewidth=1)
    ne_axis(ax, [int(ne) for ne in table["ne"]])


def _draw_lost(ax: Axes, table: pd.DataFrame) -> None:
    if table.empty:
        empty(ax, "no base model")
        return
    shares = table.assign(mean=table["share"])
    for place, recipe in enumerate(table["recipe"]):
        look = {"color": style.RECIPE[recipe], "marker": style.MARKERS[place], "capsize": 4}
        error_bars(ax, [place], cells(shares, recipe=recipe), PER_CENT, markersize=7, **look)
    ax.set_xticks(range(len(table)), list(table["recipe"]))
    ax.set_xlim(-0.6, len(table) - 0.4)
    # Rows share this axis: a limit from the first row's points would clip the second row's.
    ax.set_ylim(0, 103)
    ax.set_ylabel("share of base models, %")


@figure("what-routers-look-for-beyond", "What the router looks for on Fashion-MNIST", order=17)
def what_routers_look_for_beyond(tables: Tables) -> Drawn:
    _, other = _both(tables)
    drawn = what_routers_look_for(other)
    return drawn._replace(
        caption=f"As {ref('what-routers-look-for')}: above, router weights as a picture; below, "
        f"the mean of the test images that each expert sees, and each class of which it sees at "
        f"least half; k = 2, lc = 1, seed {other.pictured_seed}.",
        alt=f"On Fashion-MNIST: {drawn.alt}",
    )
