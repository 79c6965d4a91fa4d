"""Trials and runs: the cells of a study, and the digests that name them."""

import hashlib
import json
import re
from typing import Any, NamedTuple

from moe.study.train_settings import SETTING_TYPES

Settings = tuple[tuple[str, Any], ...]  # names and values, in the order of SETTING_TYPES
TRIAL_KEYS = ["recipe", "ne", "k", "lc"]
RUN_KEYS = [*TRIAL_KEYS, "seed"]
NAME = re.compile(r"(?P<recipe>.+)/ne=(?P<ne>\d+)/k=(?P<k>\d+)/lc=(?P<lc>[^/]+)(?P<settings>/.+)?")


class Trial(NamedTuple):
    """One cell of the study: recipe, ne experts, k chosen per input, weight lc of the gate loss.

    settings: those of `train` that the study sweeps; every trial of a study has the same names.
    `capacity_factor: null` (no limit) is inf here and in tables, so that values can be compared.
    """

    recipe: str
    ne: int
    k: int
    lc: float
    settings: Settings = ()

    @property
    def columns(self) -> dict[str, Any]:
        """The trial's columns of a table."""
        return {**dict(zip(TRIAL_KEYS, self, strict=False)), **dict(self.settings)}

    @classmethod
    def of(cls, columns: dict[str, Any]) -> "Trial":
        """The inverse of `columns`."""
        settings = tuple((name, columns[name]) for name in SETTING_TYPES if name in columns)
        return cls(*(columns[name] for name in TRIAL_KEYS), settings)

    def run(self, seed: int) -> "Run":
        return Run(self.recipe, self.ne, self.k, self.lc, seed, self.settings)

    def __str__(self) -> str:
        settings = "".join(f"/{name}={exactly(value)}" for name, value in self.settings)
        return f"{self.recipe}/ne={self.ne}/k={self.k}/lc={exactly(self.lc)}{settings}"

    @classmethod
    def parse(cls, name: str) -> "Trial":
        """The inverse of str(); the recipe may contain slashes."""
        found = NAME.fullmatch(name)
        if found is None:
            raise ValueError(f"{name!r} is not the name of a trial")
        pairs = (part.partition("=") for part in (found["settings"] or "").split("/")[1:])
        settings = tuple((key, SETTING_TYPES[key](value)) for key, _, value in pairs)
        return cls(found["recipe"], int(found["ne"]), int(found["k"]), float(found["lc"]), settings)


class Run(NamedTuple):
    """A trial with a seed. Its columns are the first of every results table."""

    recipe: str
    ne: int
    k: int
    lc: float
    seed: int
    settings: Settings = ()

    @property
    def trial(self) -> Trial:
        return Trial(*self[:4], self.settings)

    @property
    def columns(self) -> dict[str, Any]:
        """The run's columns of a table: RUN_KEYS, then the settings that the study sweeps."""
        return {**dict(zip(RUN_KEYS, self, strict=False)), **dict(self.settings)}

    @classmethod
    def of(cls, columns: dict[str, Any]) -> "Run":
        """The inverse of `columns`."""
        return Trial.of(columns).run(columns["seed"])

    def __str__(self) -> str:
        return f"{self.trial}/seed={self.seed}"


def exactly(value: Any) -> str:
    """The shortest text that parses to the same number, such as 0.01 or 1; strings unchanged."""
    return value if isinstance(value, str) else repr(float(value)).removesuffix(".0")


def digest(value: Any) -> str:
    """SHA-256 of a value's canonical JSON, as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
