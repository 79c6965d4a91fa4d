"""The examples of CONTRIBUTING.md, used in a copy of the project, up to the report."""

import csv
import json
import re
import sys
from pathlib import Path

import pytest

from tests.test_pipeline import ROOT, Copy, sweep

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Each example is a Python block whose first line is a comment with its path.
EXAMPLES = dict(re.findall(r"```python\n# (\S+\.py)\n(.*?)```", TEXT, re.DOTALL))


def test_there_is_an_example_of_each_kind() -> None:
    folders = {str(Path(path).parent) for path in EXAMPLES}
    assert folders == {"moe/recipes", "moe/data/sets", "moe/figures", "moe/claims"}


@pytest.mark.slow
def test_the_examples_work_from_file_to_report(tmp_path: Path) -> None:
    copy = Copy(tmp_path)
    for path, code in EXAMPLES.items():
        (tmp_path / path).write_text(code)
    # The same recipe again, as a user's own file.
    own = "extensions/mine.py:MINE"
    mine = EXAMPLES["moe/recipes/sharp.py"].replace("RECIPE =", "MINE =")
    (tmp_path / "extensions/mine.py").write_text(mine.replace('name="sharp"', 'name="mine"'))
    copy.params(
        data={"dataset": "noisy-mnist-5k"},
        sweeps=sweep(recipe=["logits", "sharp", own], ne=[1, 2], k=[1, 2], lc=[1], seeds=2),
        train={"epochs": 1},
    )
    assert "on noisy-mnist-5k" in copy.run(sys.executable, "-m", "stages.check").stdout
    copy.repro()

    with (tmp_path / "results/runs.csv").open() as file:
        runs = list(csv.DictReader(file))
    assert {row["recipe"] for row in runs} == {"logits", "sharp", own}
    # The user's recipe is the same function, so it trains to the same numbers.
    numbers = [
        [list(row.values())[1:] for row in runs if row["recipe"] == recipe]
        for recipe in ("sharp", own)
    ]
    assert numbers[0] == numbers[1]
    # With one expert the gate is always 1; the engines differ by rounding.
    sharp, logits = (accuracies(runs, recipe, "1") for recipe in ("sharp", "logits"))
    assert sharp == pytest.approx(logits, abs=0.01)
    assert accuracies(runs, "sharp", "2") != accuracies(runs, "logits", "2")

    report = (tmp_path / "reports/index.html").read_text()
    assert "More figures" in report
    assert "How sure the router is" in report
    assert "noisy mnist-5k" in report
    assert (tmp_path / "reports/figures/gate-entropy.svg").exists()
    claims = json.loads((tmp_path / "reports/claims.json").read_text())
    base, mixture = (accuracies(runs, "logits", ne) for ne in ("1", "2"))
    gain = 100 * (sum(mixture) - sum(base)) / 2
    assert claims["X1"]["logits"]["estimate"] == pytest.approx(gain, abs=1e-3)
    assert set(copy.tracked()["params.recipe"].dropna()) == {"logits", "sharp", own}


def accuracies(runs: list[dict[str, str]], recipe: str, k: str) -> list[float]:
    """Accuracies of the cells with k = ne, by seed."""
    return [
        float(row["accuracy"])
        for row in runs
        if row["recipe"] == recipe and row["k"] == k and row["ne"] == k
    ]
