"""Pure functions from router logits to gates and balancing losses.

Axes: B batch, E experts, K chosen; `*R` any leading axes, such as the runs of a stack. Runs with
fewer than E experts are padded: their missing logits are -inf, `num_experts` gives their number.

Shazeer: Shazeer et al., Outrageously Large Neural Networks, 2017, arXiv:1701.06538.
GShard: Lepikhin et al., 2020, arXiv:2006.16668.
Switch: Fedus et al., Switch Transformers, 2021, arXiv:2101.03961.
ST-MoE: Zoph et al., 2022, arXiv:2202.08906.
Loss-free: Wang et al., Auxiliary-Loss-Free Load Balancing Strategy, 2024, arXiv:2408.15664.
S-BASE: Clark et al., Unified Scaling Laws for Routed Language Models, 2022, arXiv:2202.01169.
Top-p: Huang et al., Harder Tasks Need More Experts, 2024, arXiv:2403.07652.
"""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from moe.recipes.recipe import RouterInputs, Routing

PerRun = int | Int[Tensor, "*R"]

FEW_EXPERTS = 32  # up to here comparing all with all is quicker than sorting a stack of runs
LEAST_NOISE_STD = 1e-2  # as in the code of Shazeer's authors


# --- choosing


def ranks(scores: Float[Tensor, "*R B E"]) -> Int[Tensor, "*R B E"]:
    """How many experts of its row come before each: 0 for the best; of equals the lower index,
    which torch.topk leaves open.

    NaN counts as largest, as in torch.topk, so that a row with a NaN chooses it and its gates are
    NaN. NaN, +inf and the dtype's largest number are equals.
    """
    size, scores = scores.shape[-1], _comparable(scores)
    if size == 1:
        return torch.zeros_like(scores, dtype=torch.int8)
    if size <= FEW_EXPERTS:
        return _ranks_of_few(scores)
    return _ranks_by_sorting(scores)


def ranks_in_batch(scores: Float[Tensor, "*R B E"]) -> Int[Tensor, "*R B E"]:
    """How many inputs come before each at an expert, as in `ranks`, for a batch of any size."""
    return _ranks_by_sorting(_comparable(scores).mT).mT


def _ranks_by_sorting(scores: Float[Tensor, "*R B E"]) -> Int[Tensor, "*R B E"]:
    order = scores.sort(dim=-1, descending=True, stable=True).indices
    places = torch.arange(scores.shape[-1], device=scores.device).expand_as(order)
    return torch.zeros_like(order).scatter(-1, order, places)


def _ranks_of_few(scores: Float[Tensor, "*R B E"]) -> Int[Tensor, "*R B E"]:
    """Every expert is compared with all others at once, in E² operations."""
    by_expert, size = scores.movedim(-1, 0), scores.shape[-1]
    flat = by_expert.reshape(size, -1)
    # The others of expert e are e + 1 … E − 1, whom it beats by >=, then 0 … e − 1, whom it beats
    # by >, which is >= of the next number above.
    above = flat.nextafter(torch.full_like(flat[:1], math.inf))
    others = torch.cat([flat, above])[1:-1].unfold(0, size - 1, 1)
    beats = (flat.unsqueeze(-1) >= others).view(torch.int8)
    beaten = beats.sum(-1, dtype=torch.int8)
    return (size - 1 - beaten).view(by_expert.shape).movedim(0, -1)


def _comparable(scores: Float[Tensor, "*R B E"]) -> Float[Tensor, "*R B E"]:
    """Scores in an order that >= sees whole: NaN and +inf as the largest number."""
    scores = scores.detach()
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    most = torch.finfo(scores.dtype).max
    return scores.nan_to_num(nan=most, posinf=most, neginf=-math.inf)


def softmax(
    logits: Float[Tensor, "*R B E"], among: Bool[Tensor, "*R B E"] | None = None
) -> Float[Tensor, "*R B E"]:
    """Over the experts, or over those of a mask, 0 elsewhere.

    Few as they are, torch is ten times faster with the batch as inner axis.
    """
    by_expert = logits.mT
    if among is not None:
        by_expert = by_expert.masked_fill(~among.mT, -math.inf)
    return by_expert.softmax(-2).mT


