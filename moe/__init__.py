"""Mixture-of-experts classifiers: the layer, its engines and their analysis.

The public API is `MoE`, the layer, and `sweep`, a study of your own data in one call. Both are
loaded on first use, so that the command line starts quickly.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe.library.sweep import sweep
    from moe.model.layer import MoE

__all__ = ["MoE", "sweep"]


def __getattr__(name: str) -> Any:
    if name == "MoE":
        from moe.model.layer import MoE

        return MoE
    if name == "sweep":
        from moe.library.sweep import sweep

        return sweep
    raise AttributeError(f"module 'moe' has no attribute {name!r}")
