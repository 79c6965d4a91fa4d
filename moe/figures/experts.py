"""Figures about experts: who gets what, what routers look for, specialisation, co-activation."""

from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from moe.figures import style
from moe.figures.style import Figure, canvas, heatmap, ne_axis, plot_lines
from moe.grid import Trial
from moe.results import DIGITS, Tables, cells, counts_of, over_seeds, seed_0
from moe.tables import picture_of

SHOWN_NE = ((2, 3, 4, 5, 6, 7), (8, 10, 16))
PICTURED_NE = (4, 8)
TOGETHER_NE = (4, 8, 16)
SIDE = 28  # pixels


def who_gets_what(tables: Tables) -> Figure | None:
    """Figure 9."""
    shown = [[ne for ne in row if _has(tables, ne)] for row in SHOWN_NE]
    shown = [row for row in shown if row]
    if not shown:
        return None
    drawing = canvas(1, 1, 11, 3.3 * len(shown) * len(tables.recipes))[0]
    drawing.clear()
    parts = drawing.subfigures(len(shown) * len(tables.recipes), 1, squeeze=False)[:, 0]
    rows = []
    places = [(recipe, row) for recipe in tables.recipes for row in shown]
    for part, (recipe, sizes) in zip(parts, places, strict=True):
        axes = part.subplots(1, len(sizes), squeeze=False, width_ratios=[ne + 1 for ne in sizes])[0]
        image = None
        for ax, ne in zip(axes, sizes, strict=True):
            shares, order = class_shares(tables, Trial(recipe, ne, 2, 1.0))
            image = heatmap(ax, shares.T, (0, 1))
            ax.set_title(f"{recipe}, ne = {ne}" if ne == sizes[0] else f"ne = {ne}")
            ax.set_yticks(list(DIGITS) if ne == sizes[0] else [])
            ax.set_xticks(range(ne), [str(e) for e in order])
            ax.set_xlabel("expert")
            for expert, share in zip(order, shares, strict=True):
                digits = {f"digit {digit}": share[digit] for digit in DIGITS}
                rows.append({"recipe": recipe, "ne": ne, "expert": int(expert), **digits})
        axes[0].set_ylabel("digit")
        assert image is not None
        bar = part.colorbar(image, ax=axes, pad=0.01, fraction=0.03)
        bar.set_label("share of the digit")
        bar.outline.set_visible(False)
    return Figure(
        9,
        "who-gets-what",
        "Who gets what",
        "The share of each digit's test images that each expert sees (k = 2, lc = 1, seed 0; a row "
        "sums to 2, since every image goes to two experts). Experts have no order of their own: "
        "they are sorted by the digit they take the largest share of, and keep their number. "
        "Bright cells are specialists.",
        "Heatmaps of digit by expert, one for each number of experts.",
        pd.DataFrame(rows),
        drawing,
        dense=True,
    )


