"""Figures by digit: accuracies, confusion, and the fingerprint of the double softmax."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import PercentFormatter

from moe.analysis.results import DIGITS, Tables, cells, counts_of, over_seeds
from moe.figures import style
from moe.figures.style import Figure, canvas, heatmap, legend_above
from moe.statistics import frequency

POINTS = 100
FEWEST_SHOWN = 5  # images: smaller counts would hide the pattern behind their numbers
BRIGHTEST_ERROR = 0.1  # of a digit's images: the end of the colour scale of errors
LEAST_SHOWN = 0.03
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
        len(sizes), len(tables.recipes), len(sizes) + 1, sharex=True, sharey="col"
    )
    for row, ne in zip(axes, sizes, strict=True):
        for ax, recipe in zip(row, tables.recipes, strict=True):
            for offset, size, color, hatch in (
                (-0.2, 1, style.BASE, ""),
                (0.2, ne, style.MIXTURE, "//"),
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
                    label="ne experts, k = 2" if size > 1 else "base, one expert",
                )
            if ne == sizes[0]:
                ax.set_title(f"{recipe}: test accuracy, %")
            ax.set_xticks(list(DIGITS))
            ax.grid(visible=False, axis="x")
            ax.set_ylabel(f"ne = {ne}", fontweight="bold")
    legend_above(drawing, axes[0][0], 2)
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
            f"{recipe}, {cells(base, recipe=recipe)['seed'].nunique()} seeds",
            _mean(base, recipe, 1),
        )
        for recipe in tables.recipes
    ]
    one = cells(base, recipe=weakest["recipe"], lc=weakest["lc"], seed=weakest["seed"])
    panels.append(
        (f"{weakest['recipe']}, seed {weakest['seed']} only", counts_of(one, "predicted"))
    )
    drawing, axes = canvas(1, len(panels), 3.5)
    image = None
    for ax, (title, counts) in zip(axes[0], panels, strict=True):
        image = _confusion(ax, counts, title)
        _digit_axes(ax, title, ax in axes[:, 0], last=True)
    _error_scale(drawing, image, axes)
    digit = int(np.argmin([weakest[name] for name in ACCURACIES]))
    return Figure(
        7,
        "confusion-of-the-base",
        "Confusion of the base model",
        f"Test images by true digit (row) and prediction (column), of models with one expert, mean "
        f"over seeds; the diagonal, what is right, is pale, so that the errors show: the brighter, "
        f"the larger the share of the digit's images (counts below {FEWEST_SHOWN} are left out). "
        f"On the right the first of the models that do worst on a digit: "
        f"{weakest[f'accuracy_{digit}']:.0%} of its {digit}s are right.",
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
    rows = 2 * len(tables.recipes)
    drawing, axes = canvas(rows, len(sizes), 2.75 * rows)
    panels, image = [], None
    for place, recipe in enumerate(tables.recipes):
        base = _mean(runs, recipe, 1)
        for above, below, ne in zip(axes[2 * place], axes[2 * place + 1], sizes, strict=True):
            counts = _mean(runs, recipe, ne)
            panels.append((f"{recipe}, ne = {ne}", counts))
            image = _confusion(above, counts)
            change = counts - base
            reach = float(np.abs(change).max())
            texts = np.where(np.abs(change) >= FEWEST_SHOWN, np.char.mod("%+.0f", change), "")
            heatmap(below, change, (-reach, reach), style.SIGNED, texts)
            is_first, is_last = ne == sizes[0], place == len(tables.recipes) - 1
            _digit_axes(above, f"{recipe}, ne = {ne}", is_first)
            _digit_axes(below, f"ne = {ne} less base", is_first, is_last)
    _error_scale(drawing, image, axes[::2])
    told = "; ".join(_largest_change(runs, recipe, max(sizes)) for recipe in tables.recipes)
    return Figure(
        8,
        "confusion-of-experts",
        "Confusion of mixtures",
        f"Test images by true digit and prediction, mean over seeds, at k = 2 and lc = 1, on the "
        f"scale of figure 7; below each, what changes against the base of the same recipe: red is "
        f"more, blue less. Off the diagonal, blue is an error that the experts no longer make. "
        f"Numbers below {FEWEST_SHOWN} are left out here, not in the table.",
        f"Confusion matrices for ne = {', '.join(map(str, sizes))} and their differences from the "
        f"base. {_sentence(told)}",
        _as_table(panels),
        drawing,
        dense=True,
    )


def fingerprint(tables: Tables) -> Figure | None:
    """Figure 15."""
    shares, overall = dropped_digits(tables)
    if len(shares) == 0:
        return None
    drawing = Drawing(figsize=(style.WIDTH, 6.4), layout="constrained")
    upper, lower = np.ravel(drawing.subfigures(2, 1, height_ratios=[1, 1.55]))
    _weakest_digits(upper.subplots(), tables, overall)
    left, right = lower.subplots(1, 2, width_ratios=[1.15, 1])
    for place, recipe in enumerate(tables.recipes):
        bars = cells(shares, recipe=recipe)
        mean, low, high = (POINTS * bars[name].to_numpy() for name in ("share", "low", "high"))
        left.errorbar(
            bars["digit"] + 0.3 * place - 0.15,
            mean,
            [np.maximum(mean - low, 0), high - mean],
            color=style.RECIPE[recipe],
            marker=style.MARKERS[place],
            markersize=6,
            linestyle="",
            label=recipe,
        )
    left.set(
        title="which digits are dropped",
        xlabel="digit",
        ylabel="share of models, %",
        xticks=list(DIGITS),
        ylim=(-1, None),
    )
    left.grid(visible=False, axis="x")
    left.legend(loc="upper left")
    recipe, went = _where_dropped_go(tables)
    texts = np.where(went >= LEAST_SHOWN, np.char.mod("%.0f", POINTS * went), "")
    heatmap(right, np.where(went.sum(1, keepdims=True) > 0, went, np.nan), (0, 1), texts=texts)
    _digit_axes(right, f"{recipe}: where they go, %", last=True)
    told = "; ".join(
        f"{row.recipe}: {row.dropped} of {row.models} ({row.share:.0%}, 95 % interval "
        f"{row.low:.0%} to {row.high:.0%})"
        for row in overall.itertuples()
    )
    return Figure(
        15,
        "fingerprint",
        "The fingerprint of the double softmax",
        f"Above, a dot for each base model: the accuracy of its weakest digit. A model drops a "
        f"digit when less than half of its images are right: {told}. Below, on the left, which "
        f"digits are dropped how often, with 95 % intervals; on the right what their images are "
        f"taken for (pale rows: no model drops that digit).",
        f"A dot for each base model at its weakest digit's accuracy, how often each digit is "
        f"dropped, and what its images are taken for. {told}.",
        shares,
        drawing,
        dense=True,
    )


def _weakest_digits(ax: Axes, tables: Tables, overall: pd.DataFrame) -> None:
    """A dot for each base model, spread at random across its recipe's row so that all show."""
    rng = np.random.default_rng(0)
    for place, recipe in enumerate(tables.recipes):
        models = cells(tables.runs, recipe=recipe, ne=1).drop_duplicates("seed")
        weakest = POINTS * models[ACCURACIES].min(axis=1).to_numpy()
        spread = place + rng.uniform(-0.24, 0.24, len(weakest))
        dots = {"color": style.RECIPE[recipe], "alpha": 0.6, "markeredgecolor": "white"}
        ax.plot(weakest, spread, style.MARKERS[place], markersize=7, linestyle="", **dots)
        (share,) = cells(overall, recipe=recipe).to_dict("records")
        ax.text(
            POINTS * DROPPED - 2,
            place - 0.36,
            f"{share['dropped']} of {share['models']} drop a digit",
            color=style.INK,
            ha="right",
            va="center",
        )
    ax.axvline(POINTS * DROPPED, color=style.INK, linewidth=1, linestyle="--")
    ax.set_yticks(range(len(tables.recipes)), tables.recipes, fontweight="bold")
    ax.set_ylim(len(tables.recipes) - 0.5, -0.5)
    ax.set(
        title="every base model: accuracy of its weakest digit",
        xlabel="test accuracy of the weakest digit, %",
        xlim=(-2, 100),
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


def _largest_change(confusion: pd.DataFrame, recipe: str, ne: int) -> str:
    change = _mean(confusion, recipe, ne) - _mean(confusion, recipe, 1)
    np.fill_diagonal(change, 0)
    digit, other = np.unravel_index(int(change.argmin()), change.shape)
    return (
        f"under {recipe}, {ne} experts take {-change[digit, other]:.0f} fewer {digit}s for {other}s"
    )


def _confusion(ax: Axes, counts: np.ndarray, title: str = "") -> Any:
    """Errors by their share of the row; what is right is left pale, or no error would show."""
    shares = counts / counts.sum(1, keepdims=True)
    np.fill_diagonal(shares, np.nan)
    texts = np.where(counts >= FEWEST_SHOWN, np.char.mod("%.0f", counts), "")
    image = heatmap(ax, shares, (0, BRIGHTEST_ERROR), texts=texts)
    ax.set_title(title)
    return image


def _error_scale(drawing: Drawing, image: Any, axes: np.ndarray) -> None:
    bar = drawing.colorbar(image, ax=axes, fraction=0.02, pad=0.01, extend="max")
    bar.ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    bar.set_label("share of the digit")
    bar.outline.set_visible(False)


def _digit_axes(ax: Axes, title: str, first: bool = True, last: bool = False) -> None:
    """Axis names stand at the edges of a grid of panels alone."""
    ax.set_xticks(list(DIGITS))
    ax.set_yticks(list(DIGITS))
    ax.set_title(title)
    ax.set_ylabel("true digit" if first else "")
    ax.set_xlabel("predicted" if last else "")


def _as_table(panels: list[tuple[str, np.ndarray]]) -> pd.DataFrame:
    columns = [f"predicted {digit}" for digit in DIGITS]
    parts = [
        pd.DataFrame(counts, columns=columns).assign(model=title, digit=list(DIGITS))
        for title, counts in panels
    ]
    return pd.concat(parts)[["model", "digit", *columns]]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."
