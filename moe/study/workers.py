"""Tasks over single-threaded worker processes, one for each core.

Two threads inside one product lose badly on a busy machine; two processes do not. Workers are
spawned, not forked (torch and CUDA do not survive a fork), and die with their parent.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end
from typing import Any, Literal, TypeVar

from moe.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Send = Callable[[Any], None]
POLL_SECONDS = 0.2


def worker_count(workers: int | Literal["auto"]) -> int:
    """The number asked for; "auto" is the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


def in_workers(
    function: Callable[[Task, Send], Result],
    tasks: Sequence[Task],
    workers: int,
    on_message: Send = lambda message: None,
) -> Iterator[tuple[Task, Result]]:
    """(task, function(task, send)) for each task as it finishes, in no particular order.

    What a task sends arrives at on_message, in this process. One worker works here.
    Raises UserError when a worker was killed from outside. When the caller stops early, so do the
    workers.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        single_thread()
        for task in tasks:
            yield task, function(task, on_message)
        return
    # Of semaphores that it cleans up after an interrupted study it would warn below our last word.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    not_ours = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start, (messages,))
    try:
        running = {pool.submit(_work, function, task): task for task in tasks}
        while running:
            done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
            while not messages.empty():
                on_message(messages.get())
            for future in done:
                yield running.pop(future), future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed (out of memory?): what had finished is kept; "
            "start again, with fewer runtime.workers or runtime.experts_per_shard if it recurs"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - not_ours:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def single_thread() -> None:
    """One thread for torch's operations: also what makes their sums come out the same anywhere.

    And for numpy's, where it is not loaded yet, as in a worker that starts.
    """
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)


_messages: Any = None


def _start(messages: Any) -> None:
    global _messages
    _messages = messages
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    single_thread()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait_for_end([parent.sentinel])
    os._exit(1)


def _work(function: Callable[[Task, Send], Result], task: Task) -> Result:
    return function(task, _messages.put)
