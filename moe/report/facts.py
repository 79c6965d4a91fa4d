"""The numbers in the texts of the report.

A missing number is None, never nan; texts leave it out.
"""

import hashlib
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from moe.analysis.confirmed import FIRST_SEED
from moe.analysis.recipe_comparison import at_most_experts, most_experts
from moe.analysis.results import (
    PER_CENT,
    READINGS,
    MissingCellsError,
    Tables,
    accuracy_slopes,
    base,
    cells,
    change_over_ne,
    lc_sweep,
    mean_over_ne,
    over_seeds,
    settings_text,
)
from moe.figures.dropped import dropped_classes
from moe.recipes import in_order, recipe_named
from moe.report.router_told import held_equal, told
from moe.statistics import mean_with_interval
from moe.study.grid import study_digest
from moe.study.params import Params
from moe.study.runs import TRIAL_KEYS, exactly
from moe.study.train_settings import with_settings

DIGEST_SHOWN = 12  # characters


def facts(tables: Tables, params: Params, claims: list[dict[str, Any]]) -> dict[str, Any]:
    """The template's numbers; None or empty if the study lacks the cells."""
    runs, dataset = tables.runs, tables.dataset
    shown = tables.for_claims
    dropped = {row["recipe"]: row for row in dropped_classes(shown)[1].to_dict("records")}
    return {
        "dataset": dataset,
        "inputs": dataset.in_features or None,
        "train": with_settings(params.train, tables.settings),
        "settings": _settings(tables),
        "digest": study_digest(params)[:DIGEST_SHOWN],
        "tables": _digest_of(tables.folder / "runs.csv"),
        "runs": len(runs),
        "confirmed": int((shown.runs["seed"] >= FIRST_SEED).sum()) if tables.confirmed else 0,
        "trials": len(runs.groupby(TRIAL_KEYS)),
        "experts": int(runs["ne"].sum()),
        "most_seeds": int(runs.groupby(TRIAL_KEYS)["seed"].nunique().max()) if len(runs) else 0,
        "recipes": tables.recipes,
        "declared": {name: recipe_named(name) for name in in_order(runs["recipe"])},
        "best": _best(runs),
        "test_error": _test_error(tables),
        "base": {recipe: _base(shown.runs, recipe) for recipe in tables.recipes},
        "lc": _lc(shown),
        "k_1": _k_1(shown.runs),
        "slopes": _slopes(shown),
        "dropped": dropped,
        "both_dropped": all(name in dropped for name in READINGS),
        "blog_drops_more": all(name in dropped for name in READINGS)
        and dropped["blog"]["low"] > dropped["logits"]["high"],
        "double": _double_softmax(shown),
        "verdicts": _verdicts(claims),
        "kinds": {claim["verdict"]: claim["symbol"] for claim in claims},
        "routers": _routers(tables, params),
        "router_answers": told(tables.router_study) if tables.router_study else [],
        "router_study": held_equal(tables.router_study) if tables.router_study else "",
        "diverged": [str(run) for run in tables.diverged],
    }


def _settings(tables: Tables) -> dict[str, Any] | None:
    """If the study sweeps settings: which, their values in this report, and how many runs have
    other values; else None."""
    if not tables.settings:
        return None
    return {
        "swept": [name for name, _ in tables.settings],
        "shown": settings_text(tables.settings),
        "others": sum(len(other.runs) for other in tables.others),
    }


def _digest_of(path: Path) -> str:
    """The beginning of a file's SHA-256, as `sha256sum` prints it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:DIGEST_SHOWN]


def _best(runs: pd.DataFrame) -> dict[str, Any] | None:
    """The trial with the highest mean accuracy."""
    trials = runs.groupby(TRIAL_KEYS)["accuracy"].mean()
    if trials.empty:
        return None
    return {"accuracy": float(trials.max()), **dict(zip(TRIAL_KEYS, trials.idxmax(), strict=True))}


def _test_error(tables: Tables) -> dict[str, Any] | None:
    """The standard error of the best trial's accuracy due to the size of the test set."""
    best = _best(tables.runs)
    if best is None or tables.confusion.empty:
        return None
    counts = tables.confusion.groupby([*TRIAL_KEYS, "seed"]).sum(numeric_only=True)
    images = int(counts.filter(like="predicted_").sum(axis=1).iloc[0])
    error = math.sqrt(best["accuracy"] * (1 - best["accuracy"]) / images)
    return {"images": images, "points": PER_CENT * error}


def _base(runs: pd.DataFrame, recipe: str) -> dict[str, Any] | None:
    models = base(runs, recipe)
    if models.empty:
        return None
    return {
        "accuracy": float(models["accuracy"].mean()),
        "lowest": float(models["accuracy"].min()),
        "highest": float(models["accuracy"].max()),
        "seeds": models["seed"].nunique(),
    }


def _interval(values: Any) -> dict[str, Any] | None:
    """estimate, low, high over seeds; low and high are None for one seed. None without any."""
    x = pd.Series(values).dropna().to_numpy(float)
    if len(x) == 0:
        return None
    mean, low, high = map(float, mean_with_interval(x))
    known = math.isfinite(low)
    return {"estimate": mean, "low": low if known else None, "high": high if known else None}


