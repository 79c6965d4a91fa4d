"""Live training progress in MLflow, logged from a background thread.

Training never waits for MLflow (importing it takes seconds) and never fails because of it: errors
are printed once, as a warning.
"""

import threading
from collections.abc import Callable, Mapping
from types import TracebackType

from moe.errors import UserError
from moe.study.params import Params

PATIENCE = 15.0  # seconds to wait for the last progress to be logged after training
PATIENCE_OF_THE_INTERRUPTED = 1.5


class Live:
    """A context manager around training; logging starts at the first call of `tell`.

    measure: returns the metrics to log; called every few seconds.
    """

    def __init__(self, params: Params, measure: Callable[[], Mapping[str, float]]) -> None:
        self.params, self.measure = params, measure
        self.status = "FINISHED"
        self.warned = False
        self.over = threading.Event()
        self.thread: threading.Thread | None = None

    def tell(self) -> None:
        """Report that there is progress: start the thread, unless it is running."""
        if self.thread is None:
            self.thread = threading.Thread(target=self._show, daemon=True)
            self.thread.start()

    def interrupt(self) -> None:
        """Mark the run KILLED, before the process is killed."""
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
        """Warn only once: the thread may still fail after a timeout."""
        if not self.warned:
            self.warned = True
            print(f"warning: no live progress: {reason}", flush=True)
