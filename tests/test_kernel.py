"""The run-major kernel, compared with `MoE` trained alone, the fused engine, and itself.

The slow, simple references are `train_alone` (float64, autograd, torch's Adam) and, for the lists,
a loop over every pixel.
"""

import importlib.util
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.pool import Pool
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.linalg import _umath_linalg

from moe.data.dataset import FILES, Dataset
from moe.data.idx import write_idx
from moe.engine import HISTORY, Trained, fused, kernel, pixel_lists
from moe.model.layer import initial_weights
from moe.recipes import RECIPES
from moe.study.runs import Run
from moe.study.train_settings import Train
from tests.test_fused import CPU, FIFTY_STEPS, train_alone

pytestmark = pytest.mark.skipif(
    not kernel.available() and not os.environ.get("CI"), reason=f"no kernel: {kernel.why_not()}"
)

# Only float32 rounding is tolerated, relative to a tensor's largest entry, and for a measure
TOLERANCE = 1e-4
# Ragged ne, from less than one vector to more than one; mixed k and seeds
CELLS = [(1, 1, 1.0, 0), (3, 2, 0.1, 1), (10, 1, 1.0, 0), (10, 4, 10.0, 0), (17, 3, 1.0, 1)]
# Where a gradient is 0 but for rounding, Adam's step is as long as elsewhere, and of either sign:
# of the many entries of wide layers a few are such, and so short steps keep them within TOLERANCE.
SHORT = 1e-4
# Where lc is no weight: short steps of a bias, which stays small enough for float32; a probability
# Of top-p no multiple of 1/ne: for a blank image all p are 1/ne, and rounding would decide.
KNOBS = {"loss-free": 0.01, "deepseek-v3": 0.01, "top-p": 0.57}
ROUTER_STAYS = ("random", "dense-active", "dense-total")
TRAINED_INPUTS = 600  # of `odd`: the others are 0 in all training images


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sparse")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """400 training and 130 test images of noise: some blank, some full, with every number of pixels
    modulo 4. The last inputs are 0 in all training images, but not in the test images."""
    rng = np.random.default_rng(0)

    def images(count: int, inputs: int) -> np.ndarray:
        share = rng.uniform(0, 0.4, (count, 1))
        share[:6] = np.array([[0], [1], [0], [0], [1], [0]])
        x = rng.integers(1, 256, (count, 784)) * (rng.random((count, 784)) < share)
        x[6:10, 4:] = 0  # a few pixels, or none
        x[:, inputs:] = 0
        return x.reshape(count, 28, 28).astype(np.uint8)

    folder = tmp_path_factory.mktemp("odd")
    labels = rng.integers(0, 10, 530).astype(np.uint8)
    parts = (images(400, TRAINED_INPUTS), labels[:400], images(130, 784), labels[400:])
    for name, part in zip(FILES, parts, strict=True):
        write_idx(folder / name, part)
    return Dataset(folder)


def run_of(recipe: str, ne: int, k: int, lc: float, seed: int) -> Run:
    """A run of a cell, with the nearest k and ne that the recipe allows. Of dense-total not the
    widest, in which every step moves every entry, and so more of those with hardly a gradient."""
    of = RECIPES[recipe]
    k = of.only_k or max(of.least_k, k)
    ne = min(ne, 17) if recipe == "dense-total" else max(ne, k)
    return Run(recipe, ne, k, KNOBS.get(recipe, lc), seed)


def settings_of(recipe: str) -> Train:
    """Fifty steps, with a small learning rate except for the source's recipes."""
    rate = FIFTY_STEPS.learning_rate if recipe in ("blog", "logits", "switch") else SHORT
    return replace(FIFTY_STEPS, learning_rate=rate)


def runs_of(recipe: str) -> list[Run]:
    return [run_of(recipe, *cell) for cell in CELLS]


def assert_close(
    trained: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], what: object
) -> None:
    assert trained.keys() == expected.keys()
    for name, values in expected.items():
        assert trained[name].dtype == torch.float32
        difference = (trained[name].double() - values.double()).abs().max()
        assert difference <= TOLERANCE * values.abs().max(), f"{what}: {name}"


