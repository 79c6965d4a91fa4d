"""The study of all recipes: means, intervals and gains by hand, and the figure drawn from them."""

import pandas as pd
import pytest

from moe.analysis.recipe_comparison import at_most_experts, side_by_side
from moe.analysis.results import cells


def runs() -> pd.DataFrame:
    """Two seeds of switch at ne = 2 and 16, and of a dense control."""
    rows = []
    for seed, (few, many) in enumerate([(0.90, 0.94), (0.92, 0.98)]):
        for ne, accuracy in ((2, few), (16, many)):
            cell = {"recipe": "switch", "ne": ne, "k": 1, "lc": 1.0, "seed": seed}
            rows.append(
                {**cell, "accuracy": accuracy, "max_violation": 0.5, "nmi": 0.4 + seed / 10}
                | {"dropped": 0.1, "router_grad_norm": 0.02}
            )
    dense = [row | {"recipe": "dense-active", "accuracy": 0.91} for row in rows]
    return pd.DataFrame([*rows, *dense])


def test_means_and_intervals_by_hand() -> None:
    table = cells(side_by_side(runs()), recipe="switch", ne=16)
    switch = table.to_dict("records")[0]
    assert switch["seeds"] == 2
    # 0.94 and 0.98: mean 0.96, standard error 0.02; t(0.975, 1) = 12.706.
    assert switch["accuracy"] == pytest.approx(0.96)
    assert switch["accuracy_high"] == pytest.approx(0.96 + 12.7062 * 0.02, abs=1e-5)
    assert switch["nmi"] == pytest.approx(0.45)
    assert switch["dropped_low"] == switch["dropped_high"] == pytest.approx(0.1)


def test_what_chooses_nothing_has_no_balance() -> None:
    dense = cells(side_by_side(runs()), recipe="dense-active")
    assert dense["accuracy"].tolist() == pytest.approx([0.91, 0.91])
    assert dense[["max_violation", "nmi", "dropped", "router_grad_norm"]].isna().all(axis=None)


def test_the_gain_is_taken_within_a_seed() -> None:
    table = at_most_experts(runs())
    assert list(table["recipe"]) == ["switch", "dense-active"]  # the most accurate first
    assert set(table["ne"]) == {16}
    # 4 and 6 points: mean 5, standard error 1.
    assert table["gain"].tolist() == pytest.approx([5, 0])
    assert table["gain_low"][0] == pytest.approx(5 - 12.7062, abs=1e-4)
