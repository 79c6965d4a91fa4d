"""Positions of the experts of many runs in one stack of weights.

Axes: R runs, G experts of all runs together, E experts of the largest run, S seeds, B batch.

Runs are sorted by seed. Weights are "packed": the experts of all runs, concatenated (G). Routing is
"padded": each run has the same number of experts (R, E).
"""

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import embedding_bag

from moe.study.runs import Run


class Seeds(NamedTuple):
    """Neighbouring seeds with the same number of experts, which share one batched product.

    seeds, experts: their positions among all; each: number of experts of one seed.
    """

    seeds: slice
    experts: slice
    each: int

    def of(self, stacked: Tensor) -> Tensor:
        """Reshape a stack (G, …, N) of all experts to one matrix (rows, N) for each seed."""
        part = stacked[self.experts]
        return part.view(self.seeds.stop - self.seeds.start, -1, stacked.shape[-1])


class Layout:
    """Index tensors that convert between the packed and the padded layout.

    runs: sorted by seed.
    """

    def __init__(self, runs: Sequence[Run], device: torch.device) -> None:
        integers = {"dtype": torch.long, "device": device}
        experts = [(row, e) for row, run in enumerate(runs) for e in range(run.ne)]
        most = max(run.ne for run in runs)
        self.shape = len(runs), most
        self.sizes = [run.ne for run in runs]
        self.seeds = sorted({run.seed for run in runs})
        self.groups = _groups(runs)
        self.num_experts = torch.tensor(self.sizes, **integers)
        self.top_k = torch.tensor([run.k for run in runs], **integers)
        self.seed_of_run = torch.tensor([self.seeds.index(run.seed) for run in runs], **integers)
        self.run_of = torch.tensor([row for row, _ in experts], **integers)
        self.slot = torch.tensor([row * most + e for row, e in experts], **integers)
        self.all_experts = torch.arange(len(experts), **integers)
        self.first_expert = self.num_experts.cumsum(0) - self.num_experts
        nowhere = torch.full((len(runs) * most,), len(experts), **integers)
        self.expert_at = nowhere.index_copy(0, self.slot, self.all_experts)
        self.is_padding = (self.expert_at == len(experts)).view(self.shape)

    def padded(self, packed: Float[Tensor, "rows B"]) -> Float[Tensor, "R E B"]:
        """From packed to padded. Row G, the last one, is the padding."""
        return packed.index_select(0, self.expert_at).view(*self.shape, -1)

    def packed(self, padded: Float[Tensor, "R E B"]) -> Float[Tensor, "G B"]:
        """The inverse of padded; drops the padding."""
        return padded.reshape(-1, padded.shape[-1]).index_select(0, self.slot)

    def to_experts(self, of_run: Float[Tensor, "R *rest"]) -> Float[Tensor, "G *rest"]:
        """The values of a run, repeated for each of its experts."""
        return of_run.index_select(0, self.run_of)

    def sum_over_experts(self, packed: Float[Tensor, "G N"]) -> Float[Tensor, "R N"]:
        """Each run's sum over its experts, in a fixed order, so it is deterministic on any device.

        (On a GPU, index_add_ adds in no fixed order.)
        """
        return embedding_bag(self.all_experts, packed, self.first_expert, mode="sum")


def _groups(runs: Sequence[Run]) -> list[Seeds]:
    sizes = [sum(run.ne for run in of_seed) for _, of_seed in groupby(runs, lambda run: run.seed)]
    groups, seed, expert = [], 0, 0
    for each, same in groupby(sizes):
        count = len(list(same))
        seeds, experts = slice(seed, seed + count), slice(expert, expert + count * each)
        groups.append(Seeds(seeds, experts, each))
        seed, expert = seeds.stop, experts.stop
    return groups
