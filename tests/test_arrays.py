"""A user's own data sets: validation and training."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from moe.analysis.expert_images import draw_digits
from moe.claims import CLAIMS
from moe.data.arrays import Arrays, checked, checked_names, write_arrays
from moe.data.dataset import Dataset
from moe.data.download import fetch
from moe.data.sets import DATASETS, dataset_named
from moe.engine import HISTORY, fused, kernel
from moe.report.page import TEMPLATE_DIR
from moe.study.train_settings import Train
from stages.check import forget_changed_data
from tests.small_studies import ROOT, assert_says_no_nan, whole, write_params
from tests.test_fused import CPU, train_alone
from tests.test_kernel import TOLERANCE, assert_close, run_of

# 200 samples in batches of 20, twice: 20 steps
SETTINGS = Train(epochs=2, batch_size=20, learning_rate=0.001, hidden=5)


def flowers(dtype: Any = np.float64) -> Arrays:
    """3 classes, 4 signed features; the last is often exactly 0, and one test sample is all 0."""
    rng = np.random.default_rng(0)
    y = np.arange(260) % 3
    x = rng.normal(size=(260, 4)) + np.eye(3, 4)[y]
    x[::2, 3] = 0
    x[230] = 0
    return checked(x[:200].astype(dtype), y[:200], x[200:].astype(dtype), y[200:])


RUNS = [
    run_of(recipe, *cell) for recipe in kernel.RECIPES for cell in ((1, 1, 1.0, 0), (5, 2, 0.1, 1))
]


def test_signed_features_and_three_classes_by_both_engines(tmp_path: Path) -> None:
    data = Dataset.of(flowers())
    assert (data.classes, data.train_x.dtype, data.folder) == (3, torch.float32, None)
    by_kernel = kernel.train(RUNS, data, SETTINGS, cache=tmp_path)
    for run, trained in zip(RUNS, by_kernel, strict=True):
        weights, measures = train_alone(run, data, SETTINGS)
        assert weights["experts.w1"].shape == (run.ne, 4, 5)
        assert weights["experts.b2"].shape == (run.ne, 3)
        assert_close(trained.weights, weights, run)
        last = dict(zip(HISTORY, trained.history[-1].tolist(), strict=True))
        assert last == pytest.approx(measures, rel=TOLERANCE, abs=TOLERANCE), run
        (by_fused,) = fused.train([run], data, SETTINGS, CPU, torch.float64)
        assert_close({n: w.float() for n, w in by_fused.weights.items()}, weights, run)


def test_a_folder_gives_what_the_arrays_give(tmp_path: Path) -> None:
    arrays = flowers()
    write_arrays(arrays, tmp_path / "data")
    data, memory = Dataset(tmp_path / "data"), Dataset.of(arrays)
    for name in ("train_x", "train_y", "test_x", "test_y"):
        assert torch.equal(getattr(data, name), getattr(memory, name))
    assert data.classes == memory.classes == 3
    (one,) = kernel.train(RUNS[:1], data, SETTINGS, cache=tmp_path / "a")
    (other,) = kernel.train(RUNS[:1], memory, SETTINGS, cache=tmp_path / "b")
    assert torch.equal(one.history, other.history)


def test_the_digest_sees_each_array() -> None:
    arrays = flowers()
    digests = {Dataset.of(arrays).digest}
    for name, array in arrays._asdict().items():
        changed = array.copy()
        changed.flat[0] += 1
        digests.add(Dataset.of(arrays._replace(**{name: changed})).digest)
    assert len(digests) == 5


def test_bytes_are_divided_by_255_and_other_numbers_are_not(tmp_path: Path) -> None:
    """Training on bytes is bit-identical to training on the same numbers as floats."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (260, 6)).astype(np.uint8), np.arange(260) % 3
    grey = Dataset.of(checked(x[:200], y[:200], x[200:], y[200:]))
    assert grey.train_x.dtype == torch.uint8
    shares = (x / np.float32(255)).astype(np.float32)
    floats = Dataset.of(checked(shares[:200], y[:200], shares[200:], y[200:]))
    for one, other in zip(
        *(kernel.train(RUNS, data, SETTINGS, cache=tmp_path) for data in (grey, floats)),
        strict=True,
    ):
        assert torch.equal(one.history, other.history)
        for name, weights in one.weights.items():
            assert torch.equal(weights, other.weights[name])
    whole = checked(x[:200].astype(int), y[:200], x[200:].astype(int), y[200:])
    assert whole.x_train.dtype == np.float32
    assert whole.x_train.max() == 255


def test_images_are_flattened() -> None:
    x, y = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5), [0, 1, 0, 1]
    data = Dataset.of(checked(x, y, x, y))
    assert data.train_x.shape == (4, 30)
    assert data.train_x[1].tolist() == list(range(30, 60))


