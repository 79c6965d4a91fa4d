"""Switch Transformers: Fedus et al. 2021, arXiv:2101.03961; z-loss: Zoph et al. 2022."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """The top k of the softmax over all experts, not renormalised."""
    from moe.recipes import gating

    logits, top_k, num_experts = inputs.logits, inputs.top_k, inputs.num_experts
    gates, chosen, router_probs = gating.softmax_top_k(logits, top_k)
    loss = gating.switch_loss(chosen, router_probs, top_k, num_experts)
    kept, dropped = gating.keep_within_capacity(chosen, gating.ranks(logits), inputs)
    return Routing(gates * kept, kept, loss, gating.z_loss(logits), dropped)


RECIPE = Recipe(
    name="switch",
    route=route,
    source="Fedus et al. 2021, eq. 1–6, and Zoph et al. 2022, eq. 5",
    gates="g = p at the top k, not renormalised; with a capacity factor, slots beyond it are "
    "dropped in training",
    gate_loss="ne · Σ f·P, and a z-loss if asked for",
    lc="its weight",
    k="any (1 in its paper)",
    random="nothing",
    use_it="for one expert an input, and where an even load matters most",
    color="#CC79A7",
    order=3,
    has_capacity=True,
    depends_on_batch="in training, with a capacity factor",
    has_z_loss=True,
)
