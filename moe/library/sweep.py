"""`sweep`: a study of your own data in one call."""

import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor

from moe.analysis.evaluation import evaluate
from moe.analysis.routing_metrics import route
from moe.analysis.run_row import of_evaluation, of_routing, of_training
from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.engine import Trained, history_rows
from moe.engine.divergence import in_one_line, losses_of, split
from moe.errors import UserError
from moe.library.arguments import Asked, read_arguments, without_files
from moe.model.layer import MoE
from moe.model.weights import model_of
from moe.study.progress import TrainingProgress, shown
from moe.study.runs import Run
from moe.study.tables import joined
from moe.study.train_settings import with_settings
from moe.study.workers import in_threads, worker_count
from moe.train.run_store import Store
from moe.train.shards import Epochs, train_study

NULL_TABLES = 20  # as analyze.null_tables of params.yaml
OneOrMore = Any  # one value, or several in a list, a tuple, a range or an array


def sweep(
    x_train: Any,
    y_train: Any,
    x_test: Any,
    y_test: Any,
    *,
    recipe: OneOrMore = "logits",
    ne: OneOrMore,
    k: OneOrMore,
    lc: OneOrMore = 1.0,
    seeds: int | range | Any = 5,
    epochs: OneOrMore = 10,
    batch_size: OneOrMore = 128,
    learning_rate: OneOrMore = 0.001,
    hidden: OneOrMore = 10,
    capacity_factor: OneOrMore = None,
    z_loss: OneOrMore = 0.0,
    precision: OneOrMore = "float32",
    device: str | torch.device = "auto",
    engine: str = "auto",
    workers: int | str = "auto",
    store: str | Path | None = None,
    progress: bool = True,
    models: bool = False,
) -> Any:
    """Train a mixture of experts for each combination of the settings and each seed, and test it.

    A classifier is `moe.MoE`: a linear router and `ne` experts, which are two-layer perceptrons.
    Each input uses `k` of them. The loss is the cross entropy of their weighted outputs plus `lc`
    times the gate loss (Shazeer et al. 2017, "Outrageously large neural networks", equations 1 to
    6; docs/routers.md has the equations and the source of every recipe). The optimizer is Adam with
    its default β and ε (Kingma and Ba 2015). Results are bit-identical to those of `make repro` on
    the same data.

        from moe import sweep

        runs = sweep(x_train, y_train, x_test, y_test,
                     recipe=["logits", "switch"], ne=[1, 2, 4, 8], k=[1, 2], lc=[0, 1])
        runs.groupby(["recipe", "ne", "k", "lc"])["accuracy"].mean()

    Data, each as a numpy array, torch tensor, pandas frame or series, or lists:
        x_train, x_test: inputs (N, D) or (N, …), flattened. Bytes (uint8) are divided by 255; other
            numbers, which may be negative, are converted to float32 unscaled: scale them yourself.
        y_train, y_test: labels (N,), whole numbers 0 … C-1, with samples of each class in both.

    Settings; each is one value or several, and all combinations with k <= ne are run:
        recipe: names of `moe.recipes.RECIPES`; "file.py:NAME", the constant NAME of a file; or a
            `moe.recipes.recipe.Recipe`.
        ne: experts, 1 to 64. k: experts chosen per input; some recipes allow only one k.
        lc: weight of the gate loss, 0 or from 1e-12 to 1e6.
        seeds: a number (5: seeds 0 … 4) or a range. A seed determines the initial weights and the
            order of batches; runs with the same seed are paired.
        epochs: passes over the training set.
        batch_size: samples per step; the last, partial batch of an epoch is dropped.
        learning_rate: of Adam.
        hidden: width of an expert's hidden layer.
        capacity_factor: an expert of `switch` or `gshard` takes at most
            ⌈capacity_factor · k · batch_size / ne⌉ samples of a training batch; None: all of them.
        z_loss: weight of the router's z-loss (Zoph et al. 2022), for `switch`.
        precision: "float32"; for the fused engine's large products also "tf32" and "bf16".

    Computation:
        device: "auto" (CUDA if available), "cpu", "cuda", "cuda:0" …
        engine: "kernel" (C, for CPUs), "fused" (torch), or "auto": the kernel where supported.
        workers: threads on a CPU; "auto" is one per core. The kernel and torch's products release
            the GIL, so no other process is started, and sweep works in a script, a notebook and at
            a prompt.
        store: folder where finished runs are kept. Stored runs are not trained again, also after a
            crash or Ctrl-C. A run's key covers data, settings, versions and sources, including the
            file of your own recipe, but not what it imports. None: nothing is kept.
        progress: show progress on stderr.
        models: also return the trained models.

    Returns a frame with a row for each run, sorted by recipe, ne, k, lc and seed, in the columns of
    results/runs.csv (docs/results.md: shares of 1, losses in nats); a setting of training that has
    several values is a column after `seed`. With models=True, returns (frame, list): the models in
    the order of the rows, as `moe.MoE` on the CPU in eval mode.

    Raises ValueError, in one line that begins with the argument, for invalid arguments;
    `moe.errors.UserError`, also in one line, if memory runs out; OSError if the store cannot be
    written. A run that diverges is not an error: its column `diverged` is 1.
    """
    asked = read_arguments(
        {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test},
        {"recipe": recipe, "ne": ne, "k": k, "lc": lc},
        seeds,
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "hidden": hidden,
            "capacity_factor": capacity_factor,
            "z_loss": z_loss,
            "precision": precision,
        },
        {"device": device, "engine": engine, "workers": workers},
    )
    own = without_files(asked.runs)
    if store is not None and own:
        raise ValueError(
            f"store: {own[0]} is not defined in a file, so changes to it cannot be detected; move "
            "it to a .py file, or omit store"
        )
    file = sys.stderr if progress else None
    if store is not None:
        trained = _trained(asked, Path(store).expanduser(), kept=True, file=file)
    else:
        with tempfile.TemporaryDirectory(prefix="moe-sweep-") as folder:
            trained = _trained(asked, Path(folder), kept=False, file=file)
    table, of_runs = _tested(asked, trained)
    if file and (said := in_one_line(split(table)[1], len(table))):
        print(said, file=file)
    return (table, of_runs) if models else table


