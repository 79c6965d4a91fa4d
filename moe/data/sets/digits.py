"""digits: 1,797 images of 8 × 8 pixels that scikit-learn carries; no download, seconds to train.

Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI; the part that
scikit-learn has. Its 17 grey levels become bytes, 0 … 255. Of each class a fifth is for tests.
"""

from pathlib import Path

from moe.data.info import DatasetInfo

LEVELS = 16
ONE_IN = 5  # images, for tests


def fetch(into: Path, downloads: Path) -> None:
    """Write them; nothing is downloaded."""
    import numpy as np
    from sklearn.datasets import load_digits

    from moe.data.idx import write_idx

    found = load_digits()
    images = np.round(found.images * 255 / LEVELS).astype(np.uint8)
    labels = found.target.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    of_class = [order[labels[order] == label] for label in range(len(found.target_names))]
    test = np.sort(np.concatenate([rows[: len(rows) // ONE_IN] for rows in of_class]))
    train = np.setdiff1d(order, test)
    for part, rows in (("train", train), ("t10k", test)):
        write_idx(into / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(into / f"{part}-labels-idx1-ubyte", labels[rows])


DATASET = DatasetInfo(
    name="digits",
    title="digits, 1,797 small images",
    item="digit",
    items="digits",
    class_names=tuple("0123456789"),
    image_shape=(8, 8),
    training_samples=1_442,
    fetch=fetch,
    order=4,
)
