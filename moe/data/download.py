"""Data sets fetched from mirrors, and verified before anything reads them."""

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import requests
import torch
import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from moe.data.dataset import FILES
from moe.data.idx import DataError
from moe.data.sets import dataset_named
from moe.errors import without_secrets

TIMEOUT = 20  # seconds without a byte
LONGEST = 600  # seconds for a file, however steadily its bytes drip
MOST_BYTES = 30_000_000  # of a file; the largest of Fashion-MNIST's has 26.4 million
CHUNK = 1 << 16
# A full or read-only disk here is no mirror's fault, and none of them can help.
NOT_THE_MIRRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


def fetch(dataset: str, into: Path, downloads: Path) -> None:
    """Write the four IDX files of a data set into a folder.

    downloads: where its archives stay, so that they are fetched once.
    Raises DataError when they cannot be had.
    """
    into.mkdir(parents=True, exist_ok=True)
    dataset_named(dataset).fetch(into, downloads)


def fetch_from_torchvision(dataset: str, into: Path, downloads: Path) -> None:
    """Write the files of a data set of torchvision that is like MNIST, such as "FashionMNIST"."""
    raw = download(dataset, downloads)
    for name in FILES:
        shutil.copyfile(raw / name, into / name)


def download(dataset: str, root: Path) -> Path:
    """The files of a data set by torchvision's names and checksums; returns their folder.

    A mirror named by the environment (MNIST_MIRROR for MNIST), a folder or a URL, comes first, then
    the public mirrors. A file that is already there is verified as well; a damaged one is fetched
    again. Nothing is unpacked before its MD5 is right.
    Raises DataError that names each mirror tried, with its reason, and the ways out.
    """
    source = getattr(import_torchvision().datasets, dataset)
    from torchvision.datasets.utils import check_integrity, extract_archive

    raw = root / dataset / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    mirror = os.environ.get(mirror_variable(dataset), "")
    mirrors = [*filter(None, [mirror]), *source.mirrors]
    for name, md5 in source.resources:
        archive = raw / name
        if archive.exists() and not check_integrity(str(archive), md5):
            print(f"{archive}: truncated or altered (its MD5 is not {md5}), fetching it again")
            archive.unlink()
        if not archive.exists():
            _fetch_one(dataset, name, md5, mirrors, archive)
        extract_archive(str(archive), str(raw))
    return raw


def mirror_variable(dataset: str) -> str:
    """The environment variable that names a mirror: FASHION_MNIST_MIRROR for FashionMNIST."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", dataset).upper() + "_MIRROR"


def _fetch_one(dataset: str, name: str, md5: str, mirrors: list[str], archive: Path) -> None:
    """From the first mirror that has it right; under another name until it is known to be."""
    from torchvision.datasets.utils import check_integrity

    refused, unverified = [], archive.with_suffix(".unverified")
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            fetch_from = _download if "://" in mirror else _copy
            fetch_from(url, unverified)
            if check_integrity(str(unverified), md5):
                unverified.rename(archive)
                return
            reason = f"truncated or altered (its MD5 is not {md5})"
        except (OSError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, OSError) and error.errno in NOT_THE_MIRRORS:
                raise DataError(f"{archive}: cannot be written: {error.strerror}") from None
            reason = " ".join(str(error).split())
        finally:
            unverified.unlink(missing_ok=True)
        refused.append(without_secrets(f"{url}: {reason}"))
        print(refused[-1])
    raise DataError(
        f"{dataset} could not be fetched: {'; '.join(refused)}; "
        f"set {mirror_variable(dataset)} to a folder or URL that has its four files, "
        "or use the embedded data set: make demo"
    )


def _copy(path: str, to: Path) -> None:
    """Raises OSError."""
    if not Path(path).is_file():  # a pipe would never end
        raise FileNotFoundError("no such file")
    with Path(path).open("rb") as source, to.open("wb") as file:
        _take(source.read, file)


def _download(url: str, to: Path) -> None:
    """Raises OSError, requests' or urllib3's errors: no such file, too much of it, too slow."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn()),
        *(DownloadColumn(), TransferSpeedColumn()),
    )
    with (
        # As it is: an encoding of the transfer could blow up what is not yet verified.
        requests.get(
            url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
        ) as response,
        to.open("wb") as file,
        Progress(*columns, console=Console(), transient=True) as progress,
    ):
        response.raise_for_status()
        length = response.headers.get("content-length", "")
        task = progress.add_task(to.stem, total=int(length) if length.isdecimal() else None)
        _take(
            lambda size: response.raw.read1(size, decode_content=False),
            file,
            lambda count: progress.advance(task, count),
        )


def _take(
    read: Callable[[int], bytes],
    file: BinaryIO,
    told: Callable[[int], None] = lambda count: None,
) -> None:
    """Write what is read, within bounds of size and time."""
    end = time.monotonic() + LONGEST
    while chunk := read(CHUNK):
        file.write(chunk)
        told(len(chunk))
        if file.tell() > MOST_BYTES:
            raise OSError(f"more than {MOST_BYTES:,} bytes, which no file of a data set has")
        if time.monotonic() > end:
            raise OSError(f"not there after {LONGEST} seconds")


def import_torchvision() -> Any:
    """torchvision; also where a CPU-only torch is installed with a torchvision built for CUDA."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        # PyPI's torchvision wheel is linked against CUDA. With a CPU-only torch its operators do
        # not load, and the import fails because their schemas are missing: declare the schemas and
        # import again. (Never before a plain import failed: where the operators do load, a second
        # declaration aborts the process.)
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept_alive.append(library)
        import torchvision

    return torchvision


_kept_alive: list[Any] = []
