"""Fetching, refusing and reading the data; the order of batches."""

import gzip
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moe.data.batches import batch_order, numbers
from moe.data.dataset import FILES, Dataset
from moe.data.download import download, fetch, import_torchvision
from moe.data.idx import DataError, read_idx, write_idx
from moe.data.sets import DATASETS


def test_mnist_5k_is_stratified_and_real(mnist_5k: Dataset) -> None:
    assert mnist_5k.train_x.shape == (4000, 784)
    assert mnist_5k.test_x.shape == (1000, 784)
    assert torch.bincount(mnist_5k.train_y).tolist() == [400] * 10
    assert torch.bincount(mnist_5k.test_y).tolist() == [100] * 10
    # Real digits: about a fifth of the pixels are ink, and no image is in both splits.
    assert 0.15 < (mnist_5k.train_x > 0).float().mean() < 0.25
    train = {bytes(image.tolist()) for image in mnist_5k.train_x}
    assert not any(bytes(image.tolist()) in train for image in mnist_5k.test_x)


def test_mnist_through_torchvision(mirror: Path, tmp_path: Path) -> None:
    fetch("mnist", tmp_path / "data", tmp_path / "downloads")
    data = Dataset(tmp_path / "data")
    assert data.train_x.shape == (60_000, 784)
    assert data.test_x.shape == (10_000, 784)
    # The well-known first labels of both splits
    assert data.train_y[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
def test_a_damaged_download_is_refused_by_name_and_fetched_again(
    damage: str, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    name = "t10k-labels-idx1-ubyte.gz"
    good = (mirror / name).read_bytes()
    bad = {"truncated": good[:-5], "altered": good[:99] + b"x" + good[100:], "empty": b""}[damage]
    (raw / name).write_bytes(bad)
    download("MNIST", tmp_path)
    assert (raw / name).read_bytes() == good
    assert f"{raw / name}: truncated or altered" in capsys.readouterr().out


def test_without_any_mirror_the_error_names_them_and_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(
        import_torchvision().datasets.MNIST, "mirrors", ["http://127.0.0.1:9/mnist/"]
    )
    with pytest.raises(DataError) as raised:
        download("MNIST", tmp_path)
    for part in ("nowhere", "http://127.0.0.1:9/mnist/", "MNIST_MIRROR", "make demo"):
        assert part in str(raised.value)
    assert "\n" not in str(raised.value)


def test_no_network_is_a_short_line_for_each_mirror_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Port 9 of loopback refuses; names under .invalid never resolve.
    mirrors = ["http://127.0.0.1:9/mnist/", "http://mnist.invalid/"]
    monkeypatch.delenv("MNIST_MIRROR", raising=False)
    monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", mirrors)
    begin = time.monotonic()
    with pytest.raises(DataError) as raised:
        download("MNIST", tmp_path)
    assert time.monotonic() - begin < 15  # some resolvers take 5 or 10
    name = "train-images-idx3-ubyte.gz"
    assert str(raised.value).startswith(
        "MNIST could not be fetched: "
        f"http://127.0.0.1:9/mnist/{name}: no connection; "
        f"http://mnist.invalid/{name}: no connection; set MNIST_MIRROR"
    )
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("form", ["file://{}", "~/mnist", "{}/"])
def test_forms_of_a_mirror_that_is_a_folder(
    form: str, mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b%20" / "mnist"  # file:// has it as a%20b%2520
    folder.parent.mkdir()
    folder.symlink_to(mirror)
    monkeypatch.setenv("HOME", str(folder.parent))
    named = folder.as_uri().removeprefix("file://") if "://" in form else str(folder)
    monkeypatch.setenv("MNIST_MIRROR", form.format(named))
    monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", [])
    raw = download("MNIST", tmp_path / "downloads")
    for name in FILES:
        assert gzip.decompress((mirror / f"{name}.gz").read_bytes()) == (raw / name).read_bytes()


def test_a_folder_of_unpacked_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "train-images-idx3-ubyte").touch()
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path))
    monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", [])
    with pytest.raises(DataError, match="only the unpacked file exists; its checksum is not"):
        download("MNIST", tmp_path / "downloads")


