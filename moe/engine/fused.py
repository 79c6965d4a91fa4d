"""The fused engine: all runs of a shard as one torch program, forward and backward by hand.

Axes: R runs, G experts of all runs together, E experts of the largest run, S seeds, B batch,
D inputs, H hidden, C classes. The batch is always the last, contiguous axis.

For each seed, the first layers of all runs' experts are stacked in one matrix, their router rows in
another. A step is one large product Z = W xᵀ, small batched products for the second layers, and the
transposed product for the gradient; seeds with equally many experts share one batched product. The
recipe computes the gates from the router's logits; autograd differentiates that part.

A step reads and writes only fixed buffers and never copies a value back to the host. On a GPU it is
therefore captured as one CUDA graph (moe/engine/cuda_graph.py).
"""

import os
from collections.abc import Callable, Sequence
from math import prod

import torch
from jaxtyping import Float, Float64, Int, Shaped
from torch import Tensor
from torch.nn.functional import pad

from moe.data.batches import batch_order, in_chunks, numbers, random_draws
from moe.data.dataset import Dataset
from moe.engine import HISTORY, Trained
from moe.engine.cuda_graph import Replayed
from moe.engine.packing import Layout
from moe.engine.products import product
from moe.model.layer import initial_weights
from moe.recipes import recipe_named
from moe.recipes.gating import RouterInputs, Routing, bias_step
from moe.study.runs import Run
from moe.study.train_settings import Train

EVALUATION_BATCH = 500
SUMS = ("network_loss", "gate_loss", "train_accuracy", "router_grad_norm", "dropped")
# Makes cuBLAS deterministic.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def train(
    runs: Sequence[Run],
    data: Dataset,
    settings: Train,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    on_epoch: Callable[[Float64[Tensor, " R"]], None] | None = None,
) -> list[Trained]:
    """Train runs of one recipe together; one result for each, in the given order.

    on_epoch is called after each epoch with the runs' test accuracies, in no particular order.
    """
    order = sorted(range(len(runs)), key=lambda i: runs[i].seed)
    stack = Stack([runs[i] for i in order], data, settings, device, dtype)
    test_x, test_y = data.test_x.to(device), data.test_y.to(device).long()
    history = []
    for epoch in range(settings.epochs):
        measures = {**stack.train_epoch(epoch), **stack.test(test_x, test_y)}
        history.append(torch.stack([measures[name] for name in HISTORY], 1))
        if on_epoch:
            on_epoch(measures["test_accuracy"])
    histories = torch.stack(history, 1).cpu()
    results = {
        i: Trained(weights, histories[row].clone())
        for row, (i, weights) in enumerate(zip(order, stack.weights(), strict=True))
    }
    return [results[i] for i in range(len(runs))]


def bytes_per_expert(settings: Train, inputs: int, classes: int) -> int:
    """About how much memory an expert takes in a large stack, for any recipe."""
    H, C = settings.hidden, classes
    weights = (2 + H) * inputs + H + H * C + C
    # Per sample: logits, hidden layer, output and routing, with gradients and intermediates,
    # including one byte per pair of experts of a run (assuming runs of 64 experts)
    step = (2 * H + 6 * C + 40) * settings.batch_size
    test = (2 * H + 3 * C + 28) * EVALUATION_BATCH
    return 4 * (4 * weights + max(step, test))  # 4 bytes; Adam keeps gradient and two moments


