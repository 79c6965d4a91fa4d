"""Data sets that many tests share, and one run trained the slow, obvious way."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moe.data.dataset import Dataset
from moe.data.download import fetch


@pytest.fixture(scope="session")
def mnist_5k(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """4,000 training and 1,000 test images, bundled, without a download."""
    folder = tmp_path_factory.mktemp("mnist-5k")
    fetch("mnist-5k", folder, folder)
    return Dataset(folder)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """A folder with MNIST's four compressed files."""
    return _mirror("MNIST_MIRROR")


@pytest.fixture(scope="session")
def fashion_mirror() -> Path:
    """A folder with Fashion-MNIST's four compressed files."""
    return _mirror("FASHION_MNIST_MIRROR")


def _mirror(variable: str) -> Path:
    """The folder in an environment variable; without it, tests are skipped, except in CI."""
    name = os.environ.get(variable, "")
    if name and (Path(name) / "train-images-idx3-ubyte.gz").exists():
        return Path(name).resolve()
    if os.environ.get("CI"):
        pytest.fail(f"{variable} is not a folder with the four files, and CI must run this test")
    pytest.skip(f"needs {variable}, a folder with the four files")


@pytest.fixture(autouse=True)
def _search_path() -> Iterator[None]:
    """Restore sys.path: a model loaded by MLflow puts its own copy of the package first."""
    before = list(sys.path)
    yield
    sys.path[:] = before


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread, as in a worker: the tests themselves run in parallel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