def test_a_mirror_that_fails_is_named_when_another_one_has_the_file(
    mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", str(tmp_path / "nowhere"))
    monkeypatch.setattr(import_torchvision().datasets.MNIST, "mirrors", [mirror.as_uri()])
    download("MNIST", tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0] == (
        f"{tmp_path}/nowhere/train-images-idx3-ubyte.gz: no such file; "
        f"used {mirror.as_uri()} instead"
    )


def test_idx_files_keep_what_is_written(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "x", array)
    # Two zeros, type 8 (bytes), three sizes of four bytes each, and the 24 bytes
    assert (tmp_path / "x").read_bytes()[:8] == b"\0\0\x08\x03\0\0\0\x02"
    assert (read_idx(tmp_path / "x") == array).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file of bytes"),
        (b"<html>no such file</html>", "not an IDX file of bytes"),
        (b"\0\0\x0d\x01\0\0\0\x01abcd", "not an IDX file of bytes"),  # type 13: floats
        (b"\0\0\x08\x03\0\0\0\x02", "truncated in its header"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "has 11 bytes, but its header promises 13"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "has 11 bytes, but its header promises 10"),
        (b"\0\0\x08\x01\0\0\0\0", "is empty"),
        (b"\0\0\x08\x04" + b"\xff" * 16, "its header promises"),
    ],
)
def test_bad_idx_files(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path / "x")


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    for name in FILES:
        shape = (3, 2, 2) if "images" in name else (3,)
        write_idx(tmp_path / name, np.zeros(shape, np.uint8))
    Dataset(tmp_path)
    write_idx(tmp_path / FILES[1], np.zeros(4, np.uint8))
    with pytest.raises(DataError, match="train has images of shape"):
        Dataset(tmp_path)
    write_idx(tmp_path / FILES[1], np.array([0, 1, 2], np.uint8))
    assert Dataset(tmp_path).classes == 3
    write_idx(tmp_path / FILES[1], np.array([0, 1, 10], np.uint8))
    with pytest.raises(DataError, match="has labels up to 10, but none is 2"):
        Dataset(tmp_path)


def test_a_data_set_with_other_classes_than_it_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = replace(DATASETS["mnist-5k"], class_names=tuple("012345678"))
    monkeypatch.setitem(DATASETS, "mnist-5k", declared)
    with pytest.raises(DataError, match="10 classes, but mnist-5k declares 9"):
        fetch("mnist-5k", tmp_path, tmp_path)


def test_the_digest_sees_every_file(mnist_5k: Dataset, tmp_path: Path) -> None:
    for name in FILES:
        folder = tmp_path / name
        shutil.copytree(mnist_5k.folder, folder)
        content = bytearray((folder / name).read_bytes())
        content[-1] = (content[-1] + 1) % 10
        (folder / name).write_bytes(content)
        assert Dataset(folder).digest != mnist_5k.digest


def test_pixels_are_in_0_to_1_and_background_stays_0() -> None:
    x = numbers(torch.tensor([[0, 51, 255]], dtype=torch.uint8))
    torch.testing.assert_close(x, torch.tensor([[0, 0.2, 1]]))


def test_batches_are_a_permutation_less_the_last_partial_one() -> None:
    batches = batch_order(seed=0, epoch=1, samples=1000, batch_size=128)
    assert batches.shape == (7, 128)
    assert len(set(batches.flatten().tolist())) == 7 * 128
    assert torch.equal(batches, batch_order(0, 1, 1000, 128))
    assert not torch.equal(batches, batch_order(0, 2, 1000, 128))
    assert not torch.equal(batches, batch_order(1, 1, 1000, 128))
    with pytest.raises(ValueError, match="batch_size = 128 is more than the 100"):
        batch_order(0, 0, 100, 128)


def test_a_torchvision_whose_operators_load_is_left_alone(tmp_path: Path) -> None:
    """As with the standard CUDA wheels: torchvision declares its operators itself; declaring them
    first would abort the process."""
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import torch\n"
        "library = torch.library.Library('torchvision', 'DEF')\n"
        "library.define('nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from moe.data.download import import_torchvision\n"
        "print(import_torchvision().__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(package / "__init__.py")


def test_fashion_mnist_through_the_same_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fashion_mirror: Path
) -> None:
    monkeypatch.setenv("FASHION_MNIST_MIRROR", str(fashion_mirror))
    fetch("fashion-mnist", tmp_path / "data", tmp_path / "downloads")
    data = Dataset(tmp_path / "data")
    assert data.train_x.shape == (60_000, 784)
    assert torch.bincount(data.train_y).tolist() == [6000] * 10
    assert data.train_y[:5].tolist() == [9, 0, 0, 3, 0]  # a boot, two T-shirts, a dress, a T-shirt
