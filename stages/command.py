"""What every stage's command does the same way.

Errors of a user's or the machine's making are one line, exit status 2. SIGINT and SIGTERM stop at
once, with a line that says what is kept, exit status 130 and 143. Of the stages of one checkout
only one works at a time.
"""

import functools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from moe.errors import UserError

LOCK = Path(".stage.lock")


class Interrupted(BaseException):
    """SIGINT or SIGTERM arrived. kept: what a stage has to say of its work so far."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.kept = "everything finished is kept"


def command(function: Callable[[], None]) -> click.Command:
    """A click command that only reads."""

    @functools.wraps(function)
    def guarded() -> None:
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, _interrupt)
        try:
            function()
        except (UserError, OSError) as error:
            raise _Refused(" ".join(str(error).split())) from None
        except Interrupted as stop:
            name = signal.Signals(stop.signum).name
            sys.stdout.flush()
            click.echo(f"stopped by {name}: {stop.kept}; the same command goes on", err=True)
            # At once: no thread that still talks to MLflow shall hold us up.
            os._exit(128 + stop.signum)

    return click.command(guarded)


def stage(function: Callable[[], None]) -> click.Command:
    """A command that writes what a stage of dvc.yaml writes."""

    @functools.wraps(function)
    def alone() -> None:
        with _alone(function.__name__):
            function()

    return command(alone)


@contextmanager
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
    signal.signal(signum, signal.SIG_IGN)  # once is enough: what follows is not to be cut short
    raise Interrupted(signum)
