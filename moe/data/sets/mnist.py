"""MNIST: LeCun, Cortes and Burges, handwritten digits, 60,000 for training and 10,000 for tests."""

from pathlib import Path

from moe.data.info import DatasetInfo


def fetch(into: Path, downloads: Path) -> None:
    """Through torchvision's names and checksums; MNIST_MIRROR comes before the public mirrors."""
    from moe.data.download import fetch_from_torchvision

    fetch_from_torchvision("MNIST", into, downloads)


DATASET = DatasetInfo(
    name="mnist",
    title="MNIST",
    item="digit",
    items="digits",
    class_names=tuple("0123456789"),
    image_shape=(28, 28),
    training_samples=60_000,
    fetch=fetch,
    order=1,
)
