"""Verdicts: two one-sided tests against each claim's margin, Holm-corrected within a recipe."""

from collections.abc import Sequence
from typing import Any

from moe.analysis.results import Tables
from moe.claims.claim import Claim, Measured, MissingCellsError, Part
from moe.statistics import holm, holm_factors

LEVEL = 0.05
MOST_SHOWN = 3  # parts
SYMBOLS = {
    "reproduced": "✓",
    "contradicted": "✗",
    "exact": "=",
    "depends on the measure": "≠",
    "at the margin": "≈",
    "open": "?",
    "not measured": "–",
}


def judge(claims: Sequence[Claim], tables: Tables) -> list[dict[str, Any]]:
    """Judge every claim for each of its recipes: estimate, interval and verdict."""
    results: list[dict[str, Any]] = []
    tested: dict[str, list[tuple[dict[str, Any], Measured]]] = {}
    for claim in claims:
        for recipe in claim.recipes:
            result: dict[str, Any] = {
                "id": claim.id,
                "recipe": recipe,
                "claim": claim.words,
                "quote": claim.quote,
                "measured": claim.measured,
                "reproduced_if": claim.margin,
            }
            results.append(result)
            try:
                measured = claim.measure(tables, recipe)
            except MissingCellsError as missing:
                result |= {"verdict": "not measured", "note": f"needs {missing}", "shown": ""}
                continue
            result |= _described(measured)
            if measured.shows is None:
                tested.setdefault(recipe, []).append((result, measured))
    for of_recipe in tested.values():
        p = [measured.verdict.p for _, measured in of_recipe]
        for (result, measured), p_holm, factor in zip(
            of_recipe, holm(p), holm_factors(p), strict=True
        ):
            result |= {"p": measured.verdict.p, "p_holm": p_holm}
            result |= _decided(measured, p_holm, factor)
    return [{**result, "symbol": SYMBOLS[result["verdict"]]} for result in results]


def _described(measured: Measured) -> dict[str, Any]:
    parts = [_part(part) for part in measured.parts]
    shown = "; ".join(
        f"{part['estimate']:.3g} [{part['low']:.3g}, {part['high']:.3g}] {part['unit']}"
        for part in parts[:MOST_SHOWN]
    )
    if len(parts) > MOST_SHOWN:
        shown += f"; and {len(parts) - MOST_SHOWN} more"
    first = parts[0] if parts else {}
    summary = {name: first.get(name) for name in ("unit", "estimate", "low", "high", "seeds")}
    described = {
        **summary,
        "margin": first.get("margin", first.get("within")),
        "parts": parts,
        "remark": measured.remark,
        "beside": dict(measured.beside),
    }
    if measured.shows is None:
        return {**described, "shown": "; ".join(filter(None, (shown, measured.remark)))}
    shown = measured.exact or f"{shown}: {measured.shows}"
    return {**described, "shown": shown, "verdict": "exact", "note": ""}


def _part(part: Part) -> dict[str, Any]:
    return {
        "what": part.what,
        "unit": part.unit,
        "estimate": part.estimate.value,
        "low": part.estimate.low,
        "high": part.estimate.high,
        "seeds": part.estimate.seeds,
        **({"within": part.within} if part.within else {"margin": part.margin}),
    }


def _decided(measured: Measured, p_holm: float, factor: int) -> dict[str, Any]:
    """Decide by Holm's p; if undecided, the intervals show whether it is at the margin."""
    verdict = measured.verdict
    if p_holm < LEVEL:
        found = {
            "reproduced": verdict.above,
            "contradicted": verdict.below,
            "depends on the measure": verdict.mixed,
        }
        name = min(found, key=lambda name: found[name])
    else:
        name = "at the margin" if measured.is_at_the_margin else "open"
    first = measured.parts[0].verdict
    first_holds = first.above < first.below and factor * first.p < LEVEL
    note = measured.only if name != "reproduced" and first_holds else ""
    return {"verdict": name, "note": note}
