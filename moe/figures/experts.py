"""Figures about experts: who gets what, what routers look for, specialisation, co-activation.

All show the first seed of a trial, except specialisation.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing
from PIL import Image

from moe.analysis.results import (
    At,
    MissingCellsError,
    Tables,
    at_usual,
    cells,
    counts_of,
    first_seed,
    over_seeds,
    usual_of,
    where,
)
from moe.figures import style
from moe.figures.drawn import Drawn, figure, ref
from moe.figures.style import canvas, empty, heatmap, ne_axis, plot_lines, spread
from moe.figures.sweeps import sentence
from moe.study.runs import Trial

SHOWN_NE = (2, 3, 4, 5, 6, 7, 8, 10, 16)  # those that the study has; if none, others
MOST_SIZES, FEW_EXPERTS = 9, 7  # sizes up to FEW_EXPERTS share a line
NUMBERED_EXPERTS = 20  # with more, their numbers would overlap
PICTURED_NE, MOST_PICTURED = (4, 8), 16
BRIGHTEST_PAIR = 0.5  # the end of the colour scale of co-activation
TOGETHER_NE = (4, 8, 16)
HALF = 0.5
LONG_NAME = 2  # characters: longer class names are stacked


def _sizes(tables: Tables, recipe: str, at: At, wanted: tuple[int, ...], most: int) -> list[int]:
    """The wanted ne that a recipe has at its k and lc; if none, up to `most` others."""
    present = set(cells(tables.slots, recipe=recipe, k=at.k, lc=at.lc)["ne"]) - {1}
    return [ne for ne in wanted if ne in present] or spread(list(present), most)


@figure("who-gets-what", "Who gets what", order=10)
def who_gets_what(tables: Tables) -> Drawn:
    at = usual_of(tables, tables.routing)
    lines = []
    for recipe, cell in at.items():
        sizes = _sizes(tables, recipe, cell, SHOWN_NE, MOST_SIZES)
        few = [ne for ne in sizes if ne <= FEW_EXPERTS]
        many = [ne for ne in sizes if ne > FEW_EXPERTS]
        lines += [(recipe, line) for line in (few, many) if line]
    drawing = Drawing(figsize=(style.WIDTH, 2.6 * len(lines)), layout="constrained")
    parts = np.ravel(drawing.subfigures(len(lines), 1, squeeze=False))
    item, names = tables.dataset.item, tables.dataset.class_names
    rows = []
    for part, (recipe, sizes) in zip(parts, lines, strict=True):
        part.suptitle(recipe, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = part.subplots(1, len(sizes), squeeze=False, width_ratios=[ne + 1 for ne in sizes])[0]
        image = None
        for ax, ne in zip(axes, sizes, strict=True):
            shares, order = class_shares(tables, Trial(recipe, ne, *at[recipe]))
            image = heatmap(ax, shares.T, (0, 1))
            ax.set_title(f"ne = {ne}", fontsize=9.5, fontweight="normal", loc="center")
            is_first = ne == sizes[0]
            ax.set_yticks(list(tables.classes) if is_first else [], names if is_first else [])
            _number(ax.xaxis, order, 8)
            ax.set_xlabel("expert")
            for expert, share in zip(order, shares, strict=True):
                of_class = {f"{item} {name}": s for name, s in zip(names, share, strict=True)}
                rows.append({"recipe": recipe, "ne": ne, "expert": int(expert), **of_class})
        axes[0].set_ylabel(item)
        bar = part.colorbar(image, ax=axes, pad=0.01, fraction=0.03)
        bar.set_label(f"share of the {item}")
        bar.outline.set_visible(False)
    table = pd.DataFrame(rows)
    clear = _clearest(table, tables)
    sums = " or ".join(map(str, sorted({cell.k for cell in at.values()})))
    return Drawn(
        f"The share of each {item}'s test {tables.dataset.samples} that each expert sees "
        f"({where(at)}, the first seed; a row sums to k, {sums}, unless an expert was full). "
        f"Experts have no order of their own: "
        f"they are sorted by the {item} they take the largest share of, and keep their number. "
        f"Bright cells are specialists. {clear}",
        f"Heatmaps of {item} by expert, one for each number of experts. {clear}",
        table,
        drawing,
        dense=True,
    )


def _number(axis: Any, order: np.ndarray, size: float) -> None:
    """Label the experts with their numbers, if there is room."""
    shown = range(len(order)) if len(order) <= NUMBERED_EXPERTS else []
    axis.set_ticks(list(shown), [str(order[place]) for place in shown], fontsize=size)


def _clearest(table: pd.DataFrame, tables: Tables) -> str:
    """How many experts see at least half of a class, at the most experts."""
    most = cells(table, ne=table["ne"].max())
    shares = most[[name for name in table if str(name).startswith(f"{tables.dataset.item} ")]]
    recipes = list(dict.fromkeys(most["recipe"]))
    both = f" ({' and '.join(recipes)} together)" if len(recipes) > 1 else f" of {recipes[0]}"
    return (
        f"With {table['ne'].max()} experts, {(shares.max(axis=1) >= HALF).sum()} of {len(most)}"
        f"{both} see at least half of some {tables.dataset.item}."
    )


def class_shares(tables: Tables, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """The first seed's (ne, classes) shares of each class's images that an expert sees, and the
    experts' order: by the class of which each sees the largest share, then by that share."""
    slots = counts_of(first_seed(tables.slots, trial).sort_values("expert"), "digit")
    shares = slots / np.maximum(slots.sum(0) / trial.k, 1)
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    return shares[order], order


