"""Bad input: each case gives one line and an exit status, and finished runs are kept."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from moe.data import download
from moe.data.dataset import FILES
from moe.data.idx import DataError
from moe.engine import Trained, kernel
from moe.errors import UserError
from moe.study.runs import Run
from moe.train import shards
from moe.train.run_store import Store
from tests.test_pipeline import ROOT, STAGES, Copy, sweep

pytestmark = pytest.mark.slow

STUDY = """
data:
  dataset: mnist-5k
sweeps:
  - {name: small, recipe: [blog, switch], ne: [1, 2], k: [1, 2], lc: [1], seeds: 1}
train:
  epochs: 1
  batch_size: 128
  learning_rate: 0.001
  hidden: 10
analyze: {pictured_digits: 50, null_tables: 20}
track: {experiment: moe-mnist}
runtime:
  device: auto
  engine: auto
  executor: local
  workers: auto
  experts_per_shard: auto
  most_runs: 20_000
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A small, finished study, with the make targets of a checkout."""
    copy = Copy(tmp_path_factory.mktemp("finished"))
    (copy.folder / "params.yaml").write_text(STUDY)
    copy.repro()
    (copy.folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
    return copy


def everything(copy: Copy) -> dict[str, str]:
    """A digest of every output, every finished run, and MLflow's database."""
    folders = ("data", "weights", "results", "reports", ".cache/shards")
    files = [file for name in folders for file in (copy.folder / name).rglob("*")]
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in [*files, copy.folder / "dvc.lock", copy.folder / "mlflow.db"]
        if file.is_file()
    }


