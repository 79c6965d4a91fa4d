"""What every stage's command does the same way: errors of a user's making are one line."""

import functools
import signal
from collections.abc import Callable
from typing import Any

import click

from moe.errors import UserError


def command(function: Callable[[], None]) -> click.Command:
    """A click command; UserError ends it with exit status 2, SIGINT with 130, SIGTERM with 143."""

    @functools.wraps(function)
    def guarded() -> None:
        signal.signal(signal.SIGTERM, _end)
        try:
            function()
        except UserError as error:
            raise _Refused(str(error)) from None

    return click.command(guarded)


class _Refused(click.ClickException):
    exit_code = 2


def _end(signum: int, frame: Any) -> None:
    raise SystemExit(128 + signum)
