"""The runs of a study: its sweeps, expanded."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict

from moe.study.params import Params, Sweep
from moe.study.runs import Run, digest


def runs_of(sweeps: Sequence[Sweep]) -> tuple[Run, ...]:
    """The union of the sweeps, sorted; a cell that several sweeps name is one run."""
    return tuple(
        sorted(
            {
                Run(recipe, ne, k, float(lc), seed)
                for sweep in sweeps
                for recipe, ne, k, lc in itertools.product(
                    sweep.recipe, sweep.ne, sweep.k, sweep.lc
                )
                if k <= ne
                for seed in sweep.seeds
            }
        )
    )


def study_digest(params: Params) -> str:
    """A digest of the runs, their training and their data, not of how they are computed."""
    return digest([runs_of(params.sweeps), asdict(params.train), asdict(params.data)])
