"""The figure of training settings that a study sweeps."""

import pandas as pd

from moe.analysis.results import PER_CENT, MissingCellsError, Tables, cells, over_seeds, value_text
from moe.figures import style
from moe.figures.drawn import Drawn, figure
from moe.figures.style import MARKERS, canvas, empty, error_bars, legend_above
from moe.recipes import in_order
from moe.study.tables import swept

MOST_COLUMNS = 3  # panels side by side


@figure("swept-settings", "Settings of training", order=90)
def swept_settings(tables: Tables) -> Drawn:
    """Accuracy over each setting that the study sweeps, a line for each recipe."""
    runs = tables.all_runs
    means = {name: over_setting(runs, name) for name in swept(runs)}
    means = {name: table for name, table in means.items() if table["value"].nunique() > 1}
    if not means:
        raise MissingCellsError("two values of a setting of `train` for the same cells and seeds")
    columns = min(len(means), MOST_COLUMNS)
    rows = -(-len(means) // columns)
    drawing, axes = canvas(rows, columns, 3.4 * rows, sharey=True)
    recipes = in_order(runs["recipe"])
    panels = list(axes.flat)
    for ax, (name, table) in zip(panels, means.items(), strict=False):
        values = sorted(set(table["value"]))
        for place, recipe in enumerate(recipes):
            line = cells(table, recipe=recipe)
            if line.empty:
                continue
            # Evenly spaced: some values have no logarithm, and recipes are offset.
            x = [values.index(value) + 0.04 * (place - len(recipes) / 2) for value in line["value"]]
            look = {"color": style.RECIPE[recipe], "marker": MARKERS[place % len(MARKERS)]}
            ax.plot(x, PER_CENT * line["mean"], label=recipe, **look)
            error_bars(ax, x, line, PER_CENT, color=style.RECIPE[recipe])
        ax.set_xticks(range(len(values)), [*map(value_text, values)])
        ax.set_xlabel(name)
    for ax in panels[len(means) :]:
        empty(ax, "")
    for ax in axes[:, 0]:
        ax.set_ylabel("test accuracy, %")
    legend_above(drawing, max(panels, key=lambda ax: len(ax.get_legend_handles_labels()[0])), 5)
    table = pd.concat([t.assign(setting=name) for name, t in means.items()])
    best = "; ".join(f"{name}: {_best(of)}" for name, of in means.items())
    return Drawn(
        "Test accuracy over each setting that the study sweeps, as the mean over the cells (ne, k, "
        "lc and the other settings) that all of its values have, with 95 % intervals over seeds. "
        f"The value with the highest mean, for {best}.",
        f"Lines of accuracy over {' and '.join(means)}, one for each recipe.",
        table.assign(value=[*map(value_text, table["value"])])[["setting", *table.columns[:-1]]],
        drawing,
    )


def over_setting(runs: pd.DataFrame, name: str) -> pd.DataFrame:
    """Columns recipe, value, mean, low, high, seeds: over the seeds' means over the cells that all
    of the recipe's values and all seeds share."""
    cell = ["ne", "k", "lc", *(other for other in swept(runs) if other != name)]
    rows = []
    for recipe, of_recipe in runs.groupby("recipe"):
        wide = of_recipe.pivot_table("accuracy", [*cell, "seed"], name).dropna()
        means = wide.unstack("seed").dropna().mean().dropna()
        if wide.shape[1] < 2:
            continue
        values = means.index.get_level_values(0)
        rows.append(pd.DataFrame({"recipe": recipe, "value": values, "accuracy": means.to_numpy()}))
    frame = pd.concat([pd.DataFrame(columns=["recipe", "value", "accuracy"]), *rows])
    return over_seeds(frame, ["recipe", "value"], "accuracy")


def _best(means: pd.DataFrame) -> str:
    best = means.loc[means.groupby("recipe")["mean"].idxmax()]
    return ", ".join(
        f"{value_text(row.value)} under {row.recipe} ({row.mean:.2%})" for row in best.itertuples()
    )
