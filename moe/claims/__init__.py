"""The source's claims, each measured by numbers with a margin, and the verdicts.

claim: the types; judge: the verdicts; confirmatory: the study that decides. All other files declare
claims, by subject: CLAIMS has every `Claim` of every file in this folder.
"""

import json
import math
import pkgutil
from importlib import import_module
from pathlib import Path
from typing import Any

from moe.analysis.results import Tables
from moe.claims.claim import Claim
from moe.claims.confirmatory import is_confirmatory
from moe.claims.judge import judge
from moe.study.schema import check_columns

SMALL = ("estimate", "low", "high", "unit", "seeds", "verdict", "shown")


def _found() -> tuple[Claim, ...]:
    modules = [import_module(f"{__name__}.{file.name}") for file in pkgutil.iter_modules(__path__)]
    claims = {
        value.id: value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, Claim)
    }
    return tuple(sorted(claims.values(), key=lambda claim: _in_order(claim.id)))


def _in_order(name: str) -> tuple[int, str]:
    """Sort key: C2 before C10, then ids of other forms."""
    number = name.removeprefix("C")
    return (int(number), "") if number.isdecimal() else (10**9, name)


CLAIMS = _found()


def judged(tables: Tables, exploratory: Tables | None = None) -> list[dict[str, Any]]:
    """Judge the claims that apply to the data set, each for each of its recipes.

    tables: the study that decides; "confirmatory" says whether it is that of docs/protocol.md.
    exploratory: a study whose estimates are added under "exploratory" (None if it has none).
    """
    allowed = tables.dataset.claims
    claims = [claim for claim in CLAIMS if allowed is None or claim.id in allowed]
    before = {}
    if exploratory is not None:
        before = {(r["id"], r["recipe"]): r for r in judge(claims, exploratory) if r["shown"]}
    results = judge(claims, tables)
    return [
        {
            **result,
            "confirmatory": is_confirmatory(tables),
            "exploratory": _small(before.get((result["id"], result["recipe"]))),
        }
        for result in results
    ]


def _small(result: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if result is None else {name: result[name] for name in SMALL}


def write_claims(results: list[dict[str, Any]], path: Path) -> None:
    """Write JSON; equal results give identical bytes."""
    by_id: dict[str, dict[str, Any]] = {}
    for result in results:
        of_recipe = {k: v for k, v in result.items() if k not in ("id", "recipe", "symbol")}
        check_columns(path, of_recipe)
        by_id.setdefault(result["id"], {})[result["recipe"]] = _rounded(of_recipe)
    path.write_text(json.dumps(by_id, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    """Round to six digits; NaN and infinity become null."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
