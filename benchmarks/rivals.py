"""The rivals, each as a user would write it: plain torch modules, torch's own Adam.

They all train the classifier of the study, or their closest equivalent: D inputs, E experts of H
hidden units, C classes, batch B, cross entropy plus lc times a gate loss. Recipes differ only in
the gating's last few operations on (B, E), which cost the same, so rivals have one gating.
"""

import functools
import importlib
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils.data import DataLoader

from benchmarks.timing import Case, Impossible, Take, Way, clocked, endless_batches
from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.data.download import import_torchvision

CLASSES = 10  # of MNIST

# --- the well-known module


class SparseDispatcher:
    """Dispatches inputs to their experts, and combines the outputs.

    After the class of that name in public PyTorch implementations of Shazeer et al. 2017.
    """

    def __init__(self, gates: Tensor) -> None:
        """gates: (B, E), zero where an expert is not chosen."""
        self.gates = gates
        chosen = torch.nonzero(gates)
        by_expert, order = chosen.sort(0)
        self.expert = by_expert[:, 1]
        self.image = chosen[order[:, 1], 0]
        self.sizes = (gates > 0).sum(0).tolist()
        self.of_slot = gates[self.image].gather(1, self.expert.unsqueeze(1))

    def dispatch(self, x: Tensor) -> tuple[Tensor, ...]:
        """x (B, D) as one tensor for each expert."""
        return x[self.image].split(self.sizes)

    def combine(self, expert_out: list[Tensor]) -> Tensor:
        """The gated sum (B, C)."""
        weighted = torch.cat(expert_out) * self.of_slot
        return weighted.new_zeros(len(self.gates), weighted.shape[1]).index_add(
            0, self.image, weighted
        )


class SparseMoE(nn.Module):
    """Top-k softmax gating, a list of experts, and the gate loss CV² of importance."""

    def __init__(self, inputs: int, hidden: int, ne: int, k: int, softmax_experts: bool) -> None:
        super().__init__()
        self.k = k
        self.router = nn.Linear(inputs, ne, bias=False)
        last = [nn.Softmax(1)] if softmax_experts else []
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES), *last)
            for _ in range(ne)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output (B, C) and the gate loss."""
        top, index = self.router(x).topk(self.k, dim=1)
        gates = x.new_zeros(len(x), len(self.experts)).scatter(1, index, top.softmax(1))
        dispatcher = SparseDispatcher(gates)
        parts = zip(self.experts, dispatcher.dispatch(x), strict=True)
        output = dispatcher.combine([expert(part) for expert, part in parts])
        importance = gates.sum(0)
        if len(importance) == 1:
            return output, importance.new_zeros(())
        return output, importance.var() / (importance.mean() ** 2 + 1e-10)


def module(case: Case) -> Take:
    """The module, with tensors resident in memory."""
    x, y = _resident(case.data)
    feed = ((x[batch], y[batch]) for batch in endless_batches(case))
    return _trained(_sparse_moe(case), feed, case)


def dataloader(case: Case) -> Take:
    """The same module, fed image by image by torchvision's MNIST, as tutorials do."""
    return _trained(_sparse_moe(case), _through_dataloader(case), case)


def _sparse_moe(case: Case) -> nn.Module:
    trial, inputs = case.trial, case.data.train_x.shape[1]
    return SparseMoE(inputs, case.settings.hidden, trial.ne, trial.k, trial.recipe == "blog")


@functools.lru_cache(maxsize=1)
def _resident(data: Dataset) -> tuple[Tensor, Tensor]:
    """x (N, D) as float32, y (N,): a user has them converted once, before training."""
    return numbers(data.train_x), data.train_y.long()


def _through_dataloader(case: Case) -> Iterator[tuple[Tensor, Tensor]]:
    images = _torchvision_mnist(case.data)
    loader = DataLoader(images, case.settings.batch_size, shuffle=True, drop_last=True)
    while True:
        for x, y in loader:
            yield x.flatten(1), y


@functools.lru_cache(maxsize=1)
def _torchvision_mnist(data: Dataset) -> Any:
    """torchvision's MNIST with ToTensor, reading the same files as the other ways."""
    vision = import_torchvision()
    from torchvision.transforms import ToTensor

    assert data.folder is not None
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root) / "MNIST" / "raw"
        raw.parent.mkdir()
        raw.symlink_to(data.folder.resolve())
        return vision.datasets.MNIST(root, train=True, transform=ToTensor())


