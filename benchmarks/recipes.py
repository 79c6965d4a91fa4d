"""python -m benchmarks.recipes: the kernel against the plain module, for each recipe.

The module is `MoE` with autograd and torch's fused Adam, its data resident in memory, one thread.
Both train the same run on the same batches. The kernel's time is that of the process, including
random numbers and the tests after each epoch: everything that a study waits for.
"""

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path

import click
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import Case, Cost, Take, clocked, endless_batches, side_by_side
from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.engine import kernel
from moe.model.layer import MoE
from moe.recipes import RECIPES
from moe.study.params import read_params
from moe.study.runs import Trial
from moe.study.workers import single_thread

NE, K = 8, 2
ROUNDS = 3


def module(case: Case) -> Take:
    """`MoE`, in a plain training loop."""
    trial, data = case.trial, case.data
    recipe = RECIPES[trial.recipe]
    sizes = (data.train_x.shape[1], case.settings.hidden, data.classes, trial.ne, trial.k)
    knob = None if recipe.knob is None else trial.lc
    model = MoE(*sizes, trial.recipe, seed=0, knob=knob)
    optimizer = torch.optim.Adam(model.parameters(), case.settings.learning_rate, fused=True)
    x, y = numbers(data.train_x), data.train_y.long()
    batches = endless_batches(case)

    def step() -> int:
        batch: Tensor = next(batches)
        output, aux = model(x[batch])
        loss = F.cross_entropy(output, y[batch])
        loss = loss + recipe.weight_of(trial.lc) * aux.gate_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.balance(aux, trial.lc)
        return 1

    return clocked(step)


def in_c(case: Case) -> Take:
    """The kernel, an epoch at a time, by process time."""
    run, epoch = case.trial.run(0), replace(case.settings, epochs=1)
    steps = len(case.data.train_x) // epoch.batch_size

    def take(seconds: float) -> Cost:
        begin, done = time.perf_counter(), 0
        while not done or time.perf_counter() - begin < seconds:
            kernel.train([run], case.data, epoch)
            done += steps
        return Cost(1000 * (time.perf_counter() - begin) / done)

    return take


def trial_of(name: str) -> Trial:
    """NE experts, K of them chosen if the recipe allows it, at its usual lc."""
    recipe = RECIPES[name]
    lc = 0.001 if recipe.selection_bias else recipe.knob or 1.0
    return Trial(name, NE, recipe.only_k or max(K, recipe.least_k), lc)


@click.command()
@click.option("--data", default="data", type=click.Path(path_type=Path), help="The data set.")
@click.option("--seconds", default=1.0, show_default=True, help="Seconds per turn.")
@click.option("--into", type=click.Path(path_type=Path), help="A JSON file to write.")
def main(data: Path, seconds: float, into: Path | None) -> None:
    """Print a line for each recipe: milliseconds per step, and the ratio of the module's time to
    the kernel's."""
    single_thread()
    found, settings = {}, read_params().train
    for name in kernel.RECIPES:
        case = Case(trial_of(name), 1, Dataset(data), settings)
        costs = side_by_side({"module": module, "kernel": in_c}, case, ROUNDS, seconds)
        ms = {way: cost.ms for way, cost in costs.items()}
        found[name] = {**ms, "ratio": ms["module"] / ms["kernel"]}
        print(
            f"{case.trial}: module {ms['module']:.3f} ms, kernel {ms['kernel']:.3f} ms, "
            f"{found[name]['ratio']:.1f} times",
            flush=True,
        )
    ratios = [row["ratio"] for row in found.values()]
    print(f"least {min(ratios):.1f}, median {statistics.median(ratios):.1f} times")
    if into:
        into.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