@figure("what-routers-look-for", "What the router looks for", order=11)
def what_routers_look_for(tables: Tables) -> Drawn:
    at = usual_of(tables, tables.routing)
    if tables.dataset.image_shape is None:
        raise MissingCellsError("inputs that are images")
    trials = [
        trial
        for recipe, cell in at.items()
        for ne in _sizes(tables, recipe, cell, PICTURED_NE, len(PICTURED_NE))
        if ne <= MOST_PICTURED and _pictured(tables, trial := Trial(recipe, ne, *cell))
    ]
    if not trials:
        raise MissingCellsError(
            f"seed {tables.pictured_seed} of a trial with 2 to {MOST_PICTURED} experts"
        )
    # With few experts, both recipes share a line; with many, each has its own
    lines: list[list[Trial]] = []
    for ne in sorted({trial.ne for trial in trials}):
        of_ne = [trial for trial in trials if trial.ne == ne]
        share = ne * len(of_ne) <= max(PICTURED_NE)
        lines += [of_ne] if share else [[trial] for trial in of_ne]
    drawing = Drawing(figsize=(style.WIDTH, 2.75 * len(lines)), layout="constrained")
    parts = np.ravel(drawing.subfigures(len(lines), 1, squeeze=False))
    for part, line in zip(parts, lines, strict=True):
        columns = np.ravel(part.subfigures(1, len(line), squeeze=False))
        for place, (column, trial) in enumerate(zip(columns, line, strict=True)):
            _router_pictures(column, tables, trial, named=place == 0)
    item = tables.dataset.item
    return Drawn(
        "Above, each expert's router weights as a picture (red: ink here speaks for the expert, "
        f"blue: against); below, the mean of the test images that it sees, and each {item} of "
        f"which it sees at least half; {where(at)}, seed {tables.pictured_seed}, experts in the "
        f"order of "
        f"{ref('who-gets-what')}. The mean images are legible where an expert has a {item} to "
        "itself.",
        "Router weights of each expert as a picture above the mean image that it receives, for "
        f"ne = {' and '.join(map(str, sorted({trial.ne for trial in trials})))}.",
        pd.DataFrame(
            [
                {"trial": str(trial), "expert": expert, "images": int(images)}
                for trial in trials
                for expert, images in enumerate(_images(tables, trial))
            ]
        ),
        drawing,
        dense=True,
    )