def top_k_mask(scores: Float[Tensor, "*R B E"], top_k: PerRun) -> Bool[Tensor, "*R B E"]:
    """True at the top_k largest of each row, as `ranks` orders them; top_k may differ by run."""
    if isinstance(top_k, int) and scores.shape[-1] > FEW_EXPERTS:
        # In linear time: all above the k-th largest, and as many of its equals as there is room
        scores = _comparable(scores)
        kth = scores.topk(top_k).values[..., -1:]
        above, equal = scores > kth, scores == kth
        room = top_k - above.sum(-1, keepdim=True)
        return above | (equal & (equal.cumsum(-1) <= room))
    rank = ranks(scores)
    return rank < _per_run(top_k, rank)


def top_k_softmax(
    logits: Float[Tensor, "*R B E"], top_k: PerRun
) -> tuple[Float[Tensor, "*R B E"], Bool[Tensor, "*R B E"]]:
    """Gates by Shazeer eq. 3 and 5, without noise: softmax over the top k, 0 elsewhere.

    Rows sum to 1. With k = 1 the kept gate is 1 whatever the logits are, so nothing can train the
    router. Returns (gates, chosen).
    """
    chosen = top_k_mask(logits, top_k)
    return softmax(logits, chosen), chosen


def softmax_top_k(
    logits: Float[Tensor, "*R B E"], top_k: PerRun
) -> tuple[Float[Tensor, "*R B E"], Bool[Tensor, "*R B E"], Float[Tensor, "*R B E"]]:
    """Gates by Switch eq. 1 and 2: the top k of the softmax over all experts, not renormalised.

    Rows sum to less than 1; with k = 1 the gate still depends on the logits, so the router trains.
    Returns (gates, chosen, router_probs).
    """
    chosen = top_k_mask(logits, top_k)
    router_probs = softmax(logits)
    return router_probs * chosen, chosen, router_probs


def top_p_mask(
    router_probs: Float[Tensor, "*R B E"], p: Float[Tensor, "*R"] | float, most: PerRun
) -> Bool[Tensor, "*R B E"]:
    """True at the fewest largest of each row that sum to at least p, at no more than most of them
    (Top-p eq. 4): an expert is one of them while those before it have less than p."""
    rank = ranks(router_probs)
    order = rank.long().argsort(-1)
    ordered = router_probs.detach().gather(-1, order)
    before = pad(ordered[..., :-1].cumsum(-1), (1, 0)).gather(-1, rank.long())
    enough = torch.as_tensor(p, device=rank.device)[..., None, None]
    return (rank == 0) | (~(before >= enough) & (rank < _per_run(most, rank)))


@torch.no_grad()
def sinkhorn(
    logits: Float[Tensor, "*R B E"], iterations: Float[Tensor, "*R"] | float, most: int
) -> Float[Tensor, "*R B E"]:
    """The logarithm of Sinkhorn's plan (S-BASE): exp(logits), its columns and then its rows scaled
    to equal sums, so many times, most at most. Columns of equal sums give experts equal loads.

    NaN counts as -inf, so that it stays in its row.
    """
    plan = logits.nan_to_num(nan=-math.inf, posinf=math.inf, neginf=-math.inf)
    count = torch.as_tensor(iterations, device=plan.device)[..., None, None]
    rounds = most if isinstance(iterations, Tensor) else int(iterations)
    for done in range(rounds):
        scaled = _scaled(_scaled(plan, -2), -1)
        plan = torch.where(done < count, scaled, plan)
    return plan


def _scaled(log_plan: Float[Tensor, "*R B E"], axis: int) -> Float[Tensor, "*R B E"]:
    """With sums of 1 along an axis; what is 0 throughout stays 0."""
    return log_plan - log_plan.logsumexp(axis, keepdim=True).nan_to_num(neginf=0)


def noise_std(noise_logits: Float[Tensor, "*R B E"]) -> Float[Tensor, "*R B E"]:
    """The noise's spread of Shazeer eq. 4, softplus(x · W_noise), plus LEAST_NOISE_STD.

    Without a lower bound, which the paper does not have, the gate loss makes the spread 0 and then
    divides by it.
    """
    return torch.nn.functional.softplus(noise_logits) + LEAST_NOISE_STD


def noisy_logits(
    logits: Float[Tensor, "*R B E"],
    noise_std: Float[Tensor, "*R B E"],
    draws: Float[Tensor, "*R B E"],
) -> Float[Tensor, "*R B E"]:
    """H(x) of Shazeer eq. 4: logits plus standard normal draws times a trainable spread."""
    return logits + draws * noise_std


