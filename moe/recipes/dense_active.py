"""A control: one dense network as wide as the k active experts."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """The first k experts see every input, each with a gate of 1."""
    from moe.recipes import gating

    return gating.first_experts(inputs, inputs.top_k)


RECIPE = Recipe(
    name="dense-active",
    route=route,
    source="a control",
    gates="g = 1 at the first k experts: one MLP as wide as k of them",
    gate_loss="none",
    lc="nothing",
    random="nothing",
    use_it="to tell a gain from what the same compute buys without a router",
    color="#8C6D31",
    order=14,
    chooses=False,
    trains_router=False,
)
