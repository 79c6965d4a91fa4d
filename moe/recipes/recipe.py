"""What a recipe is: how a router chooses experts, how they are balanced, and what is said about it.

A recipe is declared in a file of its own in this folder, as a constant RECIPE. Everything that
names recipes (params.yaml, tables, figures, MLflow, docs) reads these declarations. They import
without torch: a `route` function imports moe.recipes.gating when it is called.

In the texts, s is the router's logits; p their softmax over all experts; g the gates, 0 where
nothing else is said; f each expert's share of the slots; P its mean p.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from jaxtyping import Bool, Float
    from torch import Tensor

    from moe.recipes.gating import PerRun


Batch = Literal[
    "no",
    "in training, with a capacity factor",
    "in training",
    "in training and in evaluation",
]


class RouterInputs(NamedTuple):
    """What a router decides from. Axes: R runs (any leading axes, or none), B batch, E experts.

    logits: x · W_router, -inf where a run has no such expert.
    training: noise, random choice and capacity act in training only.
    noise_logits: x · W_noise, for recipes with trainable noise.
    draws: random numbers for this batch, standard normal or uniform as the recipe says.
    bias: added to the scores for selection only.
    capacity_factor: an expert takes at most capacity_factor · k · B / ne slots; None: no limit.
    knob: lc, for recipes where it is a number of the router itself; None for the others.
    """

    logits: Float[Tensor, "*R B E"]
    top_k: PerRun
    num_experts: PerRun
    training: bool = False
    noise_logits: Float[Tensor, "*R B E"] | None = None
    draws: Float[Tensor, "*R B E"] | None = None
    bias: Float[Tensor, "*R E"] | None = None
    capacity_factor: float | None = None
    knob: Float[Tensor, "*R"] | float | None = None


class Routing(NamedTuple):
    """What a router decides for a batch.

    gates: weights of the experts in the output, zero for experts that do not see the input.
    chosen: the experts that see the input, without the dropped slots.
    gate_loss: balancing loss of each run, not yet weighted (Recipe.weight_of).
    z_loss: of each run, not yet weighted; None for recipes without one.
    dropped: share of the slots of each run that were dropped; None for recipes that drop nothing.
    """

    gates: Float[Tensor, "*R B E"]
    chosen: Bool[Tensor, "*R B E"]
    gate_loss: Float[Tensor, "*R"]
    z_loss: Float[Tensor, "*R"] | None = None
    dropped: Float[Tensor, "*R"] | None = None


@dataclass(frozen=True)
class Recipe:
    """A router with its losses.

    name: in params.yaml, tables and MLflow.
    route: from the inputs of a router to its decisions.
    source, gates, gate_loss, lc, k, random, use_it: the row of the table in docs/routers.md; lc
        says what the weight lc does, random what is random in training, use_it when to use it.
    color: of its lines in figures, as #RRGGBB.
    order: where it stands in tables and legends, smallest first; equal ones by name.
    least_k, most_k: the range of k that it allows; most_k None: up to the number of experts.
    softmax_experts: each expert ends in a softmax.
    draws: the random numbers that a training step needs, one for each input and expert.
    trainable_noise: there is a second router matrix, for the spread of the noise.
    selection_bias: there is a bias for selection, which moves by lc · gating.bias_step.
    has_capacity: capacity_factor limits how many slots an expert takes in training.
    has_z_loss: train.z_loss is the weight of a z-loss.
    chooses: inputs go to different experts; False for the dense controls, which have no balance.
    trains_router: the weights of the router are trained.
    depends_on_batch: when an input's experts depend on the others of its batch.
    exactly_k: every input has k experts where nothing is dropped; False: k is a mean or a bound.
    shared: so many first experts see every input; balance is measured over the others.
    knob: where lc is a number of the router itself, its usual value; None: lc is a weight, a step
        or nothing.
    loss_weight: the weight of the gate loss where lc is such a number.
    least_lc, most_lc, whole_lc: the lc that it allows; most_lc None: any from least_lc on.
    """

    name: str
    route: Callable[[RouterInputs], Routing]
    source: str
    gates: str
    gate_loss: str
    lc: str
    random: str
    use_it: str
    color: str
    k: str = "any"
    order: int = 100
    least_k: int = 1
    most_k: int | None = None
    softmax_experts: bool = False
    draws: Literal["normal", "uniform"] | None = None
    trainable_noise: bool = False
    selection_bias: bool = False
    has_capacity: bool = False
    has_z_loss: bool = False
    chooses: bool = True
    trains_router: bool = True
    depends_on_batch: Batch = "no"
    exactly_k: bool = True
    shared: int = 0
    knob: float | None = None
    loss_weight: float = 0.0
    least_lc: float = 0.0
    most_lc: float | None = None
    whole_lc: bool = False

    @property
    def only_k(self) -> int | None:
        """The one k that the recipe allows; None if it allows several."""
        return self.least_k if self.least_k == self.most_k else None

    def why_not_k(self, k: int) -> str | None:
        """Why the recipe does not allow a k, in a few words; None if it does."""
        if self.least_k <= k <= (self.most_k or k):
            return None
        if self.only_k:
            return f"{self.name} allows only k = {self.only_k}"
        most = f" and at most {self.most_k}" if self.most_k else ""
        return f"{self.name} needs k of at least {self.least_k}{most}"

    def why_not_lc(self, lc: float) -> str | None:
        """Why the recipe does not allow an lc, in a few words; None if it does."""
        most = lc if self.most_lc is None else self.most_lc
        if self.least_lc <= lc <= most and (lc == int(lc) or not self.whole_lc):
            return None
        return f"of {self.name} lc is {self.lc.partition(';')[0]}"

    def weight_of(self, lc: float) -> float:
        """The weight of the gate loss in the total loss."""
        return lc if self.knob is None else self.loss_weight
