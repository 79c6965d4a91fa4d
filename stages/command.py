"""The common behaviour of all commands.

Errors of the user or the machine (bad parameters, a full disk) are printed in one line, with exit
status 2. SIGINT and SIGTERM stop a command at once, with one line that says what is kept, and exit
status 130 and 143. A command also stops if the `dvc repro` that started it ends. Only one stage of
a checkout runs at a time.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click

from moe.errors import UserError

LOCK = Path(".stage.lock")
STARTED_BY_DVC = "DVC_STAGE"  # an environment variable that DVC sets for its stages' commands
CHECKOUT = "DVC_ROOT"  # likewise: the checkout, even if an experiment runs in a copy
GRACE = 1.8  # seconds for an interrupted command to clean up
POLL_SECONDS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STDERR = 2


class Stopped(BaseException):
    """Raised on SIGINT or SIGTERM, to unwind the stack and close everything that is open."""


def _finished_runs() -> str:
    return "finished runs are kept"


_kept: Callable[[], str] = _finished_runs
_stopped_with: int | None = None  # the exit status, once a signal arrived


def when_stopped(kept: Callable[[], str]) -> None:
    """Set the function whose text says what is kept if the command is stopped."""
    global _kept
    _kept = kept


def use_checkout() -> None:
    """Use the checkout's store, downloads, MLflow and kernel in the copy of an experiment.

    DVC runs `dvc exp run --queue` and `--temp` in a copy without git-ignored files.
    """
    root, here = Path(os.environ.get(CHECKOUT, ".")).resolve(), Path.cwd().resolve()
    if not here.is_relative_to(root / ".dvc/tmp"):
        return
    os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    (root / ".cache").mkdir(exist_ok=True)
    for path in (root / ".cache", *root.glob("moe/engine/*.so")):
        with contextlib.suppress(FileExistsError):
            (here / path.relative_to(root)).symlink_to(path)


def command(function: Callable[[], None]) -> click.Command:
    """A click command without a stage's lock."""

    @functools.wraps(function)
    def guarded() -> None:
        for signum in SIGNALS:
            signal.signal(signum, _stop)
        if STARTED_BY_DVC in os.environ:
            threading.Thread(target=_stop_with, args=[os.getppid()], daemon=True).start()
        try:
            use_checkout()
            function()
            sys.stdout.flush()
        except BaseException as error:
            if _stopped_with is not None:  # extension modules may turn Stopped into another error
                _exit(_stopped_with)
            if isinstance(error, UserError):
                _exit(2, f"Error: {error}")
            if isinstance(error, OSError):
                _exit(2, f"Error: {error}; {_kept()}; run the same command to resume")
            raise

    return click.command(guarded)


def how_to(target: str) -> str:
    """The command to type: `make TARGET` or, in a folder without a Makefile, `moe-mnist TARGET`.

    The copies in .work/ have no Makefile, but the Makefile that runs them sets MOE_BY_MAKE.
    """
    by_make = Path("Makefile").exists() or "MOE_BY_MAKE" in os.environ
    return f"make {target}" if by_make else f"moe-mnist {target}"


def stage(function: Callable[[], None]) -> click.Command:
    """A command that writes the outputs of a stage of dvc.yaml. It first prints its summary."""

    @functools.wraps(function)
    def alone() -> None:
        from filelock import FileLock, Timeout

        name, summary = function.__name__, (function.__doc__ or "").partition("\n")[0]
        print(f"{name}: {summary}", flush=True)
        lock = FileLock(LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            click.echo(f"{name}: waiting for another stage in this folder to finish", err=True)
            lock.acquire()
        try:
            function()
        finally:
            lock.release()

    return command(alone)


def _stop(signum: int, frame: Any) -> None:
    global _stopped_with
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # ignore further signals
    name, status = signal.Signals(signum).name, 128 + signum
    _say(f"stopped by {name}: {_kept()}; run the same command to resume")
    _stopped_with = status
    # Clean-up can hang, for example on a server that does not answer.
    timer = threading.Timer(GRACE, os._exit, [status])
    timer.daemon = True
    timer.start()
    raise Stopped


def _exit(status: int, line: str = "") -> NoReturn:
    """Exit without waiting for threads, which may be connected to MLflow."""
    with contextlib.suppress(OSError):  # stdout may be closed, or on a full disk
        sys.stdout.flush()
    if line:
        _say(" ".join(line.split()))
    os._exit(status)


def _say(line: str) -> None:
    """Write to stderr unbuffered, since a signal may have interrupted a buffered write."""
    with contextlib.suppress(OSError):
        os.write(STDERR, f"{line}\n".encode())


def _stop_with(parent: int) -> None:
    """Stop if DVC is killed. DVC does not stop its stage, and the next one would wait for it."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
