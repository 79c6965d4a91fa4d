"""A user's own data set: a .npz file in the project's folder, named by its path.

It has x_train, y_train, x_test and y_test, as for `moe.data.arrays.checked`, and optionally
class_names, a name for each label. Nothing in it is unpickled.
"""

import functools
import zipfile
import zlib
from pathlib import Path
from typing import Any

from moe.data.info import DatasetInfo

SUFFIX = ".npz"
# Claims of the source whose measure and margin do not depend on particular classes
CLAIMS = ("C1", "C2", "C3", "C4", "C5", "C6", "C12", "C13", "C16", "C19")
LARGEST = 4 * 2**30  # bytes, unpacked


def own_dataset(name: str) -> DatasetInfo:
    """The declaration of a file's data set.

    name: the file's path relative to the project's folder, with "/", as in params.yaml.
    Raises ValueError, in one line, if the file is not a valid data set.
    """
    path = Path(name)
    if path.is_absolute() or not path.resolve().is_relative_to(Path.cwd()):
        raise ValueError(f"the file must be in the project's folder, {Path.cwd()}")
    try:
        status = path.stat()
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    return _declared(name, path.resolve(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=4)
def _declared(name: str, path: Path, changed: int, size: int) -> DatasetInfo:
    """Cached until the file changes."""
    from moe.data.arrays import checked, checked_names, write_arrays

    held = _read(path)
    names = held.pop("class_names", None)
    arrays = checked(**held)
    classes = 1 + int(arrays.y_train.max())
    class_names = map(str, range(classes)) if names is None else checked_names(names, classes)
    shape = arrays.x_train.shape
    is_images = arrays.x_train.dtype == "uint8" and len(shape) == 3

    def fetch(into: Path, downloads: Path) -> None:
        write_arrays(arrays, into)

    return DatasetInfo(
        name=name,
        title=path.stem,
        item="class",
        items="classes",
        class_names=tuple(class_names),
        image_shape=(shape[1], shape[2]) if is_images else None,
        training_samples=shape[0],
        fetch=fetch,
        claims=CLAIMS,
        inputs=arrays.x_train[0].size,
    )


def _read(path: Path) -> dict[str, Any]:
    """The data set's arrays in the file; ignores any others. Raises ValueError."""
    import numpy as np

    from moe.data.arrays import Arrays

    try:
        with zipfile.ZipFile(path) as file:
            unpacked = sum(entry.file_size for entry in file.infolist())
        if unpacked > LARGEST:
            raise ValueError(f"{unpacked:,} bytes are more than the limit of {LARGEST:,}")
        with np.load(path, allow_pickle=False) as file:
            missing = [array for array in Arrays._fields if array not in file]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            wanted = (*Arrays._fields, "class_names")
            return {array: file[array] for array in wanted if array in file}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot be read: {reason}") from None
