"""Params to trials and runs: what the study consists of."""

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from moe.params import Params, Sweep


class Trial(NamedTuple):
    """One cell of the study: recipe, ne experts, k chosen per input, weight lc of the gate loss."""

    recipe: str
    ne: int
    k: int
    lc: float

    def __str__(self) -> str:
        lc = repr(float(self.lc)).removesuffix(".0")  # every digit: two trials have two names
        return f"{self.recipe}/ne={self.ne}/k={self.k}/lc={lc}"

    @classmethod
    def parse(cls, name: str) -> "Trial":
        """The trial that str() called so."""
        recipe, *pairs = name.split("/")
        ne, k, lc = (pair.partition("=")[2] for pair in pairs)
        return cls(recipe, int(ne), int(k), float(lc))


class Run(NamedTuple):
    """A trial with a seed. The first five columns of every results table, in this order."""

    recipe: str
    ne: int
    k: int
    lc: float
    seed: int

    @property
    def trial(self) -> Trial:
        return Trial(*self[:4])

    def __str__(self) -> str:
        return f"{self.trial}/seed={self.seed}"


TRIAL_KEYS = list(Trial._fields)
RUN_KEYS = list(Run._fields)


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
                for seed in range(sweep.seeds)
            }
        )
    )


def study_digest(params: Params) -> str:
    """Names a study: its runs, how they train and on what; not how it is computed or shown."""
    return digest([runs_of(params.sweeps), asdict(params.train), asdict(params.data)])


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
