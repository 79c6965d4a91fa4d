"""mnist-select: MNIST without its test set, to choose settings on.

The first 50,000 training images are for training; the last 10,000 take the place of the test set.
Their writers may be among those of the 50,000, which is not so in MNIST's own test set.
"""

from pathlib import Path

from moe.data.info import DatasetInfo

TRAINING_SAMPLES = 50_000


def fetch(into: Path, downloads: Path) -> None:
    """As mnist, then split its training images."""
    import numpy as np

    from moe.data.idx import read_idx, write_idx
    from moe.data.sets import mnist

    mnist.fetch(into, downloads)
    for kind in ("images-idx3", "labels-idx1"):
        samples = np.array(read_idx(into / f"train-{kind}-ubyte"))
        write_idx(into / f"train-{kind}-ubyte", samples[:TRAINING_SAMPLES])
        write_idx(into / f"t10k-{kind}-ubyte", samples[TRAINING_SAMPLES:])


DATASET = DatasetInfo(
    name="mnist-select",
    title="MNIST's training images, 50,000 to train and 10,000 to choose on",
    item="digit",
    items="digits",
    class_names=tuple("0123456789"),
    image_shape=(28, 28),
    training_samples=TRAINING_SAMPLES,
    fetch=fetch,
    order=4,
)
