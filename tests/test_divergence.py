"""Runs with a loss or weight that is not finite: marked, named, and left out of every mean."""

import math
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from moe.analysis.results import over_seeds, read_tables
from moe.data.dataset import Dataset
from moe.engine import HISTORY, Trained, fused, kernel
from moe.engine.divergence import has_diverged, in_one_line, losses_of
from moe.study.runs import RUN_KEYS, Run
from moe.study.tables import read_table, write_table
from moe.study.train_settings import Train

CPU = torch.device("cpu")
RUNS = [Run("switch", ne, 1, 1.0, seed) for ne in (2, 4) for seed in (0, 1)]
DIVERGED = RUNS[3]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_one_weight_or_one_loss_is_enough(bad: float) -> None:
    sound, one_bad = torch.zeros(2, 3), torch.zeros(2, 3)
    one_bad[1, 2] = bad
    assert not has_diverged([sound, sound], [0.1, 0.2])
    assert has_diverged([sound, one_bad], [0.1, 0.2])
    assert has_diverged([sound], [0.1, bad])


def test_of_a_history_the_two_losses_count() -> None:
    history = torch.zeros(2, len(HISTORY), dtype=torch.float64)
    history[1, HISTORY.index("gate_loss")] = math.inf
    assert losses_of(history) == [0, 0, 0, math.inf]
    history = torch.zeros(2, len(HISTORY), dtype=torch.float64)
    history[0, HISTORY.index("router_grad_norm")] = math.nan  # neither a loss nor a weight
    assert not has_diverged([], losses_of(history))


def test_the_line_names_the_first_five() -> None:
    assert in_one_line([], 40) == ""
    assert in_one_line(RUNS[:2], 40) == (
        "2 of 40 runs diverged: switch/ne=2/k=1/lc=1/seed=0, switch/ne=2/k=1/lc=1/seed=1"
    )
    seven = in_one_line([Run("logits", 2, 1, 1.0, seed) for seed in range(7)], 1000)
    assert seven.startswith("7 of 1,000 runs diverged: logits/ne=2/k=1/lc=1/seed=0, ")
    assert seven.endswith("seed=4, …")


def write_study(folder: Path) -> None:
    """Tables of RUNS, whose accuracies are 0.9, 0.92, 0.8, 0.1; the last has diverged."""
    rows = [run.columns for run in RUNS]
    accuracy = {"accuracy": [0.9, 0.92, 0.8, 0.1], "network_loss": [1, 2, 3, math.nan]}
    diverged = [int(run == DIVERGED) for run in RUNS]
    frame = pd.DataFrame(rows)
    write_table(frame.assign(**accuracy, diverged=diverged), folder / "runs.csv")
    routers = folder / "routers"
    settings = {"learning_rate": 0.001, "hidden": 10, "capacity_factor": math.inf}
    chosen = frame[["recipe", "ne", "k", "lc"]].drop_duplicates().assign(learning_rate=0.001)
    write_table(frame.assign(**settings, diverged=[1, 0, 0, 0]), routers / "runs.csv")
    write_table(frame.assign(learning_rate=0.001, diverged=0), routers / "select.csv")
    write_table(chosen, routers / "chosen.csv")
    for name in ("history", "confusion", "slots", "coactivation"):
        write_table(pd.concat([frame, frame]), folder / f"{name}.csv")


def test_no_table_of_the_report_has_them(tmp_path: Path) -> None:
    write_study(tmp_path)
    tables = read_tables(tmp_path, hidden=10)
    of_study, of_routers = tables.diverged
    assert of_study == DIVERGED
    assert of_routers[:5] == RUNS[0][:5]
    for table in (tables.runs, tables.history, tables.confusion, tables.slots):
        kept = {Run(*row) for row in table[RUN_KEYS].itertuples(index=False)}
        assert kept == set(RUNS[:3])
        assert "diverged" not in table
    assert len(tables.history) == 6
    assert len(tables.routers) == 3
    # The mean at ne = 4 is that of the other seed, without an interval.
    by_ne = over_seeds(tables.runs, ["ne"], "accuracy")
    assert by_ne["mean"].tolist() == pytest.approx([0.91, 0.8])
    assert by_ne["seeds"].tolist() == [2, 1]


def test_with_none_nothing_is_left_out(tmp_path: Path) -> None:
    write_study(tmp_path)
    for name in ("runs", "routers/runs"):
        write_table(
            read_table(tmp_path / f"{name}.csv").assign(diverged=0), tmp_path / f"{name}.csv"
        )
    tables = read_tables(tmp_path, hidden=10)
    assert tables.diverged == ()
    assert (len(tables.runs), len(tables.history), len(tables.routers)) == (4, 8, 4)


def test_what_is_not_finite_is_an_empty_cell(tmp_path: Path) -> None:
    numbers = {"network_loss": math.inf, "gate_loss": -math.inf, "nmi": math.nan, "accuracy": 0.5}
    write_table([{**RUNS[0].columns, **numbers}], tmp_path / "runs.csv")
    assert (tmp_path / "runs.csv").read_text().splitlines()[1] == "switch,2,1,1,0,,,,0.5"


@pytest.mark.parametrize("engine", ["fused", "kernel"])
def test_engines_train_on_and_leave_the_other_runs_alone(engine: str, mnist_5k: Dataset) -> None:
    # Adam steps of 1e30, squared beyond float32: the second forward pass overflows.
    # Only the gate loss differs: an lc of 1e300 is infinite in float32, that of the others is 1.
    if engine == "kernel" and not kernel.available() and not os.environ.get("CI"):
        pytest.skip("the kernel is not built here")
    wild = Train(epochs=2, batch_size=128, learning_rate=1e30, hidden=10)
    calm = Train(epochs=2, batch_size=128, learning_rate=0.001, hidden=10)
    runs = [Run("logits", 4, 2, lc, 0) for lc in (1.0, 1e300)]

    def train(settings: Train) -> list[Trained]:
        if engine == "kernel":
            return kernel.train(runs, mnist_5k, settings)
        return fused.train(runs, mnist_5k, settings, CPU)

    for trained in train(wild):
        assert trained.history.shape == (2, len(HISTORY))
        assert has_diverged(trained.weights.values(), losses_of(trained.history))
    sound, _ = train(calm)
    assert not has_diverged(sound.weights.values(), losses_of(sound.history))
    assert sound.history[-1, HISTORY.index("test_accuracy")] > 0.5
    assert np.isfinite(sound.history.numpy()).all()
