"""Tasks over a Ray cluster: the same interface as moe.study.workers, for more than one machine.

RAY_ADDRESS names a cluster to join; without it Ray starts one on this machine. Each task asks for a
CPU or a GPU of its own. What all tasks share, such as the data set, is put into Ray's object store
once; the data set lands in a folder of each node that gets a task. Only the caller writes results:
a node can die at any moment, and its tasks are done again elsewhere.
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
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from moe.data.dataset import FILES
from moe.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Send = Callable[[Any], None]
Work = Callable[[Task, Path, Send], Result]

ANSWER_SECONDS = 10.0  # in which a cluster has to answer
PROBE = """
import sys
from ray._private.services import canonicalize_bootstrap_address
from ray._raylet import GcsClient
GcsClient(address=canonicalize_bootstrap_address(sys.argv[1]))
"""
LOOPBACK_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # Ray's name for it: 0 is "no cluster here"
PATIENCE_SECONDS = 60.0  # without any node that could do a task
LETTER_SECONDS = 1.0  # between two letters of a task
TASKS_PER_SLOT = 3  # handed out: one at work, the others so that a slot never waits for the caller


class Shared(NamedTuple):
    """What all tasks have in common.

    files: a list around the reference to their bytes, so that Ray hands on the reference itself,
    and a node that has the files need not fetch them; digest: of their bytes.
    """

    work: Work
    files: list[Any]
    digest: str
    versions: dict[str, str]
    letters: Any


def in_cluster(
    work: Work,
    tasks: Sequence[Task],
    data: Path,
    on_gpu: bool,
    on_message: Send = lambda message: None,
) -> Iterator[tuple[Task, Result]]:
    """(task, work(task, folder, send)) for each task as it finishes; they begin in their order.

    data: folder of the data set here; folder: of the same files on the task's node. What a task
    sends arrives at on_message about a second later, once, however often its node dies.
    Raises UserError when Ray is not installed, its cluster cannot be joined or has no node left, or
    a task's node died again and again. When the caller stops early, so do the tasks.
    """
    if not tasks:
        return
    if not os.environ.get("RAY_ADDRESS"):
        # Else Ray listens to the whole network, and does for anyone whatever they ask.
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
        contents = {name: (data / name).read_bytes() for name in FILES}
        letters = _letters(ray)
        shared = ray.put(Shared(work, [ray.put(contents)], _digest(contents), _versions(), letters))
        slot = "GPU" if on_gpu else "CPU"
        remote = ray.remote(num_cpus=0 if on_gpu else 1, num_gpus=int(on_gpu), max_retries=10)(_do)
        told = [0] * len(tasks)
        begun, alive = 0, time.monotonic()
        listening = [letters.actor.get.remote()]

        def tell(number: int, messages: list[Any]) -> None:
            for message in messages[told[number] :]:
                on_message(message)
            told[number] = max(told[number], len(messages))

        while begun < len(tasks) or running:
            # Few at a time: what is done and not yet written fills the memory of its node.
            slots = int(ray.cluster_resources().get(slot, 0))
            while begun < len(tasks) and len(running) < TASKS_PER_SLOT * slots:
                running[remote.remote([shared], begun, tasks[begun])] = begun
                begun += 1
            alive = time.monotonic() if slots else alive
            if time.monotonic() - alive > PATIENCE_SECONDS:
                raise UserError(
                    f"the Ray cluster has had no {slot} for {PATIENCE_SECONDS:.0f} seconds: what "
                    "had finished is kept; start again when it has nodes"
                )
            done, _ = ray.wait([*listening, *running], timeout=1.0)
            for reference in done:
                if reference in running:
                    number = running.pop(reference)
                    messages, result = _outcome(ray, reference)
                    tell(number, messages)
                    yield tasks[number], result
                    continue
                listening = []
                # A letter that is lost does no harm: a task's end brings all that it told.
                with contextlib.suppress(ray.exceptions.RayError):
                    (letter,) = ray.get(reference)
                    listening = [letters.actor.get.remote()]
                    tell(*ray.get(letter))
    finally:
        if joined_here:
            ray.shutdown()  # which ends our tasks too
        elif running:
            # Never one that is done: Ray aborts the whole process if it is just being filed away.
            _, unfinished = ray.wait(list(running), num_returns=len(running), timeout=0)
            for reference in unfinished:
                ray.cancel(reference, force=True)


def _outcome(ray: Any, reference: Any) -> tuple[list[Any], Any]:
    """What a task returned; UserError for what a user can put right."""
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
            f"a task was lost on the cluster ({type(error).__name__}): what had finished "
            "is kept; start again when the cluster is well"
        ) from None


def _letters(ray: Any) -> Any:
    """A queue for what tasks tell while they work. It lives on our node, since others may die."""
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
    on_sigterm = signal.getsignal(signal.SIGTERM)
    terminated = False
    try:
        ray.init(
            # The nodes need not have this package, only what it depends on.
            runtime_env={"py_modules": [str(Path(__file__).parent)]},
            log_to_driver=False,
            logging_level="error",
            **({} if address else {"address": "local", "include_dashboard": False}),
        )
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"Ray at {address or 'this machine'}: {' '.join(str(error).split())[:300]}"
        ) from None
    except SystemExit:  # what Ray makes of SIGTERM
        terminated = True
    finally:
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray put its own in this place
    if terminated:
        signal.raise_signal(signal.SIGTERM)


def _probe(address: str) -> None:
    """UserError if no cluster answers at an address.

    Ray's own attempt goes on for minutes, and hears no Ctrl-C: so first a process of its own tries.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"RAY_ADDRESS: {address!r}: must be host:port of the cluster's head")
    try:
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()
        probe = [sys.executable, "-c", PROBE, address]
        subprocess.run(probe, check=True, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    except OSError as error:
        raise UserError(f"RAY_ADDRESS: nobody answers at {address} ({error})") from None
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
    """Of what computes: others might round in another way."""
    import numpy
    import torch

    return {"torch": torch.__version__, "numpy": numpy.__version__}


def _digest(contents: dict[str, bytes]) -> str:
    return hashlib.sha256(b"".join(contents[name] for name in FILES)).hexdigest()


# --- on a node


def _do(reference: list[Any], number: int, task: Any) -> tuple[list[Any], Any]:
    """What the task sent, and what its work returned. reference: a list around that to a Shared."""
    import ray

    from moe.study.workers import single_thread

    shared = _shared(*reference)
    if _versions() != shared.versions:
        raise UserError(
            f"a node has {_versions()}, but the study is computed with {shared.versions}: results "
            "would differ in their last bits; install the same on all nodes"
        )
    folder = _on_this_node(shared.digest, *shared.files)
    os.chdir(folder.parent)  # what engines keep beside the data stays there too
    single_thread()
    messages: list[Any] = []
    written = time.monotonic()

    def send(message: Any) -> None:
        nonlocal written
        messages.append(message)
        if time.monotonic() - written > LETTER_SECONDS:
            written = time.monotonic()
            # All that was told, since the first half may have gone down with another node. In a
            # list around a reference, so that the queue's process need not import what we send.
            letter = [ray.put((number, messages))]
            shared.letters.actor.put_nowait.remote(letter)

    return messages, shared.work(task, folder, send)


@functools.lru_cache(maxsize=1)
def _shared(reference: Any) -> Shared:
    """Unpacked once for all tasks of a process: in a large study that takes longer than a task."""
    import ray

    return ray.get(reference)


@functools.cache
def _on_this_node(digest: str, files: Any) -> Path:
    """A folder of the node that holds the files, whole: a process asks for it once."""
    import ray

    folder = Path(tempfile.gettempdir()) / f"moe-mnist-{os.getuid()}" / digest
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    if folder.parent.stat().st_uid != os.getuid():
        raise UserError(f"{folder.parent} on a node belongs to another user")
    with contextlib.suppress(FileNotFoundError):
        if _digest({name: (folder / name).read_bytes() for name in FILES}) == digest:
            return folder
    unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
    for name, content in ray.get(files).items():
        (unfinished / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)  # it was damaged
    try:
        unfinished.rename(folder)
    except OSError:  # another task of this node was quicker
        if not folder.exists():
            raise
        shutil.rmtree(unfinished)
    return folder
