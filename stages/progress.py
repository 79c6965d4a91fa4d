"""How training shows where it is: a bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from moe.train.shards import Epochs

SECONDS_BETWEEN_LINES = 5
MEMORY = 0.9  # of the mean accuracy for what it was


class TrainingProgress:
    """Counts runs and their epochs, and says how fast they come and when they will be there.

    runs, epochs, images: of the study, of a run, of an epoch.
    """

    def __init__(self, runs: int, epochs: int, images: int) -> None:
        self.total_runs, self.epochs, self.images = runs, epochs, images
        self.runs = self.run_epochs = 0
        self.found: int | None = None  # runs that the store had
        self.accuracy = math.nan  # on the test set, a mean over what was told of late
        self.memory = 0  # bytes, the most that a worker has held
        self.started = time.monotonic()
        self.watchers: list[list] = []  # [next time, seconds, function]

    def watch(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function after changes, at most once in so many seconds."""
        self.watchers.append([0.0, seconds, function])

    def on_epochs(self, epochs: Epochs) -> None:
        """Runs have done another epoch."""
        self.run_epochs += epochs.runs
        self.memory = max(self.memory, epochs.memory)
        known = epochs.accuracy if math.isnan(self.accuracy) else self.accuracy
        self.accuracy = MEMORY * known + (1 - MEMORY) * epochs.accuracy
        self._tell()

    def on_runs(self, count: int) -> None:
        """Runs are finished; the first time, these are the ones that the store had."""
        if self.found is None:
            self.found = count
            self.run_epochs = count * self.epochs
            self.started = time.monotonic()
            new = self.total_runs - count
            print(f"{count:,} of {self.total_runs:,} runs are in the store, {new:,} are trained")
        self.runs += count
        self._tell()

    def measures(self) -> dict[str, float]:
        """What a chart of the training shows."""
        shown = {"runs_done": self.runs, "epochs_done": self.run_epochs}
        return shown if math.isnan(self.accuracy) else {**shown, "mean_accuracy": self.accuracy}

    def _tell(self) -> None:
        now = time.monotonic()
        for watcher in self.watchers:
            due, seconds, function = watcher
            if now >= due:
                watcher[0] = now + seconds
                function()

    def __str__(self) -> str:
        total = self.total_runs * self.epochs
        done = self.run_epochs - (self.found or 0) * self.epochs
        seconds = time.monotonic() - self.started
        text = f"{self.runs:,}/{self.total_runs:,} runs, {self.run_epochs:,}/{total:,} epochs"
        if done and seconds:
            rate, left = done * self.images / seconds, (total - self.run_epochs) * seconds / done
            text += f", {rate / 1e6:.2f}M samples·runs/s, {left // 60:.0f}:{left % 60:02.0f} left"
        if self.memory:
            text += f", at most {self.memory / 1e9:.2f} GB a worker"
        return text


@contextmanager
def shown(progress: TrainingProgress) -> Iterator[None]:
    """Show a progress while the block runs."""
    console = Console(file=sys.stdout)
    if console.is_terminal:
        columns = BarColumn(), TextColumn("{task.description}")
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(str(progress), total=progress.total_runs * progress.epochs)

            def show() -> None:
                bar.update(task, completed=progress.run_epochs, description=str(progress))

            progress.watch(0.2, show)
            yield
            show()
    else:
        progress.watch(SECONDS_BETWEEN_LINES, lambda: print(progress, flush=True))
        yield
        print(progress, flush=True)
