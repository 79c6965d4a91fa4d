"""python -m benchmarks.equivalence: do the engines reach the accuracy of the layer?

They round otherwise, and training multiplies that until other images are wrong: run by run test
accuracies differ. So 30 runs of a cell are trained to the end by each engine, in float32, and by a
plain loop over `MoE`. The mean difference, paired by seed, is equivalent to 0 if two one-sided t
tests (Schuirmann 1987) put it within ±0.1 points, each at 5 %: if its 90 % interval lies within.
The cells and the margin were fixed before looking.
"""

import datetime
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy import stats

from moe.data.batches import batch_order, numbers
from moe.data.dataset import Dataset
from moe.engine import HISTORY, fused, kernel
from moe.model.layer import MoE
from moe.statistics import against, paired
from moe.study.params import read_params
from moe.study.runs import Run, Trial
from moe.study.train_settings import Train
from moe.study.workers import in_workers, worker_count

MARGIN = 0.1  # points
LEVEL = 0.05  # of each test
SEEDS, SEEDS_PER_TASK = 30, 5
RECIPES = ("blog", "logits", "switch")  # those of the default study
TRIALS = [Trial(recipe, ne=8, k=2, lc=1.0) for recipe in RECIPES]
ACCURACY = HISTORY.index("test_accuracy")


class Task(NamedTuple):
    """Runs of a trial."""

    trial: Trial
    seeds: tuple[int, ...]


@click.command()
@click.option("--data", default="data", type=click.Path(path_type=Path), help="The IDX files.")
@click.option("--seeds", default=SEEDS, show_default=True)
@click.option("--into", default="benchmarks", type=click.Path(path_type=Path), show_default=True)
def main(data: Path, seeds: int, into: Path) -> None:
    """Train every run three times, print a line for each comparison, write equivalence.json."""
    params = read_params()
    tasks = [
        Task(trial, tuple(range(first, min(first + SEEDS_PER_TASK, seeds))))
        for first in range(0, seeds, SEEDS_PER_TASK)
        for trial in TRIALS
    ]
    work = functools.partial(accuracies, folder=data, settings=params.train)
    done = dict(in_workers(work, tasks, worker_count(params.runtime.workers)))
    found = [
        {"trial": str(trial), "engine": engine, **verdict(differences)}
        for trial in TRIALS
        for engine, differences in together(trial, done, seeds).items()
    ]
    for row in found:
        print(
            f"{row['trial']}, {row['engine']} less the layer: {row['mean']:+.3f} points "
            f"[{row['low']:+.3f}, {row['high']:+.3f}], p = {row['p']:.2g}, "
            f"{'equivalent' if row['equivalent'] else 'not shown to be equivalent'}"
        )
    about = {"is": " ".join((__doc__ or "").split()), "date": str(datetime.date.today())}
    about |= {
        "kernel": kernel.level_in_use(),
        "torch": torch.__version__,
        "epochs": params.train.epochs,
    }
    (into / "equivalence.json").write_text(json.dumps(about | {"found": found}, indent=1) + "\n")


# --- in a worker


def accuracies(
    task: Task, send: object, folder: Path, settings: Train
) -> dict[str, Float[np.ndarray, " seeds"]]:
    """Accuracies in per cent, of each engine and of the layer."""
    data, runs = Dataset(folder), [task.trial.run(seed) for seed in task.seeds]
    by_engine = {
        "kernel": kernel.train(runs, data, settings),
        "fused": fused.train(runs, data, settings, torch.device("cpu")),
    }
    measured = {
        name: [float(run.history[-1, ACCURACY]) for run in trained]
        for name, trained in by_engine.items()
    }
    measured["layer"] = [trained_alone(run, data, settings) for run in runs]
    return {name: 100 * np.array(values) for name, values in measured.items()}


def trained_alone(run: Run, data: Dataset, settings: Train) -> float:
    """The test accuracy of one `MoE`, trained as README.md shows it."""
    sizes = (data.train_x.shape[1], settings.hidden, data.classes, run.ne, run.k)
    model = MoE(*sizes, run.recipe, run.seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    x, y = numbers(data.train_x), data.train_y.long()
    for epoch in range(settings.epochs):
        for batch in batch_order(run.seed, epoch, len(x), settings.batch_size):
            output, aux = model(x[batch])
            loss = F.cross_entropy(output, y[batch]) + run.lc * aux.gate_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        output, _ = model.eval()(numbers(data.test_x))
    return float((output.argmax(1) == data.test_y).double().mean())


# --- statistics


def together(
    trial: Trial, done: Mapping[Task, Mapping[str, np.ndarray]], seeds: int
) -> dict[str, Float[np.ndarray, " seeds"]]:
    """Each engine's accuracy less the layer's, in points, by seed."""
    parts = [done[task] for task in sorted(done) if task.trial == trial]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    assert all(len(values) == seeds for values in joined.values())
    return {name: joined[name] - joined["layer"] for name in ("kernel", "fused")}


def verdict(differences: Float[np.ndarray, " seeds"]) -> dict[str, Any]:
    """Mean, standard deviation, 90 % interval, and the larger p of the two tests."""
    estimate = paired(differences)
    half = float(stats.t.ppf(1 - LEVEL, estimate.freedom)) * estimate.error
    p = max(against(estimate, -MARGIN).above, against(estimate, MARGIN).below)
    return {
        "seeds": len(differences),
        "mean": estimate.value,
        "sd": float(np.std(differences, ddof=1)),
        "low": estimate.value - half,
        "high": estimate.value + half,
        "p": p,
        "equivalent": bool(p < LEVEL),
    }


if __name__ == "__main__":
    main()
