"""Data sets that many tests share, and one run trained the slow, obvious way."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from moe.data.dataset import Dataset
from moe.data.download import fetch


@pytest.fixture(scope="session")
def mnist_5k(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """4,000 training and 1,000 test images, from no network."""
    folder = tmp_path_factory.mktemp("mnist-5k")
    fetch("mnist-5k", folder, folder)
    return Dataset(folder)


@pytest.fixture(scope="session")
def mirror() -> Path:
    """A folder with MNIST's four compressed files; without one its tests are skipped, but not in
    CI."""
    name = os.environ.get("MNIST_MIRROR", "")
    if name and (Path(name) / "train-images-idx3-ubyte.gz").exists():
        return Path(name).resolve()
    if os.environ.get("CI"):
        pytest.fail("MNIST_MIRROR names no folder with MNIST, and CI must not skip its tests")
    pytest.skip("needs MNIST_MIRROR, a folder with MNIST's four files")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As in a worker: the tests themselves run in parallel."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
