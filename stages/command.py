"""What every stage's command does the same way.

Errors of a user's or the machine's making are one line, exit status 2. SIGINT and SIGTERM stop at
once, with a line that says what is kept, exit status 130 and 143; so does the end of the `dvc
repro` that started it. Of the stages of one checkout only one works at a time.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from moe.errors import UserError

LOCK = Path(".stage.lock")
STARTED_BY_DVC = "DVC_STAGE"  # a variable that DVC sets for the commands of its stages
CHECKOUT = "DVC_ROOT"  # likewise: the checkout, also where its experiment runs in a copy
GRACE = 1.8  # seconds that an interrupted command has to leave all in order
POLL_SECONDS = 0.2
SIGNALS = (signal.SIGINT, signal.SIGTERM)

_leaving = threading.Lock()


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived."""

    def __init__(self, signum: int) -> None:
        self.signum = signum


class Interruption(NamedTuple):
    """What an interrupted stage does. say: what is kept of its work, asked as the last thing,
    in order or not; do: what cannot wait until all is unwound."""

    say: Callable[[], str] = lambda: "everything finished is kept"
    do: Callable[[], None] = lambda: None


_interruption = Interruption()


def when_interrupted(say: Callable[[], str], do: Callable[[], None]) -> None:
    """From here on; see Interruption."""
    global _interruption
    _interruption = Interruption(say, do)


def use_checkout() -> None:
    """Use the checkout's store, downloads, MLflow and kernel in the copy of an experiment.

    DVC runs `dvc exp run --queue` and `--temp` in a copy without what git ignores.
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
    """A click command that only reads."""

    @functools.wraps(function)
    def guarded() -> None:
        for signum in SIGNALS:
            signal.signal(signum, _interrupt)
        if STARTED_BY_DVC in os.environ:
            threading.Thread(target=_end_with, args=[os.getppid()], daemon=True).start()
        try:
            use_checkout()
            function()
        except (UserError, OSError) as error:
            raise _Refused(" ".join(str(error).split())) from None
        except Interrupted as stop:
            with contextlib.suppress(OSError):  # who read it may be gone
                sys.stdout.flush()
            _exit(stop)

    return click.command(guarded)


def stage(function: Callable[[], None]) -> click.Command:
    """A command that writes what a stage of dvc.yaml writes."""

    @functools.wraps(function)
    def alone() -> None:
        with _alone(function.__name__):
            function()

    return command(alone)


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Wait for the stage that works in this folder, if any, and say who it is."""
    from filelock import FileLock, Timeout

    lock, holder = FileLock(LOCK), LOCK.with_suffix(".holder")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        who = holder.read_text().strip() if holder.exists() else "another process"
        click.echo(f"{name}: waits for {who}, which works in this folder", err=True)
        lock.acquire()
    try:
        holder.write_text(f"{name} (process {os.getpid()})")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


class _Refused(click.ClickException):
    exit_code = 2


def _interrupt(signum: int, frame: Any) -> None:
    for other in SIGNALS:  # once is enough: what follows is not to be cut short
        signal.signal(other, signal.SIG_IGN)
    stop = Interrupted(signum)
    # What sets things right may hang (a server that does not answer), and Python drops what is
    # raised where it cannot go anywhere, as in a destructor.
    timer = threading.Timer(GRACE, _exit, [stop])
    timer.daemon = True
    timer.start()
    _interruption.do()
    raise stop


def _exit(stop: Interrupted) -> None:
    _leaving.acquire()  # for good: who comes second, the timer or the main thread, says nothing
    name = signal.Signals(stop.signum).name
    try:
        with contextlib.suppress(OSError):
            click.echo(
                f"stopped by {name}: {_interruption.say()}; the same command goes on", err=True
            )
    finally:
        # At once: no thread that still talks to MLflow shall hold us up.
        os._exit(128 + stop.signum)


def _end_with(parent: int) -> None:
    """SIGTERM ends DVC but not its stage, which would write beside the one that is started next."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