def said_by(done: subprocess.CompletedProcess) -> str:
    """The one line on stderr, without click's "Error: " and make's own."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0].removeprefix("Error: ")


# --- params.yaml: (old text, new text, message)

PARAMS = {
    "not YAML": ("epochs: 1", "epochs: [1", "params.yaml: not valid YAML: line "),
    "no text": ("epochs: 1", "epochs: \x01", "params.yaml: not valid YAML: "),
    "wrong type": ("epochs: 1", "epochs: one", "train.epochs: 'one': input should be a valid"),
    "a fraction": ("epochs: 1", "epochs: 1.5", "train.epochs: 1.5: input should be a valid int"),
    "unknown key": ("epochs: 1", "epochs: 1\n  epoch: 1", "train.epoch: unknown key (value 1)"),
    "duplicate key": ("epochs: 1", "epochs: 1\n  epochs: 1", "params.yaml: not valid YAML: line "),
    "missing key": ("  epochs: 1\n", "", "train.epochs: is missing"),
    "no sweeps": ("sweeps:", "sweeps: []\nswept:", "sweeps: []: tuple should have at least 1"),
    "empty sweep": ("k: [1, 2]", "k: []", "sweeps.0.k: []: tuple should have at least 1 item"),
    "k > every ne": ("k: [1, 2]", "k: [3]", "sweeps.0.k: [3]: every k is larger than every ne"),
    "NaN": ("lc: [1]", "lc: [.nan]", "sweeps.0.lc.0: nan: input should be a finite number"),
    "infinity": ("lc: [1]", "lc: [.inf]", "sweeps.0.lc.0: inf: input should be a finite number"),
    "negative lc": ("lc: [1]", "lc: [-1]", "sweeps.0.lc.0: -1: input should be greater than"),
    "a million cells": (
        *("seeds: 1", "seeds: 1_000_000"),
        "sweeps: 8,000,000 runs are more than runtime.most_runs = 20,000; raise most_runs",
    ),
    "a recipe's k": ("[blog, switch]", "[gshard]", "sweeps.0.k: [1, 2]: gshard allows only k = 2"),
    "a batch too large": (
        *("batch_size: 128", "batch_size: 5000"),
        "train.batch_size: 5000: mnist-5k has 4,000 training samples",
    ),
    "an object": ("epochs: 1", "epochs: !!python/object/apply:os.getcwd []", "not valid YAML: "),
}


@pytest.mark.parametrize("row", PARAMS)
def test_params(row: str, finished: Copy) -> None:
    good, bad, message = PARAMS[row]
    path, before = finished.folder / "params.yaml", everything(finished)
    assert good in STUDY
    begin = time.monotonic()
    try:
        path.write_text(STUDY.replace(good, bad, 1))
        done = finished.run(sys.executable, "-m", "stages.check", check=False)
    finally:
        path.write_text(STUDY)
    assert done.returncode == 2
    assert message in said_by(done)
    assert everything(finished) == before
    assert time.monotonic() - begin < 60  # cells are counted, not expanded


@pytest.mark.parametrize("name", ["check", *STAGES])
def test_every_stage_refuses_it(name: str, finished: Copy) -> None:
    path, before = finished.folder / "params.yaml", everything(finished)
    try:
        path.write_text(STUDY.replace("epochs: 1", "epochs: 0", 1))
        done = finished.run(sys.executable, "-m", f"stages.{name}", check=False)
    finally:
        path.write_text(STUDY)
    assert done.returncode == 2
    assert "train.epochs: 0: input should be greater than or equal to 1" in said_by(done)
    assert everything(finished) == before


@pytest.mark.parametrize("target", ["check", "repro", "report", "track"])
def test_make_refuses_it_before_dvc_begins(target: str, finished: Copy) -> None:
    path, before = finished.folder / "params.yaml", everything(finished)
    # As after setup: newer than its prerequisites
    ready = ["make", "--old-file=.venv/.ready", target]
    try:
        path.write_text(STUDY.replace("epochs: 1", "epochs: 0", 1))
        done = finished.run(*ready, check=False)
    finally:
        path.write_text(STUDY)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "train.epochs: 0: input should be greater than or equal to 1" in said_by(done)
    assert "Running stage" not in done.stdout
    assert everything(finished) == before


def test_dvc_s_own_status_is_255(finished: Copy) -> None:
    before = everything(finished)
    done = finished.run("dvc", "repro", "no-such-stage", check=False)
    assert done.returncode == 255
    assert everything(finished) == before


@pytest.mark.parametrize("name", [".dvc/tmp/rwlock", "dvc.lock"])
@pytest.mark.parametrize("content", [b"", b'{"read": {', b"stages: {train: [1"])
def test_what_a_killed_dvc_left_half_written(name: str, content: bytes, finished: Copy) -> None:
    """With these files, DVC would not start. After the repair it writes both without training."""
    path, before = finished.folder / name, everything(finished)
    good = path.read_bytes()
    try:
        path.write_bytes(content)
        done = finished.run(sys.executable, "-m", "stages.check")
        assert f"{name}: incomplete, since DVC was killed; renamed to {name}.damaged" in (
            done.stdout
        )
        assert path.with_name(f"{path.name}.damaged").read_bytes() == content
        assert not path.exists()
    finally:
        path.write_bytes(good)
    assert everything(finished) == before


# --- runtime settings that this machine does not support


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        ({"device": "cuda:7"}, "runtime.device: 'cuda:7': this machine has"),
        ({"device": "gpu"}, "runtime.device: 'gpu': string should match"),
        (
            {"engine": "kernel"},
            "runtime.engine: 'kernel': the kernel does not have sinkhorn",
        ),
    ],
)
def test_what_is_not_there(runtime: dict, message: str, tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    sweeps = sweep(recipe=["sinkhorn"], lc=[1], seeds=1)
    copy.params(data={"dataset": "mnist-5k"}, sweeps=sweeps, runtime=runtime)
    copy.run(sys.executable, "-m", "stages.download", check=False)
    done = copy.run(sys.executable, "-m", "stages.train", check=False)
    assert done.returncode == 2
    assert message in said_by(done)


# --- data files


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"0")


def give_wrong_magic(path: Path) -> None:
    path.write_bytes(b"\x89PNG" + path.read_bytes()[4:])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def alter_a_label(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")


DATA = {
    "truncated": (FILES[0], truncate, "bytes, but its header promises"),
    "longer": (FILES[2], lengthen, "bytes, but its header promises"),
    "wrong magic": (FILES[0], give_wrong_magic, "not an IDX file of bytes"),
    "empty": (FILES[3], empty, "not an IDX file of bytes"),
    "altered": (FILES[1], alter_a_label, "has labels up to 11, but none is 10"),
    "missing": (FILES[1], Path.unlink, "cannot be read: No such file"),
}


@pytest.mark.parametrize("row", DATA)
def test_data(row: str, finished: Copy) -> None:
    name, damage, message = DATA[row]
    file = finished.folder / "data" / name
    good = file.read_bytes()
    before = everything(finished)
    try:
        file.unlink()  # DVC may have linked it from its cache
        file.write_bytes(good)
        damage(file)
        done = finished.run(sys.executable, "-m", "stages.evaluate", check=False)
        assert done.returncode == 2
        assert message in said_by(done)
    finally:
        file.unlink(missing_ok=True)
        file.write_bytes(good)
    assert everything(finished) == before


# --- mirrors


class Mirror(BaseHTTPRequestHandler):
    """Answers according to its server's `manner`."""

    def do_GET(self) -> None:
        manner: str = self.server.manner  # type: ignore[attr-defined]
        if manner == "404":
            self.send_error(404)
            return
        if manner == "never":
            time.sleep(2)
            return
        self.send_response(200)
        self.end_headers()
        if manner == "HTML":
            self.wfile.write(b"<html>log in first</html>")
            return
        try:
            for _ in range(500):  # more than any file of MNIST; a client may leave before the end
                self.wfile.write(b"0" * 100_000)
        except OSError:
            pass

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002, the base class's name
        """Keeps quiet."""