def _trained(model: nn.Module, feed: Iterator[tuple[Tensor, Tensor]], case: Case) -> Take:
    """A plain training loop; the model returns an output (B, C) and an auxiliary loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=case.settings.learning_rate)

    def step() -> int:
        x, y = next(feed)
        output, aux = model(x)
        loss = F.cross_entropy(output, y) + case.trial.lc * aux
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return 1

    return clocked(step)


# --- from PyPI


class WithHead(nn.Module):
    """A D → D layer from PyPI, used as (1, B, D), with a linear head: no other sizes are supported.

    It does more work than the study's model: an expert's output has D numbers, not C.
    """

    def __init__(self, layer: nn.Module, inputs: int) -> None:
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(inputs, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        output, aux, *_ = self.layer(x.unsqueeze(0))
        return self.head(output.squeeze(0)), aux


def mixture_of_experts(case: Case) -> Take:
    """PyPI's mixture-of-experts: k is always 2."""
    package = _package("mixture_of_experts")
    trial, inputs = case.trial, case.data.train_x.shape[1]
    if trial.k != 2:
        raise Impossible("it has only k = 2")
    layer = package.MoE(inputs, num_experts=trial.ne, hidden_dim=case.settings.hidden)
    return _peer(layer, case)


def st_moe_pytorch(case: Case) -> Take:
    """PyPI's st-moe-pytorch: k is at least 2, and experts are gated (GEGLU)."""
    package = _package("st_moe_pytorch")
    trial, inputs = case.trial, case.data.train_x.shape[1]
    if trial.k < 2:
        raise Impossible("it needs k >= 2")
    layer = package.MoE(
        inputs,
        num_experts=trial.ne,
        gating_top_n=trial.k,
        # It has int(D · mult · 2/3) hidden units; the added half prevents rounding to H - 1.
        expert_hidden_mult=(case.settings.hidden + 0.5) * 1.5 / inputs,
    )
    return _peer(layer, case)


def _peer(layer: nn.Module, case: Case) -> Take:
    x, y = _resident(case.data)
    feed = ((x[batch], y[batch]) for batch in endless_batches(case))
    return _trained(WithHead(layer, x.shape[1]), feed, case)


def _package(name: str) -> Any:
    if find_spec(name) is None:
        raise Impossible("not installed")
    return importlib.import_module(name)


# --- torch.func


class DenseMoE(nn.Module):
    """Every expert computes every image, since vmap does not support data-dependent choices."""

    def __init__(self, inputs: int, hidden: int, ne: int, k: int, softmax_experts: bool) -> None:
        super().__init__()
        self.k, self.softmax_experts = k, softmax_experts
        self.router = nn.Parameter(_uniform(inputs, ne, fan_in=inputs))
        self.w1 = nn.Parameter(_uniform(inputs, ne * hidden, fan_in=inputs))
        self.b1 = nn.Parameter(_uniform(ne * hidden, fan_in=inputs))
        self.w2 = nn.Parameter(_uniform(ne, hidden, CLASSES, fan_in=hidden))
        self.b2 = nn.Parameter(_uniform(ne, CLASSES, fan_in=hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The output (B, C) and the gate loss."""
        logits = x @ self.router
        top, index = logits.topk(self.k, dim=1)
        gates = torch.zeros_like(logits).scatter(1, index, top.softmax(1))
        hidden = F.relu(x @ self.w1 + self.b1).unflatten(1, self.w2.shape[:2])
        expert_out = torch.einsum("beh,ehc->bec", hidden, self.w2) + self.b2
        if self.softmax_experts:
            expert_out = expert_out.softmax(2)
        importance = gates.sum(0)
        cv_squared = importance.var(correction=0) / (importance.mean() ** 2 + 1e-10)
        return torch.einsum("be,bec->bc", gates, expert_out), cv_squared


def _uniform(*shape: int, fan_in: int) -> Tensor:
    return (2 * torch.rand(shape) - 1) / fan_in**0.5


def vmapped(case: Case) -> Take:
    """All runs of the case as one program: vmap over stacked modules, one fused Adam.

    All runs share one batch, the cheapest case.
    """
    trial, lc = case.trial, case.trial.lc
    sizes = case.data.train_x.shape[1], case.settings.hidden, trial.ne, trial.k
    models = [DenseMoE(*sizes, trial.recipe == "blog") for _ in range(case.runs)]
    stacked, _ = stack_module_state(models)
    optimizer = torch.optim.Adam(stacked.values(), lr=case.settings.learning_rate, fused=True)
    x, y = _resident(case.data)
    batches = endless_batches(case)

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        output, gate_loss = functional_call(models[0], weights, (x,))
        return F.cross_entropy(output, y) + lc * gate_loss

    gradients = vmap(grad(loss), in_dims=(0, None, None))

    def step() -> int:
        batch = next(batches)
        detached = {name: weight.detach() for name, weight in stacked.items()}
        for name, gradient in gradients(detached, x[batch], y[batch]).items():
            stacked[name].grad = gradient
        optimizer.step()
        return case.runs

    return clocked(step)


WAYS: dict[str, Way] = {
    "module": module,
    "dataloader": dataloader,
    "mixture-of-experts": mixture_of_experts,
    "st-moe-pytorch": st_moe_pytorch,
    "vmap": vmapped,
}
