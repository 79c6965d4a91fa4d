"""Expert choice: Zhou et al. 2022, arXiv:2202.09368."""

from moe.recipes.recipe import Recipe, RouterInputs, Routing


def route(inputs: RouterInputs) -> Routing:
    """Each expert takes the ⌈k · B / ne⌉ inputs with its highest probabilities."""
    import torch

    from moe.recipes import gating

    router_probs = gating.softmax(inputs.logits)
    top_k, num_experts = (
        torch.as_tensor(n, device=router_probs.device) for n in (inputs.top_k, inputs.num_experts)
    )
    batch, size = inputs.logits.shape[-2:]
    capacity = (top_k * batch + num_experts - 1) // num_experts
    taken = gating.ranks_in_batch(router_probs) < capacity[..., None, None]
    real = torch.arange(size, device=taken.device) < num_experts[..., None, None]
    chosen = taken & real
    return Routing(router_probs * chosen, chosen, gating.no_loss(inputs))


RECIPE = Recipe(
    name="expert-choice",
    route=route,
    source="Zhou et al. 2022, eq. 1–2",
    gates="g = p at the ⌈k·B/ne⌉ inputs of the batch that have the highest p of the expert",
    gate_loss="none",
    lc="nothing",
    k="any, as a mean: an input may have no expert, or many",
    random="nothing",
    use_it="where experts must be equally busy and whole batches are there in evaluation too",
    color="#006D85",
    order=10,
    depends_on_batch="in training and in evaluation",
    exactly_k=False,
)
