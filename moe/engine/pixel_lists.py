"""The non-zero inputs of a data set as lists, made once and cached on disk.

The C kernel reads nothing else of the inputs. Axes: N samples, D inputs.
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

CACHE = Path(".cache/pixels")  # lists of another form would need another name
UNROLL = 4  # of kernel.c, as is this:
BLOCK = 64


class Lists(NamedTuple):
    """The non-zero inputs of samples, one sample after another.

    column: of each input, in ascending order within a sample; value: its grey, or its number if
    the inputs are not bytes; offset: where each sample's list begins, and the end of the last.
    Zeros at its first input go before each list, so that it is a multiple of UNROLL long, and BLOCK
    more numbers follow the last.
    """

    column: UInt16[np.ndarray, " inputs"]
    value: UInt8[np.ndarray, " inputs"] | Float32[np.ndarray, " inputs"]
    offset: Int64[np.ndarray, " N+1"]


class PixelLists(NamedTuple):
    """Both parts of a data set as lists.

    columns: what the indices stand for: the inputs by how many training samples have them, most
    first. Those that none has, and that never get a gradient, are at the end.
    """

    columns: Int64[np.ndarray, " D"]
    train: Lists
    test: Lists


ARRAYS = ("columns", *(f"{part}_{of}" for part in ("train", "test") for of in Lists._fields))


@functools.lru_cache(maxsize=1)
def pixel_lists(data: Dataset, cache: Path = CACHE) -> PixelLists:
    """The lists of a data set, mapped from its folder in the cache; made first if they are missing.

    Several processes may do this at once. If the folder cannot be written, the lists stay in this
    process; so do those of a data set in memory.
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
    """Write atomically: under another name, then renamed."""
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
    """The arrays, mapped; None if they are missing or damaged."""
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
