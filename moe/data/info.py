"""The declaration of a data set: its name, classes, shape, and how to fetch it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DatasetInfo:
    """A data set.

    name: its name in params.yaml and MLflow.
    title: its name in texts, such as "MNIST".
    item, items: the word for a class in texts and on axes, such as "digit" and "digits".
    class_names: names of the labels 0, 1, …
    image_shape: (height, width) of an image; None if the inputs are not images.
    training_samples: the number of training samples.
    fetch: (into, downloads) writes the files that `Dataset` reads into a folder; downloads is a
        folder where fetched archives are kept. Raises DataError if fetching fails.
    claims: ids of the source's claims that apply to it; None: all of them.
    order: its position in lists, smallest first.
    inputs: numbers per sample, if there is no image_shape.
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
        """Numbers per sample, D."""
        return math.prod(self.image_shape) if self.image_shape else self.inputs
