"""A control: one dense network as wide as all experts."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """All experts see every input, each with a gate of 1."""
    from moe.recipes import gating

    return gating.first_experts(inputs, inputs.num_experts)


RECIPE = Recipe(
    name="dense-total",
    route=route,
    source="a control",
    gates="g = 1 at all experts: one MLP as wide as all of them",
    gate_loss="none",
    lc="nothing",
    k="1",
    random="nothing",
    use_it="to tell a gain from what all the parameters buy at once, for ne times the compute",
    color="#5254A3",
    order=15,
    least_k=1,
    most_k=1,
    chooses=False,
    trains_router=False,
)
