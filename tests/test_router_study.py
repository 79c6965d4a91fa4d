"""The comparison of routers: phase one's choice against plain loops, phase two, the balance."""

import csv
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from moe.analysis.router_study import (
    CELL,
    SETTING,
    choose,
    main_comparison,
    read_router_study,
    second_phase,
    second_phase_file,
)
from moe.analysis.training_balance import balance_of, training_balance, training_loads
from moe.data.batches import batch_order, numbers
from moe.data.dataset import Dataset
from moe.data.sets import mnist_select
from moe.data.sets.mnist_5k import fetch
from moe.model.layer import MoE
from moe.recipes import RECIPES
from moe.study.grid import runs_of
from moe.study.params import read_params

ROOT = Path(__file__).parent.parent
FIRST = ROOT / "studies/routers-select.yaml"


def test_phase_one_by_hand() -> None:
    """The arithmetic in the file's header."""
    params = read_params(FIRST)
    runs = runs_of(params.sweeps)
    assert len(runs) == 540 + 36 + 180 + 180 + 288 + 72 + 108 + 36 + 72 + 18 == 1530
    assert (params.data.dataset, params.train.capacity_factor) == ("mnist-select", None)
    # Every recipe at each of k = 1 and 2 that it allows, except top-p, whose k is a bound.
    pairs = {(run.recipe, run.ne, run.k) for run in runs}
    assert pairs == {
        (name, ne, k)
        for name, recipe in RECIPES.items()
        for ne in (8, 16)
        for k in (1, 2)
        if recipe.why_not_k(k) is None and (name, k) != ("top-p", 1)
    }
    assert {dict(run.settings)["learning_rate"] for run in runs} == {0.001, 0.003, 0.01}


# --- the choice


def made_up(ties: bool = False) -> pd.DataFrame:
    """Phase one with random accuracies on 10,000 images; with ties, only four different values."""
    rng, rows = np.random.default_rng(0), []
    for run in runs_of(read_params(FIRST).sweeps):
        right = 9_000 + (rng.integers(0, 4) if ties else rng.integers(0, 900))
        rows.append(
            {**run.columns, "accuracy": right / 10_000, "diverged": int(rng.random() < 0.02)}
        )
    return pd.DataFrame(rows)


def chosen_by_loops(rows: list[dict[str, Any]]) -> dict[tuple, tuple[float, float]]:
    """(recipe, ne, k) -> (lc, learning rate), chosen by integer counts of right images."""
    right: dict[tuple, dict[tuple, list[int]]] = defaultdict(lambda: defaultdict(list))
    diverged = set()
    for row in rows:
        cell = (row["recipe"], int(row["ne"]), int(row["k"]))
        setting = (float(row["lc"]), float(row["learning_rate"]))
        right[cell][setting].append(round(10_000 * float(row["accuracy"] or 0)))
        if float(row["diverged"]):
            diverged.add((cell, setting))
    best = {}
    for cell, settings in right.items():
        sound = [s for s in sorted(settings) if (cell, s) not in diverged]
        best[cell] = max(sound, key=lambda s: sum(settings[s]))  # the first of equals
    return best


@pytest.mark.parametrize("ties", [False, True])
def test_the_highest_mean_is_chosen_and_of_equals_the_smaller_setting(ties: bool) -> None:
    select = made_up(ties)
    expected = chosen_by_loops(select.to_dict("records"))
    found = choose(select)
    assert {
        tuple(row[name] for name in CELL): tuple(row[name] for name in SETTING)
        for row in found.to_dict("records")
    } == expected
    assert set(found["seeds"]) == {3}


def test_phase_two_trains_what_was_chosen_and_nothing_else(tmp_path: Path) -> None:
    chosen = choose(made_up())
    path = tmp_path / "routers.yaml"
    path.write_text(second_phase_file(chosen, read_params(FIRST)), encoding="utf-8")
    params = read_params(path)
    runs = runs_of(params.sweeps)
    # 2 ne × 26 pairs of recipe and k; capacity: 2 ne × 2 k × 3; grains: 4 + 3 + 1 + 1; 20 seeds.
    assert len(runs) == 20 * (52 + 12 + 9)
    assert f"# {len(runs):,} runs of 5 epochs" in path.read_text(encoding="utf-8")
    assert (params.data.dataset, params.train) == ("mnist", read_params(FIRST).train)
    assert {run.seed for run in runs} == set(range(100, 120))
    assert_only_chosen([run.columns for run in runs], chosen_by_loops(made_up().to_dict("records")))


def assert_only_chosen(runs: list[dict[str, Any]], best: dict[tuple, tuple]) -> None:
    """Every run has its cell's setting; runs of another width have that of ne = 16, k = 2 or 1."""
    for run in runs:
        recipe, ne, k = run["recipe"], int(run["ne"]), int(run["k"])
        if float(run["hidden"]) == 10 and k <= 2:
            expected = best[recipe, ne, k]
        else:
            assert int(run["k"]) * int(run["hidden"]) == 40
            assert int(run["ne"]) * int(run["hidden"]) == 160
            expected = best.get((recipe, 16, 2)) or best[recipe, 16, 1]
        assert (float(run["lc"]), float(run["learning_rate"])) == expected
        if float(run["capacity_factor"]) != float("inf"):
            assert recipe == "switch"
            assert float(run["hidden"]) == 10