def class_shares(tables: Tables, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Seed 0's (ne, 10) share of each digit's images that an expert sees, and the experts in order:
    by the digit that each takes most of, then by how much of it."""
    slots = counts_of(seed_0(tables.slots, trial).sort_values("expert"), "digit")
    shares = slots / (slots.sum(0) / trial.k)
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    return shares[order], order


def what_routers_look_for(tables: Tables) -> Figure | None:
    """Figure 10."""
    trials = [
        trial
        for recipe in tables.recipes
        for ne in PICTURED_NE
        if _has(tables, ne)
        and picture_of(trial := Trial(recipe, ne, 2, 1.0), tables.folder).exists()
    ]
    if not trials:
        return None
    widest = max(trial.ne for trial in trials)
    drawing, axes = canvas(2 * len(trials), widest, 1.3 * widest, 2.85 * len(trials))
    for place, trial in enumerate(trials):
        with Image.open(picture_of(trial, tables.folder)) as sheet:
            pictures = np.asarray(sheet).reshape(2, SIDE, trial.ne, SIDE).transpose(0, 2, 1, 3)
        order = class_shares(tables, trial)[1]
        for above, below in axes[2 * place : 2 * place + 2, trial.ne :].T:
            above.set_axis_off()
            below.set_axis_off()
        for column, expert in enumerate(order):
            above, below = axes[2 * place : 2 * place + 2, column]
            above.imshow(pictures[0, expert], cmap=style.SIGNED, vmin=1, vmax=255)
            below.imshow(pictures[1, expert], cmap="gray_r", vmin=0, vmax=255)
            above.set_title(f"expert {expert}", fontsize=8, fontweight="normal")
            for ax in (above, below):
                ax.set(xticks=[], yticks=[])
                ax.grid(visible=False)
        axes[2 * place, 0].set_ylabel(f"{trial.recipe}, ne = {trial.ne}\nrouter", fontsize=8)
        axes[2 * place + 1, 0].set_ylabel("gets", fontsize=8)
    return Figure(
        10,
        "what-routers-look-for",
        "What the router looks for",
        "Above, each expert's router weights as a picture (red: ink here speaks for the expert, "
        "blue: against); below, the mean of the test images that it sees; k = 2, lc = 1, seed 0, "
        "experts in the order of figure 9.",
        "Router weights of each expert above the mean image that it receives.",
        pd.DataFrame(
            [
                {
                    "trial": str(trial),
                    "expert": expert,
                    "images": int(counts_of(seed_0(tables.slots, trial), "digit")[expert].sum()),
                }
                for trial in trials
                for expert in range(trial.ne)
            ]
        ),
        drawing,
        dense=True,
    )


def specialisation(tables: Tables) -> Figure | None:
    """Figure 11."""
    runs = cells(tables.runs, recipe=tables.recipes, k=2, lc=1)
    if runs["ne"].nunique() < 2:
        return None
    runs = runs.assign(nmi_above_null=runs["nmi"] - runs["nmi_null"])
    measures = {
        "nmi_above_null": ("expert and digit", "NMI − null"),
        "experts_per_class": ("experts per digit", "exp of entropy"),
        "classes_per_expert": ("digits per expert", "exp of entropy"),
    }
    drawing, axes = canvas(1, 3, 12, 3.6)
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
    drawing, axes = canvas(
        len(tables.recipes), len(sizes), 3.9 * len(sizes), 3.6 * len(tables.recipes)
    )
    rows = []
    for line, recipe in zip(axes, tables.recipes, strict=True):
        for ax, ne in zip(line, sizes, strict=True):
            trial = Trial(recipe, ne, 2, 1.0)
            order = class_shares(tables, trial)[1]
            given = _conditional(tables, trial)[np.ix_(order, order)]
            image = heatmap(ax, given, (0, max(0.5, float(np.nanmax(given)))))
            ax.set_xticks(range(ne), [str(e) for e in order], fontsize=7)
            ax.set_yticks(range(ne), [str(e) for e in order], fontsize=7)
            ax.set(title=f"{recipe}, ne = {ne}", xlabel="expert b", ylabel="expert a")
            drawing.colorbar(image, ax=ax, fraction=0.05).outline.set_visible(False)
            for a, values in zip(order, given, strict=True):
                shares = {f"P({b} | a)": v for b, v in zip(order, values, strict=True)}
                rows.append({"trial": str(trial), "expert a": int(a), **shares})
    return Figure(
        13,
        "coactivation",
        "Who works with whom",
        "P(expert b | expert a): of the test images that a sees, the share that b sees too; k = 2, "
        "lc = 1, seed 0, experts in the order of figure 9. Each row sums to 1: a bright cell is a "
        "pair that works together.",
        "Heatmaps of how often two experts see the same image.",
        pd.DataFrame(rows),
        drawing,
        dense=True,
    )


def _conditional(tables: Tables, trial: Trial) -> np.ndarray:
    """(ne, ne): P(b | a), 0 on the diagonal; rows of dead experts are 0."""
    together = np.zeros((trial.ne, trial.ne))
    pairs = seed_0(tables.coactivation, trial)
    together[pairs["expert"], pairs["other"]] = pairs["images"]
    together += together.T
    images = counts_of(seed_0(tables.slots, trial).sort_values("expert"), "digit").sum(1)
    return together / np.maximum(images, 1)[:, None]


def _has(tables: Tables, ne: int) -> bool:
    present = cells(tables.slots, ne=ne, k=2, lc=1, seed=0)
    return set(tables.recipes) <= set(present["recipe"])


def _at(table: pd.DataFrame, recipe: Any, ne: int) -> float:
    return float(cells(table, recipe=recipe, ne=ne)["mean"].iloc[0])
