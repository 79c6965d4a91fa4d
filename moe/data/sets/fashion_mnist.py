"""Fashion-MNIST: Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747; clothes, in the form of MNIST."""

from pathlib import Path

from moe.data.info import DatasetInfo


def fetch(into: Path, downloads: Path) -> None:
    """Through torchvision's names and checksums; FASHION_MNIST_MIRROR comes first."""
    from moe.data.download import fetch_from_torchvision

    fetch_from_torchvision("FashionMNIST", into, downloads)


# The source's claims that name digits make no sense here: C7, C8, C14, C15.
OF_DIGITS = (7, 8, 14, 15)

DATASET = DatasetInfo(
    name="fashion-mnist",
    title="Fashion-MNIST",
    item="class",
    items="classes",
    class_names=(
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "boot"),
    ),
    image_shape=(28, 28),
    training_samples=60_000,
    fetch=fetch,
    claims=tuple(f"C{number}" for number in range(1, 20) if number not in OF_DIGITS),
    order=3,
)
