"""The output for `dvc metrics` and `dvc plots`, on hand-made tables."""

from pathlib import Path

import pandas as pd
import pytest

from moe.analysis.dvc_metrics import (
    accuracy_over_lc,
    accuracy_over_ne,
    best_trials,
    headline,
    write_plots,
)
from moe.study.runs import RUN_KEYS, Trial


def table(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*RUN_KEYS, "accuracy"])


RUNS = table(
    ("blog", 1, 1, 0.5, 0, 0.80),
    ("blog", 1, 1, 0.5, 1, 0.90),  # base: 0.85
    ("blog", 2, 1, 0.5, 0, 0.70),
    ("blog", 2, 1, 0.0, 0, 0.95),  # the best trial
    ("shazeer", 4, 3, 2.0, 0, 0.60),
    ("shazeer", 4, 3, 2.0, 1, 0.70),  # 0.65; no ne = 1
)


def test_headline() -> None:
    assert headline(RUNS) == {
        "runs": 6,
        "base": {"blog": 0.85},
        "best": {"blog": 0.95, "shazeer": 0.65},
    }
    assert best_trials(RUNS)["blog"] == Trial("blog", 2, 1, 0.0)


def test_accuracy_over_ne_takes_the_lc_with_the_most_ne() -> None:
    """blog: lc = 0.5, with two ne, not 0, with one."""
    assert accuracy_over_ne(RUNS).to_dict("records") == [
        {"series": "blog k=1 lc=0.5", "ne": 1, "accuracy": pytest.approx(0.85)},
        {"series": "blog k=1 lc=0.5", "ne": 2, "accuracy": 0.70},
        {"series": "shazeer k=3 lc=2", "ne": 4, "accuracy": pytest.approx(0.65)},
    ]


def test_accuracy_over_lc_compares_the_same_ne() -> None:
    """Only ne = 2 has both lc. If no recipe has two lc, the one lc of each is shown."""
    assert accuracy_over_lc(RUNS).to_dict("records") == [
        {"series": "blog k=1", "lc": 0.0, "accuracy": 0.95},
        {"series": "blog k=1", "lc": 0.5, "accuracy": 0.70},
    ]
    (alone,) = accuracy_over_lc(RUNS[4:]).to_dict("records")
    assert alone == {"series": "shazeer k=3", "lc": 2.0, "accuracy": pytest.approx(0.65)}


def test_plots_of_the_best_trial(tmp_path: Path) -> None:
    best, other = ("blog", 2, 1, 0.0, 3), ("blog", 1, 1, 1.0, 0)
    runs = table((*best, 0.9), (*other, 0.5))
    history = pd.DataFrame(
        [(*best, 1, 0.6, 0.7), (*best, 2, 0.8, 0.9), (*other, 1, 0.1, 0.1)],
        columns=[*RUN_KEYS, "epoch", "train_accuracy", "test_accuracy"],
    )
    confusion = pd.DataFrame(
        [(*best, 0, 2, 1), (*best, 1, 0, 3), (*other, 0, 3, 0), (*other, 1, 3, 0)],
        columns=[*RUN_KEYS, "digit", "predicted_0", "predicted_1"],
    )
    plots = tmp_path / "plots"
    write_plots(runs, history, confusion, plots)
    assert (plots / "training/blog.csv").read_text() == (
        "epoch,train_accuracy,test_accuracy\n1,0.6,0.7\n2,0.8,0.9\n"
    )
    images = pd.read_csv(plots / "confusion/blog.csv")
    assert images.value_counts().to_dict() == {(0, 0): 2, (0, 1): 1, (1, 1): 3}
