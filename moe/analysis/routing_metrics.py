"""Routing metrics: how a trained router spreads the test set over its experts.

Axes: N images, E experts, C classes. `slots` (E, C) counts hard decisions: how often an expert is
chosen for an image of a class. It sums to N · k if every image has k experts.

Balance and specialisation cover the routed experts only, not a shared expert, which sees every
image (`routed_alone`).

Per-class shares are normalised within a class, so frequent and rare classes count the same.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr
from scipy.stats import random_table
from torch import Tensor

from moe.model.layer import MoE


class Routed(NamedTuple):
    """A router's decisions on a set of images.

    gates: (N, E), zero where an expert is not chosen; chosen: (N, E), 1 where it is.
    """

    gates: Float[np.ndarray, "N E"]
    chosen: Float[np.ndarray, "N E"]


def route(model: MoE, x: Float[Tensor, "N D"]) -> Routed:
    """Run only the router. x: inputs, from `moe.data.batches.numbers`."""
    routing = model.route(x)
    return Routed(routing.gates.numpy(), routing.chosen.float().numpy())


def routed_alone(model: MoE, routed: Routed) -> Routed:
    """The decisions without the recipe's shared experts."""
    shared = model.recipe.shared
    return Routed(routed.gates[:, shared:], routed.chosen[:, shared:])


def experts_per_image(routed: Routed) -> float:
    """Mean number of experts per image: k, unless the recipe lets it vary."""
    return float(routed.chosen.sum(1).mean())


def slot_counts(
    routed: Routed, labels: Int[np.ndarray, " N"], classes: int
) -> Int[np.ndarray, "E C"]:
    """How many samples of each class choose each expert."""
    is_class = np.eye(classes, dtype=np.float32)[labels]
    return (routed.chosen.T @ is_class).astype(int)


def coactivation(routed: Routed) -> Int[np.ndarray, "E E"]:
    """How many images choose both expert a and expert b; on the diagonal, those that choose a."""
    return (routed.chosen.T @ routed.chosen).astype(int)


def gate_entropy(routed: Routed) -> float:
    """Mean over images of the entropy of their gates, scaled to sum to 1, in nats.

    0: one expert has all the weight; ln k: equal weights. Images without experts are left out.
    """
    gates = routed.gates[routed.chosen.any(1)]
    shares = gates / gates.sum(1, keepdims=True)
    return float(entr(shares).sum(1).mean())


def max_violation(slots: Int[np.ndarray, "E C"]) -> float:
    """max_e T_e / mean T − 1, with T_e an expert's images (Wang et al. 2024): 0 at balance."""
    tokens = slots.sum(1)
    return float(tokens.max() / tokens.mean() - 1)


def dead_experts(slots: Int[np.ndarray, "E C"]) -> int:
    """Experts that no image chooses."""
    return int((slots.sum(1) == 0).sum())


def normalised_mutual_information(slots: Int[np.ndarray, "... E C"]) -> Float[np.ndarray, "..."]:
    """2 I(expert; class) / (H(expert) + H(class)): 0 if the class says nothing about the expert."""
    joint = slots / slots.sum((-2, -1), keepdims=True)
    of_expert, of_class = entr(joint.sum(-1)).sum(-1), entr(joint.sum(-2)).sum(-1)
    # Where it is zero, rounding leaves a small number of either sign.
    mutual = np.maximum(of_expert + of_class - entr(joint).sum((-2, -1)), 0)
    return np.asarray(2 * mutual / (of_expert + of_class))


def nmi_null(slots: Int[np.ndarray, "E C"], tables: int, rng: np.random.Generator) -> float:
    """Mean NMI of random tables with the same margins: the value without any specialisation."""
    alive = slots[slots.sum(1) > 0]
    if len(alive) == 1:  # only one table has these margins
        return 0.0
    margins = random_table(alive.sum(1), alive.sum(0))
    return float(normalised_mutual_information(margins.rvs(tables, random_state=rng)).mean())


def experts_per_class(slots: Int[np.ndarray, "E C"]) -> float:
    """exp of the entropy of a class's slots over the experts, mean over classes.

    1: each class has one expert; E: every class is spread evenly. If every image has k experts, it
    is at least k by construction.
    """
    return float(np.exp(entr(_shares_of_class(slots)).sum(0)).mean())


def classes_per_expert(slots: Int[np.ndarray, "E C"]) -> float:
    """exp of the entropy of an expert's classes, mean over the experts that get any image."""
    shares = _shares_of_class(slots)
    alive = shares[shares.sum(1) > 0]
    of_expert = alive / alive.sum(1, keepdims=True)
    return float(np.exp(entr(of_expert).sum(1)).mean())


def mean_images(routed: Routed, x: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "E D"]:
    """The mean of the images that choose each expert; zeros for an expert without images."""
    tokens = routed.chosen.sum(0)
    return routed.chosen.T @ x / np.maximum(tokens, 1)[:, None]


def _shares_of_class(slots: Int[np.ndarray, "E C"]) -> Float[np.ndarray, "E C"]:
    return slots / np.maximum(slots.sum(0), 1)
