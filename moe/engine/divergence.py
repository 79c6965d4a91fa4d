"""Diverged runs: runs with a loss or a weight that is not finite.

They are marked in runs.csv and excluded from every mean, interval, figure and claim.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from moe.engine import HISTORY
from moe.study.runs import Run
from moe.study.tables import runs_in

LOSSES = ("network_loss", "gate_loss")
COLUMN = "diverged"  # of runs.csv: 1 or 0
MOST_NAMED = 5


def has_diverged(weights: Iterable[Tensor], losses: Iterable[float]) -> bool:
    """Whether any weight or loss of a run is infinite or NaN.

    weights: at the end of training; a weight that becomes NaN stays NaN. losses: LOSSES after each
    epoch and, if known, on the test set.
    """
    finite = all(bool(torch.isfinite(weight).all()) for weight in weights)
    return not (finite and bool(np.isfinite(np.fromiter(losses, float)).all()))


def losses_of(history: Tensor) -> list[float]:
    """LOSSES after each epoch, from a run's history (epochs, HISTORY)."""
    return history[:, [HISTORY.index(name) for name in LOSSES]].flatten().tolist()


def in_one_line(diverged: Sequence[Run], count: int) -> str:
    """How many of `count` runs diverged, and the names of the first few; "" for none."""
    if not diverged:
        return ""
    named = ", ".join(str(run) for run in diverged[:MOST_NAMED])
    more = ", …" if len(diverged) > MOST_NAMED else ""
    return f"{len(diverged):,} of {count:,} runs diverged: {named}{more}"


def split(runs: pd.DataFrame) -> tuple[pd.DataFrame, list[Run]]:
    """The rows of runs.csv that did not diverge, without COLUMN, and the runs that did."""
    if COLUMN not in runs:
        return runs, []
    has = runs[COLUMN].astype(bool)
    left_out = runs_in(runs[has])
    return runs[~has].drop(columns=COLUMN).reset_index(drop=True), left_out


def without(table: pd.DataFrame, left_out: Sequence[Run]) -> pd.DataFrame:
    """The rows of a table, without those of the given runs."""
    if not left_out or table.empty:
        return table
    of_them = set(left_out)
    keep = [run not in of_them for run in runs_in(table)]
    return table[keep].reset_index(drop=True)
