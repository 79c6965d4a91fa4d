"""The section train of params.yaml, and the field types that several sections share.

A separate module, because the keys of finished runs cover all sources that the engines import.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Precision = Literal["float32", "tf32", "bf16"]
# An upper bound of all settings, below which integer arithmetic cannot overflow.
Whole = Annotated[int, Field(strict=True, le=1_000_000_000)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Whole, Field(ge=1)]
strict = dataclass(frozen=True, config=ConfigDict(extra="forbid"))


LearningRate = Annotated[Real, Field(gt=0)]
CapacityFactor = Annotated[Real, Field(gt=0, le=1e6)] | None
ZLoss = Annotated[Real, Field(ge=0, le=1e6)]


@strict
class Train:
    epochs: Positive
    batch_size: Positive
    learning_rate: LearningRate
    hidden: Positive
    # Of switch and gshard, and of switch; off unless a study asks for them.
    capacity_factor: CapacityFactor = None
    z_loss: ZLoss = 0.0
    # The type to which the fused engine rounds the factors of its large products. The kernel
    # supports only float32.
    precision: Precision = "float32"


# The settings in the order of Train, each with the function that parses its value.
SETTING_TYPES: dict[str, Callable[[str], Any]] = {
    "epochs": int,
    "batch_size": int,
    "learning_rate": float,
    "hidden": int,
    "capacity_factor": float,
    "z_loss": float,
    "precision": str,
}


def setting_of(train: Train, name: str) -> Any:
    """A setting's value in tables: capacity_factor None is inf."""
    value = getattr(train, name)
    return math.inf if value is None else SETTING_TYPES[name](value)


def with_settings(train: Train, settings: Iterable[tuple[str, Any]]) -> Train:
    """Override settings by a run's own values."""
    own = {name: None if value == math.inf else value for name, value in settings}
    return replace(train, **own)
