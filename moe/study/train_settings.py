"""How a run is trained: section train of params.yaml, and the field types that the sections share.

A separate module because the keys of finished runs cover all sources that the engines import.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

Precision = Literal["float32", "tf32", "bf16"]
# No setting makes sense above this bound. Below it, integer arithmetic cannot overflow.
Whole = Annotated[int, Field(strict=True, le=1_000_000_000)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Positive = Annotated[Whole, Field(ge=1)]
strict = dataclass(frozen=True, config=ConfigDict(extra="forbid"))


@strict
class Train:
    epochs: Positive
    batch_size: Positive
    learning_rate: Annotated[Real, Field(gt=0)]
    hidden: Positive
    # Of switch and gshard, and of switch; off unless a study asks for them.
    capacity_factor: Annotated[Real, Field(gt=0, le=1e6)] | None = None
    z_loss: Annotated[Real, Field(ge=0, le=1e6)] = 0.0
    # What the fused engine rounds the factors of its large products to. The kernel has float32
    # only.
    precision: Precision = "float32"
