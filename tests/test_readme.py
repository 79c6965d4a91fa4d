"""README.md and docs/ agree with the project's files and with the committed results."""

import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from moe.recipes import RECIPES
from stages.docs import docs

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "docs/internals.md", "docs/routers.md", "docs/results.md", "docs/claims.md")
MOST_LINES = 150
# Once `make routers` was run
ROUTERS = tuple(str(path.relative_to(ROOT)) for path in ROOT.glob("results/routers/*.csv"))


def test_the_numbers_are_those_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = ("reports/claims.json", *ROUTERS, "results/runs.csv")
    measured = ("benchmarks/results.json", "benchmarks/equivalence.json")
    for name in (*PAGES, *results, *measured):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(docs, catch_exceptions=False).exit_code == 0
    for page in PAGES:
        again = (tmp_path / page).read_text(encoding="utf-8")
        assert again == (ROOT / page).read_text(encoding="utf-8"), f"{page}: run make docs"
    for picture in (tmp_path / "docs/images/claims").glob("*.svg"):
        assert picture.read_bytes() == (ROOT / "docs/images/claims" / picture.name).read_bytes()


def test_the_page_of_the_routers_says_of_each_recipe_what_it_declares() -> None:
    page = (ROOT / "docs/routers.md").read_text(encoding="utf-8")
    rows = {row.split("`")[1]: row for row in page.splitlines() if row.startswith("| `")}
    assert list(rows) == list(RECIPES)
    for name, recipe in RECIPES.items():
        assert f"| {recipe.gates} | {recipe.gate_loss} | {recipe.lc} | {recipe.k} |" in rows[name]
        assert ("with a capacity factor |" in rows[name]) == (name in ("switch", "gshard"))


def test_readme_is_short() -> None:
    assert len(TEXT.splitlines()) <= MOST_LINES


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *PAGES[1:], "docs/dvc.md", "docs/library.md"]
)
def test_every_link_and_make_target_exists(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("http") or (path.parent / link).exists(), link
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE):
        assert target in targets, target


def test_the_table_of_places_names_every_folder() -> None:
    table = TEXT.partition("## Where things are")[2]
    tracked = {path.name for path in ROOT.iterdir() if path.is_dir()}
    for name in ("stages", "moe", "extensions", "studies", "results", "reports", "docs", "tests"):
        assert name in tracked
        assert f"`{name}/`" in table, name
