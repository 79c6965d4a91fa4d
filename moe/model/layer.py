"""The mixture-of-experts layer, one model at a time, as the textbooks write it.

Axes: B batch, D inputs, E experts, H hidden, C classes; `*B` any leading axes.

This is what users import and what every engine is tested against: written to be read, not to be
fast.
"""

import math
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from moe.recipes import RECIPES, gating, recipe_named
from moe.recipes.recipe import RouterInputs, Routing

LOW_PRECISION = (torch.float16, torch.bfloat16)


class Aux(NamedTuple):
    """What the router did, to balance it with and to look at.

    gate_loss: unweighted scalar; z_loss: the same, None for recipes without one.
    gates: (*B, E), zero where an expert does not see the input; chosen: (*B, E), where it does.
    importance: (E,), gates summed over the batch.
    dropped: share of the slots that exceeded the experts' capacity.
    """

    gate_loss: Float[Tensor, ""]
    gates: Float[Tensor, "*B E"]
    importance: Float[Tensor, " E"]
    chosen: Bool[Tensor, "*B E"]
    z_loss: Float[Tensor, ""] | None
    dropped: Float[Tensor, ""] | None


class Experts(nn.Module):
    """E two-layer perceptrons, D → H → C with a ReLU between, their weights stacked."""

    def __init__(self, num_experts: int, in_features: int, hidden: int, out_features: int) -> None:
        super().__init__()
        self.w1 = nn.Parameter(torch.empty(num_experts, in_features, hidden))
        self.b1 = nn.Parameter(torch.empty(num_experts, hidden))
        self.w2 = nn.Parameter(torch.empty(num_experts, hidden, out_features))
        self.b2 = nn.Parameter(torch.empty(num_experts, out_features))

    def forward(self, x: Float[Tensor, "N D"], expert: int) -> Float[Tensor, "N C"]:
        # (w.T x.T).T is x w, which BLAS takes three times as long for where w has few columns.
        hidden = F.relu((self.w1[expert].T @ x.T).T + self.b1[expert])
        return hidden @ self.w2[expert] + self.b2[expert]


