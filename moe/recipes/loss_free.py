"""Auxiliary-loss-free balancing: Wang et al. 2024, arXiv:2408.15664."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Sigmoid scores; a bias that moves towards an even load takes part in selection only."""
    from moe.recipes import gating

    chosen = gating.biased_choice(inputs)
    return Routing(inputs.logits.sigmoid() * chosen, chosen, gating.no_loss(inputs))


RECIPE = Recipe(
    name="loss-free",
    route=route,
    source="Wang et al. 2024, algorithm 1",
    gates="g = sigmoid(s) at the top k of sigmoid(s) + bias",
    gate_loss="none",
    lc="the step of the bias, up for an expert with less than the mean load, down with more",
    random="nothing",
    use_it="where no gate loss may disturb the network loss",
    color="#000000",
    order=7,
    selection_bias=True,
)