def assert_same_bits(some: Sequence[Trained], others: Sequence[Trained]) -> None:
    for one, other in zip(some, others, strict=True):
        assert torch.equal(one.history, other.history)
        assert one.weights.keys() == other.weights.keys()
        for name, weights in one.weights.items():
            assert torch.equal(weights, other.weights[name]), name


def assert_like_alone(
    runs: list[Run], data: Dataset, settings: Train, cache: Path
) -> list[dict[str, float]]:
    """Returns the measures of each run's last epoch."""
    last = []
    for run, trained in zip(runs, kernel.train(runs, data, settings, cache=cache), strict=True):
        weights, measures = train_alone(run, data, settings)
        assert_close(trained.weights, weights, run)
        last.append(dict(zip(HISTORY, trained.history[-1].tolist(), strict=True)))
        assert last[-1] == pytest.approx(measures, rel=TOLERANCE, abs=TOLERANCE), run
    return last


# --- results


@pytest.mark.parametrize("recipe", kernel.RECIPES)
def test_every_parameter_is_that_of_the_layer_trained_alone(
    recipe: str, mnist_5k: Dataset, cache: Path
) -> None:
    assert_like_alone(runs_of(recipe), mnist_5k, settings_of(recipe), cache)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", [7, 33, 70])
def test_the_same_with_other_widths_blank_images_and_inputs_of_the_test_alone(
    hidden: int, odd: Dataset, cache: Path
) -> None:
    # 400 images in batches of 40, five times: 50 steps. 66 experts: rows of many vectors
    settings = Train(epochs=5, batch_size=40, learning_rate=SHORT, hidden=hidden)
    cells = [(3, 2, 1.0, 0), (66 if hidden == 7 else 5, 4, 0.1, 1)]
    runs = [run_of(recipe, *cell) for recipe in kernel.RECIPES for cell in cells]
    assert_like_alone(runs, odd, settings, cache)


@pytest.mark.parametrize("recipe", ["switch", "gshard"])
def test_the_same_with_limited_capacity(recipe: str, mnist_5k: Dataset, cache: Path) -> None:
    limited = replace(FIFTY_STEPS, learning_rate=SHORT, capacity_factor=1.0, z_loss=0.01)
    measures = assert_like_alone(runs_of(recipe), mnist_5k, limited, cache)
    assert max(last["dropped"] for last in measures) > 0.05


def test_capacity_and_z_loss_are_of_some_recipes(mnist_5k: Dataset, cache: Path) -> None:
    limited = replace(FIFTY_STEPS, learning_rate=SHORT, capacity_factor=1.0, z_loss=0.01)
    # Only z_loss trains the router of a single expert; other recipes ignore both settings
    (one,) = kernel.train([Run("switch", 1, 1, 1.0, 0)], mnist_5k, limited, cache=cache)
    assert one.history[0, HISTORY.index("router_grad_norm")] > 0
    for recipe in set(kernel.RECIPES) - {"switch", "gshard"}:
        run = [run_of(recipe, 4, 2, 1.0, 0)]
        free = replace(limited, capacity_factor=None, z_loss=0.0)
        assert_same_bits(*(kernel.train(run, mnist_5k, s, cache=cache) for s in (limited, free)))


@pytest.mark.slow
@pytest.mark.parametrize("recipe", kernel.RECIPES)
def test_the_history_is_that_of_the_fused_engine(
    recipe: str, mnist_5k: Dataset, cache: Path
) -> None:
    settings = replace(settings_of(recipe), epochs=2)
    expected = fused.train(runs_of(recipe), mnist_5k, settings, CPU, torch.float64)
    trained = kernel.train(runs_of(recipe), mnist_5k, settings, cache=cache)
    for run, one, other in zip(runs_of(recipe), trained, expected, strict=True):
        assert one.history.shape == (2, len(HISTORY))
        torch.testing.assert_close(
            *(one.history, other.history), rtol=TOLERANCE, atol=TOLERANCE, msg=str(run)
        )


