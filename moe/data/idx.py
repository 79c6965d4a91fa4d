"""Files in the IDX format of MNIST: arrays of bytes with their shape in a header."""

import struct
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from moe.errors import UserError


class DataError(UserError, RuntimeError):
    """The data cannot be fetched or is damaged; the message is one line."""


def read_idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Memory-map an IDX file of bytes, read-only. Raises DataError if it is not one, or damaged."""
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
            raise DataError(f"{path}: is empty (shape {shape})")
        return np.memmap(path, np.uint8, "r", offset, shape)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def write_idx(path: Path, array: UInt8[np.ndarray, "..."]) -> None:
    """Write a uint8 array as an IDX file."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + np.ascontiguousarray(array).tobytes())
