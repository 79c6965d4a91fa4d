"""Tasks on single-threaded worker processes, one per core, or in threads of this process.

Multithreaded products are slow on a busy machine; single-threaded processes are not. Workers are
spawned, not forked (torch and CUDA do not work after a fork), and end with their parent. Threads
are for data in memory, in any script, notebook or prompt: the kernel and torch's products release
the GIL.
"""

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_end
from typing import Any, Literal, TypeVar

from moe.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Send = Callable[[Any], None]
POLL_SECONDS = 0.2


def worker_count(workers: int | Literal["auto"]) -> int:
    """The given number; "auto" is the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if workers == "auto" else workers


def in_workers(
    function: Callable[[Task, Send], Result],
    tasks: Sequence[Task],
    workers: int,
    on_message: Send = lambda message: None,
) -> Generator[tuple[Task, Result], None, None]:
    """Yield (task, function(task, send)) as each task finishes, in no particular order.

    send passes a message to on_message in this process. With one worker, tasks run in this process.
    Raises UserError if a worker was killed. Workers stop when the caller stops.
    """
    workers = min(workers, len(tasks))
    if workers <= 1:
        single_thread()
        for task in tasks:
            yield task, function(task, on_message)
        return
    # After an interruption, the resource tracker would warn about semaphores that it cleans up.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:resource_tracker:UserWarning")
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    not_ours = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start, (messages,))
    try:
        running = {pool.submit(_work, function, task): task for task in tasks}
        yield from _as_completed(running, messages, on_message)
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed (out of memory?): finished runs are kept; run the same "
            "command to resume, with fewer runtime.workers or experts_per_shard if it recurs"
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - not_ours:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)


def in_threads(
    function: Callable[[Task, Send], Result],
    tasks: Sequence[Task],
    workers: int,
    on_message: Send = lambda message: None,
) -> Generator[tuple[Task, Result], None, None]:
    """`in_workers` with threads. If the caller stops, tasks end at their next send."""
    if not tasks:
        return
    import torch

    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stopped = threading.Event()

    def send(message: Any) -> None:
        if stopped.is_set():
            raise InterruptedError
        messages.put(message)

    def work(task: Task) -> Result:
        torch.set_num_threads(1)  # for this thread and threads that start later
        return function(task, send)

    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(workers, len(tasks)))
    try:
        running = {pool.submit(work, task): task for task in tasks}
        yield from _as_completed(running, messages, on_message)
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)
        torch.set_num_threads(threads)


def _as_completed(
    running: dict[Future[Result], Task], messages: Any, on_message: Send
) -> Generator[tuple[Task, Result], None, None]:
    """Yield (task, result) as each finishes; messages are passed on as they arrive."""
    while running:
        done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
        while not messages.empty():
            on_message(messages.get())
        for future in done:
            yield running.pop(future), future.result()


def single_thread() -> None:
    """Use one thread in torch, which also makes sums reproducible, and in numpy.

    In numpy, it has an effect only before numpy is imported, as in a new worker.
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
