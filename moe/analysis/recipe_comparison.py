"""Recipes side by side: what the report and the claims ask of `Tables.routers`.

There each recipe has one lc for a k and ne.
"""

import numpy as np
import pandas as pd

from moe.recipes import recipe_named
from moe.statistics import mean_with_interval

MEASURES = ("accuracy", "max_violation", "nmi", "dropped", "router_grad_norm")
PER_CENT = 100


def at_one_lc(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of each recipe at one lc, the one that most of its runs have, 1 among equals: runs
    of several weights are not seeds of one trial."""
    parts = []
    for _, of_recipe in runs.groupby("recipe"):
        counts = of_recipe["lc"].value_counts()
        lc = max(counts.index, key=lambda lc: (counts[lc], lc == 1, -lc))
        parts.append(of_recipe[of_recipe["lc"] == lc])
    return pd.concat(parts) if parts else runs


def most_experts(runs: pd.DataFrame) -> int:
    """The ne that most pairs of recipe and k have, the largest of equals."""
    pairs = runs.drop_duplicates(["recipe", "k", "ne"])["ne"].value_counts()
    return int(max(pairs.index, key=lambda ne: (pairs[ne], ne)))


def side_by_side(runs: pd.DataFrame) -> pd.DataFrame:
    """A row for each recipe, k and ne: means over seeds, each with its 95 % interval.

    The dense controls choose nothing: they have neither balance nor
    specialisation.
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
    """Of side_by_side the rows with the most experts, the most accurate first, and the gain.

    Most experts: as of most_experts. gain: accuracy there less that with the fewest experts that
    the recipe has at this k, in points, within each seed; nan where there are no fewer, or no seed
    has both.
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
