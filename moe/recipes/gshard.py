"""GShard: Lepikhin et al. 2020, arXiv:2006.16668."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """The top two of the softmax over all experts, renormalised; the second one at random."""
    from moe.recipes import gating

    router_probs, rank = gating.softmax(inputs.logits), gating.ranks(inputs.logits)
    top = router_probs * (rank < 2)
    gates = top / top.sum(-1, keepdim=True)
    wanted = rank < 2
    if inputs.training:
        assert inputs.draws is not None
        wanted = gating.second_at_random(gates, rank, inputs.draws)
    # A refused second expert takes no slot: as in GShard's code; its algorithm counts it.
    kept, dropped = gating.keep_within_capacity(wanted, rank, inputs)
    loss = gating.gshard_loss(rank, router_probs, inputs.num_experts)
    return Routing(gates * kept, kept, loss, dropped=dropped)


RECIPE = Recipe(
    name="gshard",
    route=route,
    source="Lepikhin et al. 2020, algorithm 1",
    gates="g = p at its top 2, renormalised; the second is kept in training if 2·g > u; with a "
    "capacity factor, slots beyond it are dropped in training",
    gate_loss="mean(f·P) · ne², f of first choices",
    lc="its weight",
    k="2",
    random="u, uniform, hence whether the second expert is kept",
    use_it="for at most two experts an input, where a second of little weight is not worth "
    "its cost",
    color="#E69F00",
    order=5,
    least_k=2,
    most_k=2,
    draws="uniform",
    has_capacity=True,
    depends_on_batch="in training, with a capacity factor",
)