def second_at_random(
    gates: Float[Tensor, "*R B E"],
    rank: Int[Tensor, "*R B E"],
    draws: Float[Tensor, "*R B E"],
) -> Bool[Tensor, "*R B E"]:
    """GShard algorithm 1, line 18: the first expert always, the second if 2 · gate > draw.

    gates: normalised over the two; draws: uniform in [0, 1).
    """
    return (rank == 0) | ((rank == 1) & (2 * gates > draws))


def within_capacity(
    wanted: Bool[Tensor, "*R B E"],
    rank: Int[Tensor, "*R B E"],
    capacity: Float[Tensor, "*R"] | float,
) -> Bool[Tensor, "*R B E"]:
    """The slots that experts of limited capacity take: all first choices in the order of the batch,
    then all second choices (GShard algorithm 1; Switch section 2.2)."""
    limit = torch.as_tensor(capacity, device=rank.device)[..., None, None]
    # Each expert's slots in the order in which it takes them; those that ask for none come last.
    queue = rank.masked_fill(~wanted, rank.shape[-1]).argsort(dim=-2, stable=True)
    inputs = torch.arange(rank.shape[-2], device=rank.device).unsqueeze(-1).expand_as(queue)
    position = torch.zeros_like(queue).scatter(-2, queue, inputs)
    return wanted & (position + 1 <= limit)


# --- balancing


def importance(gates: Float[Tensor, "*R B E"]) -> Float[Tensor, "*R E"]:
    """Sum of each expert's gates over the batch (Shazeer eq. 6)."""
    return gates.sum(-2)


def cv_squared(x: Float[Tensor, "*R E"], num_experts: PerRun | None = None) -> Float[Tensor, "*R"]:
    """Squared coefficient of variation: population variance over squared mean (Shazeer eq. 7).

    Only the first num_experts (by default all E) count; beyond them, x is 0. 0 for a single expert,
    and where all are 0, as after an empty batch.
    """
    size = x.shape[-1]
    n = torch.as_tensor(size if num_experts is None else num_experts, device=x.device)
    mean = x.sum(-1) / n
    nothing = mean == 0
    relative = x / torch.where(nothing, 1, mean).unsqueeze(-1)
    # Each x that does not count is at a distance of 1 from the mean.
    of_relative = ((relative - 1).square().sum(-1) - (size - n)) / n
    return torch.where(nothing, 0, of_relative)


def switch_loss(
    chosen: Bool[Tensor, "*R B E"],
    router_probs: Float[Tensor, "*R B E"],
    top_k: PerRun,
    num_experts: PerRun,
) -> Float[Tensor, "*R"]:
    """ne · Σ_e f_e · P_e (Switch eq. 4–6), 1 at perfect balance.

    f_e is the expert's share of the B·k slots (Switch has k = 1) and carries no gradient, P_e its
    mean probability. Of the inputs, for a top_k of 1, where their number of experts differs.
    """
    probs_mean = _mean(router_probs, -2)
    slots = _mean(chosen.to(router_probs.dtype), -2)
    share = slots / (top_k if isinstance(top_k, int) else top_k.unsqueeze(-1))
    return torch.as_tensor(num_experts, device=slots.device) * (share * probs_mean).sum(-1)


def smooth_load(
    logits: Float[Tensor, "*R B E"],
    noisy: Float[Tensor, "*R B E"],
    noise_std: Float[Tensor, "*R B E"],
    top_k: PerRun,
    num_experts: PerRun,
) -> Float[Tensor, "*R E"]:
    """Shazeer eq. 8–10: the expected number of inputs of each expert, were its noise drawn again.

    P(x, i) = Φ((logit_i − threshold_i) / std_i), the threshold being the k-th largest noisy logit
    of the others: the (k + 1)-th of all for an expert in the top k. With k = ne there is no such
    other, and P is 1.
    """
    size = logits.shape[-1]
    k = _per_run(top_k, logits)
    n = _per_run(num_experts, logits)
    real = torch.arange(size, device=logits.device) < n
    rank = ranks(noisy)
    ordered = noisy.sort(-1, descending=True).values
    kth, next_best = (
        ordered.gather(-1, place.expand_as(rank[..., :1]))
        for place in (k - 1, k.clamp(max=size - 1))
    )
    threshold = torch.where(rank < k, next_best, kth)
    usable = real & (k < n)  # elsewhere differences are infinite: keep them out of the gradient
    margin = torch.where(usable, logits - threshold, 0)
    spread = torch.where(usable, noise_std, 1)
    probability = torch.where(usable, torch.special.ndtr(margin / spread), real.to(logits.dtype))
    return probability.sum(-2)


