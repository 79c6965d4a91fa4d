"""The numbers in the report's texts, the explorer and runs.csv, recomputed by plain loops."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from moe.analysis.results import Tables, cells, read_tables
from moe.analysis.run_row import of_training
from moe.claims import judged
from moe.figures import FIGURES, Figure
from moe.report import page
from moe.report.explorer import explorer_data
from moe.report.facts import facts
from moe.report.page import write_report
from moe.study.params import read_params
from moe.study.runs import RUN_KEYS
from tests.plain_tables import (
    RESULTS,
    interval,
    judged_on,
    mean,
    of_routers,
    rows,
    swept_seeds,
    where,
)
from tests.small_studies import committed, text_of

ROOT = RESULTS.parent
LC = (0.0, 0.01, 0.1, 1.0, 10.0)


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read_tables(RESULTS, hidden=10)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report's text for the committed study, with the confirmatory one."""
    tables = committed()
    return text_of_report(tables, tmp_path_factory.mktemp("report"), judged(tables))


def text_of_report(tables: Tables, folder: Path, claims: list) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(Figure, "to_bytes", lambda figure: b"")
        write_report(tables, read_params(ROOT / "params.yaml"), claims, folder)
    page = (folder / "index.html").read_text(encoding="utf-8")
    return re.sub(r"\s+", " ", text_of(page))


def means_over_ne(recipe: str, lc: float) -> dict[float, float]:
    """Each seed's mean accuracy over ne, in points, at k = 2."""
    seeds = swept_seeds(recipe, "confirm/runs")
    of_seed: dict[float, list[float]] = {}
    for row in where("confirm/runs", recipe=recipe, k=2, lc=lc):
        if row["seed"] in seeds:
            of_seed.setdefault(row["seed"], []).append(100 * row["accuracy"])
    return {seed: mean(values) for seed, values in of_seed.items()}


def shown(values: list[float], form: str = "+.2f") -> str:
    low, high = interval(values)
    plain = form.replace("+", "")
    return f"{mean(values):{form}} [{low:{plain}}, {high:{plain}}]"


@pytest.mark.parametrize("recipe", ["blog", "logits"])
def test_the_effect_of_lc(text: str, recipe: str) -> None:
    curves = {lc: means_over_ne(recipe, lc) for lc in LC}
    best = max(LC, key=lambda lc: mean(list(curves[lc].values())))
    rise = [curves[best][seed] - curves[0.0][seed] for seed in curves[best]]
    fall = [curves[10.0][seed] - curves[best][seed] for seed in curves[best]]
    at = {lc: f"{mean(list(curve.values())):.2f} %" for lc, curve in curves.items()}
    assert (
        f"Under {recipe} , mean over ne at k = 2, the test accuracy is {at[0.0]} at lc = 0, "
        f"{at[best]} at its highest, lc = {best:g} ({shown(rise)} points), and {at[10.0]} at "
        f"lc = 10 ({shown(fall)} points)"
    ) in text


@pytest.mark.parametrize(("recipe", "trains"), [("blog", 0), ("logits", 0), ("switch", 1)])
def test_what_more_experts_bring_at_k_1(text: str, recipe: str, trains: bool) -> None:
    few, many = (
        {row["seed"]: row["accuracy"] for row in judged_on(recipe, 1, ne=ne, lc=1)}
        for ne in (1, 16)
    )
    gains = [100 * (many[seed] - few[seed]) for seed in few if seed in many]
    sentence = f"the accuracy of {recipe} changes by {shown(gains)} points, within each seed"
    assert sentence in text
    most = max(r["router_grad_norm_max"] for r in judged_on(recipe, 1) if r["ne"] > 1)
    assert (most > 0) == trains
    assert (f"{sentence}; its router trains, with gradients up to {most:.2g}." in text) == trains


def test_the_double_softmax(text: str) -> None:
    # The cross entropy with a one-hot probability vector as logits, written out.
    z = np.eye(10)[3]
    right = -math.log(math.exp(z[3]) / sum(math.exp(value) for value in z))
    wrong = -math.log(math.exp(z[5]) / sum(math.exp(value) for value in z))
    base = mean([row["network_loss"] for row in where("confirm/runs", recipe="blog", ne=1)])
    assert f"right one costs {right:.2f} nats, a sure and wrong one only {wrong:.2f}" in text
    assert f"the base models end at {base:.2f}." in text


@pytest.mark.parametrize("recipe", ["blog", "logits"])
def test_the_base(text: str, recipe: str) -> None:
    base = where("confirm/runs", recipe=recipe, ne=1)
    found = [row["accuracy"] for row in base]
    assert (
        f"The base of {recipe} is right on {mean(found):.1%} of the test images; its {len(found)} "
        f"seeds lie between {min(found):.1%} and {max(found):.1%}"
    ).replace("%", " %") in text
    low = sum(min(row[f"accuracy_{digit}"] for digit in range(10)) < 0.5 for row in base)
    assert f"{recipe} : {low} of {len(found)} base models have a digit below 50 %" in text


