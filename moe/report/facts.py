"""The numbers that the texts of the report speak of."""

import math
from collections import Counter
from typing import Any

import pandas as pd

from moe.analysis.recipe_comparison import at_most_experts
from moe.analysis.results import (
    Tables,
    accuracy_slopes,
    cells,
    lc_sweep,
    mean_over_ne,
    over_seeds,
)
from moe.data.sets import dataset_named
from moe.figures.classes import dropped_digits
from moe.study.params import Params
from moe.study.runs import TRIAL_KEYS

CLASSES = 10


def facts(tables: Tables, params: Params, claims: list[dict[str, Any]]) -> dict[str, Any]:
    """For the template; None or empty where the study has no such cells."""
    runs = tables.runs
    trials = runs.groupby(TRIAL_KEYS)["accuracy"].mean()
    best = trials.idxmax()
    return {
        "dataset": dataset_named(params.data.dataset).title,
        "epochs": params.train.epochs,
        "batch_size": params.train.batch_size,
        "learning_rate": params.train.learning_rate,
        "hidden": params.train.hidden,
        "runs": len(runs),
        "trials": len(trials),
        "experts": int(runs["ne"].sum()),
        "most_seeds": int(runs["seed"].max()) + 1,
        "recipes": tables.recipes,
        "best": {"accuracy": float(trials.max()), **dict(zip(TRIAL_KEYS, best, strict=True))},
        "base": {recipe: _base(runs, recipe) for recipe in tables.recipes},
        "lc": _lc(tables),
        "k_1": _k_1(runs),
        "slopes": _slopes(tables),
        "dropped": dropped_digits(tables)[1].to_dict("records"),
        "double": _double_softmax(tables),
        "verdicts": _verdicts(claims),
        "routers": _routers(tables.routers),
        "diverged": [str(run) for run in tables.diverged],
    }


def _base(runs: pd.DataFrame, recipe: str) -> dict[str, float] | None:
    base = cells(runs, recipe=recipe, ne=1)
    if base.empty:
        return None
    return {
        "accuracy": float(base["accuracy"].mean()),
        "sd": float(base["accuracy"].std()),
        "lowest": float(base["accuracy"].min()),
        "highest": float(base["accuracy"].max()),
        "seeds": base["seed"].nunique(),
    }


def _lc(tables: Tables) -> list[dict[str, Any]]:
    """For each recipe, accuracy and gate loss as means over ne: at no, the best and the most lc."""
    runs = lc_sweep(tables.runs, tables.recipes)
    if runs is None:
        return []
    told = []
    for recipe in tables.recipes:
        keys = ["recipe", "lc"]
        of_recipe = cells(runs, recipe=recipe)
        accuracy = over_seeds(mean_over_ne(of_recipe, keys, "accuracy"), keys, "accuracy")
        gate_loss = over_seeds(mean_over_ne(of_recipe, keys, "gate_loss"), keys, "gate_loss")
        best = accuracy.loc[accuracy["mean"].idxmax()]
        first, last = accuracy.iloc[0], accuracy.iloc[-1]
        gate_at_best = cells(gate_loss, lc=best["lc"])["mean"].iloc[0]
        told.append(
            {
                "recipe": recipe,
                "first": float(first["lc"]),
                "at_first": float(first["mean"]),
                "best": float(best["lc"]),
                "at_best": float(best["mean"]),
                "last": float(last["lc"]),
                "at_last": float(last["mean"]),
                "gate_at_first": float(gate_loss["mean"].iloc[0]),
                "gate_at_best": float(gate_at_best),
                # CV² as people think of it: the standard deviation of importance over its mean
                "spread_at_first": math.sqrt(gate_loss["mean"].iloc[0]),
                "spread_at_best": math.sqrt(gate_at_best),
                "turns": float(best["lc"]) != float(last["lc"]),
            }
        )
    return told


def _k_1(runs: pd.DataFrame) -> dict[str, Any]:
    """At k = 1: the largest gradient of any router, accuracy at the fewest and most experts."""
    at_1 = cells(runs, k=1, lc=1)
    told = {}
    for recipe, of_recipe in at_1.groupby("recipe"):
        means = of_recipe.groupby("ne")["accuracy"].mean()
        many = of_recipe[of_recipe["ne"] > 1]
        if many.empty:
            continue
        told[recipe] = {
            "gradient": float(many["router_grad_norm_max"].max()),
            "runs": len(many),
            "fewest": int(means.index[0]),
            "most": int(means.index[-1]),
            "gain": 100 * float(means.iloc[-1] - means.iloc[0]),
        }
    return told


def _slopes(tables: Tables) -> dict[str, Any]:
    """What a doubling of ne brings: for each recipe its slope at each k, or None."""
    table = accuracy_slopes(tables.runs, [*tables.recipes, "switch"])
    all_k = sorted(set(table["k"]))
    rows = {
        recipe: [next(iter(cells(group, k=k).to_dict("records")), None) for k in all_k]
        for recipe, group in table.groupby("recipe", sort=False)
    }
    return {"k": all_k, "rows": rows}


def _double_softmax(tables: Tables) -> dict[str, float] | None:
    """Cross entropy of probabilities taken for logits: what a sure and right answer costs, what a
    sure and wrong one, what no answer at all; and the lowest and mean loss of the base models."""
    base = cells(tables.runs, recipe="blog", ne=1)
    if base.empty:
        return None
    others = CLASSES - 1
    return {
        "right": math.log(math.e + others) - 1,
        "wrong": math.log(math.e + others),
        "no_idea": math.log(CLASSES),
        "lowest": float(base["network_loss"].min()),
        "mean": float(base["network_loss"].mean()),
    }


def _verdicts(claims: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """How many of each verdict, for each recipe."""
    recipes = dict.fromkeys(claim["recipe"] for claim in claims)
    return {
        recipe: Counter(c["verdict"] for c in claims if c["recipe"] == recipe) for recipe in recipes
    }


def _routers(runs: pd.DataFrame) -> dict[str, Any] | None:
    """Of the study of all recipes, with the most experts; None without it."""
    if runs.empty:
        return None
    return {
        "runs": len(runs),
        "seeds": runs["seed"].nunique(),
        "fewest": int(runs["ne"].min()),
        "most": int(runs["ne"].max()),
        "rows": at_most_experts(runs).to_dict("records"),
    }
