"""Live progress of a training on MLflow, from a thread of its own.

Training never waits for MLflow (importing it takes seconds) and never fails with it: a failure is
one warning.
"""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from moe.errors import UserError
from moe.study.params import Params

PATIENCE = 15.0  # seconds that a finished training waits for its last words to be logged
PATIENCE_OF_THE_INTERRUPTED = 1.5


class Live:
    """A context around a training; `tell` begins to show it, once there is something to show.

    measure: what to show, called every few seconds.
    """

    def __init__(self, params: Params, measure: Callable[[], Mapping[str, float]]) -> None:
        self.params, self.measure = params, measure
        self.status = "FINISHED"
        self.warned = False
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def tell(self) -> None:
        """There is progress."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._show, daemon=True)
            self.thread.start()

    def interrupt(self) -> None:
        """The training is about to be killed: leave nothing RUNNING, while there is time."""
        self.status = "KILLED"
        self.over.set()

    def __enter__(self) -> "Live":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.status = "FAILED" if issubclass(kind, Exception) else "KILLED"
        self.over.set()
        if self.thread:
            self.thread.join(PATIENCE if kind is None else PATIENCE_OF_THE_INTERRUPTED)
            if self.thread.is_alive() and kind is None:
                self._warn("MLflow was not ready in time; track will show the results")

    def _show(self) -> None:
        try:
            from moe.tracking.study_run import show_live  # importing MLflow takes seconds

            show_live(self.params, self.measure, self.over, lambda: self.status)
        except UserError as error:
            self._warn(str(error))

    def _warn(self, reason: str) -> None:
        """Once: a server that hangs is left to itself, and may still fail after that."""
        if not self.warned:
            self.warned = True
            print(f"warning: no live progress: {reason}", flush=True)
