"""The source's recipe, as reconstructed: the experts end in a softmax before the cross entropy."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Softmax over the top k logits; CV² of importance as the gate loss."""
    from moe.recipes import gating

    return gating.sparsely_gated(inputs)


RECIPE = Recipe(
    name="blog",
    route=route,
    source="the blog, as reconstructed from its text and the code that it names",
    gates="g = softmax of the top k of s; experts end in a softmax, which the cross entropy takes "
    "as logits: a double softmax",
    gate_loss="CV²(importance), importance = Σ g over the batch",
    lc="its weight",
    random="nothing",
    use_it="to see what the blog saw; its double softmax can lose whole classes",
    color="#D55E00",
    order=1,
    softmax_experts=True,
)
