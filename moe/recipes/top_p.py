"""Top-p routing: Huang et al., Harder Tasks Need More Experts, 2024, arXiv:2403.07652."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing

ENTROPY = 0.01  # weight of the entropy over that of the balance: 1e-4 over 1e-2 in the paper


def route(inputs: RouterInputs) -> Routing:
    """The fewest best experts whose probability sums to p, k at most; not renormalised."""
    from moe.recipes import gating

    assert inputs.knob is not None
    router_probs = gating.softmax(inputs.logits)
    chosen = gating.top_p_mask(router_probs, inputs.knob, inputs.top_k)
    balance = gating.switch_loss(chosen, router_probs, 1, inputs.num_experts)
    loss = balance + ENTROPY * gating.mean_entropy(inputs.logits)
    return Routing(router_probs * chosen, chosen, loss)


RECIPE = Recipe(
    name="top-p",
    route=route,
    source="Huang et al. 2024, eq. 3–8",
    gates="g = p at the fewest experts, best first, whose p sums to lc, not renormalised",
    gate_loss="ne · Σ f·P + 0.01 · the mean entropy of p, f the share of inputs that choose the "
    "expert",
    lc="the sum of p to reach, above 0 and at most 1; the gate loss weighs 0.01, as in the paper",
    k="any, as an upper bound: with k = ne there is none",
    random="nothing",
    use_it="where inputs differ in how many experts they need",
    color="#7A5AF0",
    order=12,
    knob=0.4,
    loss_weight=0.01,
    least_lc=1e-12,
    most_lc=1,
    exactly_k=False,
)
