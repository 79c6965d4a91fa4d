"""Trials and runs: the cells of a study, and the digests that name them."""

import hashlib
import json
from typing import Any, NamedTuple


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
        """The inverse of str(); the recipe may hold slashes."""
        recipe, *pairs = name.rsplit("/", 3)
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


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
