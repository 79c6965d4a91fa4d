"""Figures about experts: who gets what, what routers look for, specialisation, co-activation."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Drawing
from PIL import Image

from moe.analysis.results import DIGITS, Tables, cells, counts_of, of_pictured_seed, over_seeds
from moe.figures import style
from moe.figures.style import Figure, canvas, heatmap, ne_axis, plot_lines
from moe.study.runs import Trial
from moe.study.tables import picture_of

SHOWN_NE = ((2, 3, 4, 5, 6, 7), (8, 10, 16))
PICTURED_NE = (4, 8)
BRIGHTEST_PAIR = 0.5  # the end of figure 13's colour scale
TOGETHER_NE = (4, 8, 16)
SIDE = 28  # pixels
HALF = 0.5


def who_gets_what(tables: Tables) -> Figure | None:
    """Figure 9."""
    shown = [[ne for ne in row if _has(tables, ne)] for row in SHOWN_NE]
    shown = [row for row in shown if row]
    if not shown:
        return None
    places = [(recipe, row) for recipe in tables.recipes for row in shown]
    drawing = Drawing(figsize=(style.WIDTH, 2.6 * len(places)), layout="constrained")
    parts = np.ravel(drawing.subfigures(len(places), 1, squeeze=False))
    rows, image = [], None
    for part, (recipe, sizes) in zip(parts, places, strict=True):
        part.suptitle(recipe, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = part.subplots(1, len(sizes), squeeze=False, width_ratios=[ne + 1 for ne in sizes])[0]
        for ax, ne in zip(axes, sizes, strict=True):
            shares, order = class_shares(tables, Trial(recipe, ne, 2, 1.0))
            image = heatmap(ax, shares.T, (0, 1))
            ax.set_title(f"ne = {ne}", fontsize=9.5, fontweight="normal", loc="center")
            ax.set_yticks(list(DIGITS) if ne == sizes[0] else [])
            ax.set_xticks(range(ne), [str(e) for e in order], fontsize=8)
            ax.set_xlabel("expert")
            for expert, share in zip(order, shares, strict=True):
                digits = {f"digit {digit}": share[digit] for digit in DIGITS}
                rows.append({"recipe": recipe, "ne": ne, "expert": int(expert), **digits})
        axes[0].set_ylabel("digit")
        bar = part.colorbar(image, ax=axes, pad=0.01, fraction=0.03)
        bar.set_label("share of the digit")
        bar.outline.set_visible(False)
    clear = _clearest(rows)
    return Figure(
        9,
        "who-gets-what",
        "Who gets what",
        "The share of each digit's test images that each expert sees (k = 2, lc = 1, seed "
        f"{tables.pictured_seed}; a row sums to 2, since every image goes to two experts). "
        "Experts have no order of their own: they are sorted by the digit they take the "
        "largest share of, and keep their number. "
        f"Bright cells are specialists. {clear}",
        f"Heatmaps of digit by expert, one for each number of experts. {clear}",
        pd.DataFrame(rows),
        drawing,
        dense=True,
    )


def _clearest(rows: list[dict[str, Any]]) -> str:
    """How few experts hold a digit where they are most."""
    most = [row for row in rows if row["ne"] == max(r["ne"] for r in rows)]
    taken = [row for row in most if max(row[f"digit {digit}"] for digit in DIGITS) >= HALF]
    return (
        f"With {most[0]['ne']} experts, {len(taken)} of {len(most)} (both recipes) see at least "
        "half of some digit."
    )


def class_shares(tables: Tables, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """The pictured seed's (ne, 10) share of each digit's images that an expert sees, and the
    experts in order: by the digit that each takes most of, then by how much of it."""
    slots = counts_of(of_pictured_seed(tables, "slots", trial).sort_values("expert"), "digit")
    shares = slots / (slots.sum(0) / trial.k)
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    return shares[order], order


def what_routers_look_for(tables: Tables) -> Figure | None:
    """Figure 10."""
    strips = [
        [
            trial
            for recipe in tables.recipes
            if _pictured(tables, trial := Trial(recipe, ne, 2, 1.0))
        ]
        for ne in PICTURED_NE
    ]
    # Few experts of both recipes share a line, many have one of their own
    widest = max(PICTURED_NE)
    lines = [
        line
        for of_ne in strips
        if of_ne
        for line in ([of_ne] if sum(t.ne for t in of_ne) <= widest else [[t] for t in of_ne])
    ]
    if not lines:
        return None
    drawing = Drawing(figsize=(style.WIDTH, 2.75 * len(lines)), layout="constrained")
    for part, line in zip(np.ravel(drawing.subfigures(len(lines), 1)), lines, strict=True):
        columns = np.ravel(part.subfigures(1, len(line)))
        for place, (column, trial) in enumerate(zip(columns, line, strict=True)):
            _router_pictures(column, tables, trial, named=place == 0)
    trials = [trial for line in lines for trial in line]
    return Figure(
        10,
        "what-routers-look-for",
        "What the router looks for",
        "Above, each expert's router weights as a picture (red: ink here speaks for the expert, "
        "blue: against); below, the mean of the test images that it sees, and the digits of which "
        f"it sees at least half; k = 2, lc = 1, seed {tables.pictured_seed}, experts in the order "
        "of figure 9. The mean images are legible where an expert has a digit to itself.",
        "Router weights of each expert as a picture above the mean image that it receives, for "
        f"ne = {' and '.join(map(str, PICTURED_NE))}.",
        pd.DataFrame(
            [
                {
                    "trial": str(trial),
                    "expert": expert,
                    "images": int(
                        counts_of(of_pictured_seed(tables, "slots", trial), "digit")[expert].sum()
                    ),
                }
                for trial in trials
                for expert in range(trial.ne)
            ]
        ),
        drawing,
        dense=True,
    )


def _pictured(tables: Tables, trial: Trial) -> bool:
    return _has(tables, trial.ne) and picture_of(trial, tables.folder).exists()


def _router_pictures(part: Any, tables: Tables, trial: Trial, named: bool) -> None:
    """Two rows of pictures, an expert a column; named: whether to say what the rows are."""
    with Image.open(picture_of(trial, tables.folder)) as sheet:
        pictures = np.asarray(sheet).reshape(2, SIDE, trial.ne, SIDE).transpose(0, 2, 1, 3)
    part.suptitle(
        f"{trial.recipe}, ne = {trial.ne}", x=0.02, ha="left", fontsize=10.5, weight="bold"
    )
    shares, order = class_shares(tables, trial)
    axes = part.subplots(2, trial.ne, squeeze=False)
    for (above, below), expert, share in zip(axes.T, order, shares, strict=True):
        above.imshow(pictures[0, expert], cmap=style.SIGNED, vmin=1, vmax=255)
        below.imshow(pictures[1, expert], cmap="gray_r", vmin=0, vmax=255)
        above.set_title(f"expert {expert}", fontsize=8.5, fontweight="normal", loc="center")
        most = " ".join(str(digit) for digit in DIGITS if share[digit] >= HALF)
        below.set_xlabel(most or "–", fontsize=8.5)
        for ax in (above, below):
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
    if named:
        axes[0, 0].set_ylabel("looks for", fontsize=8.5)
        axes[1, 0].set_ylabel("gets", fontsize=8.5)


def specialisation(tables: Tables) -> Figure | None:
    """Figure 11."""
    runs = cells(tables.runs, recipe=tables.recipes, k=2, lc=1)
    if runs["ne"].nunique() < 2:
        return None
    runs = runs.assign(nmi_above_null=runs["nmi"] - runs["nmi_null"])
    measures = {
        "nmi_above_null": ("expert tells digit", "NMI above chance"),
        "experts_per_class": ("experts per digit", "experts, exp of entropy"),
        "classes_per_expert": ("digits per expert", "digits, exp of entropy"),
    }
    drawing, axes = canvas(1, 3, 3.3)
    parts = []
    for ax, (name, (title, unit)) in zip(axes[0], measures.items(), strict=True):
        table = over_seeds(runs, ["recipe", "ne"], name)
        plot_lines(ax, table, "ne", "recipe", style.RECIPE)
        ne_axis(ax, list(runs["ne"]))
        ax.set(title=title, ylabel=unit)
        parts.append(table.assign(measure=name))
    axes[0][1].axhline(2, color=style.GREY, linewidth=1, linestyle=":")
    axes[0][2].axhline(10, color=style.GREY, linewidth=1, linestyle=":")
    axes[0][0].legend()
    largest = int(runs["ne"].max())
    told = "; ".join(
        f"{recipe}: {_at(parts[1], recipe, largest):.1f} experts per digit and "
        f"{_at(parts[2], recipe, largest):.1f} digits per expert at ne = {largest}"
        for recipe in tables.recipes
    )
    return Figure(
        11,
        "specialisation",
        "Specialisation",
        f"How much an image's expert tells of its digit (normalised mutual information, less that "
        f"of random tables with the same margins), over how many experts a digit is spread, and "
        f"how many digits an expert sees; k = 2, lc = 1, 95 % bands over seeds. The dotted lines "
        f"are what k = 2 and ten digits force or allow. {told}.",
        f"Three panels over the number of experts. {told}.",
        pd.concat(parts),
        drawing,
    )


def coactivation(tables: Tables) -> Figure | None:
    """Figure 13."""
    sizes = [ne for ne in TOGETHER_NE if _has(tables, ne)]
    if not sizes:
        return None
    drawing, axes = canvas(len(tables.recipes), len(sizes), 2.9 * len(tables.recipes))
    rows, image, pairs = [], None, []
    for line, recipe in zip(axes, tables.recipes, strict=True):
        for ax, ne in zip(line, sizes, strict=True):
            trial = Trial(recipe, ne, 2, 1.0)
            order = class_shares(tables, trial)[1]
            given = _conditional(tables, trial)[np.ix_(order, order)]
            np.fill_diagonal(given, np.nan)
            image = heatmap(ax, given, (0, BRIGHTEST_PAIR))
            size = 8 if ne < max(TOGETHER_NE) else 6.5
            ax.set_xticks(range(ne), [str(e) for e in order], fontsize=size)
            ax.set_yticks(range(ne), [str(e) for e in order], fontsize=size)
            ax.set_title(f"{recipe}, ne = {ne}")
            ax.set_ylabel("expert a" if ne == sizes[0] else "")
            ax.set_xlabel("expert b" if recipe == tables.recipes[-1] else "")
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
        f"The closest pair: of the images that expert {a} of {ne} sees under {recipe}, {share:.0%} "
        f"go to expert {b} as well."
    )
    return Figure(
        13,
        "coactivation",
        "Who works with whom",
        "P(expert b | expert a): of the test images that a sees, the share that b sees too; k = 2, "
        f"lc = 1, seed {tables.pictured_seed}, experts in the order of figure 9. Each row "
        f"sums to 1: a bright cell is a pair that works together, a dark row an expert without "
        f"images. {closest}",
        f"Heatmaps of how often two experts see the same image. {closest}",
        pd.DataFrame(rows),
        drawing,
        dense=True,
    )


def _conditional(tables: Tables, trial: Trial) -> np.ndarray:
    """(ne, ne): P(b | a), 0 on the diagonal; rows of dead experts are 0."""
    together = np.zeros((trial.ne, trial.ne))
    pairs = of_pictured_seed(tables, "coactivation", trial)
    together[pairs["expert"], pairs["other"]] = pairs["images"]
    together += together.T
    images = counts_of(of_pictured_seed(tables, "slots", trial).sort_values("expert"), "digit").sum(
        1
    )
    return together / np.maximum(images, 1)[:, None]


def _has(tables: Tables, ne: int) -> bool:
    present = cells(tables.slots, ne=ne, k=2, lc=1, seed=tables.pictured_seed)
    return set(tables.recipes) <= set(present["recipe"])


def _at(table: pd.DataFrame, recipe: Any, ne: int) -> float:
    return float(cells(table, recipe=recipe, ne=ne)["mean"].iloc[0])
