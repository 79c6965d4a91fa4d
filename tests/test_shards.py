"""A study split into shards, trained by workers, interrupted and resumed."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from moe.data.dataset import Dataset
from moe.data.idx import write_idx
from moe.engine import kernel
from moe.errors import UserError
from moe.study.grid import runs_of
from moe.study.params import Params, Sweep, read_params
from moe.study.runs import Run
from moe.study.train_settings import Train
from moe.study.workers import in_workers, worker_count
from moe.train import run_key, shards
from moe.train.run_key import run_keys
from moe.train.run_store import Store
from moe.train.shards import Epochs, cut, limits, train_study

ROOT = Path(__file__).parent.parent


@pytest.fixture
def mnist_sized(tmp_path: Path) -> Dataset:
    """A data set of MNIST's size, with all-black images."""
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte", np.zeros((count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.zeros(count, np.uint8))
    return Dataset(tmp_path)


def small(workers: int = 1, ne: tuple[int, ...] = (1, 2)) -> Params:
    """2 recipes × (ne, k) of (1, 1), (2, 1), (2, 2) × 2 seeds: 12 runs with ne = 1, 2."""
    default = read_params(ROOT / "params.yaml")
    return replace(
        default,
        sweeps=(Sweep("small", ("blog", "switch"), ne, (1, 2), (1.0,), 2),),
        train=Train(epochs=2, batch_size=128, learning_rate=0.001, hidden=4),
        runtime=replace(default.runtime, workers=workers, experts_per_shard=6),
    )


def train(params: Params, data: Dataset, folder: Path) -> tuple[dict, list[int], list[Epochs]]:
    finished: list[int] = []
    told: list[Epochs] = []
    runs = runs_of(params.sweeps)

    def on_runs(found: Sequence[Run]) -> None:
        finished.append(len(found))

    trained = train_study(params, runs, data, Store(folder), told.append, on_runs)
    assert set(trained) == set(runs)
    return trained, finished, told


def assert_same_bits(one: dict, other: dict) -> None:
    for run, trained in one.items():
        assert torch.equal(trained.history, other[run].history)
        for name, weights in trained.weights.items():
            assert torch.equal(weights, other[run].weights[name])


CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_the_cut_covers_the_default_study_within_its_limits(mnist_sized: Dataset) -> None:
    params = read_params(ROOT / "params.yaml")
    runs = runs_of(params.sweeps)
    pieces = list(cut(runs, limits(params, CPU, mnist_sized)))
    assert sorted(run for piece in pieces for run in piece) == list(runs)
    for piece in pieces:
        assert len({run.recipe for run in piece}) == 1
        assert sum(run.ne for run in piece) <= shards.EXPERTS_PER_SHARD
        assert len({run.seed for run in piece}) <= shards.SEEDS_PER_SHARD


def test_longer_training_makes_smaller_shards_never_empty_ones(mnist_sized: Dataset) -> None:
    params = read_params(ROOT / "params.yaml")
    runs = runs_of(params.sweeps)
    longer = replace(params, train=replace(params.train, epochs=50))
    pieces = list(cut(runs, limits(longer, CPU, mnist_sized)))
    # A tenth of 120 experts; a run of 16 still gets a shard of its own.
    assert max(sum(run.ne for run in piece) for piece in pieces) == 16
    assert all(sum(run.ne for run in piece) <= 12 or len(piece) == 1 for piece in pieces)


def test_a_gpu_takes_each_recipe_whole_where_its_memory_allows(
    mnist_sized: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = read_params(ROOT / "params.yaml")
    runs = runs_of(params.sweeps)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (80 * 10**9, 80 * 10**9))
    whole = list(cut(runs, limits(params, CUDA, mnist_sized)))
    assert [piece[0].recipe for piece in whole] == ["blog", "logits", "switch"]
    # Weights with their gradient and two moments, of two router rows, and the larger of a step's
    # and a test's intermediates: 4 B × (4 × (12 × 784 + 10 + 100 + 10) + 500 × (20 + 30 + 12))
    # = 276,496 B an expert. Half of 1 GB holds 1,808 of them, which is at least 1,024.
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**9, 80 * 10**9))
    assert limits(params, CUDA, mnist_sized).experts == 1024
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 80 * 10**9))
    assert limits(params, CUDA, mnist_sized).experts == 1