def test_the_table_of_routers(text: str) -> None:
    names = list(dict.fromkeys(row["recipe"] for row in of_routers()))
    for recipe in names:
        for k in (1, 2):
            few, many = (
                {r["seed"]: r["accuracy"] for r in of_routers(recipe=recipe, k=k, ne=ne)}
                for ne in (8, 16)
            )
            if not many:
                continue
            accuracy = [100 * value for value in many.values()]
            gains = [100 * (many[seed] - few[seed]) for seed in many]
            number = r"([-+]?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]"
            words = rf"{recipe} {k} {number} {number}"
            (said,) = re.findall(words, text.replace("  ", " "))
            expected = [mean(accuracy), *interval(accuracy), mean(gains), *interval(gains)]
            # A mean of 20 may end in a 5, which rounds either way.
            assert [float(value) for value in said] == pytest.approx(expected, abs=0.0051)


def test_the_counts_of_verdicts_add_up(tables: Tables, text: str) -> None:
    claims = judged(tables)
    for recipe in dict.fromkeys(claim["recipe"] for claim in claims):
        verdicts = [claim["symbol"] for claim in claims if claim["recipe"] == recipe]
        ((counted,),) = [re.findall(rf"{recipe}, {len(verdicts)}:((?: *\S \d+)+)", text)]
        pairs = [pair.split() for pair in re.findall(r"\S \d+", counted)]
        assert {symbol: int(count) for symbol, count in pairs} == {
            symbol: verdicts.count(symbol) for symbol in verdicts
        }


# --- sentences about shapes, on data of every shape


SHAPES = {
    "rising": ([0, 1, 2, 3, 4], "the most here and the highest of the curve", False),
    "falling": ([4, 3, 2, 1, 0], "the least here and the highest of the curve", False),
    "a hump": ([0, 2, 4, 2, 0], "at its highest, lc = 0.1", True),
    "a hump within the noise": ([0.0, 0, 0.001, 0, 0], "at its highest, lc = ", False),
    "a rise, then flat": ([0, 2, 4, 3.97, 3.95], "at its highest, lc = 0.1", False),
    "a valley": ([4, 2, 0, 2, 3], "the least here and the highest of the curve", False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_curve_rises_and_turns_only_where_it_does(
    name: str, tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heights, says, turns = SHAPES[name]
    runs = tables.runs
    noise = np.random.default_rng(0).normal(0, 0.002, len(runs))
    made_up = 0.9 + runs["lc"].map(dict(zip(LC, heights, strict=True))) / 100 + noise
    swept = (runs["recipe"] == "logits") & (runs["k"] == 2)
    runs = runs.assign(accuracy=runs["accuracy"].where(~swept, made_up))
    nothing = [Figure(slug, one.title, None, "no drawing here") for slug, one in FIGURES.items()]
    monkeypatch.setattr(page, "all_figures", lambda tables: nothing)
    shown = text_of_report(tables._replace(runs=runs), tmp_path, [])
    (sentence,) = re.findall(r"Under logits , mean over ne.*?The spread", shown)
    assert says in sentence
    assert ("So the curve rises and then turns." in sentence) == turns


# --- data of other stages


def test_what_runs_csv_takes_from_training(tables: Tables) -> None:
    found = of_training(tables.history).set_index(RUN_KEYS)
    last: dict[tuple, dict] = {}
    largest: dict[tuple, float] = {}
    for row in rows("history"):
        key = tuple(row[name] for name in RUN_KEYS)
        if key not in last or row["epoch"] > last[key]["epoch"]:
            last[key] = row
        largest[key] = max(largest.get(key, 0.0), row["router_grad_norm_max"])
    assert len(found) == len(last)
    for key, row in found.to_dict("index").items():
        assert row["train_accuracy"] == last[key]["train_accuracy"]
        assert row["router_grad_norm_max"] == largest[key]


def test_the_explorer_s_data(tables: Tables) -> None:
    shown_trials = explorer_data(tables)["trials"]
    assert len(shown_trials) == len({tuple(r[n] for n in RUN_KEYS[:4]) for r in rows("runs")})
    for trial in shown_trials[::20]:
        cell = {name: trial[name] for name in RUN_KEYS[:4]}
        found = sorted(where("runs", **cell), key=lambda row: row["seed"])
        assert trial["seeds"] == [row["seed"] for row in found]
        for name, column in (
            ("accuracy", "accuracy"),
            ("networkLoss", "network_loss"),
            ("gateLoss", "gate_loss"),
            ("gradient", "router_grad_norm_max"),
        ):
            assert trial[name] == [row[column] for row in found]
        assert trial["classes"] == [[r[f"accuracy_{d}"] for d in range(10)] for r in found]
        for seed, confusion, slots in zip(
            trial["seeds"], trial["confusion"], trial["slots"], strict=True
        ):
            counts = {
                (row["digit"], p): row[f"predicted_{p}"]
                for row in where("confusion", **cell, seed=seed)
                for p in range(10)
            }
            assert confusion == [counts[d, p] for d in range(10) for p in range(10)]
            of_expert = sorted(where("slots", **cell, seed=seed), key=lambda row: row["expert"])
            assert slots == [row[f"digit_{d}"] for row in of_expert for d in range(10)]


def test_facts_hold_no_nan(tables: Tables) -> None:
    one_seed = {
        name: cells(getattr(tables, name), seed=0)
        for name in ("runs", "history", "confusion", "slots", "coactivation")
    }
    found = facts(tables._replace(**one_seed), read_params(ROOT / "params.yaml"), [])
    assert "nan" not in str({k: v for k, v in found.items() if k != "slopes"})