class Stack:
    """The weights of runs of one recipe, sorted by seed, and their training."""

    def __init__(
        self,
        runs: Sequence[Run],
        data: Dataset,
        settings: Train,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        (recipe,) = {run.recipe for run in runs}
        self.runs, self.recipe = runs, recipe_named(recipe)
        self.settings, self.device, self.dtype = settings, device, dtype
        self.layout = Layout(runs, device)
        self.x, self.y = data.train_x.to(device), data.train_y.to(device).long()
        self._initialise(self.x.shape[1], settings.hidden, data.classes)
        self._lay_out_buffers()
        self.optimizer = torch.optim.Adam(
            [self.flat], lr=settings.learning_rate, fused=True, capturable=device.type == "cuda"
        )
        self.step = Replayed(self._step, device)

    def _initialise(self, in_features: int, hidden: int, classes: int) -> None:
        """All weights as views of one vector, so that Adam is one operation."""
        G, D, H, C = len(self.layout.run_of), in_features, hidden, classes
        shapes = {"router": (G, D), "w1": (G, H, D), "b1": (G, H, 1), "w2": (G, C, H)}
        shapes |= {"b2": (G, C, 1)} | ({"noise": (G, D)} if self.recipe.trainable_noise else {})
        self.flat = torch.zeros(
            sum(map(prod, shapes.values())), dtype=self.dtype, device=self.device
        )
        self.flat.grad = torch.zeros_like(self.flat)
        self.parameters, self.gradients = (_views(x, shapes) for x in (self.flat, self.flat.grad))
        most = {run.seed: max(r.ne for r in self.runs if r.seed == run.seed) for run in self.runs}
        initial = {seed: initial_weights(seed, ne, D, H, C) for seed, ne in most.items()}
        first = dict.fromkeys(self.parameters, 0)
        for name, values in (
            (name, initial[run.seed][state][: run.ne])
            for run in self.runs
            for name, state in STATE.items()
        ):
            begin, end = first[name], first[name] + len(values)
            self.parameters[name][begin:end].copy_(_transposed(name, values))
            first[name] = end
        self.bias = torch.zeros(*self.layout.shape, dtype=self.dtype, device=self.device)
        lc = [run.lc for run in self.runs]
        self.lc, self.loss_coef = (
            torch.tensor(values, dtype=self.dtype, device=self.device)
            for values in (lc, list(map(self.recipe.weight_of, lc)))
        )

    def _lay_out_buffers(self) -> None:
        """Allocate the fixed buffers that a step uses, apart from the weights."""
        (G, H, _), C = self.parameters["w1"].shape, self.parameters["b2"].shape[1]
        B, S = self.settings.batch_size, len(self.layout.seeds)
        steps = len(self.x) // B

        def zeros(*shape: int, dtype: torch.dtype = self.dtype) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        self.classes = torch.arange(C, device=self.device).view(1, -1, 1)
        self.at = zeros(1, dtype=torch.long)  # index of the next step in the epoch
        self.batches = zeros(steps, S * B, dtype=torch.long)
        draws = (S, self.layout.shape[1], steps, B)
        self.draws = zeros(*draws) if self.recipe.draws else None
        # One extra row: the padding of Layout.padded
        routers = [name for name in ("router", "noise") if name in self.parameters]
        self.router_out = {name: zeros(G + 1, B) for name in routers}
        for out in self.router_out.values():
            out[-1] = -torch.inf
        self.d_gates, self.norms = zeros(G + 1, B), zeros(G + 1, 1)
        self.hidden, self.d_hidden = zeros(G, H, B), zeros(G, H, B)
        self.sums = zeros(len(SUMS), len(self.runs), dtype=torch.float64)
        self.largest = zeros(len(self.runs), dtype=torch.float64)

    def weights(self) -> list[dict[str, Tensor]]:
        """Each run's state dict for MoE, on the CPU."""
        sizes = self.layout.sizes
        parts = {
            state: _transposed(name, self.parameters[name]).contiguous()
            for name, state in {**STATE, "noise": "noise.weight"}.items()
            if name in self.parameters
        }
        if self.recipe.selection_bias:
            parts["selection_bias"] = self.bias.view(-1)[self.layout.slot]
        split = {name: part.cpu().split(sizes) for name, part in parts.items()}
        return [{name: split[name][row].clone() for name in parts} for row in range(len(self.runs))]

    # --- training

    def train_epoch(self, epoch: int) -> dict[str, Float64[Tensor, " R"]]:
        """One pass over the batches; nothing in it waits for the device."""
        self.begin_epoch(epoch)
        for _ in self.batches:
            self.step()
        means = dict(zip(SUMS, self.sums / len(self.batches), strict=True))
        return {**means, "router_grad_norm_max": self.largest.clone()}

    def begin_epoch(self, epoch: int) -> None:
        """Load an epoch's batches and random numbers."""
        steps, batch_size = len(self.batches), self.settings.batch_size
        orders = [batch_order(s, epoch, len(self.x), batch_size) for s in self.layout.seeds]
        self.batches.copy_(torch.cat(orders, 1))
        if self.draws is not None:
            assert self.recipe.draws is not None
            for drawn, seed in zip(self.draws, self.layout.seeds, strict=True):
                kind, most = self.recipe.draws, self.layout.shape[1]
                drawn.copy_(random_draws(kind, seed, epoch, most, steps, batch_size))
        for buffer in (self.at, self.sums, self.largest):
            buffer.zero_()

    def _step(self) -> None:
        """Forward, backward and Adam for the next batch of each seed."""
        layout, p = self.layout, self.parameters
        (G, C, _), R, S = p["w2"].shape, len(self.runs), len(layout.seeds)
        batch = self.batches.index_select(0, self.at).flatten()
        x = numbers(self.x.index_select(0, batch), self.dtype).view(S, -1, p["w1"].shape[-1])
        y = self.y.index_select(0, batch).view(S, -1)
        B = y.shape[1]

        # forward
        for name, out in self.router_out.items():
            self._times_x(p[name], x, out[:-1])
        self._times_x(p["w1"], x, self.hidden, self.settings.precision)
        router_out = [layout.padded(out) for out in self.router_out.values()]
        with torch.enable_grad():
            routing = self.recipe.route(self._inputs(router_out, self._drawn(), training=True))
        gates = layout.packed(routing.gates.detach().mT)
        hidden = self.hidden.add_(p["b1"]).relu_()
        expert_out, mixture = self._mix(hidden, gates)
        target = y.index_select(0, layout.seed_of_run).unsqueeze(1)
        correct = mixture.max(1, keepdim=True).indices == target
        log_probs = mixture.log_softmax(1)
        network_loss = -log_probs.gather(1, target).mean((1, 2))

        # backward: cross entropy, mixture, experts
        is_target = self.classes == target
        d_mixture = log_probs.exp_().sub_(is_target.to(self.dtype)).div_(B)
        d_out = layout.to_experts(d_mixture.view(R, C * B)).view(G, C, B)
        torch.sum(expert_out * d_out, 1, out=self.d_gates[:-1])
        d_out *= gates.unsqueeze(1)
        if self.recipe.softmax_experts:
            d_out -= (d_out * expert_out).sum(1, keepdim=True)
            d_out *= expert_out
        torch.bmm(d_out, hidden.mT, out=self.gradients["w2"])
        torch.sum(d_out, 2, keepdim=True, out=self.gradients["b2"])
        torch.bmm(p["w2"].mT, d_out, out=self.d_hidden)
        self.d_hidden *= hidden.sign_()
        torch.sum(self.d_hidden, 2, keepdim=True, out=self.gradients["b1"])

        # backward: the products with x
        d_router = self._backward_of(routing, router_out)
        for name, d_packed in zip(("router", "noise"), map(layout.packed, d_router), strict=False):
            self._gradient_of(name, d_packed, x)
        self._gradient_of("w1", self.d_hidden, x, self.settings.precision)
        self.optimizer.step()
        if self.recipe.selection_bias:
            self.bias += self.lc.unsqueeze(-1) * bias_step(routing.chosen, layout.num_experts)

        norm_of = torch.linalg.vector_norm
        norm_of(self.gradients["router"], dim=1, keepdim=True, out=self.norms[:-1])
        norm = norm_of(layout.padded(self.norms), dim=(1, 2))
        dropped = torch.zeros_like(norm) if routing.dropped is None else routing.dropped
        accuracy = correct.mean((1, 2), dtype=self.dtype)
        measured = (network_loss, routing.gate_loss.detach(), accuracy, norm, dropped)
        self.sums += torch.stack(measured)
        torch.maximum(self.largest, norm.double(), out=self.largest)
        self.at += 1

    def _times_x(
        self,
        weights: Float[Tensor, "G *rows D"],
        x: Float[Tensor, "S B D"],
        out: Float[Tensor, "G *rows B"],
        precision: str = "float32",
    ) -> None:
        """out = W xᵀ, W being the weights, each expert with the batch of its seed."""
        for group in self.layout.groups:
            product(group.of(weights), x[group.seeds].mT, group.of(out), precision)

    def _gradient_of(
        self,
        name: str,
        d_out: Float[Tensor, "G *rows B"],
        x: Float[Tensor, "S B D"],
        precision: str = "float32",
    ) -> None:
        """The gradient of the weights that made out = W xᵀ."""
        for group in self.layout.groups:
            product(group.of(d_out), x[group.seeds], group.of(self.gradients[name]), precision)

    def _drawn(self) -> Float[Tensor, "R E B"] | None:
        """The step's random numbers of each run's experts."""
        if self.draws is None:
            return None
        drawn = self.draws.index_select(2, self.at).squeeze(2)
        return drawn.index_select(0, self.layout.seed_of_run)

    def _inputs(
        self,
        router_out: Sequence[Float[Tensor, "R E B"]],
        draws: Float[Tensor, "R E B"] | None,
        training: bool,
    ) -> RouterInputs:
        logits, *noise = (out.requires_grad_(training).mT for out in router_out)
        return RouterInputs(
            logits,
            self.layout.top_k,
            self.layout.num_experts,
            training,
            noise[0] if noise else None,
            None if draws is None else draws.mT,
            self.bias,
            self.settings.capacity_factor,
            None if self.recipe.knob is None else self.lc,
        )

    def _backward_of(
        self,
        routing: Routing,
        router_out: Sequence[Float[Tensor, "R E B"]],
    ) -> Sequence[Float[Tensor, "R E B"]]:
        """The gradients of the routers' outputs, by autograd through the recipe."""
        terms = [
            (routing.gates, self.layout.padded(self.d_gates).mT),
            (routing.gate_loss, self.loss_coef),
        ]
        if routing.z_loss is not None and self.settings.z_loss:
            weight = torch.full_like(self.loss_coef, self.settings.z_loss)
            terms.append((routing.z_loss, weight))
        terms = [term for term in terms if term[0].requires_grad]
        if not terms or not self.recipe.trains_router:
            return [torch.zeros_like(out) for out in router_out]
        outputs, weights = zip(*terms, strict=True)
        return torch.autograd.grad(outputs, router_out, weights)

    def _mix(
        self, hidden: Float[Tensor, "G H B"], gates: Float[Tensor, "G B"]
    ) -> tuple[Float[Tensor, "G C B"], Float[Tensor, "R C B"]]:
        """The output of each expert, and the gated sum of each run."""
        out = torch.baddbmm(self.parameters["b2"], self.parameters["w2"], hidden)
        if self.recipe.softmax_experts:
            out = out.softmax(1)
        G, C, B = out.shape
        weighted = (out * gates.unsqueeze(1)).view(G, C * B)
        return out, self.layout.sum_over_experts(weighted).view(-1, C, B)

    # --- test

    @torch.no_grad()
    def test(
        self, x: Shaped[Tensor, "N D"], y: Int[Tensor, " N"]
    ) -> dict[str, Float64[Tensor, " R"]]:
        """Accuracy, load violation and dead experts on a test set."""
        layout, p = self.layout, self.parameters
        (G, H, D), (R, E) = p["w1"].shape, layout.shape
        correct = torch.zeros(R, dtype=torch.float64, device=self.device)
        tokens = torch.zeros(R, E, dtype=torch.float64, device=self.device)
        # If routing depends on the batch, the whole test set is one batch.
        whole = self.recipe.depends_on_batch == "in training and in evaluation"
        for chunk in in_chunks(len(x), len(x) if whole else EVALUATION_BATCH):
            x_chunk = numbers(x[chunk], self.dtype).T
            router_out = [
                layout.padded(pad(p[name] @ x_chunk, (0, 0, 0, 1), value=-torch.inf))
                for name in self.router_out
            ]
            routing = self.recipe.route(self._inputs(router_out, None, training=False))
            hidden = torch.mm(p["w1"].view(G * H, D), x_chunk).view(G, H, -1)
            hidden = hidden.add_(p["b1"]).relu_()
            _, mixture = self._mix(hidden, layout.packed(routing.gates.mT))
            correct += (mixture.max(1).indices == y[chunk]).sum(1)
            tokens += routing.chosen.sum(1)
        shared = self.recipe.shared
        routed, is_padding = tokens[:, shared:], layout.is_padding[:, shared:]
        return {
            "test_accuracy": correct / len(x),
            "max_violation": routed.amax(1) / (routed.sum(1) / (layout.num_experts - shared)) - 1,
            "dead_experts": ((routed == 0) & ~is_padding).sum(1).double(),
        }


# The stack's name of a parameter -> its name in MoE's state dict
STATE = {
    "router": "router.weight",
    "w1": "experts.w1",
    "b1": "experts.b1",
    "w2": "experts.w2",
    "b2": "experts.b2",
}


def _transposed(name: str, values: Tensor) -> Tensor:
    """Convert between MoE's order of axes and the stack's, whose matrices are (out, in)."""
    if name in ("w1", "w2"):
        return values.mT
    if name in ("b1", "b2"):
        return values.squeeze(-1) if values.ndim == 3 else values.unsqueeze(-1)
    return values


def _views(flat: Tensor, shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    parts = flat.split([prod(shape) for shape in shapes.values()])
    return {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
