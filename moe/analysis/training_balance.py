"""How evenly a trained router spreads training images, in each batch and over an epoch.

Hardware waits for the busiest expert of a batch, so a load that is even over an epoch may still be
slow. The weights are those at the end of training; routing is in training mode, with noise, random
choice and Sinkhorn's plan.

Axes: S steps, B batch, D inputs, E experts.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from moe.data.batches import batch_order, numbers
from moe.data.dataset import Dataset
from moe.model.layer import MoE

STEPS_AT_ONCE = 52  # of 128 MNIST images: 20 MB


class TrainingBalance(NamedTuple):
    """MaxVio: images of the busiest expert divided by the mean over experts, minus 1.

    batch: mean over the batches of an epoch; epoch: of the loads summed over these batches.
    """

    batch: float
    epoch: float


def training_balance(
    model: MoE, data: Dataset, seed: int, epoch: int, batch_size: int
) -> TrainingBalance:
    """The balance over the batches of one epoch of the run with this seed."""
    return balance_of(training_loads(model, data, seed, epoch, batch_size))


def training_loads(
    model: MoE, data: Dataset, seed: int, epoch: int, batch_size: int
) -> Float[np.ndarray, "S E"]:
    """How many images of each batch choose each expert, without shared experts."""
    batches = batch_order(seed, epoch, len(data.train_x), batch_size)
    was_training = model.training
    model.train()
    loads = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for some in batches.split(STEPS_AT_ONCE):
            chosen = model.route(numbers(data.train_x[some])).chosen
            loads.append(chosen[..., model.recipe.shared :].sum(-2))
    model.train(was_training)
    return torch.cat(loads).numpy().astype(float)


def balance_of(loads: Float[np.ndarray, "S E"]) -> TrainingBalance:
    """The balance, from the load of each expert in each batch."""
    by_batch = loads.max(1) / loads.mean(1) - 1
    total = loads.sum(0)
    return TrainingBalance(float(by_batch.mean()), float(total.max() / total.mean() - 1))
