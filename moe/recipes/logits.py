"""Shazeer et al. 2017 (arXiv:1701.06538) without noise: the plain sparsely-gated mixture."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Softmax over the top k logits; CV² of importance as the gate loss."""
    from moe.recipes import gating

    return gating.sparsely_gated(inputs)


RECIPE = Recipe(
    name="logits",
    route=route,
    source="Shazeer et al. 2017, eq. 3, 5–7, without noise",
    gates="g = softmax of the top k of s",
    gate_loss="CV²(importance)",
    lc="its weight",
    random="nothing",
    use_it="as the plain baseline for k ≥ 2; at k = 1 its router never trains",
    color="#009E73",
    order=2,
)
