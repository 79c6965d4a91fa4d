"""Over how many experts a class is spread, and over how many classes an expert: three measures.

Axes: E experts, C classes. Shares sum to 1 over the last axis.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr

Measure = Callable[[Float[np.ndarray, "rows n"]], Float[np.ndarray, " rows"]]
COVERED = 0.8
ROUNDING = 1e-9


def exp_of_entropy(shares: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """Hill's number of order 1: the number of equal shares with the same entropy."""
    return np.exp(entr(shares).sum(-1))


def inverse_simpson(shares: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """Hill's number of order 2: 1 / Σ p²."""
    return 1 / (shares**2).sum(-1)


def cover_of_80(shares: Float[np.ndarray, "rows n"]) -> Float[np.ndarray, " rows"]:
    """How many of the largest shares sum to 80 %."""
    covered = np.cumsum(-np.sort(-shares, axis=-1), axis=-1)
    return 1.0 + (covered < COVERED - ROUNDING).sum(-1)


MEASURES: dict[str, Measure] = {
    "exp of entropy": exp_of_entropy,
    "inverse Simpson": inverse_simpson,
    "80 % of the slots": cover_of_80,
}


def per_class(slots: Int[np.ndarray, "E C"], measure: Measure) -> float:
    """Experts per class, mean over classes."""
    return float(measure((slots / slots.sum(0)).T).mean())


def per_expert(slots: Int[np.ndarray, "E C"], measure: Measure) -> float:
    """Classes per expert, mean over the experts that get any image.

    Shares are normalised within a class first, so frequent and rare classes count the same.
    """
    shares = slots / slots.sum(0)
    alive = shares[shares.sum(1) > 0]
    return float(measure(alive / alive.sum(1, keepdims=True)).mean())
