"""The mixture-of-experts layer, one model at a time, as the textbooks write it.

Axes: B batch, D inputs, E experts, H hidden, C classes.

This is what users import and what every engine is tested against: written to be read, not to be
fast.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from moe import gating
from moe.recipes import recipe_named


class Aux(NamedTuple):
    """gate_loss: unweighted scalar; gates (B, E); importance (E,): gates summed over the batch."""

    gate_loss: Float[Tensor, ""]
    gates: Float[Tensor, "B E"]
    importance: Float[Tensor, " E"]


class Experts(nn.Module):
    """E two-layer perceptrons, D → H → C with a ReLU between, their weights stacked."""

    def __init__(self, num_experts: int, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(num_experts, in_features, hidden))
        self.b1 = nn.Parameter(torch.empty(num_experts, hidden))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden, out_features))
        self.b2 = nn.Parameter(torch.empty(num_experts, out_features))

    def forward(self, x: Float[Tensor, "N D"], expert: int) -> Float[Tensor, "N C"]:
        hidden = F.relu(x @ self.w1[expert] + self.b1[expert])
        return hidden @ self.w2[expert] + self.b2[expert]


class MoE(nn.Module):
    """A router and E experts, of which each input uses top_k.

    Parameters: router.weight (E, D); experts.w1 (E, D, H), .b1 (E, H), .w2 (E, H, C), .b2 (E, C).

    in_features, hidden_features, out_features: D, H, C.
    recipe: a name in `moe.recipes.RECIPES`.
    seed: where the initial weights come from. Expert i's depend on (seed, i) alone, so models of
        different size share their experts. None draws the seed from torch's generator.

    Raises ValueError for sizes below 1, top_k > num_experts, and unknown recipes.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        out_features: int,
        num_experts: int,
        top_k: int,
        recipe: str = "logits",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        sizes = {
            "in_features": in_features,
            "hidden_features": hidden_features,
            "out_features": out_features,
            "num_experts": num_experts,
            "top_k": top_k,
        }
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} = {size}, but it must be at least 1")
        if top_k > num_experts:
            raise ValueError(f"top_k = {top_k} is more than num_experts = {num_experts}")
        self.top_k = top_k
        self.num_experts = num_experts
        self.recipe = recipe_named(recipe)
        self.router = nn.Linear(in_features, num_experts, bias=False)
        self.experts = Experts(num_experts, in_features, hidden_features, out_features)
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        self.load_state_dict(
            initial_weights(seed, num_experts, in_features, hidden_features, out_features)
        )

    def forward(self, x: Float[Tensor, "B D"]) -> tuple[Float[Tensor, "B C"], Aux]:
        """The mixture's output (B, C), to go into a cross entropy, and what the router did."""
        routing = self.recipe.route(self.router(x), self.top_k, self.num_experts)
        output = x.new_zeros(len(x), self.experts.b2.shape[-1])
        for expert in range(self.num_experts):
            rows = routing.chosen[:, expert].nonzero().squeeze(-1)
            expert_output = self.experts(x[rows], expert)
            if self.recipe.softmax_experts:
                expert_output = expert_output.softmax(-1)
            gate = routing.gates[rows, expert].unsqueeze(-1)
            output = output.index_add(0, rows, gate * expert_output)
        aux = Aux(routing.gate_loss, routing.gates, gating.importance(routing.gates))
        return output, aux


def initial_weights(
    seed: int, num_experts: int, in_features: int, hidden: int, out_features: int
) -> dict[str, Tensor]:
    """A state dict for MoE, float32, uniform in ± 1/√fan_in as nn.Linear draws it.

    Expert i's weights and its router row come from a generator of their own, seeded by (seed, i):
    runs of one seed are paired whatever their number of experts.
    """
    per_expert = [
        _one_expert(np.random.default_rng((seed, i)), in_features, hidden, out_features)
        for i in range(num_experts)
    ]
    names = ("router.weight", "experts.w1", "experts.b1", "experts.w2", "experts.b2")
    return {
        name: torch.from_numpy(np.stack(arrays)).float()
        for name, arrays in zip(names, zip(*per_expert, strict=True), strict=True)
    }


def _one_expert(
    rng: np.random.Generator, in_features: int, hidden: int, out_features: int
) -> tuple[np.ndarray, ...]:
    def uniform(*shape: int, fan_in: int) -> np.ndarray:
        return rng.uniform(-1, 1, shape) / math.sqrt(fan_in)

    return (
        uniform(in_features, fan_in=in_features),
        uniform(in_features, hidden, fan_in=in_features),
        uniform(hidden, fan_in=in_features),
        uniform(hidden, out_features, fan_in=hidden),
        uniform(out_features, fan_in=hidden),
    )
