"""What the source claims, each as numbers with a margin, and the verdicts.

claim: what a claim is and the protocol; gates, classes, experts, scale: the claims by subject.
"""

import json
import math
from pathlib import Path
from typing import Any

from moe.analysis.results import Tables
from moe.claims import classes, experts, gates, scale
from moe.claims.claim import judge

CLAIMS = sorted(
    (*gates.CLAIMS, *classes.CLAIMS, *experts.CLAIMS, *scale.CLAIMS),
    key=lambda claim: int(claim.id[1:]),
)


def judged(tables: Tables) -> list[dict[str, Any]]:
    """All claims, for each of their recipes."""
    return judge(CLAIMS, tables)


def write_claims(results: list[dict[str, Any]], path: Path) -> None:
    """As JSON, the same results always as the same bytes."""
    by_id: dict[str, dict[str, Any]] = {}
    for result in results:
        of_recipe = {k: v for k, v in result.items() if k not in ("id", "recipe", "symbol")}
        by_id.setdefault(result["id"], {})[result["recipe"]] = _rounded(of_recipe)
    path.write_text(json.dumps(by_id, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Six digits; what is not a number is null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
