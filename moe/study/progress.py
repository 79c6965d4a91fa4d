"""Progress of a stage: a bar on a terminal, a line every few seconds elsewhere."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

SECONDS_BETWEEN_LINES = 5
SECONDS_TO_MEASURE = 3  # of work before the first estimate of the time left
MEMORY = 0.9  # decay of the moving average of the accuracy


class Work:
    """Counts units of work and estimates the time left.

    total: number of units. what: returns the text to show, given the number of units done.
    """

    def __init__(self, total: int, what: Callable[[int], str]) -> None:
        self.total, self.what = total, what
        self.done = self.found = 0
        self.began: float | None = None  # when the first new unit was done
        self.on_change: Callable[[], None] = lambda: None

    def skip(self, units: int) -> None:
        """Count units that were done before, without using them to measure the speed."""
        self.found = units
        self.done += units
        self.on_change()

    def add(self, units: int = 1) -> None:
        """Count units that are done now."""
        if self.began is None:
            self.began, self.found = time.monotonic(), self.done + units
        self.done += units
        self.on_change()

    def per_second(self) -> float | None:
        """Units per second; None until enough are done to estimate it."""
        seconds = time.monotonic() - self.began if self.began is not None else 0
        if seconds < SECONDS_TO_MEASURE or self.done <= self.found:
            return None
        return (self.done - self.found) / seconds

    def __str__(self) -> str:
        text, speed = self.what(self.done), self.per_second()
        if speed and self.done < self.total:
            minutes, seconds = divmod(math.ceil((self.total - self.done) / speed), 60)
            text += f", about {minutes}:{seconds:02} left"
        return text


def runs_of_a_study(total: int) -> Work:
    """Work whose units are runs."""
    return Work(total, lambda done: f"{done:,}/{total:,} runs")


class TrainingProgress:
    """Training, counted in epochs of single runs.

    epochs: of each run of the study; samples: per epoch. say: prints a line. begin, end: texts for
    the work before and after training.
    """

    def __init__(
        self,
        epochs: Mapping[Any, int],
        samples: int,
        say: Callable[[str], None] = print,
        begin: str = "reading the store of finished runs",
        end: str = "writing them to weights/",
    ) -> None:
        self.total_runs, self.epochs, self.samples = len(epochs), epochs, samples
        self.say, self.begin, self.end = say, begin, end
        self.runs = 0
        self.found: int | None = None  # number of runs found in the store
        self.accuracy = math.nan  # moving average of the test accuracy
        self.memory = 0  # bytes, the maximum over workers
        self.work = Work(sum(epochs.values()), self._text)

    def on_epochs(self, runs: int, accuracy: float, memory: int) -> None:
        """Called when some runs have finished another epoch."""
        self.memory = max(self.memory, memory)
        known = accuracy if math.isnan(self.accuracy) else self.accuracy
        self.accuracy = MEMORY * known + (1 - MEMORY) * accuracy
        self.work.add(runs)

    def on_runs(self, runs: Sequence[Any]) -> None:
        """Called with finished runs; first with those found in the store."""
        count = len(runs)
        self.runs += count
        if self.found is None:
            self.found = count
            new = self.total_runs - count
            self.say(f"{count:,} of {self.total_runs:,} runs are in the store, {new:,} to train")
            self.work.skip(sum(self.epochs[run] for run in runs))
        else:
            self.work.on_change()

    def measures(self) -> dict[str, float]:
        """The live metrics of training."""
        shown = {"runs_done": self.runs, "epochs_done": self.work.done}
        return shown if math.isnan(self.accuracy) else {**shown, "mean_accuracy": self.accuracy}

    def _text(self, done: int) -> str:
        if self.found is None:
            return self.begin
        if self.runs == self.total_runs:
            return f"{self.runs:,} runs finished, {self.end}"
        if math.isnan(self.accuracy):
            return "starting workers"
        text = (
            f"{done:,}/{self.work.total:,} epochs, {self.runs:,}/{self.total_runs:,} runs finished"
        )
        if speed := self.work.per_second():
            text += f", {speed * self.samples / 1e6:.2f}M samples/s"
        return text


@contextmanager
def shown(work: Work, file: Any = None) -> Iterator[None]:
    """Show the progress of work while the block runs. file: a text stream; default stdout."""
    console = Console(file=file)
    if console.is_terminal:
        columns = BarColumn(20), TextColumn("{task.description}"), TimeElapsedColumn()
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(str(work), total=work.total)
            work.on_change = lambda: bar.update(task, completed=work.done, description=str(work))
            yield
            work.on_change()
    else:
        due = 0.0

        def print_line() -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + SECONDS_BETWEEN_LINES
                print(work, file=file, flush=True)

        work.on_change = print_line
        print_line()
        yield
        print(work, file=file, flush=True)
