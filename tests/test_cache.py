"""`make cache` and `make clean-cache`, on a store in a separate folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from moe.engine import Trained
from moe.study.runs import Run
from moe.train.run_store import STORE_DIR, Store, pack

ROOT = Path(__file__).parent.parent


def make(folder: Path, target: str) -> str:
    """The output of `make target`, with the tests' environment as its .venv."""
    done = subprocess.run(
        ["make", "--silent", "--old-file=.venv/.ready", target],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One entry with two blog runs of a trial, about 1 MB; one with a switch run; two leftovers."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    store, files = Store(tmp_path / STORE_DIR), []
    for recipe, seeds, floats in (("blog", 2, 125_000), ("switch", 1, 500_000)):
        runs = {f"{recipe}{seed}": Run(recipe, 2, 1, 0.5, seed) for seed in range(seeds)}
        trained = {
            str(run): Trained({"weights": torch.zeros(floats)}, torch.zeros(1, 8))
            for run in runs.values()
        }
        path = store.add(pack(trained), {key: str(run) for key, run in runs.items()})
        files.append(path)
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights/seed-000.safetensors").hardlink_to(files[0])
    (tmp_path / "weights/seed-001.safetensors").write_bytes(b"x" * 400_000)
    (tmp_path / ".dvc/cache/files").mkdir(parents=True)
    (tmp_path / ".dvc/cache/files/0").hardlink_to(files[0])
    (store.folder / "0123.damaged").write_bytes(b"x" * 300_000)
    (store.folder / ".4567.89.tmp").write_bytes(b"x" * 200_000)
    return tmp_path


def test_make_cache_says_what_is_there_with_sizes(folder: Path) -> None:
    first, *rest = make(folder, "cache").splitlines()
    assert first == ".cache/shards: 3 runs of 2 trials in 2 files"
    assert [line.split() for line in rest] == [
        ["blog", "2", "runs"],
        ["switch", "1", "runs"],
        ["damaged", "or", "incomplete,", "not", "used:", "2", "files,", "0.5", "MB"],
        ["on", "disk", "MB", "not", "linked"],
        # blog's 1.0 MB, to which the other two have links, switch's 2.0, leftovers of 0.5
        [".cache/shards", "3.5", "2.5"],
        ["weights", "1.4", "0.4"],
        [".dvc/cache", "1.0", "0.0"],
        ["together", "3.9"],
    ]


def test_make_clean_cache_empties_it_and_leaves_the_rest(folder: Path) -> None:
    (folder / ".cache/mnist").mkdir()
    make(folder, "clean-cache")
    assert not (folder / STORE_DIR).exists()
    assert (folder / ".cache/mnist").exists()
    assert make(folder, "cache").startswith(".cache/shards: 0 runs of 0 trials in 0 files\n")
