"""docs/claims.md: a card for each claim, from reports/claims.json; and its pictures.

The text between the markers `changed: begin` and `changed: end` is written by hand and kept.
"""

import re
from collections import Counter
from typing import Any

from moe.claims.judge import SYMBOLS

Claims = dict[str, dict[str, dict[str, Any]]]  # id -> recipe -> result of `judged`
IMAGES = "images/claims"
BY_HAND = re.compile(r"<!-- changed: begin -->\n(.*?)<!-- changed: end -->", re.DOTALL)
INTRODUCTION = """# What the source claims, and what was found

The source, a blog called "Tutorial on Mixture of experts", trained one network for each setting
and said what it saw. Here each of its sentences is tested on many networks that differ in their
random start alone (the *seed*). This page is generated from the results (`make docs`).

How to read a card:

- **recipe**: `blog` is the reading of the source whose experts end in a softmax before the loss;
  it is reconstructed, not documented. `logits` is the same without that softmax. `switch` is the
  way of Switch Transformers.
- **ne** is the number of experts, **k** how many of them each image goes to, **lc** the weight of
  the gate loss, which asks for an even load. The **base** is a single expert.
- **estimate [interval]**: the mean over seeds, and a range that holds the true mean in 95 % of
  such studies. The intervals leave out one thing: there is one test set, and its own sampling
  error is about 0.2 points on an accuracy of 95 %.
- **margin**: how large a number has to be to count. It was fixed before the seeds were run, so
  that a difference too small to matter is not called a finding.
- **verdict**: *reproduced* if the number is above its margin beyond reasonable doubt,
  *contradicted* if it is below; *exact* where nothing is random; *depends on the measure* where
  several accepted ways of measuring the same word disagree; *at the margin* where the interval is
  narrow and includes the margin; *open* where these seeds cannot tell. So many verdicts are many
  chances to be wrong by luck: the threshold for each is raised until the chance of even one false
  verdict for a recipe is at most 5 % (Holm's correction).

[protocol.md](protocol.md) has the rules in full. Processors differ in their instruction sets (AVX2,
AVX-512), and results with them in their last digits; a test runs one small study on each set that
the machine has, and requires the same verdicts. The whole study, run again on a second machine, had
the same measures of training; 845 of its 11,780 rows differed in last digits of the evaluation, two
accuracies by 0.01 points, and no verdict.
"""
NOT_YET = """
> **The confirmatory study has not been run yet.** What follows are numbers of the exploratory
> study, seeds that were looked at while the measures were chosen. They are a preview, not the
> verdicts.
"""
DONE = """
The verdicts come from the confirmatory study: seeds that had not been looked at, and measures and
margins that were fixed before. So do the report's figures and numbers next to a claim. The
exploratory study, which was seen while the measures were chosen, is in the last column for
comparison.
"""
# The verdicts of the first edition, on seeds 0 to 19 (commit 0f3dc08)
FIRST_EDITION = {
    "reproduced": "C1 C3.logits C4.logits C5.logits C6 C8.logits C9.logits C10 C14 C16.logits C18",
    "contradicted": "C7.logits C11 C12.logits C15.logits C17",
    "inconclusive": "C2 C3.blog C4.blog C5.blog C7.blog C8.blog C9.blog C12.blog C13 C15.blog "
    "C16.blog",
    "exact": "C19",
}


def claims_page(claims: Claims, before: str) -> str:
    """Generate the page. before: the previous page, whose hand-written text is kept."""
    by_hand = BY_HAND.search(before)
    is_confirmed = all(r["confirmatory"] for of_claim in claims.values() for r in of_claim.values())
    parts = [
        INTRODUCTION,
        DONE if is_confirmed else NOT_YET,
        _overview(claims),
        *(_card(name, of_claim) for name, of_claim in claims.items()),
        "## What was changed after looking\n",
        f"<!-- changed: begin -->\n{by_hand[1] if by_hand else ''}<!-- changed: end -->\n",
        _editions(claims),
    ]
    return "\n".join(parts)


def _overview(claims: Claims) -> str:
    results = [result for of_claim in claims.values() for result in of_claim.values()]
    counts = Counter(result["verdict"] for result in results)
    counted = ", ".join(f"{counts[name]} {name}" for name in SYMBOLS if counts[name])
    recipes = list(dict.fromkeys(recipe for of_claim in claims.values() for recipe in of_claim))
    rows = [
        f"Of {len(results)} verdicts: {counted}.\n",
        f"| claim | {' | '.join(recipes)} |",
        "| --- " * (len(recipes) + 1) + "|",
    ]
    for name, of_claim in claims.items():
        words = next(iter(of_claim.values()))["claim"]
        cells = (_verdict(of_claim[recipe]) if recipe in of_claim else "" for recipe in recipes)
        rows.append(f"| [{name}](#{name.lower()}) {words} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _card(name: str, of_claim: dict[str, dict[str, Any]]) -> str:
    first = next(iter(of_claim.values()))
    lines = [f'<a id="{name.lower()}"></a>\n', f"### {name}. {first['claim']}\n"]
    if first["quote"]:
        lines.append(f"> {first['quote']}\n")
    lines.append(f"**Measured:** {first['measured']}.\n")
    lines.append(f"**Counts as reproduced:** {first['reproduced_if']}.\n")
    if any(result["verdict"] not in ("exact", "not measured") for result in of_claim.values()):
        lines.append(f"![{name}: estimates and intervals]({IMAGES}/{name}.svg)\n")
    lines += ["| recipe | estimate [95 % interval] | seeds | verdict | exploratory |"]
    lines.append("| --- " * 5 + "|")
    for recipe, result in of_claim.items():
        seeds = result.get("seeds") or ""
        before = (result["exploratory"] or {}).get("shown", "")
        found = (recipe, _shown(result), seeds, f"**{_verdict(result)}**", before)
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in found)} |")
    return "\n".join(lines) + "\n"


def _verdict(result: dict[str, Any]) -> str:
    note = f" ({result['note']})" if result["note"] else ""
    return f"{SYMBOLS[result['verdict']]} {result['verdict']}{note}"


def _shown(result: dict[str, Any]) -> str:
    return result["shown"] or "–"


def _editions(claims: Claims) -> str:
    first = {claim: verdict for verdict, names in FIRST_EDITION.items() for claim in names.split()}
    rows = [
        "### Verdicts of both editions\n",
        "First edition: seeds 0 to 19 (the base: 0 to 99), its own measures. Second edition: this "
        "page.\n",
        "| id | recipe | first edition | second edition |",
        "| --- " * 4 + "|",
    ]
    for name, of_claim in claims.items():
        for recipe, result in of_claim.items():
            before = first.get(f"{name}.{recipe}") or first.get(name, "")
            rows.append(f"| {name} | {recipe} | {before} | {_verdict(result)} |")
    return "\n".join(rows) + "\n"
