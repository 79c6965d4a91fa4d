"""C1 – C6: the effects of the gate loss and of k = 1."""

from typing import Any

import numpy as np
import pandas as pd

from moe.analysis.recipe_comparison import at_most_experts
from moe.analysis.results import Tables, cells, slopes_on_ne
from moe.claims.claim import (
    CV_SQUARED,
    NATS,
    POINTS,
    POINTS_PER_STEP,
    Measured,
    MissingCellsError,
    Part,
    claim,
)
from moe.statistics import all_of, of_means, paired, slopes

PER_CENT = 100


def by_seed(table: pd.DataFrame, column: str, value: str, needed: tuple = ()) -> pd.DataFrame:
    """(seeds, values of a column): each seed's mean of value over the ne that all values share.

    Seeds that lack a value are left out. Raises MissingCellsError if fewer than two seeds remain,
    or if a needed value of the column is missing.
    """
    lacking = set(needed) - set(table[column])
    if lacking:
        raise MissingCellsError(f"{column} = {', '.join(f'{v:g}' for v in sorted(lacking))}")
    if needed:
        table = cells(table, **{column: list(needed)})
    if table.empty:
        raise MissingCellsError("cells that the study does not have")
    common = set.intersection(*(set(group["ne"]) for _, group in table.groupby(column)))
    wide = cells(table, ne=common).pivot_table(value, "seed", [column, "ne"]).dropna()
    if len(wide) < 2:
        raise MissingCellsError("at least two seeds")
    return wide.T.groupby(level=0).mean().T


def _swept(tables: Tables, recipe: str) -> pd.DataFrame:
    return cells(tables.runs, recipe=recipe, k=2)


@claim(
    "C1",
    words="The gate loss spreads the images evenly over the experts.",
    quote="This minimization of this loss effectively tries to make the output distribution of the "
    "router as close to uniform as possible.",
    measured="CV² of importance (test set) at lc = 0 less its mean over lc > 0; k = 2, mean over "
    "ne",
    margin="above 0.05",
)
def even_load(tables: Tables, recipe: str) -> Measured:
    runs = _swept(tables, recipe)
    weighted = sorted({lc for lc in runs["lc"] if lc > 0})
    if not weighted:
        raise MissingCellsError("lc > 0")
    loss = by_seed(runs, "lc", "gate_loss", (0.0, *weighted))
    entropy = by_seed(runs, "lc", "gate_entropy", (0.0, *weighted))
    fall = loss[0.0] - loss[weighted].mean(axis=1)
    rise = entropy[weighted].mean(axis=1) - entropy[0.0]
    part = Part("fall of CV² from lc = 0", "CV²", paired(fall.to_numpy()), CV_SQUARED)
    return Measured([part], beside={"rise of entropy per sample, nats": _interval(rise)})


@claim(
    "C2",
    words="Accuracy, averaged over ne, rises with lc.",
    quote="The average accuracy over the number of experts increases as …",
    measured="accuracy at lc = 1 less that at lc = 0, and at lc = 10 less that at lc = 1; k = 2, "
    "mean over ne",
    margin="above 0.2 points, and above −0.2 points",
)
def accuracy_over_lc(tables: Tables, recipe: str) -> Measured:
    runs = _swept(tables, recipe)
    accuracy = PER_CENT * by_seed(runs, "lc", "accuracy", (0.0, 1.0, 10.0))
    up, on = accuracy[1.0] - accuracy[0.0], accuracy[10.0] - accuracy[1.0]
    parts = [
        Part("lc = 1 less lc = 0", "points", paired(up.to_numpy()), POINTS),
        Part("lc = 10 less lc = 1", "points", paired(on.to_numpy()), -POINTS),
    ]
    whole = PER_CENT * by_seed(runs, "lc", "accuracy")
    curve = {f"lc = {lc:g}": _interval(whole[lc]) for lc in whole}
    return Measured(
        parts, all_of, only="holds up to lc = 1", beside={"accuracy, mean over ne, %": curve}
    )


@claim(
    "C3",
    words="A low lc goes with a high gate loss.",
    quote="We see the explanation for this in the plots for gate loss and network loss … With a "
    "low value of …",
    measured="fall of the unweighted gate loss per decade of lc; k = 2, mean over ne",
    margin="above 0.05 per decade",
)
def gate_loss_over_lc(tables: Tables, recipe: str) -> Measured:
    runs = _swept(tables, recipe)
    weighted = sorted({lc for lc in runs["lc"] if lc > 0})
    if len(weighted) < 2:
        raise MissingCellsError("two lc above 0")
    loss = by_seed(runs, "lc", "gate_loss", tuple(weighted))
    slope = -slopes(np.log10(weighted), loss.to_numpy())
    return Measured([Part("fall per decade of lc", "CV² per decade", paired(slope), CV_SQUARED)])