def _images(tables: Tables, trial: Trial) -> np.ndarray:
    """(ne,) number of test images that each expert of the first seed sees."""
    return counts_of(first_seed(tables.slots, trial).sort_values("expert"), "digit").sum(1)


def _pictured(tables: Tables, trial: Trial) -> bool:
    has_seed = len(cells(tables.slots, **trial.columns, seed=tables.pictured_seed)) > 0
    return has_seed and tables.picture_of(trial).exists()


def _router_pictures(part: Any, tables: Tables, trial: Trial, named: bool) -> None:
    """Two rows of pictures, one column per expert; named: whether to label the rows."""
    with Image.open(tables.picture_of(trial)) as sheet:
        pixels = np.asarray(sheet)
    height, width = pixels.shape[0] // 2, pixels.shape[1] // trial.ne
    pictures = pixels.reshape(2, height, trial.ne, width).transpose(0, 2, 1, 3)
    part.suptitle(
        f"{trial.recipe}, ne = {trial.ne}", x=0.02, ha="left", fontsize=10.5, weight="bold"
    )
    shares, order = class_shares(tables, trial)
    axes = part.subplots(2, trial.ne, squeeze=False)
    names = tables.dataset.class_names
    for (above, below), expert, share in zip(axes.T, order, shares, strict=True):
        above.imshow(pictures[0, expert], cmap=style.SIGNED, vmin=1, vmax=255)
        below.imshow(pictures[1, expert], cmap="gray_r", vmin=0, vmax=255)
        title = f"expert {expert}" if trial.ne <= max(PICTURED_NE) else str(expert)
        above.set_title(title, fontsize=8.5, fontweight="normal", loc="center")
        between = " " if max(map(len, names)) <= LONG_NAME else "\n"
        most = between.join(name for name, s in zip(names, share, strict=True) if s >= HALF)
        below.set_xlabel(most or "–", fontsize=8.5)
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
    if named:
        axes[0, 0].set_ylabel("looks for", fontsize=8.5)
        axes[1, 0].set_ylabel("gets", fontsize=8.5)


@figure("specialisation", "Specialisation", order=12, for_claims=True)
def specialisation(tables: Tables) -> Drawn:
    at = usual_of(tables, tables.routing)
    runs = at_usual(tables.runs, at)
    runs = runs[runs["ne"] >= runs["recipe"].map({name: cell.k for name, cell in at.items()})]
    runs = runs[runs["ne"] > 1]
    if runs["ne"].nunique() < 2:
        raise MissingCellsError("two values of ne above 1 at one k and lc")
    runs = runs.assign(nmi_above_null=runs["nmi"] - runs["nmi_null"])
    item, items = tables.dataset.item, tables.dataset.items
    measures = {
        "nmi_above_null": (f"expert tells {item}", "NMI above chance"),
        "experts_per_class": (f"experts per {item}", "experts, exp of entropy"),
        "classes_per_expert": (f"{items} per expert", f"{items}, exp of entropy"),
    }
    drawing, axes = canvas(1, 3, 3.3)
    parts = []
    for ax, (name, (title, unit)) in zip(axes[0], measures.items(), strict=True):
        table = over_seeds(runs, ["recipe", "ne"], name)
        plot_lines(ax, table, "ne", "recipe", style.RECIPE)
        ne_axis(ax, list(runs["ne"]))
        ax.set(title=title, ylabel=unit)
        parts.append(table.assign(measure=name))
    for k in {cell.k for cell in at.values()}:
        axes[0][1].axhline(k, color=style.GREY, linewidth=1, linestyle=":")
    axes[0][2].axhline(len(tables.classes), color=style.GREY, linewidth=1, linestyle=":")
    axes[0][0].legend()
    summary = "; ".join(
        f"{recipe}: {_at(parts[1], recipe, most):.1f} experts per {item} and "
        f"{_at(parts[2], recipe, most):.1f} {items} per expert at ne = {most}"
        for recipe, of in runs.groupby("recipe", sort=False)
        for most in [int(of["ne"].max())]
    )
    return Drawn(
        f"How much the choice of an expert says about the {item} (normalised mutual "
        f"information, less that of random tables with the same margins), over how many experts a "
        f"{item} is spread, and how many {items} an expert sees; {where(at)}, 95 % bands over "
        f"seeds. The dotted lines are what k and {len(tables.classes)} {items} force or allow. "
        f"{sentence(summary)}",
        f"Three panels over the number of experts. {sentence(summary)}",
        pd.concat(parts),
        drawing,
    )


