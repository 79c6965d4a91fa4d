"""A shared expert beside routed ones: DeepSeekMoE, Dai et al. 2024, arXiv:2401.06066."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing

SHARED = 1  # the first expert


def route(inputs: RouterInputs) -> Routing:
    """The first expert always, with a gate of 1; of the others the top k − 1 of their softmax."""
    import torch

    from moe.recipes import gating

    logits = inputs.logits
    shared = torch.arange(logits.shape[-1], device=logits.device) < SHARED
    shared = shared.expand(logits.shape)
    top_k, num_experts = inputs.top_k - SHARED, inputs.num_experts - SHARED
    routed = gating.top_k_mask(logits.masked_fill(shared, -torch.inf), top_k)
    router_probs = gating.softmax(logits, ~shared)
    loss = gating.switch_loss(routed, router_probs, top_k, num_experts)
    return Routing(router_probs * routed + shared, routed | shared, loss)


RECIPE = Recipe(
    name="shared-expert",
    route=route,
    source="Dai et al. 2024, eq. 9–14, with one shared expert",
    gates="g = 1 at expert 0; g = p at the top k − 1 of the others, p their softmax, not "
    "renormalised",
    gate_loss="(ne − 1) · Σ f·P over the routed experts",
    lc="its weight",
    k="2 or more",
    random="nothing",
    use_it="for two or more experts an input, where what all inputs need can be learned once; its "
    "load, dead experts and specialisation are those of the routed experts",
    color="#9A2FAE",
    order=9,
    least_k=2,
    shared=SHARED,
)
