"""A recipe says how to route, how to balance, and what an expert hands on; here they are by name.

k: allowed values. lc: what the study's weight of the gate loss means. random: what is drawn in
training. All experts hand on logits but those of blog.

blog         gates: softmax over the top k. gate loss: CV² of importance. lc: its weight. k: any.
             random: nothing. Experts hand on probabilities, which the cross entropy then takes as
             logits: a double softmax. The blog, as reconstructed from its text and the code that
             it names.
logits       the same with logits. Shazeer et al. 2017, eq. 3, 5–7, without noise.
switch       gates: the top k of the softmax over all, not renormalised. gate loss: ne · Σ f·P.
             lc: its weight. k: any (the paper: 1). random: nothing. With a capacity factor,
             slots beyond it are dropped; a z-loss can be added. Fedus et al. 2021, eq. 1–6.
shazeer      gates: softmax over the top k of logits plus trainable noise. gate loss: CV² of
             importance + CV² of the smooth load. lc: the weight of both. k: any. random: the
             noise. Shazeer et al. 2017, eq. 3–11.
gshard       gates: softmax over all, its top 2 renormalised. gate loss: ne² · mean(f·P) over
             first choices. lc: its weight. k: 2. random: whether the second expert is kept. With
             a capacity factor, slots beyond it are dropped. Lepikhin et al. 2020, algorithm 1.
loss-free    gates: sigmoid of the logit, for the top k of sigmoid + bias. gate loss: none. lc: the
             bias's update rate. k: any. random: nothing. Wang et al. 2024, algorithm 1.
random       gates: softmax over the top k of a router that never trains. gate loss: CV² of
             importance, shown but without effect. lc: nothing. k: any. random: nothing. A control.
dense-active one MLP as wide as k experts, always on. gate loss: none. lc: nothing. k: any.
             random: nothing. A control.
dense-total  one MLP as wide as all ne experts. gate loss: none. lc: nothing. k: 1. random:
             nothing. A control.

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
    """The slots that fit, and the share that does not."""
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
