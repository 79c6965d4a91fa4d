"""A control: a router that keeps its initial weights."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """As `logits`. That the router's weights stay is for the layer and the engine to see to: the
    input's gradient goes through its logits."""
    from moe.recipes import gating

    return gating.sparsely_gated(inputs)


RECIPE = Recipe(
    name="random",
    route=route,
    source="a control",
    gates="as `logits`, of a router that keeps its initial weights",
    gate_loss="CV²(importance), shown but without effect",
    lc="nothing",
    random="nothing",
    use_it="to tell what a router learns from what its experts gain by seeing fewer inputs",
    color="#999999",
    order=13,
    trains_router=False,
)
