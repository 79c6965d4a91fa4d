"""What a claim is: numbers per seed with a margin, and the verdict that follows.

The protocol, fixed before any result was looked at. The unit is the seed. Each number is taken so
that it supports the claim when it is above its margin δ; two one-sided tests, θ > δ and θ < δ, give
p = 2 · the smaller. reproduced: θ > δ; contradicted: θ < δ; else inconclusive; after Holm over the
claims of a recipe. Intervals are 95 %, unadjusted, and conditional on the one test set.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from moe.analysis.results import Tables
from moe.statistics import (
    Estimate,
    Verdict,
    against,
    holm,
    holm_factors,
    seeds_to_decide,
    with_seeds,
)

LEVEL = 0.05
MOST_SHOWN = 3  # parts
SYMBOLS = {
    "reproduced": "✓",
    "contradicted": "✗",
    "inconclusive": "?",
    "exact": "=",
    "not measured": "–",
}

# Margins, each with its reason
POINTS = 0.2  # accuracy, in points: what a reader of two decimals would not call the same
POINTS_PER_STEP = 0.1  # slopes of accuracy: two steps make 0.2 points
CV_SQUARED = 0.05  # gate loss: a spread of importance of about a fifth of its mean
NATS = 0.005  # network loss: half a per cent in the likelihood of the right class
EXPERTS = 0.1  # effective numbers of experts or digits
PERCENTILE = 0.05


class MissingCellsError(LookupError):
    """The study does not have what a claim is about; the message says what."""


class Part(NamedTuple):
    """One number of a claim; within: a range that it shall lie in, instead of above a margin."""

    what: str
    unit: str
    estimate: Estimate
    margin: float = 0.0
    within: tuple[float, float] | None = None

    @property
    def verdict(self) -> Verdict:
        """For a range: inside it at both ends, against outside at either."""
        if self.within is None:
            return against(self.estimate, self.margin)
        low, high = (against(self.estimate, end) for end in self.within)
        return Verdict(max(low.above, high.below), min(low.below, high.above))

    def with_seeds(self, n: int) -> "Part":
        return self._replace(estimate=with_seeds(self.estimate, n))


class Measured(NamedTuple):
    """A claim's numbers for one recipe. combine: the verdict of its parts together.

    exact: what it shows, where there is nothing to test. remark: a word to show with the numbers.
    beside: further numbers.
    """

    parts: Sequence[Part]
    combine: Callable[[Sequence[Verdict]], Verdict] | None = None
    exact: str | None = None
    remark: str = ""
    beside: Mapping[str, Any] = {}

    @property
    def verdict(self) -> Verdict:
        verdicts = [part.verdict for part in self.parts]
        return self.combine(verdicts) if self.combine else verdicts[0]

    def with_seeds(self, n: int) -> "Measured":
        return self._replace(parts=[part.with_seeds(n) for part in self.parts])

    @property
    def shows(self) -> str | None:
        """What an exact claim shows: numbers without any variance need no test."""
        if self.exact is None and all(part.estimate.error == 0 for part in self.parts):
            return "holds" if self.verdict.above < self.verdict.below else "does not hold"
        return self.exact


class Claim(NamedTuple):
    """id and words; measure: (tables, recipe) -> Measured, or MissingCellsError."""

    id: str
    claim: str
    measured: str
    measure: Callable[[Tables, str], Measured]
    recipes: tuple[str, ...] = ("blog", "logits")


def judge(claims: Sequence[Claim], tables: Tables) -> list[dict[str, Any]]:
    """Every claim for each of its recipes, with estimate, interval and verdict."""
    results: list[dict[str, Any]] = []
    tested: dict[str, list[tuple[dict[str, Any], Measured]]] = {}
    for claim in claims:
        for recipe in claim.recipes:
            words = {"id": claim.id, "recipe": recipe, "claim": claim.claim}
            result: dict[str, Any] = {**words, "measured": claim.measured}
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
            result |= _decided(measured, p_holm, factor)
    return [{**result, "symbol": SYMBOLS[result["verdict"]]} for result in results]


def _described(measured: Measured) -> dict[str, Any]:
    parts = [
        {
            "what": part.what,
            "unit": part.unit,
            "estimate": part.estimate.value,
            "low": part.estimate.low,
            "high": part.estimate.high,
            "seeds": part.estimate.seeds,
            **({"within": part.within} if part.within else {"margin": part.margin}),
        }
        for part in measured.parts
    ]
    shown = "; ".join(
        f"{part['estimate']:.3g} [{part['low']:.3g}, {part['high']:.3g}] {part['unit']}"
        for part in parts[:MOST_SHOWN]
    )
    if len(parts) > MOST_SHOWN:
        shown += f"; and {len(parts) - MOST_SHOWN} more"
    first = parts[0] if parts else {}
    summary = {name: first.get(name) for name in ("unit", "estimate", "low", "high", "seeds")}
    margin = first.get("margin", first.get("within"))
    described = {
        **summary,
        "margin": margin,
        "parts": parts,
        "remark": measured.remark,
        "beside": dict(measured.beside),
    }
    if measured.shows is None:
        return {**described, "shown": "; ".join(filter(None, (shown, measured.remark)))}
    shown = measured.exact or f"{shown}: {measured.shows}"
    return {**described, "shown": shown, "verdict": "exact", "note": ""}


def _decided(measured: Measured, p_holm: float, factor: int) -> dict[str, Any]:
    verdict = measured.verdict
    decided = {"p": verdict.p, "p_holm": p_holm, "note": ""}
    if p_holm < LEVEL:
        won = verdict.above < verdict.below
        return {**decided, "verdict": "reproduced" if won else "contradicted"}
    # With Holm's factor as it stands: what would decide has to survive the correction too.
    needed = seeds_to_decide(lambda n: factor * measured.with_seeds(n).verdict.p < LEVEL)
    told = "more than 1,000" if needed is None else needed
    return {
        **decided,
        "verdict": "inconclusive",
        "seeds_to_decide": told,
        "note": f"{told} seeds would decide",
    }
