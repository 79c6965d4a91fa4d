"""Noisy top-k gating: Shazeer et al. 2017, arXiv:1701.06538."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Softmax over the top k noisy logits; CV² of importance and of the smooth load."""
    from moe.recipes import gating

    assert inputs.noise_logits is not None
    noise_std = gating.noise_std(inputs.noise_logits)
    noisy = inputs.logits
    if inputs.training:
        assert inputs.draws is not None
        noisy = gating.noisy_logits(inputs.logits, noise_std, inputs.draws)
    gates, chosen = gating.top_k_softmax(noisy, inputs.top_k)
    sizes = inputs.top_k, inputs.num_experts
    load = gating.smooth_load(inputs.logits, noisy, noise_std, *sizes)
    even = [gating.cv_squared(x, inputs.num_experts) for x in (gating.importance(gates), load)]
    return Routing(gates, chosen, even[0] + even[1])


RECIPE = Recipe(
    name="shazeer",
    route=route,
    source="Shazeer et al. 2017, eq. 3–11",
    gates="h = s + (softplus(x·W_noise) + 0.01) · ε, g = softmax of the top k of h; h = s in "
    "evaluation",
    gate_loss="CV²(importance) + CV²(load), load = the expected number of inputs under fresh noise",
    lc="the weight of both",
    random="ε, standard normal",
    use_it="for two or more experts an input, to explore by noise early and to balance even counts",
    color="#56B4E9",
    order=4,
    draws="normal",
    trainable_noise=True,
)
