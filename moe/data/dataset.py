"""A data set on disk, read as uint8 tensors.

The folder `data/` has four files in MNIST's IDX format for every data set, so everything after the
download stage is the same for all of them.
"""

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moe.data.idx import DataError, read_idx

DATA_DIR = Path("data")
CLASSES = 10
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class Dataset:
    """The images (N, D) and labels (N,) of a folder of IDX files, as uint8.

    The files are mapped, not read, so that processes of one machine share their memory.
    """

    def __init__(self, folder: Path = DATA_DIR) -> None:
        self.folder = folder
        images = [read_idx(folder / f"{part}-images-idx3-ubyte") for part in ("train", "t10k")]
        labels = [read_idx(folder / f"{part}-labels-idx1-ubyte") for part in ("train", "t10k")]
        for image, label, part in zip(images, labels, ("train", "t10k"), strict=True):
            if image.ndim != 3 or label.ndim != 1 or len(image) != len(label):
                raise DataError(
                    f"{folder}: {part} has images of shape {image.shape} "
                    f"and labels of shape {label.shape}"
                )
            if label.max(initial=0) >= CLASSES:
                raise DataError(f"{folder}: {part} has a label {label.max()}; they go from 0 to 9")
        self.train_x, self.test_x = (_tensor(image).flatten(1) for image in images)
        self.train_y, self.test_y = (_tensor(label) for label in labels)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the four files."""
        sha = hashlib.sha256()
        for name in FILES:
            sha.update((self.folder / name).read_bytes())
        return sha.hexdigest()


def _tensor(mapped: np.ndarray) -> Tensor:
    # torch warns about read-only memory. It is meant: nothing writes to it.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(mapped)
