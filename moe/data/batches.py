"""Batches of a data set, and the random numbers of a training step.

Axes: N samples, D inputs, B batch, E experts.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor


def numbers(x: Shaped[Tensor, "*N D"], dtype: torch.dtype = torch.float32) -> Tensor:
    """Convert inputs to floats: uint8 grey values are scaled to [0, 1], without mean shift, so that
    a background pixel stays 0; other numbers are unchanged."""
    return x.to(dtype).div_(255) if x.dtype == torch.uint8 else x.to(dtype)


def batch_order(seed: int, epoch: int, samples: int, batch_size: int) -> Tensor:
    """The epoch's batches (steps, B) of sample indices; depends only on (seed, epoch).

    The last, partial batch is dropped. Raises ValueError if there is no full batch.
    """
    steps = samples // batch_size
    if steps == 0:
        raise ValueError(f"batch_size = {batch_size} is more than the {samples} training samples")
    order = np.random.default_rng((seed, epoch, samples)).permutation(samples)
    return torch.from_numpy(order[: steps * batch_size].reshape(steps, batch_size))


def random_draws(
    kind: Literal["normal", "uniform"],
    seed: int,
    epoch: int,
    num_experts: int,
    steps: int,
    batch_size: int,
) -> Float[Tensor, "E steps B"]:
    """The random numbers of an epoch: standard normal, or uniform in [0, 1).

    An expert's numbers depend only on (seed, epoch, expert), so they are the same for any number of
    other experts or runs.
    """
    draws = []
    for expert in range(num_experts):
        rng = np.random.default_rng((seed, epoch, expert, steps, batch_size))
        draw = rng.standard_normal if kind == "normal" else rng.random
        draws.append(draw((steps, batch_size), dtype=np.float32))
    return torch.from_numpy(np.stack(draws))


def in_chunks(samples: int, size: int) -> Iterator[slice]:
    """Slices that cover range(samples), of the given size; the last may be shorter."""
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))
