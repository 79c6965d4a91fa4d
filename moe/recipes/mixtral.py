"""Mixtral of experts: Jiang et al. 2024, arXiv:2401.04088."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Softmax over the top k logits; the gate loss of Switch, of the softmax over all."""
    from moe.recipes import gating

    gates, chosen = gating.top_k_softmax(inputs.logits, inputs.top_k)
    router_probs = gating.softmax(inputs.logits)
    loss = gating.switch_loss(chosen, router_probs, inputs.top_k, inputs.num_experts)
    return Routing(gates, chosen, loss)


RECIPE = Recipe(
    name="mixtral",
    route=route,
    source="Jiang et al. 2024, section 2.1; the loss of Fedus et al. 2021, eq. 4–6",
    gates="g = softmax of the top k of s",
    gate_loss="ne · Σ f·P",
    lc="its weight",
    random="nothing",
    use_it="for two or more experts an input: the gates of `logits`, an even load as in `switch`",
    color="#74B816",
    order=6,
)
