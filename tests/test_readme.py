"""README.md says what is there, and what the committed results say."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from moe.recipes import RECIPES
from stages.readme import readme

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_numbers_are_those_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = ("reports/claims.json", "reports/metrics.json")
    read = (*reports, "results/routers.csv", "results/runs.csv")
    measured = ("benchmarks/results.json", "benchmarks/equivalence.json")
    for name in ("README.md", "docs/routers.md", *read, *measured):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(readme, catch_exceptions=False)
    assert result.exit_code == 0
    again = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert again == TEXT, "README.md is behind the results: make readme"
    page = (tmp_path / "docs/routers.md").read_text(encoding="utf-8")
    expected = (ROOT / "docs/routers.md").read_text(encoding="utf-8")
    assert page == expected, "docs/routers.md is behind the recipes: make readme"


def test_the_page_of_the_routers_says_of_each_recipe_what_it_declares() -> None:
    page = (ROOT / "docs/routers.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    assert list(rows) == list(RECIPES)
    for name, recipe in RECIPES.items():
        assert f"| {recipe.gates} | {recipe.gate_loss} | {recipe.lc} | {recipe.k} |" in rows[name]
        assert ("with a capacity factor |" in rows[name]) == (name in ("switch", "gshard"))


def test_every_recipe_is_in_its_table() -> None:
    for name in RECIPES:
        assert f"| `{name}` |" in TEXT


def test_every_link_and_make_target_exists() -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert link.startswith("http") or (ROOT / link).exists(), link
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", TEXT, re.MULTILINE):
        assert target in targets, target


def test_the_tree_names_every_module() -> None:
    tree = TEXT.partition("## What is where")[2]
    for path in [*(ROOT / "moe").glob("*.py"), *(ROOT / "stages").glob("*.py")]:
        assert path.name == "__init__.py" or path.name in tree, path