@pytest.mark.parametrize("recipe", kernel.RECIPES)
def test_inputs_that_no_training_image_has_keep_their_initial_weights(
    recipe: str, odd: Dataset, cache: Path
) -> None:
    settings = replace(FIFTY_STEPS, epochs=2, batch_size=40)
    (trained,) = kernel.train([run_of(recipe, 4, 2, 1.0, 3)], odd, settings, cache=cache)
    initial = initial_weights(3, 4, 784, settings.hidden, 10)
    initial["noise.weight"] = torch.zeros(4, 784)
    names = {"router.weight", "noise.weight", "experts.w1"} & trained.weights.keys()
    for name in names - ({"router.weight"} if recipe in ROUTER_STAYS else set()):
        moved = (trained.weights[name] != initial[name]).transpose(0, 1).flatten(1).any(1)
        assert moved[:TRAINED_INPUTS].all()
        assert not moved[TRAINED_INPUTS:].any()


@pytest.mark.parametrize("recipe", ["blog", "logits"])
def test_with_k_1_the_weight_of_the_gate_loss_changes_no_bit(
    recipe: str, mnist_5k: Dataset, cache: Path
) -> None:
    runs = [Run(recipe, 4, 1, lc, 0) for lc in (0.0, 1.0, 10.0)]
    none, some, much = kernel.train(runs, mnist_5k, FIFTY_STEPS, cache=cache)
    assert_same_bits([none, none], [some, much])
    assert torch.equal(
        none.weights["router.weight"], initial_weights(0, 4, 784, 10, 10)["router.weight"]
    )
    assert (none.history[:, HISTORY.index("router_grad_norm_max")] == 0).all()


@pytest.mark.parametrize("recipe", ROUTER_STAYS)
def test_the_router_of_a_control_stays(recipe: str, mnist_5k: Dataset, cache: Path) -> None:
    (trained,) = kernel.train([run_of(recipe, 4, 2, 1.0, 0)], mnist_5k, FIFTY_STEPS, cache=cache)
    initial = initial_weights(0, 4, 784, 10, 10)
    assert torch.equal(trained.weights["router.weight"], initial["router.weight"])
    assert trained.history[0, HISTORY.index("router_grad_norm_max")] == 0


@pytest.mark.parametrize("recipe", [r for r in kernel.RECIPES if RECIPES[r].least_k == 1])
def test_one_expert_has_nothing_to_balance(recipe: str, mnist_5k: Dataset, cache: Path) -> None:
    runs = [Run(recipe, 1, 1, lc, 0) for lc in (0.0, 10.0)]
    none, much = kernel.train(runs, mnist_5k, FIFTY_STEPS, cache=cache)
    assert_same_bits([none], [much])
    last = dict(zip(HISTORY, none.history[-1].tolist(), strict=True))
    # Switch's loss is 1 at perfect balance, and one expert is always balanced.
    assert last["gate_loss"] == (1 if recipe in ("switch", "mixtral", "top-p") else 0)
    # The gate of loss-free is a sigmoid, which also learns with one expert.
    assert (last["router_grad_norm_max"] > 0) == (recipe == "loss-free")
    for name in ("max_violation", "dead_experts", "dropped"):
        assert last[name] == 0, name


# --- reproducibility


def test_a_runs_bits_depend_on_its_cell_alone(
    mnist_5k: Dataset, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run for recipe in kernel.RECIPES for run in runs_of(recipe)]
    settings = replace(FIFTY_STEPS, epochs=2, capacity_factor=1.25)
    together = kernel.train(runs, mnist_5k, settings, cache=cache)
    alone = [kernel.train([run], mnist_5k, settings, cache=cache)[0] for run in runs]
    assert_same_bits(alone, together)
    backwards = kernel.train(runs[::-1], mnist_5k, settings, cache=cache)
    assert_same_bits(backwards[::-1], together)
    monkeypatch.setattr(kernel, "SLICE_SECONDS", 0.0)  # one step, one batch of the test at a time
    seconds = np.zeros(2)
    other_lists = tmp_path / "cache"
    sliced = kernel.train(runs, mnist_5k, settings, cache=other_lists, seconds=seconds)
    assert_same_bits(sliced, together)
    assert (seconds > 0).all()


