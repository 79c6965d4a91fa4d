"""The claims on MNIST and on Fashion-MNIST: which verdicts agree.

docs/beyond-mnist.md explains the comparison. The study on Fashion-MNIST is in results/fashion/.
"""

from collections.abc import Sequence
from typing import Any

from moe.study.runs import Trial
from moe.study.tables import RESULTS_DIR

FASHION_DIR = RESULTS_DIR / "fashion"
# The trials whose router weights are shown
PICTURED = [Trial(recipe, ne, 2, 1.0) for recipe in ("blog", "logits") for ne in (4, 8)]
NOT_DECIDED = ("open", "at the margin", "not measured")


def compared(
    here: Sequence[dict[str, Any]], there: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row for each claim and recipe that both studies have: id, claim, recipe, here, there.

    here, there: verdicts of `judged` and `judge`. travels: "yes" if the verdicts are equal, "no" if
    they differ, and "undecided" if either is not decided.
    """
    of_there = {(result["id"], result["recipe"]): result for result in there}
    rows = []
    for result in here:
        other = of_there.get((result["id"], result["recipe"]))
        if other is None:
            continue
        verdicts = (result["verdict"], other["verdict"])
        same = "yes" if verdicts[0] == verdicts[1] else "no"
        undecided = any(verdict in NOT_DECIDED for verdict in verdicts)
        rows.append(
            {
                **{name: result[name] for name in ("id", "claim", "recipe")},
                "here": result,
                "there": other,
                "travels": "undecided" if undecided else same,
            }
        )
    return rows
