"""A data set as four arrays: validation, and .npy files in a folder."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64, UInt8

Inputs = UInt8[np.ndarray, "N *D"] | Float32[np.ndarray, "N *D"]
Labels = UInt8[np.ndarray, " N"] | Int64[np.ndarray, " N"]


class Arrays(NamedTuple):
    """Inputs (N, …) and labels (N,) for training and for the test.

    Inputs of type uint8 are grey values: training divides them by 255. Inputs of type float32 are
    used unchanged.
    """

    x_train: Inputs
    y_train: Labels
    x_test: Inputs
    y_test: Labels


def checked(x_train: Any, y_train: Any, x_test: Any, y_test: Any) -> Arrays:
    """Validate array-likes and convert them to arrays for training.

    Inputs: uint8 stays, other numbers become float32. Labels become int64.

    Raises ValueError, which names the argument, for: inputs that are not finite numbers, that have
    no axis besides the samples, or differ in shape or kind between training and test; labels that
    are not one whole number for each sample, or lack one of 0 … C-1 in training or the test; fewer
    than two classes; empty arrays.
    """
    x = {name: _inputs(name, given) for name, given in (("x_train", x_train), ("x_test", x_test))}
    shapes = {name: array.shape[1:] for name, array in x.items()}
    if shapes["x_train"] != shapes["x_test"]:
        raise ValueError(
            f"x_test has samples of shape {shapes['x_test']}, but x_train of {shapes['x_train']}"
        )
    kinds = {name: array.dtype for name, array in x.items()}
    if kinds["x_train"] != kinds["x_test"]:
        raise ValueError(
            f"x_test has {kinds['x_test']} and x_train {kinds['x_train']}: bytes are divided by "
            "255, other numbers are not, so both need the same kind"
        )
    y = {
        "y_train": _labels("y_train", y_train, len(x["x_train"])),
        "y_test": _labels("y_test", y_test, len(x["x_test"])),
    }
    classes = 1 + max(int(labels.max()) for labels in y.values())
    if classes < 2:
        raise ValueError("y_train and y_test have one class, 0; at least two are needed")
    for name, labels in y.items():
        present = np.unique(labels)
        if len(present) < classes:
            missing = next(label for label, found in enumerate([*present, -1]) if label != found)
            raise ValueError(
                f"{name} has no sample of class {missing}; labels are 0 to {classes - 1}, and each "
                "of them is needed in training and in the test"
            )
    return Arrays(x["x_train"], y["y_train"], x["x_test"], y["y_test"])


def checked_names(names: Any, classes: int) -> tuple[str, ...]:
    """The names of the classes. Raises ValueError unless they are different, printable words."""
    array = np.asarray(names)
    if array.ndim != 1 or len(array) != classes or array.dtype.kind != "U":
        raise ValueError(
            f"class_names has shape {array.shape} and type {array.dtype}, but the labels need "
            f"{classes} names"
        )
    words = tuple(str(name).strip() for name in array)
    bad = [word for word in words if not word or not word.isprintable()]
    if bad or len(set(words)) < classes:
        raise ValueError("class_names: must be different names of printable characters")
    return words


def _inputs(name: str, given: Any) -> Inputs:
    array = _array(name, given)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{name} has type {array.dtype}, but it must hold numbers")
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"{name} has shape {array.shape}, but it must be (samples, inputs), none of them 0"
        )
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32)
    if not np.isfinite(floats).all():
        sample = int(np.flatnonzero(~np.isfinite(floats.reshape(len(array), -1)).all(1))[0])
        raise ValueError(f"{name}: sample {sample} has a number that is not finite in float32")
    return floats


def _labels(name: str, given: Any, samples: int) -> Labels:
    array = _array(name, given)
    if array.shape != (samples,):
        raise ValueError(
            f"{name} has shape {array.shape}, but there are {samples} samples, so it must be "
            f"({samples},)"
        )
    if array.dtype.kind not in "bui":
        raise ValueError(f"{name} has type {array.dtype}, but labels must be whole numbers")
    odd = array[(array < 0) | (array >= samples)]
    if len(odd):
        raise ValueError(
            f"{name} has the label {odd[0]}; labels are 0, 1, … with a sample of each in training "
            "and in the test"
        )
    return array.astype(np.int64)


def _array(name: str, given: Any) -> np.ndarray:
    """Convert to a numpy array; tensors have to be on the CPU."""
    try:
        return np.ascontiguousarray(given)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name} is not an array of numbers: {reason}") from None


def write_arrays(arrays: Arrays, folder: Path) -> None:
    """Write each array as a .npy file, which `Dataset` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays._asdict().items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)
