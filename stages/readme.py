"""Writes what README.md says of the results, from the results: `make readme`, never by hand."""

import json
import re
from pathlib import Path
from typing import Any

from stages.command import command

README = Path("README.md")
SYMBOLS = {
    "reproduced": "✓ reproduced",
    "contradicted": "✗ contradicted",
    "inconclusive": "? inconclusive",
    "exact": "= exact",
    "not measured": "– not measured",
}


@command
def readme() -> None:
    """Fill the marked parts of README.md."""
    claims = json.loads(Path("reports/claims.json").read_text(encoding="utf-8"))
    metrics = json.loads(Path("reports/metrics.json").read_text(encoding="utf-8"))
    text = README.read_text(encoding="utf-8")
    for name, content in (("result", result(claims, metrics)), ("claims", table(claims))):
        text = filled(text, name, content)
    README.write_text(text, encoding="utf-8")


def filled(text: str, name: str, content: str) -> str:
    """Text with what stands between the markers of a name replaced."""
    parts = re.compile(rf"(<!-- {name}: begin[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    return parts.sub(lambda found: f"{found[1]}{content}{found[2]}", text)


def result(claims: dict[str, Any], metrics: dict[str, Any]) -> str:
    """What one sees first."""
    dropped = {
        recipe: claims["C7"][recipe]["beside"]["base models with a digit below 50 %"]
        for recipe in ("blog", "logits")
    }
    c6, curve = (
        claims["C6"]["switch"],
        claims["C2"]["logits"]["beside"]["accuracy, mean over ne, %"],
    )
    shown = {
        recipe: f"{share['share']:.0%} of {share['models']} (95 % interval {share['low']:.0%} to "
        f"{share['high']:.0%})"
        for recipe, share in dropped.items()
    }
    best = max(metrics["recipes"].values(), key=lambda recipe: recipe["best_accuracy"])
    curve_shown = ", ".join(f"{at['estimate']:.2f} at {lc}" for lc, at in curve.items())
    return f"""
A blog, "Tutorial on Mixture of experts", once trained mixtures of small experts on MNIST, a single
run of each, and told what the experts learn. Its formulas, tested values and figures are lost. This
is the study again, reconstructed from its sentences: {metrics["runs"]:,} runs of
{metrics["trials"]} trials, with seeds and intervals, every figure regenerated, every claim tested.

![Test accuracy over the number of experts, a line for each k](reports/figures/05-effect-of-k.svg)

- **With k = 1 the router never trains.** Under the recipes `blog` and `logits` the gradient that
  reaches it is exactly 0, in every run and at every step: a softmax over one kept logit is 1.
  Weighting with the plain probability, as Switch Transformers does, gives
  {c6["estimate"]:+.2f} points [{c6["low"]:.2f}, {c6["high"]:.2f}] over `logits` there.
- **The source's experts end in a softmax before a cross entropy that takes logits.** That double
  softmax is why its base models miss whole digits: with it, some digit is below 50 % in
  {shown["blog"]}; without it, in {shown["logits"]}.
- **The weight of the gate loss helps, up to a point.** Mean accuracy over ne at k = 2 under
  `logits`, in per cent: {curve_shown}.
- The best trial, `{best["best_trial"]}`, reaches {best["best_accuracy"]:.2%}.

"""


def table(claims: dict[str, Any]) -> str:
    """A row for each claim and recipe."""
    rows = ["| id | the source's claim | recipe | estimate [95 %] | verdict |", "| --- " * 5 + "|"]
    for name, by_recipe in claims.items():
        for recipe, claim in by_recipe.items():
            note = f" ({claim['note']})" if claim["note"] else ""
            shown = claim["shown"].replace("|", "\\|")
            verdict = SYMBOLS[claim["verdict"]]
            rows.append(f"| {name} | {claim['claim']} | {recipe} | {shown} | {verdict}{note} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    readme()