def test_workers_give_the_bits_of_one_process_and_tell_their_progress(
    mnist_5k: Dataset, tmp_path: Path
) -> None:
    alone, finished, told = train(small(), mnist_5k, tmp_path / "alone")
    assert finished[0] == 0
    assert sum(finished) == 12
    assert sum(epochs.runs for epochs in told) == 24
    together, _, told = train(small(workers=2), mnist_5k, tmp_path / "together")
    assert sum(epochs.runs for epochs in told) == 24
    assert_same_bits(alone, together)


def test_what_is_finished_is_not_trained_again(mnist_5k: Dataset, tmp_path: Path) -> None:
    first, _, _ = train(small(), mnist_5k, tmp_path)
    again, finished, told = train(small(), mnist_5k, tmp_path)
    assert finished == [12]
    assert told == []
    assert_same_bits(first, again)
    # One more ne brings 2 recipes × k = 1, 2 × 2 seeds.
    _, finished, told = train(small(ne=(1, 2, 3)), mnist_5k, tmp_path)
    assert finished[0] == 12
    assert sum(finished[1:]) == 8
    assert sum(epochs.runs for epochs in told) == 16


# Of the 12 runs, 2 recipes × 3 cells × 2 seeds, each gets one more: of the seeds 2 × 3 × 1, of the
# recipes 1 × 3 × 2, of the sweeps the cells that are not in the first.
FIRST = small().sweeps[0]
MORE = {
    "a seed": ((replace(FIRST, seeds=3),), 6),
    "a recipe": ((replace(FIRST, recipe=(*FIRST.recipe, "shazeer")),), 6),
    "a sweep": ((FIRST, Sweep("other", ("blog",), (2, 4), (1,), (0.0, 1.0), 1)), 3),
}


@pytest.mark.parametrize(("sweeps", "new"), MORE.values(), ids=MORE)
def test_only_what_is_added_is_trained(
    sweeps: tuple[Sweep, ...], new: int, mnist_5k: Dataset, tmp_path: Path
) -> None:
    before, _, _ = train(small(), mnist_5k, tmp_path)
    after, finished, told = train(replace(small(), sweeps=sweeps), mnist_5k, tmp_path)
    assert finished[0] == 12
    assert sum(finished[1:]) == new
    assert sum(epochs.runs for epochs in told) == 2 * new
    assert_same_bits(before, after)
    again, finished, _ = train(small(), mnist_5k, tmp_path)
    assert finished == [12]
    assert_same_bits(before, again)


def test_other_epochs_train_all(mnist_5k: Dataset, tmp_path: Path) -> None:
    train(small(), mnist_5k, tmp_path)
    longer = replace(small(), train=replace(small().train, epochs=3))
    _, finished, told = train(longer, mnist_5k, tmp_path)
    assert finished[0] == 0
    assert sum(epochs.runs for epochs in told) == 12 * 3


def test_interrupted_and_taken_up_again_it_ends_with_the_same_bits(
    mnist_5k: Dataset, tmp_path: Path
) -> None:
    whole, _, _ = train(small(), mnist_5k, tmp_path / "whole")

    class PowerError(Exception):
        pass

    def fail(found: Sequence[Run]) -> None:
        if found:
            raise PowerError

    params, store = small(), Store(tmp_path / "interrupted")
    with pytest.raises(PowerError):
        train_study(params, runs_of(params.sweeps), mnist_5k, store, on_runs=fail)
    assert len(list(store.entries())) == 1
    resumed, finished, _ = train(params, mnist_5k, store.folder)
    assert 0 < finished[0] < 12
    assert_same_bits(whole, resumed)


