"""Trained weights against the test set: losses, accuracies and confusion counts.

Axes: N test samples, C classes. This runs `MoE` itself, not an engine, so that what the report says
of a run is what a user of its weights will see.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from moe.model.layer import MoE


class Evaluation(NamedTuple):
    """On a test set, taken as one batch.

    network_loss: cross entropy; gate_loss: unweighted; confusion: samples by true class (row) and
    predicted class (column).
    """

    network_loss: float
    gate_loss: float
    confusion: Int[Tensor, "C C"]

    @property
    def accuracy(self) -> float:
        """Share of all samples."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def class_accuracies(self) -> Float[Tensor, " C"]:
        """Share of each class's samples."""
        return self.confusion.diagonal() / self.confusion.sum(1)


@torch.no_grad()
def evaluate(model: MoE, x: Float[Tensor, "N D"], y: Int[Tensor, " N"]) -> Evaluation:
    """x: as `moe.data.batches.numbers` gives them; y: labels."""
    output, aux = model(x)
    classes = output.shape[-1]
    pairs = y * classes + output.argmax(-1)
    return Evaluation(
        network_loss=float(F.cross_entropy(output, y)),
        gate_loss=float(aux.gate_loss),
        confusion=torch.bincount(pairs, minlength=classes**2).view(classes, classes),
    )