def z_loss(logits: Float[Tensor, "*R B E"]) -> Float[Tensor, "*R"]:
    """Mean squared logarithm of the softmax's denominator (ST-MoE eq. 5): keeps logits small."""
    return _mean(logits.logsumexp(-1).square(), -1)


def mean_entropy(logits: Float[Tensor, "*R B E"]) -> Float[Tensor, "*R"]:
    """Mean entropy of the softmax over the experts, in nats (Top-p eq. 6)."""
    by_expert = logits.mT.log_softmax(-2)
    return -_mean(
        (by_expert.exp() * by_expert.clamp(min=torch.finfo(logits.dtype).min)).sum(-2), -1
    )


def gshard_loss(
    rank: Int[Tensor, "*R B E"], router_probs: Float[Tensor, "*R B E"], num_experts: PerRun
) -> Float[Tensor, "*R"]:
    """mean_e(f_e · P_e) · ne² (GShard algorithm 1, line 12, scaled to be 1 at balance).

    f_e is the share of inputs whose first choice is e, P_e the expert's mean probability.
    """
    first = _mean((rank == 0).to(router_probs.dtype), -2)
    n = torch.as_tensor(num_experts, device=rank.device)
    return n * (first * _mean(router_probs, -2)).sum(-1)


def bias_step(chosen: Bool[Tensor, "*R B E"], num_experts: PerRun) -> Float[Tensor, "*R E"]:
    """Loss-free algorithm 1: +1 for an expert with fewer inputs than the mean, −1 with more."""
    tokens_per_expert = chosen.float().sum(-2)
    n = torch.as_tensor(num_experts, device=chosen.device).unsqueeze(-1)
    real = torch.arange(chosen.shape[-1], device=chosen.device) < n
    return (tokens_per_expert.sum(-1, keepdim=True) / n - tokens_per_expert).sign() * real


# --- what several recipes share


def sparsely_gated(inputs: RouterInputs) -> Routing:
    """Softmax over the top k logits, with CV² of importance as the gate loss (Shazeer eq. 3, 5–7,
    without noise)."""
    gates, chosen = top_k_softmax(inputs.logits, inputs.top_k)
    return Routing(gates, chosen, cv_squared(importance(gates), inputs.num_experts))


def biased_choice(inputs: RouterInputs) -> Bool[Tensor, "*R B E"]:
    """The top k of sigmoid scores plus the selection bias (Loss-free algorithm 1)."""
    assert inputs.bias is not None
    missing = inputs.logits == -math.inf
    selection = inputs.logits.sigmoid() + inputs.bias.unsqueeze(-2)
    return top_k_mask(selection.masked_fill(missing, -math.inf), inputs.top_k)


def first_experts(inputs: RouterInputs, count: PerRun) -> Routing:
    """The first experts see every input, each with a gate of 1: a dense network."""
    index = torch.arange(inputs.logits.shape[-1], device=inputs.logits.device)
    on = index < torch.as_tensor(count, device=index.device)[..., None, None]
    on = on.expand(inputs.logits.shape)
    return Routing(on.to(inputs.logits.dtype), on, no_loss(inputs))


def keep_within_capacity(
    wanted: Bool[Tensor, "*R B E"], rank: Int[Tensor, "*R B E"], inputs: RouterInputs
) -> tuple[Bool[Tensor, "*R B E"], Float[Tensor, "*R"]]:
    """The wanted slots that fit, and the share of them that does not (within_capacity)."""
    if not inputs.training or inputs.capacity_factor is None:
        return wanted, no_loss(inputs)
    top_k, num_experts = (torch.as_tensor(n) for n in (inputs.top_k, inputs.num_experts))
    share = inputs.capacity_factor * top_k * inputs.logits.shape[-2] / num_experts
    kept = within_capacity(wanted, rank, share.ceil().to(rank.device))
    slots = wanted.sum((-2, -1))
    dropped = slots - kept.sum((-2, -1))
    return kept, dropped / slots.clamp(min=1).to(inputs.logits.dtype)


def no_loss(inputs: RouterInputs) -> Float[Tensor, "*R"]:
    """0 for each run."""
    return inputs.logits.new_zeros(inputs.logits.shape[:-2])


def _mean(x: Tensor, batch: int) -> Tensor:
    """Over the axis of the batch; 0 for an empty one."""
    return x.sum(batch) / max(x.shape[batch], 1)


def _per_run(value: PerRun, like: Tensor) -> Tensor:
    """An int, or one per run, so that it broadcasts against (*R, B, E)."""
    return torch.as_tensor(value, device=like.device)[..., None, None]