def test_the_comparison_leaves_out_capacity_and_other_widths(tmp_path: Path) -> None:
    chosen = choose(made_up())
    path = tmp_path / "routers.yaml"
    path.write_text(second_phase_file(chosen, read_params(FIRST)), encoding="utf-8")
    runs = pd.DataFrame([run.columns for run in runs_of(read_params(path).sweeps)])
    main = main_comparison(runs, chosen)
    assert len(main) == 20 * len(chosen) == 20 * 52
    assert list(main.columns) == ["recipe", "ne", "k", "lc", "seed"]
    assert not main.duplicated().any()


COMMITTED = ROOT / "results/routers"


def plain(name: str) -> list[dict[str, str]]:
    with (COMMITTED / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_committed_choice_is_that_of_the_committed_runs() -> None:
    best = chosen_by_loops(plain("select"))
    assert len(plain("select")) == 1530
    found = {
        (row["recipe"], int(row["ne"]), int(row["k"])): (
            float(row["lc"]),
            float(row["learning_rate"]),
        )
        for row in plain("chosen")
    }
    assert found == best


def test_the_committed_runs_of_phase_two_use_settings_of_phase_one_alone() -> None:
    runs = plain("runs")
    assert_only_chosen(runs, chosen_by_loops(plain("select")))
    assert {int(run["seed"]) for run in runs}.isdisjoint(int(r["seed"]) for r in plain("select"))
    assert {str(run) for run in runs_of(read_params(ROOT / "studies/routers.yaml").sweeps)} == {
        "{recipe}/ne={ne}/k={k}/lc={lc}/learning_rate={learning_rate}/hidden={hidden}/"
        "capacity_factor={capacity_factor}/seed={seed}".format(**run)
        for run in runs
    }
    study = read_router_study(COMMITTED)
    assert study is not None
    assert len(study.main) + len(study.diverged) >= 20 * len(study.chosen)


# --- the data and the balance


def test_the_images_to_choose_on_are_the_last_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the 4,000 training images of mnist-5k, split after 3,000."""
    monkeypatch.setattr("moe.data.sets.mnist.fetch", fetch)
    monkeypatch.setattr(mnist_select, "TRAINING_SAMPLES", 3_000)
    for folder in ("whole", "split"):
        (tmp_path / folder).mkdir()
    fetch(tmp_path / "whole", tmp_path)
    mnist_select.fetch(tmp_path / "split", tmp_path)
    whole, split = Dataset(tmp_path / "whole"), Dataset(tmp_path / "split")
    assert torch.equal(torch.cat([split.train_x, split.test_x]), whole.train_x)
    assert torch.equal(torch.cat([split.train_y, split.test_y]), whole.train_y)
    assert (len(split.train_x), len(split.test_x)) == (3_000, 1_000)


def test_the_balance_by_hand() -> None:
    """Two experts swap places: each batch is uneven, their sum is even."""
    # (6, 2): 6 / 4 − 1 = 0.5; (2, 6) the same; (4, 4): 0. Sum (12, 12).
    found = balance_of(np.array([[6.0, 2], [2, 6], [4, 4]]))
    assert found == pytest.approx((1 / 3, 0))


@pytest.mark.parametrize("recipe", ["switch", "shared-expert", "expert-choice", "sinkhorn"])
def test_the_loads_are_those_of_each_training_batch(recipe: str, mnist_5k: Dataset) -> None:
    """Compared with the layer, batch by batch."""
    model = MoE(784, 4, 10, 6, 2, recipe, seed=1)
    model.eval()
    loads = training_loads(model, mnist_5k, seed=3, epoch=1, batch_size=50)
    assert not model.training
    model.train()
    for load, batch in itertools.islice(
        zip(loads, batch_order(3, 1, 4_000, 50), strict=True), 0, None, 20
    ):
        _, aux = model(numbers(mnist_5k.train_x[batch]))
        assert load.tolist() == aux.chosen.sum(0)[model.recipe.shared :].tolist()
    if recipe == "expert-choice":
        assert training_balance(model, mnist_5k, 3, 1, 50) == (0, 0)
        assert set(loads.ravel()) == {17}  # ⌈2 · 50 / 6⌉


def test_noise_is_drawn_and_leaves_torchs_generator_where_it_was(mnist_5k: Dataset) -> None:
    model = MoE(784, 4, 10, 6, 2, "shazeer", seed=1).eval()
    before = torch.get_rng_state()
    one, again = (training_loads(model, mnist_5k, 3, 1, 50) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(one, again)
    quiet = model.route(numbers(mnist_5k.train_x[batch_order(3, 1, 4_000, 50)[0]])).chosen.sum(0)
    assert one[0].tolist() != quiet.tolist()


def test_sweeps_are_named_after_what_they_ask() -> None:
    names = [sweep["name"] for sweep in second_phase(choose(made_up()))]
    assert len(names) == len(set(names))
