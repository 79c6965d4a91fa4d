"""A recipe says how to route, how to balance, and what an expert hands on; here they are by name.

blog: gates are the softmax over the top k, the gate loss is CV² of importance, experts hand on
    probabilities, which the cross entropy then takes as logits: a double softmax. The blog, as
    reconstructed from its text and from the code that it names.
logits: the same, but experts hand on logits. Shazeer et al. 2017, eq. 3–7, without noise.
switch: gates are the top k of the softmax over all experts, not renormalised; the gate loss is
    ne · Σ f·P; experts hand on logits. Fedus et al. 2021, eq. 1–6.
"""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from moe import gating
from moe.gating import PerRun, Routing

Router = Callable[[Float[Tensor, "*R B E"], PerRun, PerRun], Routing]


@dataclass(frozen=True)
class Recipe:
    """route(logits, top_k, num_experts); softmax_experts: each expert ends in a softmax."""

    name: str
    route: Router
    softmax_experts: bool


def _sparsely_gated(logits: Float[Tensor, "*R B E"], top_k: PerRun, num_experts: PerRun) -> Routing:
    gates, chosen = gating.top_k_softmax(logits, top_k)
    return Routing(gates, chosen, gating.cv_squared(gating.importance(gates), num_experts))


def _switch(logits: Float[Tensor, "*R B E"], top_k: PerRun, num_experts: PerRun) -> Routing:
    gates, chosen, router_probs = gating.softmax_top_k(logits, top_k)
    return Routing(gates, chosen, gating.switch_loss(chosen, router_probs, top_k, num_experts))


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("blog", _sparsely_gated, softmax_experts=True),
        Recipe("logits", _sparsely_gated, softmax_experts=False),
        Recipe("switch", _switch, softmax_experts=False),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; ValueError with the known names for any other."""
    try:
        return RECIPES[name]
    except KeyError:
        raise ValueError(f"recipe {name!r} is unknown; it can be {', '.join(RECIPES)}") from None
