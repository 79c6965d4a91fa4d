"""Tasks on a Ray cluster, with the interface of moe.study.workers, for more than one machine.

RAY_ADDRESS names a cluster to join; without it, Ray starts one on this machine. Each task requests
one CPU or GPU. Data that all tasks share, such as the data set, is put into Ray's object store
once; each node writes the data set to a local folder. Only the caller writes results. If a node
dies, its tasks are retried on other nodes.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import moe
from moe.data.dataset import files_of
from moe.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Send = Callable[[Any], None]
Work = Callable[[Task, Path, Send], Result]

PACKAGE = str(Path(moe.__file__).parent)  # sent to the nodes
ANSWER_SECONDS = 10.0  # timeout for a cluster to answer
PROBE = """
import sys
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient
GcsClient(address=canonicalize_bootstrap_address(sys.argv[1]))
"""
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray listens on the loopback only
PATIENCE_SECONDS = 60.0  # timeout without any node that could run a task
SECONDS_BETWEEN_REPORTS = 1.0  # of a running task
TASKS_PER_SLOT = 3  # submitted at a time: one runs, the others are queued so no slot is idle


class Shared(NamedTuple):
    """What all tasks have in common.

    files: the reference to the data set's bytes, in a list so that Ray does not resolve it: a node
        that already has the files does not fetch them.
    digest: of these bytes.
    reports: a queue for the messages of running tasks.
    """

    work: Work
    files: list[Any]
    digest: str
    versions: dict[str, str]
    reports: Any


def in_cluster(
    work: Work,
    tasks: Sequence[Task],
    data: Path,
    on_gpu: bool,
    on_message: Send = lambda message: None,
) -> Generator[tuple[Task, Result], None, None]:
    """(task, work(task, folder, send)) for each task as it finishes; tasks start in their order.

    data: folder of the data set on this machine; folder: of the same files on the task's node.
    on_message gets each message exactly once, about a second later, even if the node dies. Raises
    UserError if Ray is not installed, the cluster cannot be joined or has no node left, or a task
    failed in every retry. Tasks stop when the caller stops.
    """
    if not tasks:
        return
    if not os.environ.get("RAY_ADDRESS"):
        # Otherwise Ray listens on all interfaces and runs any code that it receives.
        os.environ.setdefault(LOOPBACK_ONLY, "0")
    try:
        import ray
        import ray.util.queue
    except ImportError:
        raise UserError(
            "runtime.executor: 'ray' needs Ray: make setup EXTRAS=dev,ray, or executor: local"
        ) from None
    joined_here = not ray.is_initialized()
    if joined_here:
        _join(ray)
    running: dict[Any, int] = {}
    try:
        contents = {name: (data / name).read_bytes() for name in files_of(data)}
        reports = _queue_on_this_node(ray)
        shared = ray.put(Shared(work, [ray.put(contents)], _digest(contents), _versions(), reports))
        slot = "GPU" if on_gpu else "CPU"
        remote = ray.remote(num_cpus=0 if on_gpu else 1, num_gpus=int(on_gpu), max_retries=10)(_do)
        delivered = [0] * len(tasks)
        submitted, alive = 0, time.monotonic()

        def deliver(number: int, messages: list[Any]) -> None:
            """messages: everything that the task has sent so far."""
            for message in messages[delivered[number] :]:
                on_message(message)
            delivered[number] = max(delivered[number], len(messages))

        while submitted < len(tasks) or running:
            # A few at a time: results that are not yet written fill their node's memory.
            slots = int(ray.cluster_resources().get(slot, 0))
            while submitted < len(tasks) and len(running) < TASKS_PER_SLOT * slots:
                running[remote.remote([shared], submitted, tasks[submitted])] = submitted
                submitted += 1
            alive = time.monotonic() if slots else alive
            if time.monotonic() - alive > PATIENCE_SECONDS:
                raise UserError(
                    f"the Ray cluster has had no {slot} for {PATIENCE_SECONDS:.0f} seconds: "
                    "finished runs are kept; run the same command when it has nodes"
                )
            done, _ = ray.wait(list(running), timeout=SECONDS_BETWEEN_REPORTS)
            for (report,) in reports.get_nowait_batch(reports.qsize()):
                # A report can be lost with its node; the task's result repeats all its messages.
                with contextlib.suppress(ray.exceptions.RayError):
                    deliver(*ray.get(report))
            for reference in done:
                number = running.pop(reference)
                messages, result = _outcome(ray, reference)
                deliver(number, messages)
                yield tasks[number], result
    finally:
        if joined_here:
            ray.shutdown()  # also stops our tasks
        elif running:
            # Only unfinished tasks: cancelling one whose result is being stored makes Ray abort.
            _, unfinished = ray.wait(list(running), num_returns=len(running), timeout=0)
            for reference in unfinished:
                ray.cancel(reference, force=True)


def _outcome(ray: Any, reference: Any) -> tuple[list[Any], Any]:
    """The task's result; raises UserError for failures that the user can fix."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise error.cause from None
        if isinstance(error.cause, ImportError):
            raise UserError(
                f"a node of the Ray cluster cannot import what a task needs ({error.cause}): "
                "install the package's dependencies on all nodes"
            ) from None
        raise
    except ray.exceptions.RayError as error:
        raise UserError(
            f"a task was lost on the cluster ({type(error).__name__}): finished runs are kept; "
            "run the same command when the cluster works again"
        ) from None


