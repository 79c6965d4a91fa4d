"""Recipes side by side: tables for the report and the claims, from `Tables.routers`.

In `Tables.routers`, each recipe has a single lc for a k and ne.
"""

import numpy as np
import pandas as pd

from moe.recipes import recipe_named
from moe.statistics import mean_with_interval

MEASURES = ("accuracy", "max_violation", "nmi", "dropped", "router_grad_norm")
PER_CENT = 100


def at_one_lc(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of each recipe at its most frequent lc (1 wins ties). Runs with different lc are not
    seeds of one trial."""
    parts = []
    for _, of_recipe in runs.groupby("recipe"):
        counts = of_recipe["lc"].value_counts()
        lc = max(counts.index, key=lambda lc: (counts[lc], lc == 1, -lc))
        parts.append(of_recipe[of_recipe["lc"] == lc])
    return pd.concat(parts) if parts else runs


def most_experts(runs: pd.DataFrame) -> int:
    """The ne that most pairs of recipe and k have; the largest wins ties."""
    pairs = runs.drop_duplicates(["recipe", "k", "ne"])["ne"].value_counts()
    return int(max(pairs.index, key=lambda ne: (pairs[ne], ne)))


def side_by_side(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe, k and ne: means over seeds, each with its 95 % interval.

    The dense controls choose nothing, so they have no balance and no specialisation.
    """
    rows = []
    for (recipe, k, ne), group in runs.groupby(["recipe", "k", "ne"]):
        row = {"recipe": recipe, "k": k, "ne": ne, "seeds": len(group)}
        for name in MEASURES:
            chooses = name == "accuracy" or recipe_named(str(recipe)).chooses
            values = group[name].to_numpy(float) if chooses else np.full(len(group), np.nan)
            row |= _named(name, values)
        rows.append(row)
    return pd.DataFrame(rows)


def at_most_experts(runs: pd.DataFrame) -> pd.DataFrame:
    """The rows of side_by_side at `most_experts`, the most accurate first, with the gain.

    gain: accuracy minus that with the recipe's fewest experts at this k, in points, within each
    seed; nan if there are no fewer experts, or no seed has both.
    """
    most = most_experts(runs)
    table = side_by_side(runs)
    rows = []
    for row in table[table["ne"] == most].to_dict("records"):
        same = runs[(runs["recipe"] == row["recipe"]) & (runs["k"] == row["k"])]
        by_seed = same.pivot_table("accuracy", "seed", "ne")
        fewest = by_seed.columns.min()
        gain = PER_CENT * (by_seed[most] - by_seed[fewest]).dropna().to_numpy()
        has_gain = fewest < most and len(gain) > 0
        row |= _named("gain", gain if has_gain else np.array([np.nan]))
        rows.append({**row, "fewest": int(fewest)})
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def _named(name: str, values: np.ndarray) -> dict[str, float]:
    mean, low, high = mean_with_interval(values)
    return {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
