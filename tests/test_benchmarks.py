"""The benchmarks run to their end; what they measure in so short a time means nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from moe.data.dataset import Dataset
from moe.engine import kernel

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not kernel.available() and not os.environ.get("CI"), reason=f"no kernel: {kernel.why_not()}"
    ),
]


def benchmark(name: str, *options: object) -> str:
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_bench(mnist_5k: Dataset, tmp_path: Path) -> None:
    benchmark("bench", "--quick", "--data", mnist_5k.folder, "--into", tmp_path)
    found = json.loads((tmp_path / "results.json").read_text())
    committed = json.loads((ROOT / "benchmarks/results.json").read_text())
    assert set(found) == set(committed)
    assert {"module", "vmap", "fused", "kernel"} <= set(found["mix"]["ms"])


def test_the_recipes(mnist_5k: Dataset, tmp_path: Path) -> None:
    benchmark("recipes", "--data", mnist_5k.folder, "--seconds", 0.02, "--into", tmp_path / "r")
    assert json.loads((tmp_path / "r").read_text())
