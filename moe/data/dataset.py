"""A data set in memory or on disk, as tensors.

The folder `data/` has four IDX files for data sets of images, like MNIST, or else four .npy files.
All stages after download treat both alike.
"""

import hashlib
import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from moe.data.arrays import Arrays
from moe.data.idx import DataError, read_idx

DATA_DIR = Path("data")
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
ARRAY_FILES = tuple(f"{name}.npy" for name in Arrays._fields)


class Dataset:
    """Inputs (N, D), of uint8 or float32, and labels (N,), of uint8 or int64.

    folder: the folder with the files, which are memory-mapped, so that processes share their
        memory; None for `Dataset.of`, which uses the given arrays.
    classes: the number of classes, C; the labels are 0 … C-1.
    """

    folder: Path | None

    def __init__(self, folder: Path = DATA_DIR) -> None:
        self.folder = folder
        self._hold(_read(folder))

    @classmethod
    def of(cls, arrays: Arrays) -> "Dataset":
        """A data set of arrays in memory, from `moe.data.arrays.checked`."""
        data = cls.__new__(cls)
        data.folder = None
        data._hold(arrays)
        return data

    def _hold(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self.train_x, self.test_x = (_tensor(x).flatten(1) for x in (arrays.x_train, arrays.x_test))
        self.train_y, self.test_y = (_tensor(y) for y in (arrays.y_train, arrays.y_test))
        self.classes = 1 + max(1, int(self.train_y.max()), int(self.test_y.max()))

    @property
    def image_shape(self) -> tuple[int, int] | None:
        """(height, width) if the inputs are images of grey values, else None."""
        x = self.arrays.x_train
        return (x.shape[1], x.shape[2]) if x.dtype == np.uint8 and x.ndim == 3 else None

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the four files, or of the four arrays if there is no folder."""
        sha = hashlib.sha256()
        if self.folder is None:
            for array in self.arrays:
                sha.update(f"{array.dtype.str} {array.shape}".encode())
                sha.update(array.tobytes())
        else:
            for name in files_of(self.folder):
                sha.update((self.folder / name).read_bytes())
        return sha.hexdigest()


def files_of(folder: Path) -> tuple[str, ...]:
    """The names of the four files in a data set's folder: .npy files, if there are any."""
    return ARRAY_FILES if any((folder / name).exists() for name in ARRAY_FILES) else FILES


def _read(folder: Path) -> Arrays:
    """Memory-map the files of a folder. Raises DataError if they are not a data set."""
    if files_of(folder) == ARRAY_FILES:
        arrays = Arrays(*(_mapped(folder / name) for name in ARRAY_FILES))
    else:
        arrays = _images(folder)
    labels = np.union1d(arrays.y_train, arrays.y_test)
    gaps = set(range(int(labels.max(initial=0)))) - set(labels.tolist())
    if gaps:
        raise DataError(
            f"{folder}: has labels up to {labels.max()}, but none is {min(gaps)}; labels are 0, 1, "
            "… without a gap"
        )
    return arrays


def _images(folder: Path) -> Arrays:
    parts = []
    for part in ("train", "t10k"):
        image = read_idx(folder / f"{part}-images-idx3-ubyte")
        label = read_idx(folder / f"{part}-labels-idx1-ubyte")
        if image.ndim != 3 or label.ndim != 1 or len(image) != len(label):
            raise DataError(
                f"{folder}: {part} has images of shape {image.shape} "
                f"and labels of shape {label.shape}"
            )
        parts += [image, label]
    return Arrays(*parts)


def _mapped(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None


def _tensor(mapped: np.ndarray) -> Tensor:
    # torch warns about read-only memory. This is intended: nothing writes to it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(mapped)