def test_a_damaged_entry_is_trained_again(mnist_5k: Dataset, tmp_path: Path) -> None:
    first, _, _ = train(small(), mnist_5k, tmp_path)
    path = next(tmp_path.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    again, finished, told = train(small(), mnist_5k, tmp_path)
    assert sum(finished) == 12
    assert 0 < sum(epochs.runs for epochs in told) < 24
    assert_same_bits(first, again)


def test_a_key_changes_with_all_that_the_result_depends_on() -> None:
    params, cpu = small(), torch.device("cpu")
    run = Run("blog", 2, 1, 1.0, 0)

    def key(params: Params = params, data: str = "d", run: Run = run, engine: str = "fused") -> str:
        engines = {"blog": engine}
        return run_keys([run], params.train, data, cpu, engines)[run]

    assert key() == key()
    assert key(data="other") != key()
    assert key(run=run._replace(lc=0.5)) != key()
    assert key(replace(params, train=replace(params.train, epochs=3))) != key()
    # Runtime settings are not part of the key.
    assert key(replace(params, runtime=replace(params.runtime, workers=7))) == key()


def test_swept_settings_train_each_run_as_a_study_of_its_own_does(
    mnist_5k: Dataset, tmp_path: Path
) -> None:
    """Each combination equals a study with these settings in `train`; keys are the same."""
    sweep = Sweep(
        *("swept", ("blog", "shazeer"), (2,), (1, 2), (1.0,), 1),
        epochs=(1, 2),
        learning_rate=(0.001, 0.01),
        capacity_factor=(None, 1.0),
    )
    params = replace(small(), sweeps=(sweep,))
    swept, _, told = train(params, mnist_5k, tmp_path / "swept")
    assert len(swept) == 2 * 2 * 2 * 2 * 2
    assert sum(epochs.runs for epochs in told) == 16 * 1 + 16 * 2
    cpu, engines = torch.device("cpu"), dict.fromkeys(("blog", "shazeer"), "fused")
    for settings in {run.settings for run in swept}:
        own = {name: None if value == float("inf") else value for name, value in settings}
        settings_of_study = replace(params.train, **own)
        plain = replace(sweep, epochs=None, learning_rate=None, capacity_factor=None)
        alone, _, _ = train(
            replace(params, sweeps=(plain,), train=settings_of_study), mnist_5k, tmp_path / "alone"
        )
        keys = run_keys(list(swept), params.train, "d", cpu, engines)
        expected = run_keys(list(alone), settings_of_study, "d", cpu, engines)
        for run, trained in alone.items():
            assert run.settings == ()
            same = run._replace(settings=settings)
            assert len(trained.history) == asdict(settings_of_study)["epochs"]
            assert_same_bits({same: trained}, swept)
            assert keys[same] == expected[run]


def test_a_shard_has_one_combination_of_settings(mnist_sized: Dataset) -> None:
    sweep = Sweep("swept", ("blog", "switch"), (2, 4), (1, 2), (1.0,), 3, hidden=(4, 8))
    params = replace(small(), sweeps=(sweep,))
    runs = runs_of(params.sweeps)
    pieces = list(shards.shards_of(runs, params, CPU, mnist_sized))
    assert sorted(run for piece in pieces for run in piece) == list(runs)
    assert all(len({(run.recipe, run.settings) for run in piece}) == 1 for piece in pieces)


def test_a_key_changes_with_the_code_that_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys() -> dict[str, str]:
        run, cpu = Run("blog", 2, 1, 1.0, 0), torch.device("cpu")
        return {
            engine: run_keys([run], small().train, "d", cpu, {"blog": engine})[run]
            for engine in ("fused", "kernel")
        }

    def changed_by(name: str) -> set[str]:
        """The engines whose keys change if a byte is added to a source."""
        before, read = keys(), run_key._bytes_of
        with monkeypatch.context() as patched:
            edited = ROOT / "moe" / name
            assert edited.exists()
            patched.setattr(
                run_key, "_bytes_of", lambda file: read(file) + b"\n" * (file == edited)
            )
            return {engine for engine, key in keys().items() if key != before[engine]}

    for common in ("data/batches.py", "recipes/gating.py", "model/layer.py", "engine/__init__.py"):
        assert changed_by(common) == {"fused", "kernel"}
    assert changed_by("recipes/blog.py") == {"fused", "kernel"}
    assert changed_by("engine/fused.py") == {"fused"}
    assert changed_by("engine/kernel.c") == changed_by("engine/router.c") == {"kernel"}
    for other in ("recipes/switch.py", "study/params.py", "study/tables.py", "train/shards.py"):
        assert changed_by(other) == set()


def test_a_key_changes_with_how_the_kernel_was_built(monkeypatch: pytest.MonkeyPatch) -> None:
    run, cpu = Run("blog", 2, 1, 1.0, 0), torch.device("cpu")
    before = run_keys([run], small().train, "d", cpu, {"blog": "kernel"})
    assert "-ffp-contract=fast" in kernel.build()
    build = kernel.build().replace("-ffp-contract=fast", "-ffp-contract=off")
    monkeypatch.setattr(kernel, "build", lambda: build)
    assert run_keys([run], small().train, "d", cpu, {"blog": "kernel"}) != before


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"runtime\.device: 'cuda:7': this machine has"):
        shards.device_named("cuda:7")


def test_a_worker_that_is_killed_ends_in_one_line() -> None:
    with pytest.raises(UserError, match="a worker process was killed"):
        list(in_workers(kill_yourself, [1, 2], workers=2))


def kill_yourself(task: int, send: object) -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_worker_count() -> None:
    assert worker_count(3) == 3
    assert worker_count("auto") >= 1
