"""The study of all recipes: what the report, the claims and the README ask of it."""

import numpy as np
import pandas as pd

from moe.recipes import recipe_named
from moe.statistics import mean_with_interval

MEASURES = ("accuracy", "max_violation", "nmi", "dropped", "router_grad_norm")
PER_CENT = 100


def side_by_side(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe, k and ne: means over seeds, each with its 95 % interval.

    The dense controls choose nothing: they have neither balance nor specialisation.
    """
    rows = []
    for (recipe, k, ne), group in runs.groupby(["recipe", "k", "ne"]):
        row = {"recipe": recipe, "k": k, "ne": ne, "seeds": len(group)}
        for name in MEASURES:
            chooses = name == "accuracy" or recipe_named(str(recipe)).chooses
            values = group[name].to_numpy() if chooses else np.full(len(group), np.nan)
            row |= _named(name, values)
        rows.append(row)
    return pd.DataFrame(rows)


def at_most_experts(runs: pd.DataFrame) -> pd.DataFrame:
    """Of side_by_side the rows with the most experts, the most accurate first, and the gain.

    gain: accuracy there less that with the fewest experts, in points, within each seed.
    """
    fewest, most = runs["ne"].min(), runs["ne"].max()
    table = side_by_side(runs)
    rows = []
    for row in table[table["ne"] == most].to_dict("records"):
        same = runs[(runs["recipe"] == row["recipe"]) & (runs["k"] == row["k"])]
        by_seed = same.pivot_table("accuracy", "seed", "ne")
        gain = PER_CENT * (by_seed[most] - by_seed[fewest]).dropna().to_numpy()
        rows.append(row | _named("gain", gain))
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def _named(name: str, values: np.ndarray) -> dict[str, float]:
    mean, low, high = mean_with_interval(values)
    return {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