class MoE(nn.Module):
    """A router and E experts, of which each input uses top_k.

    Parameters: router.weight (E, D); experts.w1 (E, D, H), .b1 (E, H), .w2 (E, H, C), .b2 (E, C).
    `shazeer` has noise.weight (E, D) too; `loss-free` and `deepseek-v3` have a buffer
    selection_bias (E,), which the training loop moves with `balance`. The router of a control
    recipe does not train, and does not require gradients.

    The router and all that it decides are in float32 at least, under autocast and after .half() or
    .bfloat16() too: with fewer digits, experts tie. So is the selection bias.

    Where x is NaN, or a router weight, the outputs that depend on it are NaN.

    torch.compile, torch.export (the batch may be dynamic), checkpointing and
    DistributedDataParallel work. torch.func.vmap does not: how many inputs an expert gets depends
    on the values, and vmap needs shapes that do not. A batch may have any number of leading axes
    instead; many models at once are what moe.engine.fused is for.

    in_features, hidden_features, out_features: D, H, C.
    recipe: a name in `moe.recipes.RECIPES`.
    capacity_factor: in training, an expert of `switch` or `gshard` takes at most
        ceil(capacity_factor · K · B / E) slots of a batch; None: all.
    knob: the number of the router itself that a recipe takes for lc, such as p of `top-p` or the
        iterations of `sinkhorn`; None: the recipe's usual one.
    seed: where the initial weights come from. Expert i's depend on (seed, i) alone, so models of
        different size share their experts. None draws the seed from torch's generator.

    Raises TypeError for sizes that are no whole numbers; ValueError for sizes below 1, top_k >
    num_experts or another than the recipe allows, a capacity_factor that is not positive or of a
    recipe without capacity, a knob that the recipe does not have or allow, and unknown recipes.
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
        capacity_factor: float | None = None,
        knob: float | None = None,
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
            if isinstance(size, bool) or not hasattr(size, "__index__"):
                raise TypeError(f"{name} = {size!r}, but it must be a whole number")
            if size < 1:
                raise ValueError(f"{name} = {size}, but it must be at least 1")
        if top_k > num_experts:
            raise ValueError(f"top_k = {top_k} is more than num_experts = {num_experts}")
        if capacity_factor is not None and not capacity_factor > 0:
            raise ValueError(f"capacity_factor = {capacity_factor}, but it must be above 0")
        self.top_k = operator.index(top_k)
        self.num_experts = operator.index(num_experts)
        self.capacity_factor = capacity_factor
        self.recipe = recipe_named(recipe)
        if reason := self.recipe.why_not_k(top_k):
            raise ValueError(f"top_k = {top_k}: {reason}")
        if capacity_factor is not None and not self.recipe.has_capacity:
            limited = ", ".join(name for name, other in RECIPES.items() if other.has_capacity)
            raise ValueError(
                f"capacity_factor = {capacity_factor}: {recipe} has no capacity; recipes with one: "
                f"{limited}"
            )
        if knob is not None and self.recipe.knob is None:
            raise ValueError(f"knob = {knob}: {recipe} has none")
        self.knob = self.recipe.knob if knob is None else knob
        if self.knob is not None and (reason := self.recipe.why_not_lc(self.knob)):
            raise ValueError(f"knob = {knob}: {reason}")
        self.router = nn.Linear(in_features, num_experts, bias=False)
        self.router.requires_grad_(self.recipe.trains_router)
        if self.recipe.trainable_noise:
            self.noise = nn.Linear(in_features, num_experts, bias=False)
            nn.init.zeros_(self.noise.weight)  # the same spread everywhere, as in the paper
        if self.recipe.selection_bias:
            self.selection_bias: Tensor
            self.register_buffer("selection_bias", torch.zeros(num_experts))
        self.experts = Experts(num_experts, in_features, hidden_features, out_features)
        seed = int(torch.randint(2**31, ())) if seed is None else seed
        self.load_state_dict(
            initial_weights(seed, num_experts, in_features, hidden_features, out_features),
            strict=False,  # noise and bias start from 0
        )

    def forward(
        self, x: Float[Tensor, "*B D"], draws: Float[Tensor, "*B E"] | None = None
    ) -> tuple[Float[Tensor, "*B C"], Aux]:
        """The mixture's output (*B, C), to go into a cross entropy, and what the router did.

        x: with any leading axes, as nn.Linear takes it; together they are the batch. After an empty
        one the gate loss is 0.
        draws: the step's random numbers, for recipes that need them in training; None takes them
        from torch's generator.
        """
        batch, x = x.shape[:-1], x.reshape(-1, x.shape[-1])
        draws = None if draws is None else draws.reshape(-1, self.num_experts)
        routing = self.recipe.route(self._router_inputs(x, draws))
        biases = self.experts.b2
        output = x.new_zeros(x.shape[0], biases.shape[-1], dtype=biases.dtype)
        for expert in range(self.num_experts):
            rows = routing.chosen[:, expert].nonzero().squeeze(-1)
            expert_output = self.experts(x.index_select(0, rows), expert)
            if self.recipe.softmax_experts:
                expert_output = expert_output.softmax(-1)
            gate = routing.gates[rows, expert].unsqueeze(-1)
            output = output.index_add(0, rows, (gate * expert_output).to(output.dtype))
        return output.reshape(*batch, output.shape[-1]), Aux(
            routing.gate_loss,
            routing.gates.reshape(*batch, self.num_experts),
            gating.importance(routing.gates),
            routing.chosen.reshape(*batch, self.num_experts),
            routing.z_loss,
            routing.dropped,
        )

    def _router_inputs(
        self, x: Float[Tensor, "*S B D"], draws: Float[Tensor, "*S B E"] | None = None
    ) -> RouterInputs:
        logits = self._router_product(self.router, x)
        if draws is None and self.training and self.recipe.draws:
            draw = torch.randn_like if self.recipe.draws == "normal" else torch.rand_like
            draws = draw(logits)
        return RouterInputs(
            logits,
            self.top_k,
            self.num_experts,
            self.training,
            self._router_product(self.noise, x) if self.recipe.trainable_noise else None,
            draws,
            self.selection_bias if self.recipe.selection_bias else None,
            self.capacity_factor,
            self.knob,
        )

    def _router_product(
        self, router: nn.Linear, x: Float[Tensor, "*S B D"]
    ) -> Float[Tensor, "*S B E"]:
        """x · W in float32 or, if the weights are, in float64."""
        weight = router.weight if self.recipe.trains_router else router.weight.detach()
        dtype = torch.promote_types(weight.dtype, torch.float32)
        with _without_autocast(x.device.type):
            return F.linear(x.to(dtype), weight.to(dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "MoE":
        """What .to(), .half() and the like do: the selection bias stays in float32 at least, since
        in bfloat16 0.5 + 0.001 is 0.5."""
        before = self.selection_bias if self.recipe.selection_bias else None
        super()._apply(fn, recurse)
        if before is not None and self.selection_bias.dtype in LOW_PRECISION:
            self.selection_bias = before.to(self.selection_bias.device)
        return self

    @torch.no_grad()
    def route(self, x: Float[Tensor, "*S B D"]) -> Routing:
        """The router alone, without gradients. Takes one batch, or several stacked in x (S, B, D):
        where an image's route depends on the others, those are the ones of its own batch."""
        return self.recipe.route(self._router_inputs(x))

    @torch.no_grad()
    def balance(self, aux: Aux, rate: float) -> None:
        """Move the selection bias, of recipes that have one, by rate after a training step."""
        if self.recipe.selection_bias:
            step = gating.bias_step(aux.chosen.reshape(-1, self.num_experts), self.num_experts)
            self.selection_bias += rate * step.to(self.selection_bias.dtype)


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Autocast off, where the device has it."""
    if torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()


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
    shapes = (  # with the fan_in of each: router row, w1, b1, w2, b2
        ((in_features,), in_features),
        ((in_features, hidden), in_features),
        ((hidden,), in_features),
        ((hidden, out_features), hidden),
        ((out_features,), hidden),
    )
    return tuple(rng.uniform(-1, 1, shape) / math.sqrt(fan_in) for shape, fan_in in shapes)
