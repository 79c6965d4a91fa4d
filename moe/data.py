"""MNIST and mnist-5k, read as uint8 tensors; batches, and random numbers for them.

Whatever the data set, the folder `data/` holds the four files of MNIST in its own IDX format, so
that everything after the download stage is the same for all.
"""

import hashlib
import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from moe.errors import UserError

DATA_DIR = Path("data")
CLASSES = 10
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


class DataError(UserError, RuntimeError):
    """The data cannot be had or is not what it should be; the message is one line."""


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


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """A mapped, read-only array of an IDX file of bytes; DataError if it is not one, whole."""
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or not 1 <= magic[3] <= 4:
                raise DataError(f"{path}: not an IDX file of bytes (it starts with {magic!r})")
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise DataError(f"{path}: truncated in its header")
        shape = struct.unpack(f">{magic[3]}I", sizes)
        offset = 4 + len(sizes)
        expected, actual = offset + int(np.prod(shape, dtype=object)), path.stat().st_size
        if actual != expected:
            raise DataError(f"{path}: has {actual} bytes, but its header promises {expected}")
        if actual == offset:
            raise DataError(f"{path}: holds nothing (shape {shape})")
        return np.memmap(path, np.uint8, "r", offset, shape)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def write_idx(path: Path, array: UInt8[np.ndarray, "..."]) -> None:
    """Write a uint8 array as an IDX file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())


def _tensor(mapped: np.ndarray) -> Tensor:
    # torch warns of read-only memory, which is just what is wanted here: nobody writes to it.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.from_numpy(mapped)


# --- batches


def pixels(x: UInt8[Tensor, "*N D"], dtype: torch.dtype = torch.float32) -> Tensor:
    """Grey values as numbers in [0, 1], without mean shift: a background pixel stays 0."""
    return x.to(dtype).div_(255)  # of a copy, since x is uint8


def batch_order(seed: int, epoch: int, samples: int, batch_size: int) -> Tensor:
    """The epoch's batches (steps, B) of sample indices, a function of (seed, epoch) alone.

    The last, partial batch is dropped. Raises ValueError if there is no whole one.
    """
    steps = samples // batch_size
    if steps == 0:
        raise ValueError(f"batch_size = {batch_size} is more than the {samples} training images")
    order = np.random.default_rng((seed, epoch, samples)).permutation(samples)
    return torch.from_numpy(order[: steps * batch_size].reshape(steps, batch_size))


def random_draws(
    kind: Literal["normal", "uniform"],
    seed: int,
    epoch: int,
    num_experts: int,
    steps: int,
    batch_size: int,
) -> Float[Tensor, "E steps B"]:
    """The random numbers of an epoch: standard normal, or uniform in [0, 1).

    An expert's are a function of (seed, epoch, expert) alone, so runs that share experts share
    their noise, and nothing depends on how many experts or runs there are beside.
    """
    draws = []
    for expert in range(num_experts):
        rng = np.random.default_rng((seed, epoch, expert, steps, batch_size))
        draw = rng.standard_normal if kind == "normal" else rng.random
        draws.append(draw((steps, batch_size), dtype=np.float32))
    return torch.from_numpy(np.stack(draws))


def in_chunks(samples: int, size: int) -> Iterator[slice]:
    """Slices that cover range(samples), of the given size but for the last."""
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))
