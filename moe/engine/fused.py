"""The fused engine: all runs of a shard are one program, for GPUs and for any CPU.

Axes: R runs, G experts of all runs, E experts of the largest run, J router rows, S seeds, B batch,
D inputs, H hidden, C classes. The batch comes last, so that every product and every reduction reads
contiguous memory.

Routers and first layers are one matrix W (G, J + H, D), an expert's first J rows being its router
row and, with trainable noise, its noise row. So a step is: one product Z = W xᵀ for each seed,
small batched products for the second layers, the routing of all runs, the transposed product for
the gradient, one Adam. The backward of the experts is by hand; the routing, a hundredth of the
work, is the recipe's own function under autograd, so that a recipe is written once.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float64, Int, UInt8
from torch import Tensor

from moe.data import CLASSES, Dataset, batch_order, in_chunks, pixels, random_draws
from moe.engine import HISTORY, Trained
from moe.gating import RouterInputs, Routing, bias_step
from moe.grid import Run
from moe.layer import initial_weights
from moe.params import Train
from moe.recipes import recipe_named

EVALUATION_BATCH = 500


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
    in_order = [runs[i] for i in order]
    stack = Stack(in_order, data.train_x.shape[1], settings, device, dtype)
    train_x, train_y = data.train_x.to(device), data.train_y.to(device).long()
    test_x, test_y = data.test_x.to(device), data.test_y.to(device).long()
    history = []
    for epoch in range(settings.epochs):
        batches = torch.stack(
            [batch_order(seed, epoch, len(train_x), settings.batch_size) for seed in stack.seeds], 1
        ).to(device)
        trained = stack.train_epoch(train_x, train_y, batches, epoch)
        tested = stack.test(test_x, test_y)
        measures = {**trained, **tested}
        history.append(torch.stack([measures[name] for name in HISTORY], 1))
        if on_epoch:
            on_epoch(tested["test_accuracy"])
    histories = torch.stack(history, 1).cpu()
    results = {
        i: Trained(weights, histories[row].clone())
        for row, (i, weights) in enumerate(zip(order, stack.weights(), strict=True))
    }
    return [results[i] for i in range(len(runs))]


class Stack:
    """The weights of runs of one recipe, sorted by seed, and their training."""

    def __init__(
        self,
        runs: Sequence[Run],
        in_features: int,
        settings: Train,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        (recipe,) = {run.recipe for run in runs}
        self.runs, self.recipe = runs, recipe_named(recipe)
        self.routers = 2 if self.recipe.trainable_noise else 1
        self.settings, self.device, self.dtype = settings, device, dtype
        self._lay_out()
        self._initialise(in_features, settings.hidden)
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.learning_rate, fused=True)

    def _lay_out(self) -> None:
        """Where each run's experts stand: one after another in G, padded to E in routing."""
        integers = {"dtype": torch.long, "device": self.device}
        self.num_experts = torch.tensor([run.ne for run in self.runs], **integers)
        self.top_k = torch.tensor([run.k for run in self.runs], **integers)
        self.loss_coef = torch.tensor(
            [run.lc for run in self.runs], dtype=self.dtype, device=self.device
        )
        self.seeds = sorted({run.seed for run in self.runs})
        self.seed_of_run = torch.tensor(
            [self.seeds.index(run.seed) for run in self.runs], **integers
        )
        experts = [(row, e) for row, run in enumerate(self.runs) for e in range(run.ne)]
        most = max(run.ne for run in self.runs)
        self.run_of = torch.tensor([row for row, _ in experts], **integers)
        self.slot = torch.tensor([row * most + e for row, e in experts], **integers)
        self.padding = torch.ones(len(self.runs) * most, dtype=torch.bool, device=self.device)
        self.padding[self.slot] = False
        self.expert_at = torch.zeros(len(self.runs) * most, **integers)
        self.expert_at[self.slot] = torch.arange(len(experts), **integers)
        self.padding = self.padding.view(len(self.runs), most, 1)
        self.bias = torch.zeros(len(self.runs), most, dtype=self.dtype, device=self.device)
        per_seed = [sum(r.ne for r in self.runs if r.seed == seed) for seed in self.seeds]
        ends = torch.tensor(per_seed).cumsum(0).tolist()
        self.experts_of_seed = [slice(e - n, e) for e, n in zip(ends, per_seed, strict=True)]

    def _initialise(self, in_features: int, hidden: int) -> None:
        most = {seed: max(r.ne for r in self.runs if r.seed == seed) for seed in self.seeds}
        initial = {
            seed: initial_weights(seed, ne, in_features, hidden, CLASSES)
            for seed, ne in most.items()
        }

        def stacked(name: str) -> Tensor:
            parts = torch.cat([initial[run.seed][name][: run.ne] for run in self.runs])
            return parts.to(self.device, self.dtype)

        router, w1 = stacked("router.weight"), stacked("experts.w1")
        noise = torch.zeros_like(router)
        routers = torch.stack([router, noise][: self.routers], 1)
        self.W = torch.cat([routers, w1.transpose(1, 2)], 1).contiguous()
        self.b1 = stacked("experts.b1").unsqueeze(-1).contiguous()
        self.W2 = stacked("experts.w2").transpose(1, 2).contiguous()
        self.b2 = stacked("experts.b2").unsqueeze(-1).contiguous()
        self.parameters = [self.W, self.b1, self.W2, self.b2]
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def weights(self) -> list[dict[str, Tensor]]:
        """Each run's state dict for MoE, on the CPU."""
        parts = {
            "router.weight": self.W[:, 0],
            "experts.w1": self.W[:, self.routers :].transpose(1, 2),
            "experts.b1": self.b1.squeeze(-1),
            "experts.w2": self.W2.transpose(1, 2),
            "experts.b2": self.b2.squeeze(-1),
        }
        if self.recipe.trainable_noise:
            parts["noise.weight"] = self.W[:, 1]
        if self.recipe.selection_bias:
            parts["selection_bias"] = self.bias.view(-1)[self.slot]
        sizes = [run.ne for run in self.runs]
        split = {name: part.contiguous().cpu().split(sizes) for name, part in parts.items()}
        return [{name: split[name][row].clone() for name in parts} for row in range(len(self.runs))]

    # --- training

    def train_epoch(
        self,
        x: UInt8[Tensor, "N D"],
        y: Int[Tensor, " N"],
        batches: Int[Tensor, "steps S B"],
        epoch: int,
    ) -> dict[str, Float64[Tensor, " R"]]:
        """One pass over the batches; nothing in it waits for the device."""
        names = ("network_loss", "gate_loss", "train_accuracy", "router_grad_norm", "dropped")
        sums = {
            name: torch.zeros(len(self.runs), dtype=torch.float64, device=self.device)
            for name in names
        }
        largest = torch.zeros(len(self.runs), dtype=torch.float64, device=self.device)
        draws = self._draws(epoch, *batches.shape)
        for step, batch in enumerate(batches):
            drawn = None if draws is None else draws[:, :, step]
            measured = self.step(pixels(x[batch], self.dtype), y[batch], drawn)
            for name, total in sums.items():
                total += measured[name]
            torch.maximum(largest, measured["router_grad_norm"].double(), out=largest)
        means = {name: total / len(batches) for name, total in sums.items()}
        return {**means, "router_grad_norm_max": largest}

    def _draws(
        self, epoch: int, steps: int, seeds: int, batch_size: int
    ) -> Float[Tensor, "S E steps B"] | None:
        """The random numbers of each seed's runs for an epoch, if the recipe needs any."""
        if self.recipe.draws is None:
            return None
        most = self.padding.shape[1]
        of_seed = [
            random_draws(self.recipe.draws, seed, epoch, most, steps, batch_size)
            for seed in self.seeds
        ]
        return torch.stack(of_seed).to(self.device, self.dtype)

    def step(
        self,
        x: Float[Tensor, "S B D"],
        y: Int[Tensor, "S B"],
        draws: Float[Tensor, "S E B"] | None,
    ) -> dict[str, Float[Tensor, " R"]]:
        """Forward, backward and Adam for one batch of each seed."""
        G, rows, D = self.W.shape
        R, C, B, J = len(self.runs), self.W2.shape[1], x.shape[1], self.routers

        # forward
        Z = self.W.new_empty(G, rows, B)
        for experts, x_seed in zip(self.experts_of_seed, x, strict=True):
            torch.mm(self.W[experts].view(-1, D), x_seed.T, out=Z[experts].view(-1, B))
        router_out = [self._padded(Z[:, j]).requires_grad_() for j in range(J)]
        of_run = None if draws is None else draws.index_select(0, self.seed_of_run)
        with torch.enable_grad():
            routing = self.recipe.route(self._inputs(router_out, of_run, training=True))
        gates = self._packed(routing.gates.detach().transpose(1, 2))
        hidden = Z[:, J:].add_(self.b1).relu_()
        expert_out, mixture = self._mix(hidden, gates)
        log_probs = mixture.log_softmax(1)
        target = y.index_select(0, self.seed_of_run).unsqueeze(1)
        network_loss = -log_probs.gather(1, target).mean((1, 2))
        correct = (mixture.argmax(1, keepdim=True) == target).double().mean((1, 2))

        # backward: cross entropy, mixture, experts
        d_mixture = log_probs.exp_()
        d_mixture.scatter_add_(1, target, d_mixture.new_full((), -1.0).expand(target.shape))
        d_mixture /= B
        d_out = d_mixture.view(R, C * B).index_select(0, self.run_of).view(G, C, B)
        d_gates = (expert_out * d_out).sum(1)
        d_out *= gates.unsqueeze(1)
        if self.recipe.softmax_experts:
            d_out -= (d_out * expert_out).sum(1, keepdim=True)
            d_out *= expert_out
        torch.bmm(d_out, hidden.transpose(1, 2), out=self.W2.grad)
        torch.sum(d_out, 2, keepdim=True, out=self.b2.grad)
        d_hidden = torch.bmm(self.W2.transpose(1, 2), d_out).mul_(hidden > 0)
        torch.sum(d_hidden, 2, keepdim=True, out=self.b1.grad)

        # backward: the large product, Z now holding its own gradient
        for j, d_router in enumerate(self._backward_of(routing, router_out, d_gates)):
            Z[:, j] = self._packed(d_router)
        Z[:, J:] = d_hidden
        grad = self.W.grad
        assert grad is not None
        for experts, x_seed in zip(self.experts_of_seed, x, strict=True):
            torch.mm(Z[experts].view(-1, B), x_seed, out=grad[experts].view(-1, D))
        square = grad[:, 0].square().sum(1)
        norm = square.new_zeros(R).index_add_(0, self.run_of, square).sqrt()
        self.optimizer.step()
        if self.recipe.selection_bias:
            step = bias_step(routing.chosen, self.num_experts)
            self.bias += self.loss_coef.unsqueeze(-1) * step
        return {
            "network_loss": network_loss,
            "gate_loss": routing.gate_loss.detach(),
            "train_accuracy": correct,
            "router_grad_norm": norm,
            "dropped": torch.zeros_like(norm) if routing.dropped is None else routing.dropped,
        }

    def _inputs(
        self,
        router_out: Sequence[Float[Tensor, "R E B"]],
        draws: Float[Tensor, "R E B"] | None,
        training: bool,
    ) -> RouterInputs:
        logits, *noise = (out.transpose(1, 2) for out in router_out)
        return RouterInputs(
            logits,
            self.top_k,
            self.num_experts,
            training,
            noise[0] if noise else None,
            None if draws is None else draws.transpose(1, 2),
            self.bias,
            self.settings.capacity_factor,
        )

    def _backward_of(
        self,
        routing: Routing,
        router_out: Sequence[Float[Tensor, "R E B"]],
        d_gates: Float[Tensor, "G B"],
    ) -> Sequence[Float[Tensor, "R E B"]]:
        """The gradients of what the routers gave, by autograd through the recipe."""
        d_padded = torch.zeros_like(router_out[0]).view(-1, d_gates.shape[-1])
        d_padded = d_padded.index_copy_(0, self.slot, d_gates).view_as(router_out[0])
        terms = [(routing.gates, d_padded.transpose(1, 2)), (routing.gate_loss, self.loss_coef)]
        if routing.z_loss is not None and self.settings.z_loss:
            weight = torch.full_like(self.loss_coef, self.settings.z_loss)
            terms.append((routing.z_loss, weight))
        terms = [term for term in terms if term[0].requires_grad]
        if not terms:  # a frozen router, or none
            return [torch.zeros_like(out) for out in router_out]
        outputs, weights = zip(*terms, strict=True)
        return torch.autograd.grad(outputs, router_out, weights)

    def _padded(self, packed: Float[Tensor, "G B"]) -> Float[Tensor, "R E B"]:
        """Experts by run, those that a run does not have at −inf."""
        padded = packed.index_select(0, self.expert_at).view(*self.padding.shape[:2], -1)
        return padded.masked_fill_(self.padding, -torch.inf)

    def _packed(self, padded: Float[Tensor, "R E B"]) -> Float[Tensor, "G B"]:
        return padded.reshape(-1, padded.shape[-1]).index_select(0, self.slot)

    def _mix(
        self, hidden: Float[Tensor, "G H B"], gates: Float[Tensor, "G B"]
    ) -> tuple[Float[Tensor, "G C B"], Float[Tensor, "R C B"]]:
        """What each expert hands on, and the gated sum of each run."""
        out = torch.baddbmm(self.b2, self.W2, hidden)
        if self.recipe.softmax_experts:
            out = out.softmax(1)
        G, C, B = out.shape
        mixture = out.new_zeros(len(self.runs), C * B)
        mixture.index_add_(0, self.run_of, (out * gates.unsqueeze(1)).view(G, C * B))
        return out, mixture.view(-1, C, B)

    # --- test

    @torch.no_grad()
    def test(
        self, x: UInt8[Tensor, "N D"], y: Int[Tensor, " N"]
    ) -> dict[str, Float64[Tensor, " R"]]:
        """Accuracy, load violation and dead experts on a test set."""
        G, rows, D = self.W.shape
        R, E, _ = self.padding.shape
        correct = torch.zeros(R, dtype=torch.float64, device=self.device)
        tokens = torch.zeros(R, E, dtype=torch.float64, device=self.device)
        for chunk in in_chunks(len(x), EVALUATION_BATCH):
            Z = torch.mm(self.W.view(-1, D), pixels(x[chunk], self.dtype).T).view(G, rows, -1)
            router_out = [self._padded(Z[:, j]) for j in range(self.routers)]
            routing = self.recipe.route(self._inputs(router_out, None, training=False))
            hidden = Z[:, self.routers :].add_(self.b1).relu_()
            _, mixture = self._mix(hidden, self._packed(routing.gates.transpose(1, 2)))
            correct += (mixture.argmax(1) == y[chunk]).sum(1)
            tokens += routing.chosen.sum(1)
        return {
            "test_accuracy": correct / len(x),
            "max_violation": tokens.amax(1) / (tokens.sum(1) / self.num_experts) - 1,
            "dead_experts": ((tokens == 0) & ~self.padding.squeeze(-1)).sum(1).double(),
        }