@pytest.fixture
def mirror_that() -> Iterator[Callable[[str], str]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()

    def answers(manner: str) -> str:
        server.manner = manner  # type: ignore[attr-defined]
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield answers
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("manner", "message"),
    [
        ("404", "404 Not Found"),
        ("HTML", "truncated or altered (its MD5 is not"),
        ("endless", "more than 30,000,000 bytes, the limit for a file"),
        ("never", "no answer within 0.5 seconds"),
    ],
)
def test_mirrors(
    manner: str,
    message: str,
    mirror_that: Callable[[str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MNIST_MIRROR", mirror_that(manner))
    monkeypatch.setattr(download.import_torchvision().datasets.MNIST, "mirrors", [])
    monkeypatch.setattr(download, "READ_TIMEOUT", 0.5)
    with pytest.raises(DataError) as raised:
        download.download("MNIST", tmp_path)
    assert message in str(raised.value)
    assert "make demo" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


# --- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 200 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"needs to mount a tmpfs: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def with_outputs_on(disk: Path, finished: Copy, tmp_path: Path) -> Copy:
    """A copy of the finished study, with its store and results, and weights/ on the disk."""
    copy = Copy(tmp_path / "copy")
    shutil.copyfile(finished.folder / "params.yaml", copy.folder / "params.yaml")
    shutil.copytree(finished.folder / "data", copy.folder / "data")
    (copy.folder / "weights").symlink_to(disk)
    return copy


def test_a_full_disk(small_disk: Path, finished: Copy, tmp_path: Path) -> None:
    copy = with_outputs_on(small_disk, finished, tmp_path)
    done = copy.run(sys.executable, "-m", "stages.train", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "weights/" in said_by(done)
    # Trained runs are kept: with free space, the same command finishes without training.
    (copy.folder / "weights").unlink()
    again = copy.run(sys.executable, "-m", "stages.train")
    assert "6 of 6 runs are in the store, 0 to train" in again.stdout


def test_a_store_on_a_full_disk_keeps_what_it_had(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    kept = store.add(b"a" * 1000, {"a": "run a"})
    with pytest.raises(OSError, match="No space left"):
        store.add(b"b" * 1_000_000, {"b": "run b"})
    assert [file.read_bytes() for file in store.folder.glob("*.safetensors")] == [b"a" * 1000]
    assert [entry.path for entry in store.entries()] == [kept]
    assert not list(store.folder.glob("*.tmp"))


def test_a_read_only_disk(small_disk: Path, finished: Copy, tmp_path: Path) -> None:
    copy = with_outputs_on(small_disk, finished, tmp_path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = copy.run(sys.executable, "-m", "stages.train", check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "weights/" in said_by(done)
    assert "read-only" in said_by(done).lower()


# --- tables that were changed outside the pipeline


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("analyze", "weights/history.csv"),
        ("report", "results/slots.csv"),
        ("track", "results/runs.csv"),
    ],
)
@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: b"",
        lambda whole: b"\xff\xfe" + whole,
        lambda whole: b"<html>\n</html>\n",
        lambda whole: whole.replace(b"blog,1", b"blog,one"),
        lambda whole: whole + b"blog,1",  # cut off in its keys
        lambda whole: whole + b"a,b," * 100,
    ],
)
def test_a_damaged_table(name: str, table: str, damage: Callable, finished: Copy) -> None:
    path, before = finished.folder / table, everything(finished)
    whole = path.read_bytes()
    try:
        path.unlink()  # DVC's cache may have a link to it
        path.write_bytes(damage(whole))
        done = finished.run(sys.executable, "-m", f"stages.{name}", check=False)
    finally:
        path.unlink()
        path.write_bytes(whole)
    assert done.returncode == 2, done.stdout + done.stderr
    assert said_by(done).startswith(f"{table}: not a table of runs (")
    assert everything(finished) == before


# --- the store and memory


def test_a_store_of_another_version_is_left_alone(finished: Copy, tmp_path: Path) -> None:
    """Its keys cover other sources: its runs are neither used nor lost."""
    copy = Copy(tmp_path)
    shutil.copyfile(finished.folder / "params.yaml", copy.folder / "params.yaml")
    shutil.copytree(finished.folder / "data", copy.folder / "data")
    shutil.copytree(finished.folder / ".cache/shards", copy.folder / ".cache/shards")
    before = {file.name: file.read_bytes() for file in (copy.folder / ".cache/shards").iterdir()}
    source = copy.folder / "moe/model/layer.py"
    source.write_text(source.read_text() + "\n# another version\n")
    done = copy.run(sys.executable, "-m", "stages.train")
    assert "0 of 6 runs are in the store, 6 to train" in done.stdout
    after = {file.name: file.read_bytes() for file in (copy.folder / ".cache/shards").iterdir()}
    assert before.items() <= after.items()


RUNS = tuple(Run("blog", 2, 1, 1.0, seed) for seed in range(5))


def train_at_most(limit: int, taken: list[int], shard: tuple[Run, ...]) -> list[Trained]:
    if len(shard) > limit:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory: you tried ...")
    taken.append(len(shard))
    seeds = torch.tensor([[float(run.seed)] for run in shard], dtype=torch.float64)
    return [Trained({}, seed[None]) for seed in seeds]


def test_a_shard_too_large_for_memory_is_split() -> None:
    taken: list[int] = []
    trained = shards.split_where_memory_is_short(partial(train_at_most, 2, taken), RUNS)
    assert [result.history.item() for result in trained] == [0, 1, 2, 3, 4]
    assert taken == [2, 1, 2]


def test_a_run_too_large_for_memory_is_named() -> None:
    with pytest.raises(UserError, match=r"blog/ne=2/.*: not enough memory to train this run"):
        shards.split_where_memory_is_short(partial(train_at_most, 0, []), RUNS)


def test_another_error_is_not_taken_for_it() -> None:
    def fail(shard: tuple[Run, ...]) -> list[Trained]:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        shards.split_where_memory_is_short(fail, RUNS)


def test_an_instruction_set_that_is_not_there(
    finished: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(finished.environment, kernel.LEVEL_VARIABLE, "sse9")
    done = finished.run(sys.executable, "-m", "stages.train", check=False)
    assert done.returncode == 2
    assert "MOE_KERNEL_LEVEL = 'sse9', but this machine has baseline" in said_by(done)


def test_the_makefile_is_the_one_that_is_tested(finished: Copy) -> None:
    assert (finished.folder / "Makefile").read_bytes() == (ROOT / "Makefile").read_bytes()
