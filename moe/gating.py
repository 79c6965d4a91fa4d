"""Pure functions from router logits to gates and gate losses.

Axes: B batch, E experts, K chosen; `*R` any leading axes, such as the runs of a stack. Runs with
fewer than E experts are padded: their missing logits are -inf, `num_experts` gives their number.

Shazeer: Shazeer et al., Outrageously Large Neural Networks, 2017, arXiv:1701.06538.
Switch: Fedus et al., Switch Transformers, 2021, arXiv:2101.03961.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PerRun = int | Int[Tensor, "*R"]


class Routing(NamedTuple):
    """What a router decides for a batch.

    gates: the experts' weights in the output, zero off the top k.
    chosen: the top k.
    gate_loss: the balancing loss of each run, not yet weighted by lc.
    """

    gates: Float[Tensor, "*R B E"]
    chosen: Bool[Tensor, "*R B E"]
    gate_loss: Float[Tensor, "*R"]


def top_k_mask(logits: Float[Tensor, "*R B E"], top_k: PerRun) -> Bool[Tensor, "*R B E"]:
    """True at the top_k largest of each row; of equal ones the lowest index wins.

    An expert's rank is the number of experts before it. Counting those compares all pairs, which
    costs E² but needs no sort, settles ties (torch.topk leaves them open) and lets k differ by run.
    """
    this, other = logits.unsqueeze(-1), logits.unsqueeze(-2)
    size = logits.shape[-1]
    lower_index = torch.ones(size, size, dtype=torch.bool, device=logits.device).tril(-1)
    rank = ((other > this) | ((other == this) & lower_index)).sum(-1)
    return rank < _per_run(top_k, rank)


def top_k_softmax(
    logits: Float[Tensor, "*R B E"], top_k: PerRun
) -> tuple[Float[Tensor, "*R B E"], Bool[Tensor, "*R B E"]]:
    """Gates by Shazeer eq. 3 and 5, without noise: softmax over the top k, 0 elsewhere.

    Rows sum to 1. With k = 1 the kept gate is 1 whatever the logits are, so nothing can train the
    router. Returns (gates, chosen).
    """
    chosen = top_k_mask(logits, top_k)
    return logits.masked_fill(~chosen, -math.inf).softmax(-1), chosen


def softmax_top_k(
    logits: Float[Tensor, "*R B E"], top_k: PerRun
) -> tuple[Float[Tensor, "*R B E"], Bool[Tensor, "*R B E"], Float[Tensor, "*R B E"]]:
    """Gates by Switch eq. 1 and 2: the top k of the softmax over all experts, not renormalised.

    Rows sum to less than 1; with k = 1 the gate still depends on the logits, so the router trains.
    Returns (gates, chosen, router_probs).
    """
    chosen = top_k_mask(logits, top_k)
    router_probs = logits.softmax(-1)
    return router_probs * chosen, chosen, router_probs


def importance(gates: Float[Tensor, "*R B E"]) -> Float[Tensor, "*R E"]:
    """Sum of each expert's gates over the batch (Shazeer eq. 6)."""
    return gates.sum(-2)


def cv_squared(x: Float[Tensor, "*R E"], num_experts: PerRun | None = None) -> Float[Tensor, "*R"]:
    """Squared coefficient of variation: population variance over squared mean (Shazeer eq. 7).

    Only the first num_experts (by default all E) count. 0 for a single expert.
    """
    size = x.shape[-1]
    n = torch.as_tensor(size if num_experts is None else num_experts, device=x.device)
    real = torch.arange(size, device=x.device) < n.unsqueeze(-1)
    mean = x.sum(-1) / n
    deviation = (x - mean.unsqueeze(-1)) * real
    return deviation.square().sum(-1) / n / mean.square()


def switch_loss(
    chosen: Bool[Tensor, "*R B E"],
    router_probs: Float[Tensor, "*R B E"],
    top_k: PerRun,
    num_experts: PerRun,
) -> Float[Tensor, "*R"]:
    """ne · Σ_e f_e · P_e (Switch eq. 4–6), 1 at perfect balance.

    f_e is the expert's share of the B·k slots (Switch has k = 1) and carries no gradient, P_e its
    mean probability.
    """
    probs_mean = router_probs.mean(-2)
    slots = chosen.to(router_probs.dtype).mean(-2)
    share = slots / torch.as_tensor(top_k, device=slots.device).unsqueeze(-1)
    return torch.as_tensor(num_experts, device=slots.device) * (share * probs_mean).sum(-1)


def _per_run(value: PerRun, like: Tensor) -> Tensor:
    """An int, or one per run, so that it broadcasts against (*R, B, E)."""
    return torch.as_tensor(value, device=like.device)[..., None, None]
