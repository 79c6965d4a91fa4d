"""A recipe says how to route, how to balance, and what an expert hands on; here they are by name.

README.md shows the same as a table, and a test compares the two. s: the router's logits; p: their
softmax over all experts; g: the gates, 0 where nothing else is said; f: each expert's share of the
slots; P: its mean p. All experts hand on logits but those of blog.

blog
    source: the blog, as reconstructed from its text and the code that it names
    gates: g = softmax of the top k of s; experts end in a softmax, which the cross entropy takes
        as logits: a double softmax
    gate loss: CV²(importance), importance = Σ g over the batch
    lc: its weight
    k: any
    random in training: nothing
    use it: to see what the blog saw; its double softmax can lose whole digits
logits
    source: Shazeer et al. 2017, eq. 3, 5–7, without noise
    gates: g = softmax of the top k of s
    gate loss: CV²(importance)
    lc: its weight
    k: any
    random in training: nothing
    use it: as the plain baseline from k = 2 on; at k = 1 its router never trains
switch
    source: Fedus et al. 2021, eq. 1–6, and Zoph et al. 2022, eq. 5
    gates: g = p at the top k, not renormalised; with a capacity factor, slots beyond it are
        dropped in training
    gate loss: ne · Σ f·P, and a z-loss if asked for
    lc: its weight
    k: any (1 in its paper)
    random in training: nothing
    use it: for one expert an input, and where an even load matters most
shazeer
    source: Shazeer et al. 2017, eq. 3–11
    gates: h = s + softplus(x·W_noise) · ε, g = softmax of the top k of h; h = s in evaluation
    gate loss: CV²(importance) + CV²(load), load = the expected number of inputs under fresh noise
    lc: the weight of both
    k: any
    random in training: ε, standard normal
    use it: for two or more experts an input, to explore by noise early and to balance even counts
gshard
    source: Lepikhin et al. 2020, algorithm 1
    gates: g = p at its top 2, renormalised; the second is kept in training if 2·g > u; with a
        capacity factor, slots beyond it are dropped in training
    gate loss: mean(f·P) · ne², f of first choices
    lc: its weight
    k: 2
    random in training: u, uniform, hence whether the second expert is kept
    use it: for two experts an input at most, where a second of little weight is not worth its cost
loss-free
    source: Wang et al. 2024, algorithm 1
    gates: g = sigmoid(s) at the top k of sigmoid(s) + bias
    gate loss: none
    lc: the step of the bias, up for an expert with less than the mean load, down with more
    k: any
    random in training: nothing
    use it: where no gate loss shall disturb the network loss
random
    source: a control
    gates: as logits, of a router that keeps its initial weights
    gate loss: CV²(importance), shown but without effect
    lc: nothing
    k: any
    random in training: nothing
    use it: to tell what a router learns from what its experts gain by seeing fewer inputs
dense-active
    source: a control
    gates: g = 1 at the first k experts: one MLP as wide as k of them
    gate loss: none
    lc: nothing
    k: any
    random in training: nothing
    use it: to tell a gain from what the same compute buys without a router
dense-total
    source: a control
    gates: g = 1 at all experts: one MLP as wide as all of them
    gate loss: none
    lc: nothing
    k: 1
    random in training: nothing
    use it: to tell a gain from what all the parameters buy at once, for ne times the compute

The dense controls start from the experts' initial weights, so that they are paired with the rest:
their second layer is drawn for a fan-in of one expert, and has a bias for each expert.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from moe import gating
from moe.gating import PerRun, RouterInputs, Routing
from moe.params import ONLY_K


@dataclass(frozen=True)
class Recipe:
    """route: from a router's inputs to its decisions.

    softmax_experts: each expert ends in a softmax.
    draws: what random numbers a training step needs, one for each input and expert.
    trainable_noise: there is a second router matrix, of the noise's spread.
    selection_bias: there is a bias for selection, which moves by lc · gating.bias_step.
    """

    name: str
    route: Callable[[RouterInputs], Routing]
    softmax_experts: bool = False
    draws: Literal["normal", "uniform"] | None = None
    trainable_noise: bool = False
    selection_bias: bool = False

    @property
    def only_k(self) -> int | None:
        """The one k that the recipe allows; None if it allows any."""
        return ONLY_K.get(self.name)


def _sparsely_gated(inputs: RouterInputs) -> Routing:
    gates, chosen = gating.top_k_softmax(inputs.logits, inputs.top_k)
    return Routing(gates, chosen, gating.cv_squared(gating.importance(gates), inputs.num_experts))


def _noisy(inputs: RouterInputs) -> Routing:
    assert inputs.noise_logits is not None
    noise_std = F.softplus(inputs.noise_logits)
    noisy = inputs.logits
    if inputs.training:
        assert inputs.draws is not None
        noisy = gating.noisy_logits(inputs.logits, noise_std, inputs.draws)
    gates, chosen = gating.top_k_softmax(noisy, inputs.top_k)
    sizes = inputs.top_k, inputs.num_experts
    load = gating.smooth_load(inputs.logits, noisy, noise_std, *sizes)
    even = [gating.cv_squared(x, inputs.num_experts) for x in (gating.importance(gates), load)]
    return Routing(gates, chosen, even[0] + even[1])


def _switch(inputs: RouterInputs) -> Routing:
    logits, top_k, num_experts = inputs.logits, inputs.top_k, inputs.num_experts
    gates, chosen, router_probs = gating.softmax_top_k(logits, top_k)
    loss = gating.switch_loss(chosen, router_probs, top_k, num_experts)
    kept, dropped = _kept(chosen, gating.ranks(logits), inputs)
    return Routing(gates * kept, kept, loss, gating.z_loss(logits), dropped)


def _gshard(inputs: RouterInputs) -> Routing:
    router_probs, rank = gating.softmax(inputs.logits), gating.ranks(inputs.logits)
    top = router_probs * (rank < 2)
    gates = top / top.sum(-1, keepdim=True)
    wanted = rank < 2
    if inputs.training:
        assert inputs.draws is not None
        wanted = gating.second_at_random(gates, rank, inputs.draws)
    # A second expert that was refused takes no room: so in GShard's code; its algorithm counts it.
    kept, dropped = _kept(wanted, rank, inputs)
    loss = gating.gshard_loss(rank, router_probs, inputs.num_experts)
    return Routing(gates * kept, kept, loss, dropped=dropped)


def _loss_free(inputs: RouterInputs) -> Routing:
    assert inputs.bias is not None
    scores = inputs.logits.sigmoid()
    missing = inputs.logits == -torch.inf
    selection = (scores + inputs.bias.unsqueeze(-2)).masked_fill(missing, -torch.inf)
    chosen = gating.top_k_mask(selection, inputs.top_k)
    return Routing(scores * chosen, chosen, _nothing(inputs))


def _random(inputs: RouterInputs) -> Routing:
    return _sparsely_gated(inputs._replace(logits=inputs.logits.detach()))


def _dense_active(inputs: RouterInputs) -> Routing:
    return _first(inputs, inputs.top_k)


def _dense_total(inputs: RouterInputs) -> Routing:
    return _first(inputs, inputs.num_experts)


def _first(inputs: RouterInputs, count: PerRun) -> Routing:
    """The first experts, each with a gate of 1."""
    index = torch.arange(inputs.logits.shape[-1], device=inputs.logits.device)
    on = index < torch.as_tensor(count, device=index.device)[..., None, None]
    on = on.expand(inputs.logits.shape)
    return Routing(on.to(inputs.logits.dtype), on, _nothing(inputs))


def _kept(
    wanted: Tensor, rank: Int[Tensor, "*R B E"], inputs: RouterInputs
) -> tuple[Tensor, Float[Tensor, "*R"]]:
    """The slots that fit, and the share that does not, of those that are wanted."""
    if not inputs.training or inputs.capacity_factor is None:
        return wanted, _nothing(inputs)
    top_k, num_experts = (torch.as_tensor(n) for n in (inputs.top_k, inputs.num_experts))
    share = inputs.capacity_factor * top_k * inputs.logits.shape[-2] / num_experts
    kept = gating.within_capacity(wanted, rank, share.ceil().to(rank.device))
    slots = wanted.sum((-2, -1))
    return kept, (slots - kept.sum((-2, -1))) / slots.to(inputs.logits.dtype)


def _nothing(inputs: RouterInputs) -> Float[Tensor, "*R"]:
    return inputs.logits.new_zeros(inputs.logits.shape[:-2])


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("blog", _sparsely_gated, softmax_experts=True),
        Recipe("logits", _sparsely_gated),
        Recipe("switch", _switch),
        Recipe("shazeer", _noisy, draws="normal", trainable_noise=True),
        Recipe("gshard", _gshard, draws="uniform"),
        Recipe("loss-free", _loss_free, selection_bias=True),
        Recipe("random", _random),
        Recipe("dense-active", _dense_active),
        Recipe("dense-total", _dense_total),
    )
}


def recipe_named(name: str) -> Recipe:
    """The recipe of that name; ValueError with the known names for any other."""
    try:
        return RECIPES[name]
    except KeyError:
        raise ValueError(f"recipe {name!r} is unknown; it can be {', '.join(RECIPES)}") from None