X, Y = np.ones((4, 3)), np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.ones(4)}, r"x_train has shape \(4,\), but it must be \(samples, inputs\)"),
        ({"x_train": np.ones((0, 3)), "y_train": []}, r"x_train has shape \(0, 3\)"),
        ({"x_test": np.ones((4, 0))}, r"x_test has shape \(4, 0\)"),
        ({"x_test": np.ones((4, 2))}, r"x_test has samples of shape \(2,\), but x_train of \(3,\)"),
        ({"x_test": X.astype(np.uint8)}, "x_test has uint8 and x_train float32: bytes are"),
        ({"x_train": np.where(X == 1, np.nan, X)}, "x_train: sample 0 has a number that is not"),
        ({"x_train": np.diag([1, 1, 1e300, 1])[:, 1:]}, "x_train: sample 2 has a number that is n"),
        ({"x_train": X.astype(str)}, "x_train has type <U.*, but it must hold numbers"),
        ({"x_train": X + 1j}, "x_train has type complex128, but it must hold numbers"),
        ({"x_train": [[1, 2, 3], [1]]}, "x_train is not an array of numbers"),
        ({"y_train": Y[:3]}, r"y_train has shape \(3,\), but there are 4 samples"),
        ({"y_train": Y[:, None]}, r"y_train has shape \(4, 1\)"),
        ({"y_train": Y + 0.5}, "y_train has type float64, but labels must be whole numbers"),
        ({"y_train": Y - 1}, "y_train has the label -1"),
        ({"y_test": Y + 1}, "y_train has no sample of class 3; labels are 0 to 3"),
        ({"y_test": [0, 1, 1, 0]}, "y_test has no sample of class 2; labels are 0 to 2"),
        ({"y_train": [0, 1, 1, 0]}, "y_train has no sample of class 2; labels are 0 to 2"),
        ({"y_train": [0, 1, 2, 2**62]}, "y_train has the label 4611686018427387904"),
        ({"y_train": [0] * 4, "y_test": [0] * 4}, "have one class, 0; at least two"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(changed: dict[str, Any], message: str) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
    assert checked(**arrays).x_train.dtype == np.float32
    with pytest.raises(ValueError, match=message) as raised:
        checked(**(arrays | changed))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "names",
    [["a", "b"], ["a", "b", "b"], ["a", "b", ""], ["a", "b", "c\a"], [1, 2, 3], [["a", "b", "c"]]],
)
def test_names_of_classes_that_are_refused(names: Any) -> None:
    assert checked_names(["a", "b", "c"], 3) == ("a", "b", "c")
    with pytest.raises(ValueError, match="class_names"):
        checked_names(names, 3)


# --- a .npz file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder as the current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_a_data_set(folder: Path) -> None:
    (folder / "mine").mkdir()
    np.savez_compressed("mine/flowers.npz", **flowers()._asdict(), class_names=["a", "b", "c"])
    info = dataset_named("mine/flowers.npz")
    assert (info.title, info.class_names, info.image_shape) == ("flowers", ("a", "b", "c"), None)
    assert (info.in_features, info.training_samples) == (4, 200)
    fetch("mine/flowers.npz", folder / "data", folder)
    assert Dataset().digest == Dataset(folder / "data").digest
    for one, other in zip(Dataset().arrays, flowers(), strict=True):
        np.testing.assert_array_equal(one, other)
    np.savez("mine/flowers.npz", **flowers()._asdict())
    assert dataset_named("mine/flowers.npz").class_names == ("0", "1", "2")


def test_images_of_bytes_have_a_shape(folder: Path) -> None:
    x, y = np.zeros((4, 6, 5), np.uint8), [0, 1, 0, 1]
    np.savez("grey.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    np.savez("floats.npz", x_train=x / 1.0, y_train=y, x_test=x, y_test=y)
    assert dataset_named("grey.npz").image_shape == (6, 5)
    assert dataset_named("grey.npz").in_features == 30


class Pickled:
    """An object that runs code when unpickled."""

    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("was-unpickled"),))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_test": None}, "it has no x_test"),
        ({"y_train": np.array([Pickled()] * 200)}, "cannot be read: .*allow_pickle"),
        ({"class_names": np.array(["a", Pickled(), "c"])}, "cannot be read: .*allow_pickle"),
        ({"class_names": ["a", "b"]}, "class_names has shape .2,. and type <U1, but the labels ne"),
        ({"x_train": flowers().x_train[:, :3]}, "x_test has samples of shape"),
    ],
)
def test_files_that_are_refused(folder: Path, changed: dict[str, Any], message: str) -> None:
    held = {n: a for n, a in (flowers()._asdict() | changed).items() if a is not None}
    np.savez("own.npz", **held)
    with pytest.raises(ValueError, match=message) as raised:
        dataset_named("own.npz")
    assert "\n" not in str(raised.value)
    assert not Path("was-unpickled").exists()


