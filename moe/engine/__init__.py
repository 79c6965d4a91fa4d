"""Engines: each trains many runs at once, with the same result as training each `MoE` alone.

HISTORY names the measures that are recorded after each epoch of a run:
network_loss, gate_loss, train_accuracy, dropped: means over the epoch's training batches
(dropped: share of slots beyond an expert's capacity; 0 without a capacity);
test_accuracy, max_violation, dead_experts: on the test set, after the epoch
(max_violation = max_e T_e / mean T − 1, with T_e the tokens of expert e; Wang et al. 2024);
router_grad_norm, router_grad_norm_max: mean and largest norm of the router's gradient over steps.
"""

from typing import Any, NamedTuple

from jaxtyping import Float64
from torch import Tensor

from moe.study.runs import Run

HISTORY = (
    "network_loss",
    "gate_loss",
    "train_accuracy",
    "test_accuracy",
    "router_grad_norm",
    "router_grad_norm_max",
    "max_violation",
    "dead_experts",
    "dropped",
)


class Trained(NamedTuple):
    """A trained run: its state dict for `MoE` on the CPU, and its history (epochs, HISTORY)."""

    weights: dict[str, Tensor]
    history: Float64[Tensor, "epochs measures"]


def history_rows(run: Run, trained: Trained) -> list[dict[str, Any]]:
    """The rows of history.csv, one for each epoch."""
    return [
        {**run.columns, "epoch": epoch, **dict(zip(HISTORY, measures, strict=True))}
        for epoch, measures in enumerate(trained.history.tolist(), start=1)
    ]
