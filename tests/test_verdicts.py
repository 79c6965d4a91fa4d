"""Verdicts from training to docs/claims.md: which study they are from, how they are shown, and that
all instruction sets give the same ones."""

import inspect
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from moe.analysis.results import read_tables
from moe.claims import confirmatory, judged, write_claims
from moe.claims.page import claims_page
from moe.claims.pictures import picture
from moe.data.dataset import Dataset
from moe.data.sets import dataset_named
from moe.engine import kernel
from moe.study.params import read_params
from moe.study.tables import RESULTS_DIR, read_table
from stages.analyze import analyze
from stages.evaluate import evaluate
from tests.small_studies import train, write_data, write_params
from tests.test_claims import World, build

ROOT = Path(__file__).parent.parent
SEEDS = {"from": 1000, "count": 4}
SWEEPS = [
    {"recipe": ["blog", "logits"], "ne": [1, 2, 4, 8], "k": [1, 2], "lc": [0, 1, 10]},
    {"recipe": ["switch"], "ne": [1, 2, 4], "k": [1], "lc": [1]},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("mnist-5k")
    dataset_named("mnist-5k").fetch(folder, folder)
    return Dataset(folder)


def study(folder: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small study, trained by the kernel, with its tables."""
    (folder / "reports").mkdir(parents=True)
    (folder / "data").mkdir()
    write_data(data, folder / "data")
    monkeypatch.chdir(folder)
    sweeps = [{**sweep, "seeds": SEEDS} for sweep in SWEEPS]
    params = write_params(folder, sweeps, epochs=20, batch_size=20)
    train(params, lambda runs, data, settings: kernel.train(runs, data, settings, cache=folder))
    inspect.unwrap(evaluate.callback)()
    inspect.unwrap(analyze.callback)()
    return folder


@pytest.mark.slow
@pytest.mark.skipif(bool(kernel.why_not()), reason="the kernel is not built")
def test_every_instruction_set_gives_the_same_verdicts(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for level in kernel.LEVELS[: kernel.LEVELS.index(kernel.level_in_use()) + 1]:
        monkeypatch.setenv(kernel.LEVEL_VARIABLE, level)
        folder = study(tmp_path / level, data, monkeypatch)
        results = judged(read_tables(folder / RESULTS_DIR, 4, "mnist-5k"))
        found[level] = {(r["id"], r["recipe"]): r["verdict"] for r in results}
    assert len(set(map(str, found.values()))) == 1, found
    kinds = set(next(iter(found.values())).values())
    assert {"reproduced", "open"} <= kinds  # there is something to compare


@pytest.mark.slow
def test_the_confirmatory_tables_are_those_of_the_study_and_decide(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its seeds start at 1000; the pictures are from the first of them."""
    if kernel.why_not():
        pytest.skip("the kernel is not built")
    folder = study(tmp_path / "study", data, monkeypatch)
    assert set(read_table(folder / "results/digits.csv")["seed"]) == {1000}
    assert len(list((folder / "results/pictures").glob("blog,*.png"))) == 4 * 3 + 3 * 3
    into = tmp_path / "confirm"
    confirmatory.write_confirm(folder, into)
    params = read_params(folder / "params.yaml")
    confirm = confirmatory.read_confirm(params, into)
    assert confirm is not None
    whole = read_tables(folder / RESULTS_DIR, 4, "mnist-5k")
    for one, other in zip(judged(confirm), judged(whole), strict=True):
        assert one["confirmatory"]
        assert {**one, "beside": 0} == {**other, "beside": 0}
    # With other training settings they are not the verdicts.
    longer = replace(params, train=replace(params.train, epochs=21))
    assert confirmatory.read_confirm(longer, into) is None
    assert confirmatory.read_confirm(params, tmp_path / "nowhere") is None


def as_read(results: list, folder: Path) -> dict:
    write_claims(results, folder / "claims.json")
    return json.loads((folder / "claims.json").read_text())


def test_a_card_says_what_the_verdict_is(tmp_path: Path) -> None:
    tables = build(World(), seeds=6, base_seeds=6)
    later = tables._replace(runs=tables.runs.assign(seed=tables.runs["seed"] + 1000))
    page = claims_page(as_read(judged(later, tables), tmp_path), "")
    assert "has not been run yet" not in page
    assert "has not been run yet" in claims_page(as_read(judged(tables), tmp_path), "")
    for result in judged(later, tables):
        card = page.partition(f"### {result['id']}. ")[2].partition("### ")[0]
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {result['recipe']} |")]
        assert f"**{result['symbol']} {result['verdict']}" in row
        assert result["shown"].replace("|", "/") in row
        assert f"> {result['quote']}\n" in card


def test_what_is_written_by_hand_is_kept(tmp_path: Path) -> None:
    claims = as_read(judged(build(World(), seeds=3, base_seeds=3)), tmp_path)
    page = claims_page(claims, "")
    by_hand = page.replace("begin -->\n", "begin -->\nOn a Monday, \\1 margin.\n")
    assert claims_page(claims, by_hand) == by_hand != page


def test_a_picture_has_the_interval_where_it_belongs() -> None:
    part = {"what": "x", "unit": "points", "estimate": 3.0, "low": 2.0, "high": 4.0, "margin": 1.0}
    drawn = picture({"blog": {"verdict": "reproduced", "parts": [part]}})
    assert drawn is not None
    root = ElementTree.fromstring(drawn)
    svg = "{http://www.w3.org/2000/svg}"
    margin, interval = root.findall(f"{svg}line")
    (dot,) = root.findall(f"{svg}circle")
    green = root.findall(f"{svg}rect")[1]
    # The scale goes from 1 − 0.12 · 3 = 0.64 to 4.36, over 330 … 545.
    at = {value: 330 + 215 * (value - 0.64) / 3.72 for value in (1.0, 2.0, 3.0, 4.0)}
    assert float(margin.attrib["x1"]) == pytest.approx(at[1.0], abs=0.06)
    assert float(interval.attrib["x1"]) == pytest.approx(at[2.0], abs=0.06)
    assert float(interval.attrib["x2"]) == pytest.approx(at[4.0], abs=0.06)
    assert float(dot.attrib["cx"]) == pytest.approx(at[3.0], abs=0.06)
    assert float(green.attrib["x"]) == pytest.approx(at[1.0], abs=0.06)
    assert float(green.attrib["width"]) == pytest.approx(545 - at[1.0], abs=0.11)
    assert picture({"blog": {"verdict": "exact", "parts": [part]}}) is None


def test_the_protocols_counts_are_those_of_the_study() -> None:
    text = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    study = read_params(ROOT / "studies/confirm.yaml")
    counts = pd.DataFrame(
        [
            (recipe, k, lc, ne, len(sweep.seeds))
            for sweep in study.sweeps
            for recipe in sweep.recipe
            for k in sweep.k
            for lc in sweep.lc
            for ne in sweep.ne
        ],
        columns=["recipe", "k", "lc", "ne", "seeds"],
    )
    rows = re.findall(r"^\| (.*?) \| (`.*?`) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 7
    for cells, recipes, seeds in rows:
        many = counts[counts["ne"] > 1]
        if cells.startswith("base"):
            of_cells = counts[counts["ne"] == 1].groupby("recipe", as_index=False).max()
        elif "lc = 0," in cells:
            of_cells = many[many["lc"] != 1]
        else:
            of_k = [int(k) for k in re.findall(r"\d", cells.partition(",")[0])]
            of_cells = many[many["k"].isin(of_k) & (many["lc"] == 1)]
        for recipe in re.findall(r"`(.*?)`", recipes):
            assert set(of_cells.loc[of_cells["recipe"] == recipe, "seeds"]) == {int(seeds)}, cells
