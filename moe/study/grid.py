"""The runs of a study: its sweeps, expanded."""

import itertools
from collections.abc import Sequence
from dataclasses import asdict

from moe.study.params import Params, Sweep
from moe.study.runs import RUN_KEYS, Run, digest


def runs_of(sweeps: Sequence[Sweep]) -> tuple[Run, ...]:
    """The union of the sweeps, sorted; cells in several sweeps are run once."""
    return tuple(
        sorted(
            {
                Run(recipe, ne, k, float(lc), seed, settings)
                for sweep in sweeps
                for recipe, ne, k, lc, settings in itertools.product(
                    sweep.recipe, sweep.ne, sweep.k, sweep.lc, sweep.settings()
                )
                if k <= ne
                for seed in sweep.seeds
            }
        )
    )


def study_digest(params: Params) -> str:
    """A digest of the runs, their training and their data; independent of runtime settings."""
    runs = [list(run if run.settings else run[: len(RUN_KEYS)]) for run in runs_of(params.sweeps)]
    return digest([runs, asdict(params.train), asdict(params.data)])
