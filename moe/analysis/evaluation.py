"""Evaluation of trained weights on the test set: losses, accuracies and confusion counts.

Axes: N test samples, C classes. This runs `MoE` itself, not an engine, so the reported numbers are
those that a user of the weights gets.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from moe.model.layer import MoE


class Evaluation(NamedTuple):
    """The results on a test set, evaluated as one batch.

    network_loss: cross entropy; gate_loss: unweighted; confusion: samples by true class (row) and
    predicted class (column).
    """

    network_loss: float
    gate_loss: float
    confusion: Int[Tensor, "C C"]

    @property
    def accuracy(self) -> float:
        """Share of all samples classified correctly."""
        return float(self.confusion.trace() / self.confusion.sum())

    @property
    def class_accuracies(self) -> Float[Tensor, " C"]:
        """Share of each class's samples classified correctly."""
        return self.confusion.diagonal() / self.confusion.sum(1)


@torch.no_grad()
def evaluate(model: MoE, x: Float[Tensor, "N D"], y: Int[Tensor, " N"]) -> Evaluation:
    """Evaluate a model. x: inputs, from `moe.data.batches.numbers`; y: labels."""
    output, aux = model(x)
    classes = output.shape[-1]
    pairs = y * classes + output.argmax(-1)
    return Evaluation(
        network_loss=float(F.cross_entropy(output, y)),
        gate_loss=float(aux.gate_loss),
        confusion=torch.bincount(pairs, minlength=classes**2).view(classes, classes),
    )
