"""The Ray executor on a real cluster of two nodes, with and without a dying node."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from moe.data.dataset import Dataset
from moe.errors import UserError
from moe.study.grid import runs_of
from moe.study.params import Params
from moe.train import ray_executor as cluster
from moe.train.run_store import Store
from moe.train.shards import train_study
from tests.test_shards import ROOT, assert_same_bits, small

os.environ[cluster.LOOPBACK_ONLY] = "0"  # before the import: else Ray listens on all interfaces
if os.environ.get("CI"):
    import ray
else:
    ray = pytest.importorskip("ray", reason="needs Ray: make setup EXTRAS=dev,ray")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes of one CPU each, on loopback, and a driver that has joined."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    ray.init(
        nodes.address,
        runtime_env={"py_modules": [cluster.PACKAGE]},
        log_to_driver=False,
        logging_level="error",
    )
    yield nodes
    ray.shutdown()
    nodes.shutdown()


def on_ray(params: Params) -> Params:
    return replace(params, runtime=replace(params.runtime, executor="ray"))


def train(params: Params, data: Dataset, folder: Path, on_runs: Any = lambda count: None) -> dict:
    runs = runs_of(params.sweeps)
    return train_study(params, runs, data, Store(folder), on_runs=on_runs)


@pytest.mark.parametrize("engine", ["kernel", "fused"])
def test_two_nodes_give_the_bits_of_this_machine(
    engine: str, nodes: Any, mnist_5k: Dataset, tmp_path: Path
) -> None:
    params = small()
    params = replace(params, runtime=replace(params.runtime, engine=engine))
    here = train(params, mnist_5k, tmp_path / "here")
    there = train(on_ray(params), mnist_5k, tmp_path / "there")
    assert_same_bits(here, there)


def test_a_node_that_dies_in_the_middle_changes_nothing(
    nodes: Any, mnist_5k: Dataset, tmp_path: Path
) -> None:
    params = small()
    longer = replace(params, train=replace(params.train, epochs=40))
    here = train(longer, mnist_5k, tmp_path / "here")
    killed = []

    def kill_a_node(count: int) -> None:
        if count and not killed:  # the first shard has finished, others are running
            killed.append(True)
            nodes.remove_node(nodes.worker_nodes.copy().pop(), allow_graceful=False)

    there = train(on_ray(longer), mnist_5k, tmp_path / "there", kill_a_node)
    assert killed
    assert_same_bits(here, there)
    nodes.add_node(num_cpus=1)


def fail(task: int, folder: Path, send: Any) -> None:
    raise UserError(f"task {task} will not do")


def test_a_task_s_own_error_is_the_caller_s(nodes: Any, mnist_5k: Dataset) -> None:
    with pytest.raises(UserError, match="task 7 will not do"):
        list(cluster.in_cluster(fail, [7], mnist_5k.folder, on_gpu=False))


def work_slowly(task: int, folder: Path, send: Any) -> str:
    send(task)
    time.sleep(0.1)
    return (folder / "train-labels-idx1-ubyte").name


def test_messages_and_data_arrive(nodes: Any, mnist_5k: Dataset) -> None:
    reported: list[int] = []
    done = dict(cluster.in_cluster(work_slowly, [1, 2, 3], mnist_5k.folder, False, reported.append))
    assert done.keys() == {1, 2, 3}
    assert sorted(reported) == [1, 2, 3]


def work_and_wait(task: int, folder: Path, send: Any) -> float:
    for _ in range(3):
        send(task)
        time.sleep(0.8)
    time.sleep(3)
    return time.time()


def test_messages_arrive_while_a_task_works(nodes: Any, mnist_5k: Dataset) -> None:
    reported: list[float] = []
    ((_, ended),) = cluster.in_cluster(
        work_and_wait, [1], mnist_5k.folder, False, lambda message: reported.append(time.time())
    )
    assert len(reported) == 3
    assert reported[0] < ended - 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("auto", "'auto': must be host:port"),
        ("127.0.0.1:1", "no connection to 127.0.0.1:1 .*refused"),
        ("silent", "no Ray cluster answers at 127.0.0.1"),
    ],
)
def test_a_cluster_that_is_not_there(
    address: str, said: str, mnist_5k: Dataset, monkeypatch: pytest.MonkeyPatch, nodes: Any
) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(cluster, "ANSWER_SECONDS", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        if address == "silent":
            address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        begin = time.monotonic()
        with pytest.raises(UserError, match=said):
            list(cluster.in_cluster(work_slowly, [1], mnist_5k.folder, on_gpu=False))
    assert time.monotonic() - begin < 10


def test_ray_is_not_installed(mnist_5k: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match="needs Ray: make setup EXTRAS=dev,ray"):
        list(cluster.in_cluster(work_slowly, [1], mnist_5k.folder, on_gpu=False))
    # A study that is in the store does not need Ray.
    assert not list(cluster.in_cluster(work_slowly, [], mnist_5k.folder, on_gpu=False))


def test_a_node_with_another_torch(nodes: Any, mnist_5k: Dataset, monkeypatch: Any) -> None:
    monkeypatch.setattr(cluster, "_versions", lambda: {"torch": "1.0", "numpy": "2.0"})
    with pytest.raises(UserError, match="install the same versions on all nodes"):
        list(cluster.in_cluster(work_slowly, [1], mnist_5k.folder, on_gpu=False))


def test_ctrl_c_stops_the_command_and_its_tasks(
    nodes: Any, mnist_5k: Dataset, tmp_path: Path
) -> None:
    text = (ROOT / "params.yaml").read_text()
    for old, new in (
        ("executor: local", "executor: ray"),
        ("epochs: 5", "epochs: 500"),
        ("dataset: mnist ", "dataset: mnist-5k "),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text)
    (tmp_path / "data").symlink_to(mnist_5k.folder)
    environment = {**os.environ, "RAY_ADDRESS": nodes.address}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{tmp_path}/mlflow.db"
    command = subprocess.Popen(
        [sys.executable, "-m", "stages.train"],
        cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert command.stdout is not None
    for line in command.stdout:
        if "samples" in line:  # tasks are running
            break
    begin = time.monotonic()
    command.send_signal(signal.SIGINT)
    rest = command.stdout.read()
    assert command.wait() == 130, rest
    assert time.monotonic() - begin < 4  # 2 on an idle machine
    assert "are finished and kept; run the same command to resume" in rest
    deadline = time.monotonic() + 10
    while ray.available_resources().get("CPU") != ray.cluster_resources()["CPU"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