def test_what_is_no_file_of_this_folder_is_refused(folder: Path) -> None:
    np.savez(folder.parent / "outside.npz", **flowers()._asdict())
    Path("link.npz").symlink_to(folder.parent / "outside.npz")
    for name in ("../outside.npz", "link.npz", str(folder / "own.npz")):
        with pytest.raises(ValueError, match="the file must be in the project's folder"):
            dataset_named(name)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        dataset_named("nothing.npz")
    Path("folder.npz").mkdir()
    Path("text.npz").write_text("x_train")
    np.savez("half.npz", **flowers()._asdict())
    Path("half.npz").write_bytes(Path("half.npz").read_bytes()[:900])
    np.savez("damaged.npz", **flowers()._asdict())
    content = bytearray(Path("damaged.npz").read_bytes())
    content[500:600] = bytes(100)
    Path("damaged.npz").write_bytes(content)
    for name in ("folder", "text", "half", "damaged"):
        with pytest.raises(ValueError, match="cannot be read: ") as raised:
            dataset_named(f"{name}.npz")
        assert "\n" not in str(raised.value)


def test_check_forgets_data_whose_file_has_changed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez("own.npz", **flowers()._asdict())
    forget_changed_data("own.npz")  # nothing is there yet
    fetch("own.npz", folder / "data", folder)
    forget_changed_data("own.npz")
    assert len(list(Path("data").iterdir())) == 4
    changed = flowers()
    changed.y_test[0] = 1
    np.savez("own.npz", **changed._asdict())
    forget_changed_data("own.npz")
    assert list(Path("data").iterdir()) == []
    assert "own.npz has changed since data/ was written" in capsys.readouterr().out


def test_digits_are_stratified_and_real(tmp_path: Path) -> None:
    fetch("digits", tmp_path, tmp_path)
    data, info = Dataset(tmp_path), DATASETS["digits"]
    assert data.train_x.shape == (info.training_samples, info.in_features) == (1442, 64)
    assert len(data.test_x) == 1797 - 1442
    found = load_digits()
    # A fifth of each class, rounded down
    assert torch.bincount(data.test_y).tolist() == (np.bincount(found.target) // 5).tolist()
    ours = np.concatenate([data.train_x.numpy(), data.test_x.numpy()])
    labels = np.concatenate([data.train_y.numpy(), data.test_y.numpy()])
    levels = (ours / 255 * 16).round().astype(int)
    ours_sorted = sorted(map(tuple, np.column_stack([levels, labels]).tolist()))
    theirs = sorted(map(tuple, np.column_stack([found.data, found.target]).astype(int).tolist()))
    assert [a for a, b in zip(ours_sorted, theirs, strict=True) if a != b] == []


def test_a_report_on_a_table_does_not_speak_of_images(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez("flowers.npz", **flowers()._asdict(), class_names=["rose", "tulip", "lily"])
    fetch("flowers.npz", folder / "data", folder)
    Path("reports").mkdir()
    Path(TEMPLATE_DIR).symlink_to(ROOT / TEMPLATE_DIR)
    sweeps = [{"recipe": ["blog", "logits"], "ne": [1, 2, 4], "k": [1, 2], "lc": [0, 1]}]
    rendered = whole(write_params(folder, sweeps, "flowers.npz", batch_size=20), monkeypatch)
    assert_says_no_nan(rendered)
    assert "the weakest class of the blog base is" in rendered.texts.lower()
    assert "4 → 4 → 3" in rendered.texts
    # What the source says of images stays as it is, and so does what needs them.
    source = [*(claim.words for claim in CLAIMS), *(claim.quote for claim in CLAIMS)]
    source += [claim.measured for claim in CLAIMS] + [claim.margin for claim in CLAIMS]
    own = rendered.texts
    for text in (
        *source,
        "needs inputs that are images",
        "6 for many digits",
        "of their images went",
    ):
        own = own.replace(" ".join(text.split()), "")
    assert re.findall(r".{30}\b(?:images?|digits?)\b.{30}", own) == []


def test_pictures_are_drawn_of_images_alone(folder: Path) -> None:
    x, y = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5), [0, 1, 0, 1]
    digits = draw_digits(Dataset.of(checked(x, y, x, y)), 10)
    assert digits.rows.tolist() == [0, 2, 1, 3]
    with Image.open("results/pictures/digits.png") as sheet:
        assert sheet.size == (4 * 5, 6)
        assert (np.asarray(sheet)[:, 5:10] == x[2]).all()
    Path("results/pictures/digits.png").unlink()
    table = draw_digits(Dataset.of(flowers()), 2)  # fewer than classes: one of each
    assert table.labels.tolist() == [0, 1, 2]
    assert list(Path("results/pictures").iterdir()) == []
