"""The numbers in a run's row of runs.csv, from its model and from its training."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Int

from moe.analysis import routing_metrics as routing
from moe.analysis.evaluation import Evaluation
from moe.analysis.routing_metrics import Routed
from moe.engine.divergence import COLUMN, has_diverged
from moe.model.layer import MoE
from moe.study.runs import Run
from moe.study.tables import run_columns


def of_evaluation(result: Evaluation) -> dict[str, float]:
    """Accuracy, losses and the accuracy of each class."""
    return {
        "accuracy": result.accuracy,
        "network_loss": result.network_loss,
        "gate_loss": result.gate_loss,
        **{f"accuracy_{c}": share for c, share in enumerate(result.class_accuracies.tolist())},
    }


def of_training(history: pd.DataFrame) -> pd.DataFrame:
    """A row per run: accuracy and dropped slots of the last epoch, gradients over all epochs."""
    by_run = history.sort_values("epoch").groupby(run_columns(history))
    return by_run.agg(
        train_accuracy=("train_accuracy", "last"),
        dropped=("dropped", "last"),
        router_grad_norm=("router_grad_norm", "mean"),
        router_grad_norm_max=("router_grad_norm_max", "max"),
    ).reset_index()


def of_routing(
    run: Run,
    model: MoE,
    routed: Routed,
    labels: Int[np.ndarray, " N"],
    classes: int,
    null_tables: int,
    losses: Sequence[float],
) -> dict[str, float]:
    """How the router spreads the test set, and whether the run diverged.

    labels: of the test set. losses: of all epochs, and on the test set.
    """
    alone = routing.routed_alone(model, routed)
    slots = routing.slot_counts(alone, labels, classes)
    rng = np.random.default_rng((run.seed, run.ne, run.k))
    return {
        "experts_per_image": routing.experts_per_image(routed),
        "gate_entropy": routing.gate_entropy(alone),
        "max_violation": routing.max_violation(slots),
        "dead_experts": routing.dead_experts(slots),
        "nmi": float(routing.normalised_mutual_information(slots)),
        "nmi_null": routing.nmi_null(slots, null_tables, rng),
        "experts_per_class": routing.experts_per_class(slots),
        "classes_per_expert": routing.classes_per_expert(slots),
        COLUMN: int(has_diverged(model.state_dict().values(), losses)),
    }
