"""S-BASE: Clark et al., Unified Scaling Laws for Routed Language Models, 2022, arXiv:2202.01169."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing

MOST_ITERATIONS = 16


def route(inputs: RouterInputs) -> Routing:
    """In training the top k of Sinkhorn's plan, in evaluation of the logits; gates are the softmax
    over all experts."""
    from moe.recipes import gating

    scores = inputs.logits
    if inputs.training:
        assert inputs.knob is not None
        scores = gating.sinkhorn(scores, inputs.knob, MOST_ITERATIONS)
    chosen = gating.top_k_mask(scores, inputs.top_k)
    return Routing(gating.softmax(inputs.logits) * chosen, chosen, gating.no_loss(inputs))


RECIPE = Recipe(
    name="sinkhorn",
    route=route,
    source="Clark et al. 2022, S-BASE",
    gates="g = p at the top k of the logarithm of Sinkhorn's plan, which spreads the batch evenly, "
    "not renormalised; at the top k of s in evaluation",
    gate_loss="none",
    lc="Sinkhorn's iterations, a whole number from 1 to 16",
    random="nothing",
    use_it="for an even load in training without a gate loss; the load of the test may be another",
    color="#F0148C",
    order=11,
    knob=8,
    least_lc=1,
    most_lc=MOST_ITERATIONS,
    whole_lc=True,
    depends_on_batch="in training",
)
