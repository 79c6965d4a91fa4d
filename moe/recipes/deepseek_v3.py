"""DeepSeek-V3: DeepSeek-AI 2024, arXiv:2412.19437."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Sigmoid scores, divided by their sum over the chosen; a bias takes part in selection only."""
    from torch.nn.functional import logsigmoid

    from moe.recipes import gating

    chosen = gating.biased_choice(inputs)
    # The softmax of log σ(s) is σ(s) over its sum, and finite where every σ(s) rounds to 0.
    gates = gating.softmax(logsigmoid(inputs.logits), chosen)
    return Routing(gates, chosen, gating.no_loss(inputs))


RECIPE = Recipe(
    name="deepseek-v3",
    route=route,
    source="DeepSeek-AI 2024, eq. 12–16, without the sequence-wise loss",
    gates="g = sigmoid(s) at the top k of sigmoid(s) + bias, divided by their sum",
    gate_loss="none",
    lc="the step of the bias, up for an expert with less than the mean load, down with more",
    random="nothing",
    use_it="as `loss-free`, with gates that compete; at k = 1 its router never trains",
    color="#A50F15",
    order=8,
    selection_bias=True,
)