def _queue_on_this_node(ray: Any) -> Any:
    """A queue on this node, since other nodes may die."""
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
        ray.get_runtime_context().get_node_id(), soft=False
    )
    return ray.util.queue.Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})


# --- joining


def _join(ray: Any) -> None:
    """Join the cluster of RAY_ADDRESS, or start one that only this machine can reach."""
    address = os.environ.get("RAY_ADDRESS", "")
    if address:
        _probe(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    on_sigterm = signal.getsignal(signal.SIGTERM)  # Ray replaces the handler
    terminated = False
    try:
        ray.init(
            # The nodes need only the package's dependencies.
            runtime_env={"py_modules": [PACKAGE]},
            log_to_driver=False,
            logging_level="error",
            **({} if address else {"address": "local", "include_dashboard": False}),
        )
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"Ray at {address or 'this machine'}: {' '.join(str(error).split())[:300]}"
        ) from None
    except SystemExit:  # raised by Ray's handler of SIGTERM
        terminated = True
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)
    if terminated:
        signal.raise_signal(signal.SIGTERM)


def _probe(address: str) -> None:
    """Raise UserError if no cluster answers at an address.

    Ray's own attempt takes minutes and ignores Ctrl-C, so a child process tries first.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"RAY_ADDRESS: {address!r}: must be host:port of the cluster's head")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        probe = [sys.executable, "-c", PROBE, address]
        subprocess.run(probe, check=True, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except OSError as error:
        raise UserError(f"RAY_ADDRESS: no connection to {address} ({error})") from None
    except subprocess.TimeoutExpired as error:
        said = error.stderr.decode() if isinstance(error.stderr, bytes) else error.stderr or ""
        why = (
            " with our token (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)"
            if "InvalidAuthToken" in said
            else ""
        )
        raise UserError(f"RAY_ADDRESS: no Ray cluster answers at {address}{why}") from None
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or [""])[-1]
        raise UserError(f"RAY_ADDRESS: cannot join {address}: {reason[:300]}") from None


def _versions() -> dict[str, str]:
    """Versions of the numerical libraries: other versions may round differently."""
    import numpy
    import torch

    return {"torch": torch.__version__, "numpy": numpy.__version__}


def _digest(contents: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(contents.values())).hexdigest()


# --- on a node


def _do(reference: list[Any], number: int, task: Any) -> tuple[list[Any], Any]:
    """Run a task; returns all its messages, and its result.

    reference: a reference to Shared, in a list.
    """
    import ray

    from moe.study.workers import single_thread

    shared = _shared(*reference)
    if _versions() != shared.versions:
        raise UserError(
            f"a node has {_versions()}, but the study is computed with {shared.versions}: results "
            "would differ in their last bits; install the same versions on all nodes"
        )
    folder = _on_this_node(shared.digest, *shared.files)
    os.chdir(folder.parent)  # also holds the engines' caches
    single_thread()
    messages: list[Any] = []
    reported = time.monotonic()

    def send(message: Any) -> None:
        nonlocal reported
        messages.append(message)
        if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            # Always all messages: this may be a retry after a node died. A reference in a list, so
            # that the queue's process does not unpickle them.
            shared.reports.actor.put_nowait.remote([ray.put((number, messages))])

    return messages, shared.work(task, folder, send)


@functools.lru_cache(maxsize=1)
def _shared(reference: Any) -> Shared:
    """Cached per process: in a large study, unpacking takes longer than a task."""
    import ray

    return ray.get(reference)


@functools.cache
def _on_this_node(digest: str, files: Any) -> Path:
    """A folder on this node with a complete copy of the files."""
    import ray

    folder = Path(tempfile.gettempdir()) / f"moe-mnist-{os.getuid()}" / digest
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if folder.parent.stat().st_uid != os.getuid():
        raise UserError(f"{folder.parent} on a node belongs to another user")
    with contextlib.suppress(FileNotFoundError):
        if _digest({name: (folder / name).read_bytes() for name in files_of(folder)}) == digest:
            return folder
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    for name, content in ray.get(files).items():
        (unfinished / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)  # damaged
    try:
        unfinished.rename(folder)
    except OSError:  # another task of this node was faster
        if not folder.exists():
            raise
        shutil.rmtree(unfinished)
    return folder