@claim(
    "C4",
    words="The network loss explains the accuracy: it is higher without the gate loss.",
    quote="We see the explanation for this in the plots for gate loss and network loss - the two "
    "components of the MOE loss.",
    measured="network loss on the test set at lc = 0 less that at lc = 1; k = 2, mean over ne",
    margin="above 0.005 nats",
)
def network_loss_over_lc(tables: Tables, recipe: str) -> Measured:
    loss = by_seed(_swept(tables, recipe), "lc", "network_loss", (0.0, 1.0))
    fall = (loss[0.0] - loss[1.0]).to_numpy()
    return Measured([Part("network loss at lc = 0 less lc = 1", "nats", paired(fall), NATS)])


@claim(
    "C5",
    words="k = 1 is the odd one out: more experts do not help there.",
    quote="The paper Switch-Transformers propose a way to train MOEs with …",
    measured="slope of accuracy on log2 ne at k = 2 less that at k = 1; lc = 1, all seeds of each "
    "k",
    margin="above 0.1 points per doubling",
)
def slope_at_k_1(tables: Tables, recipe: str) -> Measured:
    runs = cells(tables.runs, lc=1.0)
    slope = {
        (name, k): slopes_on_ne(runs, name, k)
        for name in (recipe, "switch")
        for k in sorted(set(cells(runs, recipe=name)["k"]))
    }
    slope = {key: value for key, value in slope.items() if value is not None}
    at_1, at_2 = slope.get((recipe, 1)), slope.get((recipe, 2))
    if at_1 is None or at_2 is None:
        raise MissingCellsError("k = 1 and k = 2 at three ne and two seeds")
    # Not all seeds have both k: k = 1 has more seeds where its slopes vary more.
    difference = of_means(lambda two, one: (two - one)[..., 0], at_2, at_1)
    gradient = cells(runs, recipe=recipe, k=1)["router_grad_norm_max"].max()
    beside = {
        f"slope of {name} at k = {k}": _interval(values) for (name, k), values in slope.items()
    }
    beside["largest router gradient at k = 1"] = float(gradient)
    what, unit = "slope at k = 2 less k = 1", "points per doubling"
    part = Part(what, unit, difference, POINTS_PER_STEP)
    remark = (
        f"the router's gradient at k = 1 is {'exactly 0' if gradient == 0 else f'{gradient:.2g}'}"
    )
    return Measured([part], remark=remark, beside=beside)


@claim(
    "C6",
    words="Weighting as Switch Transformers do makes k = 1 trainable.",
    quote="The paper Switch-Transformers propose a way to train MOEs with …",
    measured="accuracy of switch less that of logits at k = 1, lc = 1, mean over ne > 1",
    margin="above 0.2 points",
    recipes=("switch",),
)
def switch_at_k_1(tables: Tables, recipe: str) -> Measured:
    runs = cells(tables.runs, recipe=["switch", "logits"], k=1, lc=1.0)
    runs = runs[runs["ne"] > 1]
    accuracy = PER_CENT * by_seed(
        runs.assign(switch=(runs["recipe"] == "switch").astype(int)), "switch", "accuracy", (0, 1)
    )
    gain = (accuracy[1] - accuracy[0]).to_numpy()
    norms = runs.groupby("recipe")["router_grad_norm"].mean()
    beside = {f"router gradient norm of {name}": float(norm) for name, norm in norms.items()}
    return Measured(
        [Part("switch less logits at k = 1", "points", paired(gain), POINTS)],
        beside=beside | _routers_at_k_1(tables.routers),
    )


def _routers_at_k_1(runs: pd.DataFrame) -> dict[str, Any]:
    """From the study of all recipes: whose router trains at k = 1, and the gain of more experts."""
    if runs.empty:
        return {}
    fewest, most = runs["ne"].min(), runs["ne"].max()
    table = at_most_experts(runs)
    return {
        f"{row['recipe']} at k = 1": {
            "router gradient norm": row["router_grad_norm"],
            f"points from ne = {fewest} to {most}": row["gain"],
            "low": row["gain_low"],
            "high": row["gain_high"],
        }
        for row in table[(table["k"] == 1) & table["nmi"].notna()].to_dict("records")
    }


def _interval(x: pd.Series) -> dict[str, Any]:
    estimate = paired(x.to_numpy())
    return {"estimate": estimate.value, "low": estimate.low, "high": estimate.high}