@figure("coactivation", "Who works with whom", order=13)
def coactivation(tables: Tables) -> Drawn:
    at = {name: cell for name, cell in usual_of(tables, tables.routing).items() if cell.k > 1}
    if not at:
        raise MissingCellsError("k of at least 2")
    sizes = {
        name: _sizes(tables, name, cell, TOGETHER_NE, len(TOGETHER_NE)) for name, cell in at.items()
    }
    columns = max(map(len, sizes.values()))
    drawing, axes = canvas(len(at), columns, 2.9 * len(at))
    rows, image, pairs = [], None, []
    samples = tables.dataset.samples
    for line, (recipe, cell) in zip(axes, at.items(), strict=True):
        for ax in line[len(sizes[recipe]) :]:
            empty(ax, "")
        for ax, ne in zip(line, sizes[recipe], strict=False):
            trial = Trial(recipe, ne, *cell)
            order = class_shares(tables, trial)[1]
            given = conditional(tables, trial)[np.ix_(order, order)]
            np.fill_diagonal(given, np.nan)
            image = heatmap(ax, given, (0, BRIGHTEST_PAIR))
            for axis in (ax.xaxis, ax.yaxis):
                _number(axis, order, 8 if ne < max(TOGETHER_NE) else 6.5)
            ax.set_title(f"{recipe}, ne = {ne}")
            ax.set_ylabel("expert a" if ne == sizes[recipe][0] else "")
            ax.set_xlabel("expert b" if recipe == list(at)[-1] else "")
            a, b = np.unravel_index(int(np.nanargmax(given)), given.shape)
            pairs.append((float(given[a, b]), int(order[a]), int(order[b]), recipe, ne))
            for expert, values in zip(order, given, strict=True):
                shares = {f"P({b} | a)": v for b, v in zip(order, values, strict=True)}
                rows.append({"trial": str(trial), "expert a": int(expert), **shares})
    bar = drawing.colorbar(image, ax=axes, fraction=0.025, pad=0.01, extend="max")
    bar.set_label("P(expert b | expert a)")
    bar.outline.set_visible(False)
    share, a, b, recipe, ne = max(pairs)
    closest = (
        f"The closest pair: of the {samples} that expert {a} of {ne} sees under {recipe}, "
        f"{share:.0%} go to expert {b} as well."
    )
    return Drawn(
        f"P(expert b | expert a): of the test {samples} that a sees, the share that b sees too; "
        f"{where(at)}, the first seed, experts in the order of {ref('who-gets-what')}. Each row "
        f"sums to k − 1: a bright cell is a pair that works together, a dark row an expert without "
        f"{samples}. {closest}",
        f"Heatmaps of how often two experts see the same {tables.dataset.sample}. {closest}",
        pd.DataFrame(rows),
        drawing,
        dense=True,
    )


def conditional(tables: Tables, trial: Trial) -> np.ndarray:
    """(ne, ne): P(b | a), 0 on the diagonal; rows of dead experts are 0."""
    together = np.zeros((trial.ne, trial.ne))
    pairs = first_seed(tables.coactivation, trial)
    together[pairs["expert"], pairs["other"]] = pairs["images"]
    together += together.T
    return together / np.maximum(_images(tables, trial), 1)[:, None]


def _at(table: pd.DataFrame, recipe: Any, ne: int) -> float:
    return float(cells(table, recipe=recipe, ne=ne)["mean"].iloc[0])
