"""The figure of base models that drop a class."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing

from moe.analysis.results import PER_CENT, MissingCellsError, Tables, base, cells, counts_of
from moe.figures import style
from moe.figures.classes import class_axes
from moe.figures.drawn import Drawn, figure
from moe.figures.style import error_bars, heatmap
from moe.statistics import frequency

LEAST_SHOWN = 0.03
DROPPED = 0.5  # a base model drops a class if its accuracy on the class is lower


@figure("fingerprint", "Base models that drop a class", order=9, for_claims=True)
def fingerprint(tables: Tables) -> Drawn:
    shares, overall = dropped_classes(tables)
    if shares.empty:
        raise MissingCellsError("one expert, ne = 1")
    item, items, samples = tables.dataset.item, tables.dataset.items, tables.dataset.samples
    drawing = Drawing(figsize=(style.WIDTH, 6.4), layout="constrained")
    upper, lower = np.ravel(drawing.subfigures(2, 1, height_ratios=[1, 1.55]))
    _weakest(upper.subplots(), tables, overall)
    left, right = lower.subplots(1, 2, width_ratios=[1.15, 1])
    for place, recipe in enumerate(overall["recipe"]):
        bars = cells(shares, recipe=recipe)
        look = {"color": style.RECIPE[recipe], "marker": style.MARKERS[place], "markersize": 6}
        x = bars["label"] + 0.3 * place - 0.15
        error_bars(left, x, bars.assign(mean=bars["share"]), PER_CENT, label=recipe, **look)
    left.set(title=f"which {items} are dropped", xlabel=item, ylabel="share of models, %")
    left.set_xticks(list(tables.classes), tables.dataset.class_names)
    left.tick_params(axis="x", rotation=90 if max(map(len, tables.dataset.class_names)) > 2 else 0)
    left.set_ylim(bottom=-1)
    left.grid(visible=False, axis="x")
    left.legend(loc="upper left")
    recipe, went = where_dropped_go(tables)
    texts = np.where(went >= LEAST_SHOWN, np.char.mod("%.0f", PER_CENT * went), "")
    heatmap(right, np.where(went.sum(1, keepdims=True) > 0, went, np.nan), (0, 1), texts=texts)
    class_axes(right, tables, f"{recipe}: where they go, %", last=True)
    summary = "; ".join(
        f"{row.recipe}: {row.dropped} of {row.models} ({row.share:.0%}, 95 % interval "
        f"{row.low:.0%} to {row.high:.0%})"
        for row in overall.itertuples()
    )
    return Drawn(
        f"Above, a dot for each base model: the accuracy of its weakest {item}. A model drops a "
        f"{item} when less than half of its {samples} are right: {summary}. Below, on the left, "
        f"which {items} are dropped how often, with 95 % intervals; on the right what their "
        f"{samples} are taken for (pale rows: no model drops that {item}).",
        f"A dot for each base model at its weakest {item}'s accuracy, how often each {item} is "
        f"dropped, and what its {samples} are taken for. {summary}.",
        shares.assign(
            label=[tables.dataset.class_names[label] for label in shares["label"]]
        ).rename(columns={"label": item}),
        drawing,
        dense=True,
    )


def _weakest(ax: Axes, tables: Tables, overall: pd.DataFrame) -> None:
    """A dot for each base model, spread at random across its recipe's row so that all show."""
    rng = np.random.default_rng(0)
    recipes = list(overall["recipe"])
    for place, recipe in enumerate(recipes):
        models = base(tables.runs, recipe)
        weakest = PER_CENT * models[tables.accuracies].min(axis=1).to_numpy()
        spread = place + rng.uniform(-0.24, 0.24, len(weakest))
        dots = {"color": style.RECIPE[recipe], "alpha": 0.6, "markeredgecolor": "white"}
        ax.plot(weakest, spread, style.MARKERS[place], markersize=7, linestyle="", **dots)
        (share,) = cells(overall, recipe=recipe).to_dict("records")
        text = f"{share['dropped']} of {share['models']} drop a {tables.dataset.item}"
        place_of_text = (PER_CENT * DROPPED - 2, place - 0.36)
        ax.text(*place_of_text, text, color=style.INK, ha="right", va="center")
    ax.axvline(PER_CENT * DROPPED, color=style.INK, linewidth=1, linestyle="--")
    ax.set_yticks(range(len(recipes)), recipes, fontweight="bold")
    ax.set_ylim(len(recipes) - 0.5, -0.5)
    ax.set(
        title=f"every base model: accuracy of its weakest {tables.dataset.item}",
        xlabel=f"test accuracy of the weakest {tables.dataset.item}, %",
        xlim=(-2, 100),
    )


def dropped_classes(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often base models drop each class, and any class; shares with Wilson's intervals."""
    by_class, overall = [], []
    for recipe in tables.recipes:
        models = base(tables.runs, recipe)
        if models.empty:
            continue
        dropped = models[tables.accuracies].to_numpy() < DROPPED
        for label in tables.classes:
            share = frequency(int(dropped[:, label].sum()), len(models))
            row = {"recipe": recipe, "label": label, "share": share.value}
            by_class.append({**row, "low": share.low, "high": share.high, "models": len(models)})
        hits = int(dropped.any(axis=1).sum())
        share = frequency(hits, len(models))
        row = {"recipe": recipe, "models": len(models), "dropped": hits, "share": share.value}
        overall.append({**row, "low": share.low, "high": share.high})
    return pd.DataFrame(by_class), pd.DataFrame(overall)


def where_dropped_go(tables: Tables) -> tuple[str, np.ndarray]:
    """For the recipe that drops most: shares of dropped classes' images by prediction, a row for
    each true class; rows of classes that no model drops are 0."""
    models = {name: base(tables.runs, name)[tables.accuracies] for name in tables.recipes}
    models = {name: rows for name, rows in models.items() if len(rows)}
    most = max(models, key=lambda name: int((models[name].to_numpy() < DROPPED).sum()))
    table = base(tables.confusion, most)
    counts, labels = counts_of(table, "predicted"), table["digit"].to_numpy()
    right = counts[np.arange(len(labels)), labels] / np.maximum(counts.sum(1), 1)
    total = np.zeros((len(tables.classes), len(tables.classes)))
    np.add.at(total, labels[right < DROPPED], counts[right < DROPPED])
    return most, total / np.maximum(total.sum(1, keepdims=True), 1)