def test_progress_is_told_after_each_epoch(mnist_5k: Dataset, cache: Path) -> None:
    told = []
    settings = Train(epochs=3, batch_size=128, learning_rate=0.001, hidden=4)
    runs = [Run("logits", 2, 1, 1.0, 0), Run("switch", 3, 2, 1.0, 0)]
    trained = kernel.train(runs, mnist_5k, settings, told.append, cache=cache)
    column = HISTORY.index("test_accuracy")
    assert torch.equal(torch.cat(told), torch.cat([run.history[:, column] for run in trained]))


# --- instruction sets


@pytest.mark.slow
@pytest.mark.parametrize("level", kernel.LEVELS)
def test_each_instruction_set_trains_like_the_best(
    level: str, odd: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(kernel.LEVEL_VARIABLE, raising=False)
    best = kernel.level_in_use()
    if kernel.LEVELS.index(level) > kernel.LEVELS.index(best):
        pytest.skip(f"this machine has no {level}")
    cells = [(1, 1, 1.0, 0), (17, 3, 1.0, 1), (66, 4, 0.1, 0)]
    runs = [run_of(recipe, *cell) for recipe in kernel.RECIPES for cell in cells]
    for hidden in (10, 33):
        settings = Train(5, 40, SHORT, hidden, capacity_factor=1.0, z_loss=0.01)
        monkeypatch.delenv(kernel.LEVEL_VARIABLE, raising=False)
        expected = kernel.train(runs, odd, settings, cache=cache)
        monkeypatch.setenv(kernel.LEVEL_VARIABLE, level)
        assert kernel.level_in_use() == level
        trained = kernel.train(runs, odd, settings, cache=cache)
        for run, one, other in zip(runs, trained, expected, strict=True):
            assert_close(one.weights, other.weights, run)
            torch.testing.assert_close(
                *(one.history, other.history), rtol=TOLERANCE, atol=TOLERANCE, msg=str(run)
            )


def test_an_unknown_instruction_set_is_refused_with_those_there_are(
    odd: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(kernel.LEVEL_VARIABLE, "avx1024")
    with pytest.raises(ValueError, match=r"MOE_KERNEL_LEVEL = 'avx1024', .* has baseline"):
        kernel.train([Run("blog", 2, 1, 1.0, 0)], odd, FIFTY_STEPS, cache=cache)


# --- unsupported runs and data


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            Run("sinkhorn", 4, 2, 1.0, 0),
            "sinkhorn/ne=4.*: the kernel does not have sinkhorn; the fused",
        ),
        (Run("none", 4, 2, 1.0, 0), "none/ne=4"),
        (Run("blog", 3, 4, 1.0, 0), "blog/ne=3/k=4.*: the kernel needs 1 <= k <= ne <= 1024"),
        (Run("blog", 3, 0, 1.0, 0), "k=0"),
        (Run("gshard", 3, 3, 1.0, 0), "gshard allows only k = 2"),
        (Run("blog", 1025, 1, 1.0, 0), "ne=1025"),
    ],
)
def test_runs_it_cannot_train_are_refused_by_name(
    run: Run, message: str, odd: Dataset, cache: Path
) -> None:
    good, told = Run("blog", 4, 2, 1.0, 0), []
    with pytest.raises(ValueError, match=message):
        kernel.train([good, run], odd, FIFTY_STEPS, told.append, cache=cache)
    assert not told  # before any run begins


