"""The engines' accuracy against the layer's: statistics by hand, the benchmark on little data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.equivalence import MARGIN, RECIPES, verdict
from moe.data.dataset import Dataset
from moe.engine import kernel

ROOT = Path(__file__).parent.parent
# Student's t at 29 degrees of freedom, 95 % below it (any table)
T_29 = 1.699127


def differences(mean: float, error: float) -> np.ndarray:
    """30 numbers with this mean and standard error: ± d has a variance of d² · 30/29."""
    half = error * np.sqrt(29)
    return mean + half * np.tile([1.0, -1.0], 15)


def test_two_one_sided_tests_by_hand() -> None:
    # The upper end of the 90 % interval is mean + 1.699 · error: here just within the margin,
    for mean, error in ((0.05, 0.029), (-0.05, 0.029), (0.0, 0.058)):
        found = verdict(differences(mean, error))
        assert found["equivalent"]
        assert found["mean"] == pytest.approx(mean)
        assert found["high"] == pytest.approx(mean + T_29 * error, abs=1e-6)
        assert found["low"] == pytest.approx(mean - T_29 * error, abs=1e-6)
    # and here just outside. A difference that is not significant is not equivalence.
    for mean, error in ((0.05, 0.030), (-0.05, 0.030), (0.0, 0.060), (0.2, 0.001)):
        assert not verdict(differences(mean, error))["equivalent"]
    # Exactly at the margin, p is 5 %.
    assert verdict(differences(MARGIN - T_29 * 0.02, 0.02))["p"] == pytest.approx(0.05, abs=1e-6)


def test_runs_that_are_all_the_same_are_equivalent() -> None:
    assert verdict(np.zeros(30))["equivalent"]
    assert not verdict(np.full(30, 0.2))["equivalent"]


@pytest.mark.slow
@pytest.mark.skipif(
    not kernel.available() and not os.environ.get("CI"), reason=f"no kernel: {kernel.why_not()}"
)
def test_every_comparison_is_made(mnist_5k: Dataset, tmp_path: Path) -> None:
    options = ("--data", mnist_5k.folder, "--seeds", "3", "--into", tmp_path)
    command = [sys.executable, "-m", "benchmarks.equivalence", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "equivalence.json").read_text())["found"]
    pairs = {(row["trial"].partition("/")[0], row["engine"]) for row in found}
    assert pairs == {(r, e) for r in RECIPES for e in ("kernel", "fused")}
    for row in found:
        assert row["seeds"] == 3
        # 1,000 test images, five epochs of 31 steps: too short for rounding to move many.
        assert abs(row["mean"]) < 0.5
