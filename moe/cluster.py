"""Tasks over a Ray cluster: the same interface as moe.workers, for more than one machine.

RAY_ADDRESS names a cluster to join; without it Ray starts one on this machine. Each task asks for a
CPU or a GPU of its own. The data set is put into Ray's object store once, and lands in a folder of
each node that gets a task. Only the caller writes results: a node can die at any moment, and its
tasks are done again elsewhere.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from moe.data import FILES
from moe.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Send = Callable[[Any], None]
Work = Callable[[Task, Path, Send], Result]


def in_cluster(
    work: Work,
    tasks: Sequence[Task],
    data: Path,
    on_gpu: bool,
    on_message: Send = lambda message: None,
) -> Iterator[tuple[Task, Result]]:
    """(task, work(task, folder, send)) for each task as it finishes, in no particular order.

    data: folder of the data set here; folder: of the same files on the task's node. What a task
    sends arrives at on_message when the task is done.
    Raises UserError when Ray is not installed, its cluster cannot be joined, or a task's node died
    again and again.
    """
    try:
        import ray
    except ImportError:
        raise UserError(
            "runtime.executor: 'ray' needs Ray: make setup EXTRAS=dev,ray, or executor: local"
        ) from None
    started_here = not ray.is_initialized()
    if started_here:
        _join(ray)
    try:
        remote = ray.remote(
            num_cpus=0 if on_gpu else 1, num_gpus=1 if on_gpu else 0, max_retries=10
        )(_do)
        files = ray.put({name: (data / name).read_bytes() for name in FILES})
        running = {remote.remote(work, task, files): task for task in tasks}
        while running:
            (done,), _ = ray.wait(list(running), num_returns=1)
            try:
                messages, result = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, UserError) else error from None
            except ray.exceptions.RayError as error:
                raise UserError(
                    f"a task was lost on the cluster ({type(error).__name__}): what had finished "
                    "is kept; start again when the cluster is well"
                ) from None
            for message in messages:
                on_message(message)
            yield running.pop(done), result
    finally:
        if started_here:
            ray.shutdown()


def _join(ray: Any) -> None:
    package = Path(__file__).parent
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(
            # The nodes need not have this package, only what it depends on.
            runtime_env={"py_modules": [str(package)]},
            include_dashboard=False,
            log_to_driver=False,
            logging_level="error",
            **({} if os.environ.get("RAY_ADDRESS") else {"_node_ip_address": "127.0.0.1"}),
        )
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        raise UserError(
            f"Ray at {os.environ.get('RAY_ADDRESS') or 'this machine'}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from None


def _do(work: Work, task: Any, files: dict[str, bytes]) -> tuple[list[Any], Any]:
    """Runs on a node."""
    from moe.workers import single_thread

    single_thread()
    messages: list[Any] = []
    return messages, work(task, _on_this_node(files), messages.append)


def _on_this_node(files: dict[str, bytes]) -> Path:
    """A folder of the node that holds the files; written once, under another name first."""
    sha = hashlib.sha256(b"".join(files[name] for name in FILES)).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"moe-mnist-{os.getuid()}" / sha
    if not folder.exists():
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(dir=folder.parent))
        for name, content in files.items():
            (unfinished / name).write_bytes(content)
        try:
            unfinished.rename(folder)
        except OSError:  # another task of this node was quicker
            if not folder.exists():
                raise
    return folder