@pytest.mark.parametrize(
    ("inputs", "test_inputs", "message"),
    [
        (784, 729, "784 inputs in training, 729 in the test"),
        (257**2, 257**2, "66049 inputs, but the kernel takes 65536"),
    ],
)
def test_data_it_cannot_take_are_refused_by_folder(
    inputs: int, test_inputs: int, message: str, tmp_path: Path
) -> None:
    for name, size in zip(FILES[::2], (inputs, test_inputs), strict=True):
        side = int(size**0.5)
        write_idx(tmp_path / name, np.ones((1, side, side), np.uint8))
    for name in FILES[1::2]:
        write_idx(tmp_path / name, np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match=f"{tmp_path}: {message}"):
        kernel.check(Run("blog", 2, 1, 1.0, 0), Dataset(tmp_path))


def copy_of_the_engine(folder: Path, without: str = "nothing") -> ModuleType:
    """A copy of kernel.py and the C files in another folder, as a separate installation."""
    home = Path(kernel.__file__).parent
    for path in (home / "kernel.py", *home.glob("*.c"), *home.glob("_kernel*")):
        if without not in path.name:
            shutil.copy(path, folder)
    spec = importlib.util.spec_from_file_location("copied_kernel", folder / "kernel.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def change_source(folder: Path) -> None:
    with (folder / "router.c").open("a") as file:
        file.write("/* more */\n")


def no_library(folder: Path) -> None:
    (library,) = folder.glob("_kernel*")
    library.write_bytes(b"not a library\n")


def another_library(folder: Path) -> None:
    """A library without our functions."""
    (library,) = folder.glob("_kernel*")
    shutil.copy(_umath_linalg.__file__, library)


def test_a_complete_copy_can_be_used(tmp_path: Path) -> None:
    assert copy_of_the_engine(tmp_path).why_not() is None
    # An installation without sources has nothing to compare with
    for source in tmp_path.glob("*.c"):
        source.unlink()
    assert copy_of_the_engine(tmp_path, without=".c").why_not() is None


def test_without_its_library_it_says_how_to_get_it(
    tmp_path: Path, odd: Dataset, cache: Path
) -> None:
    copy = copy_of_the_engine(tmp_path, without="_kernel")
    assert not copy.available()
    assert copy.why_not() == (
        "the C kernel is not built: install the package again (make setup), with a C compiler"
    )
    with pytest.raises(OSError, match="not built"):
        copy.train([Run("blog", 2, 1, 1.0, 0)], odd, FIFTY_STEPS, cache=cache)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change_source, "was built from another kernel.c: install the package again"),
        (no_library, "_kernel"),
        (another_library, "is another library: install the package again"),
    ],
)
def test_with_a_wrong_library_it_says_so_in_one_line(
    spoil: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    copy = copy_of_the_engine(tmp_path)
    spoil(tmp_path)
    why = copy.why_not()
    assert not copy.available()
    assert message in why
    assert "\n" not in why


# --- pixel lists


def assert_lists_of(lists: pixel_lists.PixelLists, data: Dataset) -> None:
    """Compare pixel by pixel."""
    train_x = data.train_x.tolist()
    images_with = [sum(image[i] > 0 for image in train_x) for i in range(784)]
    columns = sorted(range(784), key=lambda i: (-images_with[i], i))
    assert lists.columns.tolist() == columns
    for part, x in ((lists.train, train_x), (lists.test, data.test_x.tolist())):
        index, value = part.column.tolist(), part.value.tolist()
        assert len(part.offset) == len(x) + 1
        assert len(index) == len(value) == part.offset[-1] + pixel_lists.BLOCK
        end = 0
        for image, begin, stop in zip(x, part.offset, part.offset[1:], strict=False):
            pairs = [(i, image[column]) for i, column in enumerate(columns) if image[column]]
            while len(pairs) % 4:
                pairs.insert(0, (pairs[0][0], 0))
            assert begin == end
            end = int(stop)
            assert list(zip(index[begin:end], value[begin:end], strict=True)) == pairs


def unkept(folder: Path, cache: Path) -> pixel_lists.PixelLists:
    """The lists, without the in-process cache, as in a new process."""
    return pixel_lists.pixel_lists(Dataset(folder), cache)


def test_the_lists_are_those_of_a_loop_over_every_pixel(odd: Dataset, tmp_path: Path) -> None:
    assert_lists_of(unkept(odd.folder, tmp_path), odd)  # made
    assert_lists_of(unkept(odd.folder, tmp_path), odd)  # read
    assert [path.name for path in tmp_path.iterdir()] == [odd.digest]


def test_lists_that_are_in_the_cache_are_not_made_again(
    odd: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unkept(odd.folder, tmp_path)
    monkeypatch.setattr(pixel_lists, "_make", pytest.fail)
    unkept(odd.folder, tmp_path)


@pytest.mark.parametrize("damage", ["altered", "truncated", "empty", "missing", "no digest"])
def test_a_damaged_cache_is_made_anew(damage: str, odd: Dataset, tmp_path: Path) -> None:
    unkept(odd.folder, tmp_path)
    name = "sha256" if damage == "no digest" else "train_value.npy"
    path = tmp_path / odd.digest / name
    good = path.read_bytes()
    middle = len(good) // 2
    spoilt = {
        "altered": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "truncated": good[:middle],
        "no digest": b"\xff",
    }
    path.unlink()  # may still be memory-mapped
    if damage != "missing":
        path.write_bytes(spoilt.get(damage, b""))
    assert_lists_of(unkept(odd.folder, tmp_path), odd)
    assert path.read_bytes() == good
    assert len(list(tmp_path.iterdir())) == 1


def test_where_the_cache_cannot_be_written_the_lists_are_the_processs_own(
    odd: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    assert_lists_of(unkept(odd.folder, tmp_path / "file" / "cache"), odd)


def test_two_processes_may_make_the_lists_at_once(
    odd: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fork = multiprocessing.get_context("fork")
    both, make = fork.Barrier(2), pixel_lists._make

    def make_at_once(data: Dataset) -> dict[str, np.ndarray]:
        arrays = make(data)
        both.wait(timeout=20)  # neither has found the other's
        return arrays

    monkeypatch.setattr(pixel_lists, "_make", make_at_once)
    with Pool(2, context=fork) as pool:
        for lists in pool.starmap(unkept, [(odd.folder, tmp_path)] * 2, chunksize=1):
            assert_lists_of(lists, odd)
    assert [path.name for path in tmp_path.iterdir()] == [odd.digest]
    monkeypatch.setattr(pixel_lists, "_make", pytest.fail)
    assert_lists_of(unkept(odd.folder, tmp_path), odd)


# --- Ctrl-C

# An epoch takes minutes, so only the end of a slice can stop it. A thread reports that C runs.
LONG_RUN = """
import signal, sys, threading, time
from pathlib import Path
import numpy as np
from moe.data.dataset import Dataset
from moe.engine import kernel
from moe.study.runs import Run
from moe.study.train_settings import Train

# A shell starts what runs in its background with Ctrl-C ignored, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
seconds = np.zeros(2)

def tell():
    while not seconds.any():
        time.sleep(0.01)
    print("training", flush=True)

threading.Thread(target=tell, daemon=True).start()
run = Run("blog", 4, 4, 1.0, 0)
settings = Train(epochs=1, batch_size=1, learning_rate=0.001, hidden=2000)
kernel.train([run], Dataset(Path(sys.argv[1])), settings, cache=Path(sys.argv[2]), seconds=seconds)
print("finished", flush=True)
"""


def test_ctrl_c_ends_a_long_run_at_once(mnist_5k: Dataset, cache: Path) -> None:
    command = [sys.executable, "-c", LONG_RUN, str(mnist_5k.folder), str(cache)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "training\n"
            time.sleep(0.3)  # well into the epoch
            process.send_signal(signal.SIGINT)
            # The epoch takes minutes, a slice a tenth of a second; the rest is Python's exit.
            rest, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert rest == ""
    assert "train_epoch" in errors
    assert errors.endswith("KeyboardInterrupt\n")
