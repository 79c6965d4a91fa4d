"""The non-zero inputs of a data set as lists, computed once and cached on disk.

The C kernel reads only these lists. Axes: N samples, D inputs.
"""

import contextlib
import functools
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8, UInt16

from moe.data.batches import in_chunks
from moe.data.dataset import Dataset

CACHE = Path(".cache/pixels")  # change the name if the format changes
UNROLL = 4  # this and BLOCK: as in kernel.c
BLOCK = 64


class Lists(NamedTuple):
    """The non-zero inputs of samples, one sample after another.

    column: index of each input, ascending within a sample; value: its byte, or its float if the
    inputs are not bytes; offset: where each sample's list begins, and the end of the last.
    Each list is padded at its start to a multiple of UNROLL, with zeros at its first column; the
    last is followed by BLOCK entries of padding.
    """

    column: UInt16[np.ndarray, " inputs"]
    value: UInt8[np.ndarray, " inputs"] | Float32[np.ndarray, " inputs"]
    offset: Int64[np.ndarray, " N+1"]


class PixelLists(NamedTuple):
    """The training and the test set as lists.

    columns: the input that each index stands for, sorted by the number of training samples in which
    it is non-zero, largest first. Inputs that are always zero, and get no gradient, are at the end.
    """

    columns: Int64[np.ndarray, " D"]
    train: Lists
    test: Lists


ARRAYS = ("columns", *(f"{part}_{of}" for part in ("train", "test") for of in Lists._fields))


@functools.lru_cache(maxsize=1)
def pixel_lists(data: Dataset, cache: Path = CACHE) -> PixelLists:
    """The lists of a data set, memory-mapped from the cache; computed first if they are missing.

    Several processes may call this at once. The lists are not cached if the folder cannot be
    written, or if the data set is in memory.
    """
    if data.folder is None:
        return _as_lists(_make(data))
    folder = cache / data.digest
    arrays = _read(folder)
    if arrays is None:
        arrays = _make(data)
        with contextlib.suppress(OSError):
            _write(folder, arrays)
        arrays = _read(folder) or arrays
    return _as_lists(arrays)


def _as_lists(arrays: dict[str, np.ndarray]) -> PixelLists:
    columns, *parts = (arrays[name] for name in ARRAYS)
    return PixelLists(columns, Lists(*parts[:3]), Lists(*parts[3:]))


def _make(data: Dataset) -> dict[str, np.ndarray]:
    train_x, test_x = data.train_x.numpy(), data.test_x.numpy()
    columns = np.argsort(-np.count_nonzero(train_x, axis=0), kind="stable")
    arrays = (columns, *_lists(train_x, columns), *_lists(test_x, columns))
    return dict(zip(ARRAYS, arrays, strict=True))


def _lists(x: np.ndarray, columns: Int64[np.ndarray, " D"]) -> Lists:
    lengths = np.count_nonzero(x, axis=1)
    ends = np.cumsum(-(-lengths // UNROLL) * UNROLL)
    begins = np.concatenate([[0], ends[:-1]])
    index = np.zeros(ends[-1] + BLOCK, np.uint16)
    value = np.zeros(ends[-1] + BLOCK, x.dtype)
    for chunk in in_chunks(len(x), 10_000):
        ordered = np.take(x[chunk], columns, axis=1)
        sample, column = np.nonzero(ordered)
        after = np.cumsum(lengths[chunk])
        place = np.arange(len(sample)) + (ends[chunk] - after)[sample]
        index[place], value[place] = column, ordered[sample, column]
    for filled in range(UNROLL - 1):
        place = (ends - lengths - filled - 1)[(lengths > 0) & (ends - lengths - filled > begins)]
        index[place] = index[place + 1]
    return Lists(index, value, np.concatenate([begins, ends[-1:]]))


def _write(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write atomically: write under a temporary name, then rename."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=folder.parent))
    try:
        for name, array in arrays.items():
            np.save(unfinished / f"{name}.npy", array)
        (unfinished / "sha256").write_text(_digest(unfinished))
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or written by another process
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _read(folder: Path) -> dict[str, np.ndarray] | None:
    """The arrays, memory-mapped; None if they are missing or damaged."""
    try:
        if (folder / "sha256").read_text() != _digest(folder):
            return None
        return {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS}
    except (OSError, ValueError):
        return None


def _digest(folder: Path) -> str:
    sha = hashlib.sha256()
    for name in ARRAYS:
        sha.update((folder / f"{name}.npy").read_bytes())
    return sha.hexdigest()
