"""Download data sets from mirrors, and verify them before use."""

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
import torch
import urllib3
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from moe.data.dataset import FILES, Dataset
from moe.data.idx import DataError
from moe.data.sets import dataset_named
from moe.errors import without_secrets

CONNECT_TIMEOUT = 5  # seconds
READ_TIMEOUT = 20  # seconds without a byte
LONGEST = 600  # seconds in total for a file
MOST_BYTES = 30_000_000  # of a file; the largest one of Fashion-MNIST has 26.4 million
CHUNK = 1 << 16
# The local disk is full or read-only: another mirror would not help.
DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


def fetch(dataset: str, into: Path, downloads: Path) -> None:
    """Write the four files of a data set into a folder.

    downloads: folder where the archives are kept, so that they are fetched only once.
    Raises DataError if no mirror has them, or if the classes differ from the declared ones.
    """
    into.mkdir(parents=True, exist_ok=True)
    info = dataset_named(dataset)
    info.fetch(into, downloads)
    found, declared = Dataset(into).classes, len(info.class_names)
    if found != declared:
        raise DataError(f"{into}: {found} classes, but {dataset} declares {declared}")


def fetch_from_torchvision(dataset: str, into: Path, downloads: Path) -> None:
    """Write the files of one of torchvision's MNIST-like data sets, such as "FashionMNIST"."""
    raw = download(dataset, downloads)
    for name in FILES:
        shutil.copyfile(raw / name, into / name)


def download(dataset: str, root: Path) -> Path:
    """Fetch the files of a data set, by torchvision's names and checksums; returns their folder.

    The mirror in the environment variable (MNIST_MIRROR for MNIST), a folder or a URL, is tried
    first, then the public mirrors. Existing files are verified too, and fetched again if damaged.
    Nothing is unpacked before its MD5 is verified.
    Raises DataError, which says why each mirror failed, and what to do.
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
    """Fetch a file from the first mirror that has it; it is renamed once it is verified."""
    from torchvision.datasets.utils import check_integrity

    failed, unverified = [], archive.with_suffix(".unverified")
    for mirror in mirrors:
        url = f"{mirror.rstrip('/')}/{name}"
        try:
            if folder := _folder(mirror):
                _copy(folder / name, unverified)
            else:
                _download(url, unverified)
            if check_integrity(str(unverified), md5):
                unverified.rename(archive)
                for line in failed:
                    print(f"{line}; used {without_secrets(mirror)} instead")
                return
            reason = f"truncated or altered (its MD5 is not {md5})"
        except (OSError, requests.RequestException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, OSError) and error.errno in DISK_ERRORS:
                raise DataError(f"{archive}: cannot be written: {error.strerror}") from None
            reason = _reason(error)
        finally:
            unverified.unlink(missing_ok=True)
        failed.append(without_secrets(f"{url}: {reason}"))
    raise DataError(
        f"{dataset} could not be fetched: {'; '.join(failed)}; "
        f"set {mirror_variable(dataset)} to a folder or URL that has its four .gz files, "
        "or use the bundled data set: make demo"
    )


def _folder(mirror: str) -> Path | None:
    """The folder of a local mirror: /path, ~/path or file:///path; None for other URLs."""
    scheme, _, rest = mirror.partition("://")
    if not rest:
        return Path(mirror).expanduser()
    return Path(url2pathname(urlsplit(mirror).path)) if scheme.lower() == "file" else None


def _reason(error: Exception) -> str:
    """Why a download failed, in a few words."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return f"no answer within {READ_TIMEOUT} seconds"
    if isinstance(error, requests.ConnectionError):
        return "no connection"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"{error.response.status_code} {error.response.reason}"
    return " ".join(str(error).split())


def _copy(path: Path, to: Path) -> None:
    """Copy a file of a mirror. Raises OSError."""
    if path.with_suffix("").is_file() and not path.exists():
        raise FileNotFoundError("only the unpacked file exists; its checksum is not known")
    if not path.is_file():  # reading a pipe would never end
        raise FileNotFoundError("no such file")
    with path.open("rb") as source, to.open("wb") as file:
        _write(source.read, file)


def _download(url: str, to: Path) -> None:
    """Download a file. Raises OSError, or an error of requests or urllib3."""
    columns = (
        *(TextColumn("{task.description}"), BarColumn()),
        *(DownloadColumn(), TransferSpeedColumn()),
    )
    with (
        requests.get(
            url,
            stream=True,
            timeout=(min(CONNECT_TIMEOUT, READ_TIMEOUT), READ_TIMEOUT),
            # Not compressed: an unverified file could decompress to any size.
            headers={"Accept-Encoding": "identity"},
        ) as response,
        to.open("wb") as file,
        Progress(*columns, console=Console(), transient=True) as progress,
    ):
        response.raise_for_status()
        length = response.headers.get("content-length", "")
        task = progress.add_task(to.stem, total=int(length) if length.isdecimal() else None)
        _write(
            lambda size: response.raw.read1(size, decode_content=False),
            file,
            lambda count: progress.advance(task, count),
        )


def _write(
    read: Callable[[int], bytes],
    file: BinaryIO,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> None:
    """Write all chunks. Raises OSError above a limit of size or time."""
    end = time.monotonic() + LONGEST
    while chunk := read(CHUNK):
        file.write(chunk)
        on_bytes(len(chunk))
        if file.tell() > MOST_BYTES:
            raise OSError(f"more than {MOST_BYTES:,} bytes, the limit for a file")
        if time.monotonic() > end:
            raise OSError(f"not complete after {LONGEST} seconds")


def import_torchvision() -> Any:
    """Import torchvision, even if torch is CPU-only and torchvision is built for CUDA."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        # PyPI's torchvision wheel is linked against CUDA. With a CPU-only torch, its operators do
        # not load, and the import fails because their schemas are missing: declare the schemas and
        # import again. (Only after a plain import failed: if the operators do load, a second
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
