"""Claims: the source's words, a description of the measure, and a function that computes it.

A claim is a function with the decorator `claim`, in any file of this folder. It takes the tables of
a study and a recipe, and returns its numbers, each with a margin. docs/protocol.md has the rules.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from moe.analysis.results import Tables
from moe.statistics import Estimate, Verdict, against

# Smallest differences that count, each with its reason
POINTS = 0.2  # accuracy, in points: visibly different when printed with two decimals
POINTS_PER_STEP = 0.1  # slopes of accuracy: two steps make 0.2 points
CV_SQUARED = 0.05  # gate loss: a spread of importance of about a fifth of its mean
NATS = 0.005  # network loss: half a per cent in the likelihood of the right class
EXPERTS = 0.1  # effective numbers of experts or classes
SHARE = 0.05  # shares and percentiles


class MissingCellsError(LookupError):
    """The study lacks the cells of a claim; the message says which."""


class Part(NamedTuple):
    """One number of a claim.

    margin: the claim holds if the number is above it.
    within: a range; the claim holds if the number is inside it. Replaces the margin.
    resolution: the smallest difference that counts; None if it is the margin.
    """

    what: str
    unit: str
    estimate: Estimate
    margin: float = 0.0
    within: tuple[float, float] | None = None
    resolution: float | None = None

    @property
    def verdict(self) -> Verdict:
        """The tests against the margin, or against both ends of the range."""
        if self.within is None:
            return against(self.estimate, self.margin)
        low, high = (against(self.estimate, end) for end in self.within)
        return Verdict(max(low.above, high.below), min(low.below, high.above))

    @property
    def includes_margin(self) -> bool:
        """Whether the 95 % interval includes the margin, or an end of the range."""
        ends = (self.margin,) if self.within is None else self.within
        return any(self.estimate.low <= end <= self.estimate.high for end in ends)

    @property
    def is_narrow(self) -> bool:
        """Whether the 95 % interval is narrower than twice the smallest difference that counts."""
        smallest = abs(self.margin) if self.resolution is None else self.resolution
        return self.estimate.high - self.estimate.low < 2 * smallest


class Measured(NamedTuple):
    """A claim's numbers for one recipe.

    combine: combines the parts' verdicts; not needed for a single part.
    exact: the result in words, for numbers without variance, which need no test.
    remark: a sentence to show with the numbers.
    only: the weaker statement that holds if the claim fails but its first part holds.
    beside: further numbers, without a verdict.
    """

    parts: Sequence[Part]
    combine: Callable[[Sequence[Verdict]], Verdict] | None = None
    exact: str | None = None
    remark: str = ""
    only: str = ""
    beside: Mapping[str, Any] = {}

    @property
    def verdict(self) -> Verdict:
        verdicts = [part.verdict for part in self.parts]
        return self.combine(verdicts) if self.combine else verdicts[0]

    @property
    def shows(self) -> str | None:
        """The result of an exact claim: numbers without variance need no test."""
        if self.exact is None and all(part.estimate.error == 0 for part in self.parts):
            return "holds" if self.verdict.above < self.verdict.below else "does not hold"
        return self.exact

    @property
    def is_at_the_margin(self) -> bool:
        """Whether some part's interval includes its margin, and all such intervals are narrow."""
        undecided = [part for part in self.parts if part.includes_margin]
        return bool(undecided) and all(part.is_narrow for part in undecided)


Measure = Callable[[Tables, str], Measured]


class Claim(NamedTuple):
    """A claim of the source.

    words: the claim in one sentence. quote: the source's own words. measured: what the number is.
    margin: when it counts as reproduced. measure: computes the numbers; raises MissingCellsError if
    the study lacks the cells.
    """

    id: str
    words: str
    quote: str
    measured: str
    margin: str
    measure: Measure
    recipes: tuple[str, ...] = ("blog", "logits")


def claim(
    name: str,
    *,
    words: str,
    measured: str,
    margin: str,
    quote: str = "",
    recipes: tuple[str, ...] = ("blog", "logits"),
) -> Callable[[Measure], Claim]:
    """Make a function (tables, recipe) -> Measured a claim with the id `name`; see Claim."""

    def declared(measure: Measure) -> Claim:
        return Claim(name, words, quote, measured, margin, measure, recipes)

    return declared
