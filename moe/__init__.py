"""Mixture-of-experts classifiers: the layer, its engines and their analysis.

`MoE` is the one thing that most users import; it is loaded on first use, so that the command line
stays quick.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe.model.layer import MoE

__all__ = ["MoE"]


def __getattr__(name: str) -> Any:
    if name == "MoE":
        from moe.model.layer import MoE

        return MoE
    raise AttributeError(f"module 'moe' has no attribute {name!r}")
