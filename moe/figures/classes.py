"""Figures by digit: accuracies, confusion, and the fingerprint of the double softmax."""

import numpy as np
import pandas as pd

from moe.figures import style
from moe.figures.style import Figure, canvas, heatmap
from moe.results import DIGITS, Tables, cells, counts_of, over_seeds
from moe.statistics import frequency

POINTS = 100
DROPPED = 0.5  # a base model drops a digit when fewer of its images are right
SHOWN_NE = (4, 8, 16)
ACCURACIES = [f"accuracy_{digit}" for digit in DIGITS]


def accuracy_by_class(tables: Tables) -> Figure | None:
    """Figure 6."""
    runs = _k2(tables.runs, tables)
    sizes = sorted(set(runs["ne"]) - {1})
    if not sizes or 1 not in set(runs["ne"]):
        return None
    long = runs[["recipe", "ne", "seed", *ACCURACIES]].melt(
        ["recipe", "ne", "seed"], ACCURACIES, "digit", "accuracy"
    )
    long["digit"] = long["digit"].str[-1].astype(int)
    means = over_seeds(long, ["recipe", "ne", "digit"], "accuracy")
    drawing, axes = canvas(
        len(sizes),
        len(tables.recipes),
        4.6 * len(tables.recipes),
        1.25 * len(sizes) + 0.8,
        sharex=True,
        sharey="col",
    )
    for row, ne in zip(axes, sizes, strict=True):
        for ax, recipe in zip(row, tables.recipes, strict=True):
            for offset, size, color, hatch in (
                (-0.2, 1, style.BASE, ""),
                (0.2, ne, "#E69F00", "//"),
            ):
                bars = cells(means, recipe=recipe, ne=size).sort_values("digit")
                mean, low, high = (
                    POINTS * bars[name].to_numpy() for name in ("mean", "low", "high")
                )
                ax.bar(
                    bars["digit"] + offset,
                    mean,
                    0.38,
                    color=color,
                    hatch=hatch,
                    edgecolor="white",
                    linewidth=0.5,
                    yerr=[mean - low, high - mean],
                    error_kw={"elinewidth": 0.8, "ecolor": style.INK},
                    label=f"ne = {size}" if size > 1 else "base, ne = 1",
                )
            if ne == sizes[0]:
                ax.set_title(f"{recipe}: accuracy by digit, %")
            ax.set_xticks(list(DIGITS))
            ax.set_ylabel(f"ne = {ne}")
    lowest = [POINTS * float(cells(means, recipe=r)["mean"].min()) for r in tables.recipes]
    for column, least in enumerate(lowest):
        axes[0][column].set_ylim(max(0, 10 * (least // 10) - 10), 100)
        axes[-1][column].set_xlabel("digit")
    worst = [means.loc[cells(means, recipe=r, ne=1)["mean"].idxmin()] for r in tables.recipes]
    weak = "; ".join(
        f"the weakest digit of the {row['recipe']} base is {row['digit']} with {row['mean']:.1%}"
        for row in worst
    )
    return Figure(
        6,
        "accuracy-by-class",
        "Accuracy by class",
        f"Test accuracy of each digit, the base model (one expert) in blue beside ne experts at "
        f"k = 2, lc = 1, a row for each ne; whiskers are 95 % intervals over seeds, and the axes "
        f"do not begin at 0. {_sentence(weak)}",
        f"Bars of accuracy for digits 0 to 9, base beside mixture, for ne = "
        f"{', '.join(map(str, sizes))}. {_sentence(weak)}",
        means,
        drawing,
    )


def confusion_of_the_base(tables: Tables) -> Figure | None:
    """Figure 7."""
    base = cells(tables.confusion, recipe=tables.recipes, ne=1)
    if base.empty:
        return None
    runs = cells(tables.runs, recipe=tables.recipes[0], ne=1)
    weakest = runs.loc[runs[ACCURACIES].min(axis=1).idxmin()]
    panels = [
        (
            f"{recipe}, mean of {cells(base, recipe=recipe)['seed'].nunique()} seeds",
            _mean(base, recipe, 1),
        )
        for recipe in tables.recipes
    ]
    one = cells(base, recipe=weakest["recipe"], lc=weakest["lc"], seed=weakest["seed"])
    panels.append(
        (f"{weakest['recipe']}, seed {weakest['seed']} alone", counts_of(one, "predicted"))
    )
    drawing, axes = canvas(1, len(panels), 4.1 * len(panels), 4)
    for ax, (title, counts) in zip(axes[0], panels, strict=True):
        _confusion(ax, counts, title)
    digit = int(np.argmin([weakest[name] for name in ACCURACIES]))
    return Figure(
        7,
        "confusion-of-the-base",
        "Confusion of the base model",
        f"Test images by true digit (row) and prediction (column), of models with one expert; the "
        f"colour is the share of the row. On the right the single model that does worst on a "
        f"digit: {weakest[f'accuracy_{digit}']:.0%} of its {digit}s are right.",
        f"Confusion matrices of base models. The one on the right, seed {weakest['seed']} of "
        f"{weakest['recipe']}, is right on {weakest[f'accuracy_{digit}']:.0%} of digit {digit}.",
        _as_table(panels),
        drawing,
        dense=True,
    )


def confusion_of_experts(tables: Tables) -> Figure | None:
    """Figure 8."""
    runs = cells(_k2(tables.confusion, tables), ne=[1, *SHOWN_NE])
    sizes = sorted(set(runs["ne"]) - {1})
    if not sizes or 1 not in set(runs["ne"]):
        return None
    drawing, axes = canvas(
        2 * len(tables.recipes), len(sizes), 3.9 * len(sizes), 7.4 * len(tables.recipes)
    )
    panels = []
    for place, recipe in enumerate(tables.recipes):
        base = _mean(runs, recipe, 1)
        for above, below, ne in zip(axes[2 * place], axes[2 * place + 1], sizes, strict=True):
            counts = _mean(runs, recipe, ne)
            panels.append((f"{recipe}, ne = {ne}", counts))
            _confusion(above, counts, f"{recipe}, ne = {ne}")
            change = counts - base
            reach = float(np.abs(change).max())
            texts = np.array(
                [[f"{v:+.0f}" if abs(v) >= 0.5 else "" for v in row] for row in change]
            )
            heatmap(below, change, (-reach, reach), style.SIGNED, texts)
            _digit_axes(below, f"{recipe}, ne = {ne}, less the base")
    return Figure(
        8,
        "confusion-of-experts",
        "Confusion of mixtures",
        "Test images by true digit and prediction, mean over seeds, at k = 2 and lc = 1; below "
        "each, what changes against the base of the same recipe: red is more, blue less. Off the "
        "diagonal, blue is an error that the experts no longer make.",
        f"Confusion matrices for ne = {', '.join(map(str, sizes))} and their differences from the "
        "base.",
        _as_table(panels),
        drawing,
        dense=True,
    )


def fingerprint(tables: Tables) -> Figure | None:
    """Figure 15."""
    shares, overall = dropped_digits(tables)
    if len(shares) == 0:
        return None
    drawing, axes = canvas(1, 2, 10, 4, width_ratios=[1.3, 1])
    left, right = axes[0]
    for place, recipe in enumerate(tables.recipes):
        bars = cells(shares, recipe=recipe)
        mean, low, high = (POINTS * bars[name].to_numpy() for name in ("share", "low", "high"))
        left.bar(
            bars["digit"] + 0.4 * place - 0.2,
            mean,
            0.38,
            color=style.RECIPE[recipe],
            hatch="//" if place else "",
            edgecolor="white",
            yerr=[np.maximum(mean - low, 0), high - mean],
            error_kw={"elinewidth": 0.9, "ecolor": style.INK},
            label=recipe,
        )
    left.set(
        title="base models that drop the digit",
        xlabel="digit",
        ylabel="share of models, %",
        xticks=list(DIGITS),
        ylim=(0, None),
    )
    left.legend()
    recipe, went = _where_dropped_go(tables)
    texts = np.where(went >= 0.03, np.char.mod("%.0f%%", POINTS * went), "")
    heatmap(right, went, (0, 1), texts=texts)
    _digit_axes(right, f"{recipe}: where their images go")
    told = "; ".join(
        f"{row.recipe}: {row.dropped} of {row.models} ({row.share:.0%}, 95 % interval "
        f"{row.low:.0%} to {row.high:.0%})"
        for row in overall.itertuples()
    )
    return Figure(
        15,
        "fingerprint",
        "The fingerprint of the double softmax",
        f"Base models with a digit below 50 %: {told}. On the right, for the models that drop a "
        f"digit, what its images are taken for (empty rows: no model drops that digit).",
        f"Bars: how often base models drop each digit. {told}.",
        shares,
        drawing,
        dense=True,
    )


def dropped_digits(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often base models drop each digit, and any at all; shares with Wilson's intervals."""
    base = cells(tables.runs, recipe=tables.recipes, ne=1)
    by_digit, overall = [], []
    for recipe, runs in base.groupby("recipe"):
        models = runs.drop_duplicates("seed")
        dropped = models[ACCURACIES].to_numpy() < DROPPED
        for digit in DIGITS:
            share = frequency(int(dropped[:, digit].sum()), len(models))
            row = {"recipe": recipe, "digit": digit, "share": share.value}
            by_digit.append({**row, "low": share.low, "high": share.high, "models": len(models)})
        any_digit = frequency(int(dropped.any(axis=1).sum()), len(models))
        overall.append(
            {
                "recipe": recipe,
                "models": len(models),
                "dropped": int(dropped.any(axis=1).sum()),
                "share": any_digit.value,
                "low": any_digit.low,
                "high": any_digit.high,
            }
        )
    return pd.DataFrame(by_digit), pd.DataFrame(overall)


def _where_dropped_go(tables: Tables) -> tuple[str, np.ndarray]:
    """For the recipe that drops most: (10, 10) shares of dropped digits' images by prediction."""
    best, most = tables.recipes[0], -1.0
    for recipe in tables.recipes:
        low = (cells(tables.runs, recipe=recipe, ne=1)[ACCURACIES] < DROPPED).to_numpy().sum()
        if low > most:
            best, most = recipe, low
    table = cells(tables.confusion, recipe=best, ne=1)
    counts = counts_of(table, "predicted")
    digits = table["digit"].to_numpy()
    right = counts[np.arange(len(digits)), digits] / counts.sum(1)
    total = np.zeros((10, 10))
    np.add.at(total, digits[right < DROPPED], counts[right < DROPPED])
    return best, total / np.maximum(total.sum(1, keepdims=True), 1)


def _k2(table: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """lc = 1 and k = 2, or 1 for one expert."""
    table = cells(table, recipe=tables.recipes, lc=1)
    return table[table["k"] == table["ne"].clip(upper=2)]


def _mean(confusion: pd.DataFrame, recipe: str, ne: int) -> np.ndarray:
    """(10, 10): mean counts over seeds."""
    of_cell = cells(confusion, recipe=recipe, ne=ne)
    return of_cell.groupby("digit")[[f"predicted_{digit}" for digit in DIGITS]].mean().to_numpy()


def _confusion(ax, counts: np.ndarray, title: str) -> None:
    shares = counts / counts.sum(1, keepdims=True)
    texts = np.where(counts >= 0.5, np.char.mod("%.0f", counts), "")
    heatmap(ax, shares, (0, 1), texts=texts)
    _digit_axes(ax, title)


def _digit_axes(ax, title: str) -> None:
    ax.set_xticks(list(DIGITS))
    ax.set_yticks(list(DIGITS))
    ax.set(title=title, xlabel="predicted", ylabel="true digit")


def _as_table(panels: list[tuple[str, np.ndarray]]) -> pd.DataFrame:
    columns = [f"predicted {digit}" for digit in DIGITS]
    parts = [
        pd.DataFrame(counts, columns=columns).assign(model=title, digit=list(DIGITS))
        for title, counts in panels
    ]
    return pd.concat(parts)[["model", "digit", *columns]]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
