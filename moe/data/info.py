"""What is declared about a data set: its name, classes, shape, and how to fetch it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DatasetInfo:
    """A data set.

    name: in params.yaml and MLflow.
    title: in texts, such as "MNIST".
    item, items: what a class is called in texts and on axes, such as "digit" and "digits".
    class_names: of the labels 0, 1, …
    image_shape: (height, width) of an image; None where the inputs are no images.
    training_samples: how many there are.
    fetch: (into, downloads) writes the files that `Dataset` reads into a folder; downloads is a
        folder where fetched archives are kept. Raises DataError when they cannot be had.
    claims: ids of the source's claims that make sense for it; None: all of them.
    order: where it stands in lists, smallest first.
    inputs: numbers in a sample, where there is no image_shape.
    """

    name: str
    title: str
    item: str
    items: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int] | None
    training_samples: int
    fetch: Callable[[Path, Path], None]
    claims: tuple[str, ...] | None = None
    order: int = 100
    inputs: int = 0

    @property
    def sample(self) -> str:
        """What one input is called in texts."""
        return "image" if self.image_shape else "sample"

    @property
    def samples(self) -> str:
        """What several inputs are called."""
        return f"{self.sample}s"

    @property
    def a_sample(self) -> str:
        """With its article."""
        return "an image" if self.image_shape else "a sample"

    @property
    def in_features(self) -> int:
        """Numbers in a sample, D."""
        return math.prod(self.image_shape) if self.image_shape else self.inputs