def _lc(tables: Tables) -> list[dict[str, Any]]:
    """For each recipe, as means over ne: accuracy and gate loss at both ends of lc and at the best
    lc, and the changes between them within each seed."""
    try:
        runs = lc_sweep(tables.runs, tables.recipes)
    except MissingCellsError:
        return []
    rows = []
    keys = ["recipe", "lc"]
    for recipe, of_recipe in runs.groupby("recipe", sort=False):
        by_seed = mean_over_ne(of_recipe, keys, "accuracy")
        accuracy = over_seeds(by_seed, keys, "accuracy").set_index("lc")["mean"]
        gate_loss = mean_over_ne(of_recipe, keys, "gate_loss").groupby("lc")["gate_loss"].mean()
        if accuracy.empty:
            continue
        first, last, best = accuracy.index[0], accuracy.index[-1], accuracy.idxmax()
        wide = PER_CENT * by_seed.pivot_table("accuracy", "seed", "lc")
        rows.append(
            {
                "recipe": recipe,
                "k": int(of_recipe["k"].iloc[0]),
                "first": exactly(first),
                "best": exactly(best),
                "last": exactly(last),
                "at_first": float(accuracy[first]),
                "at_best": float(accuracy[best]),
                "at_last": float(accuracy[last]),
                "rise": _interval(wide[best] - wide[first]) if best != first else None,
                "fall": _interval(wide[last] - wide[best]) if best != last else None,
                # CV: the standard deviation of importance divided by its mean
                "spread_at_first": math.sqrt(gate_loss[first]),
                "spread_at_best": math.sqrt(gate_loss[best]),
            }
        )
    for row in rows:
        row["turns"] = _is_above_0(row["rise"]) and _is_above_0(row["fall"], sign=-1)
    return rows


def _is_above_0(interval: dict[str, Any] | None, sign: int = 1) -> bool:
    """Whether a whole interval is above 0, or below it for sign = -1."""
    if interval is None or interval["low"] is None:
        return False
    return interval["low"] > 0 if sign > 0 else interval["high"] < 0


def _k_1(runs: pd.DataFrame) -> dict[str, Any]:
    """At k = 1 and the most frequent lc: the largest gradient of any router, and how accuracy
    changes from the fewest to the most experts, within each seed."""
    at_1 = cells(runs, k=1)
    at_1 = at_1[at_1["ne"] > 1]
    found = {}
    for recipe in in_order(at_1["recipe"]):
        if not recipe_named(recipe).chooses:
            continue
        of_recipe = cells(at_1, recipe=recipe)
        counts = of_recipe["lc"].value_counts()
        lc = max(counts.index, key=lambda lc: (lc == 1, counts[lc], -lc))
        at_lc = cells(of_recipe, lc=lc)
        change = change_over_ne(runs, recipe, 1, float(lc))
        found[recipe] = {
            "gradient": float(at_lc["router_grad_norm_max"].max()),
            "runs": len(at_lc),
            "change": change
            and {
                "fewest": change.fewest,
                "most": change.most,
                "estimate": change.value,
                "low": change.low if math.isfinite(change.low) else None,
                "high": change.high if math.isfinite(change.high) else None,
            },
        }
    return found


def _slopes(tables: Tables) -> dict[str, Any]:
    """The gain per doubling of ne at lc = 1: each recipe's slope at each k, or None."""
    present = in_order(tables.runs["recipe"])
    table = accuracy_slopes(tables.runs, dict.fromkeys(present, 1.0))
    all_k = sorted(set(table["k"]))
    rows = {
        recipe: [next(iter(cells(group, k=k).to_dict("records")), None) for k in all_k]
        for recipe, group in table.groupby("recipe", sort=False)
    }
    return {"k": all_k, "rows": rows}


def _double_softmax(tables: Tables) -> dict[str, float] | None:
    """Cross entropy with probabilities as logits: the loss of a certain right answer, of a certain
    wrong answer, and the mean loss of the base models."""
    softmax = [name for name in tables.recipes if recipe_named(name).softmax_experts]
    models = base(tables.runs, softmax[0]) if softmax else tables.runs.head(0)
    if models.empty:
        return None
    others = len(tables.classes) - 1
    return {
        "right": math.log(math.e + others) - 1,
        "wrong": math.log(math.e + others),
        "mean": float(models["network_loss"].mean()),
    }


def _verdicts(claims: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """The number of each verdict, for each recipe."""
    recipes = dict.fromkeys(claim["recipe"] for claim in claims)
    return {
        recipe: Counter(c["verdict"] for c in claims if c["recipe"] == recipe) for recipe in recipes
    }


def _routers(tables: Tables, params: Params) -> dict[str, Any] | None:
    """Results of the study of all recipes, at the most experts; None without it.

    capacity: the capacity factor, known only if that study is this one.
    """
    runs = tables.routers
    if runs.empty:
        return None
    rows: list[dict[str, Any]] = [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in at_most_experts(runs).to_dict("records")
    ]
    of_1 = [row for row in rows if row["k"] == 1 and row["router_grad_norm"] is not None]
    return {
        "runs": len(runs),
        "seeds": runs["seed"].nunique(),
        "most": most_experts(runs),
        "rows": rows,
        "trained": [row for row in of_1 if row["router_grad_norm"] > 0],
        "untrained": [row for row in of_1 if row["router_grad_norm"] == 0],
        "controls": [name for name in in_order(runs["recipe"]) if not recipe_named(name).chooses],
        "untrainable": [
            name
            for name in in_order(runs["recipe"])
            if recipe_named(name).chooses and not recipe_named(name).trains_router
        ],
        "capacity": None if tables.router_study else params.train.capacity_factor,
        "has_capacity": [
            name for name in in_order(runs["recipe"]) if recipe_named(name).has_capacity
        ],
    }