def _trained(asked: Asked, folder: Path, kept: bool, file: Any) -> dict[Run, Trained]:
    """Train every run; results in the order of the runs.

    folder: of the store; kept: whether it is kept. file: a text stream for progress, or None.
    """

    def say(line: str) -> None:
        if file:
            print(line, file=file, flush=True)

    epochs = {run: with_settings(asked.settings.train, run.settings).epochs for run in asked.runs}
    progress = TrainingProgress(
        epochs,
        len(asked.data.train_x),
        say=say if kept else lambda line: None,
        begin="reading the store of finished runs" if kept else "starting",
        end="testing them",
    )

    def on_epochs(done: Epochs) -> None:
        progress.on_epochs(*done)

    train = functools.partial(
        train_study, asked.settings, asked.runs, asked.data, Store(folder, say), on_epochs
    )
    try:
        if file is None:
            return train(progress.on_runs)
        with shown(progress.work, file):
            return train(progress.on_runs, say)
    except UserError as error:
        message = str(error)
        if message.startswith("runtime."):  # not available on this machine
            raise ValueError(message.removeprefix("runtime.")) from None
        raise


def _tested(asked: Asked, trained: dict[Run, Trained]) -> tuple[pd.DataFrame, list[MoE]]:
    """The table of the runs, and their models."""
    data = asked.data
    measure = functools.partial(_measure, data=data, x=numbers(data.test_x), trained=trained)
    workers = worker_count(asked.settings.runtime.workers)
    tested = dict(in_threads(measure, asked.runs, workers))
    history = pd.DataFrame(
        [row for run, result in trained.items() for row in history_rows(run, result)]
    )
    evaluation = pd.DataFrame([run.columns | tested[run].evaluation for run in asked.runs])
    routing = pd.DataFrame([run.columns | tested[run].routing for run in asked.runs])
    table = joined(joined(evaluation, of_training(history)), routing)
    return table, [tested[run].model for run in asked.runs]


class Tested(NamedTuple):
    """A run's evaluation and routing columns, and its model."""

    evaluation: dict[str, float]
    routing: dict[str, float]
    model: MoE


def _measure(
    run: Run,
    send: Callable[[Any], None],
    data: Dataset,
    x: Tensor,
    trained: dict[Run, Trained],
) -> Tested:
    weights, history = trained[run]
    model = model_of(run.trial, weights)
    tested = evaluate(model, x, data.test_y.long())
    routing = of_routing(
        run,
        model,
        route(model, x),
        data.test_y.numpy().astype(int),
        data.classes,
        NULL_TABLES,
        [*losses_of(history), tested.network_loss, tested.gate_loss],
    )
    send(None)
    return Tested(of_evaluation(tested), routing, model)
