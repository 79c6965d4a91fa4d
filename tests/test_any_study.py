"""Every valid params.yaml gives a report and an explorer with correct texts."""

import math
import os
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from moe.data.dataset import Dataset
from moe.figures.settings import over_setting
from moe.recipes import RECIPES
from tests.small_studies import Rendered, assert_says_no_nan, render, write_params


def sweep(recipe: Any = ("blog", "logits"), ne: Any = (2, 4), **axes: Any) -> dict[str, Any]:
    recipes = [recipe] if isinstance(recipe, str) else list(recipe)
    return {"recipe": recipes, "ne": list(ne), "k": [2], "lc": [1], **axes}


UNEVEN = {
    "no k in common": [sweep("blog", lc=[0, 1]), sweep("logits", (1, 2), k=[1])],
    "one ne for each lc": [sweep(ne=[2], lc=[0, 1]), sweep(ne=[4], lc=[10])],
    "no ne in common": [sweep("blog", (1, 2, 4), lc=[0, 1]), sweep("logits", (3, 5), lc=[0, 1])],
    "one recipe with only k = 1": [sweep("blog", k=[1]), sweep("logits", (4, 5), k=[3, 4])],
    "no lc in common": [sweep("blog", (2, 3), lc=[0, 1]), sweep("logits", (2, 3), lc=[0.5, 2])],
    "a recipe with only k = 3": [sweep("blog", [3], lc=[0, 1]), sweep("logits", [3], k=[3])],
    "a base of one recipe": [sweep(lc=[0, 1]), sweep("blog", [1], k=[1], seeds=4)],
    "a fourth recipe with only k = 2": [
        sweep(("blog", "logits", "switch"), (1, 2, 4), k=[1, 2]),
        sweep("shazeer", (4, 8)),
    ],
    "one run": [sweep("blog", [2], seeds=1)],
    "only base models": [sweep(ne=[1], k=[1])],
    "seven recipes, one seed": [
        sweep(("blog", "logits", "switch", "shazeer", "random", "loss-free", "gshard"), seeds=1)
    ],
    "only dense networks": [sweep("dense-active"), sweep("dense-total", k=[1])],
    "seeds differ between lc": [sweep(lc=[0], seeds=1), sweep(lc=[1], seeds=3)],
    "settings swept by one of two sweeps": [
        sweep(lc=[0, 1], learning_rate=[0.001, 0.01], capacity_factor=[None, 1]),
        sweep("switch", (1, 2), k=[1], seeds=3),
    ],
    "a setting with nothing in common": [sweep(hidden=[3]), sweep(ne=[8], hidden=[4])],
    "64 experts": [sweep("logits", (1, 64), k=[1, 2])],
}
QUICK = ("settings swept by one of two sweeps", "no lc in common", "one run")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in UNEVEN],
)
def test_an_uneven_study_is_rendered(
    name: str, mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render(tmp_path / "study", mnist_5k, UNEVEN[name], monkeypatch)
    assert_says_no_nan(rendered)
    assert_has_every_trial(rendered)


def assert_has_every_trial(rendered: Rendered) -> None:
    runs = pd.read_csv("results/runs.csv")
    settings = list(runs.columns[5 : list(runs.columns).index("accuracy")])
    keys = ["recipe", "ne", "k", "lc"]
    expected = {
        (*row[:4], ", ".join(f"{n} = {said(v)}" for n, v in zip(settings, row[4:], strict=True)))
        for row in runs[[*keys, *settings]].itertuples(index=False)
    }
    trials = rendered.explorer["trials"]
    assert {(*(t[key] for key in keys), t.get("settings", "")) for t in trials} == expected
    if settings:
        shown = f"This study sweeps {', '.join(settings)}. Numbers, figures and claims are of the"
        assert shown in rendered.texts
    assert sum(len(t["seeds"]) for t in rendered.explorer["trials"]) == len(runs)


def said(value: Any) -> str:
    """A setting as text; pandas reads 1 as 1.0 if its column has other floats."""
    return value if isinstance(value, str) else f"{value:g}".replace("inf", "none")


def test_what_a_study_lacks_is_named(
    mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = render(tmp_path / "study", mnist_5k, [sweep("blog", [3])], monkeypatch)
    for sentence in (
        "Figure 2, Effect of lc on accuracy, needs two values of lc at one k, with more than one",
        "Figure 5, Effect of k, needs two values of k at one lc.",
        "Figure 6, Accuracy by class, needs one expert (ne = 1) and more experts of the same",
    ):
        assert sentence in rendered.texts
    # 3 experts and k = 2 are enough for who gets what, what routers look for, and co-activation
    assert {"who-gets-what", "what-routers-look-for", "coactivation"} <= rendered.drawn
    assert not {"effect-of-k", "balance", "fingerprint"} & rendered.drawn


def test_no_figure_averages_over_settings(
    mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tables have one combination, that of `train`; one figure compares the others."""
    sweeps = [sweep(ne=(1, 2), k=[1, 2], lc=[0, 1], learning_rate=[0.01, 0.001], epochs=[1, 2])]
    rendered = render(tmp_path / "study", mnist_5k, sweeps, monkeypatch)
    runs = pd.read_csv("results/runs.csv")
    usual = runs[(runs["learning_rate"] == 0.001) & (runs["epochs"] == 1)]
    names = ["recipe", "ne", "k", "lc", "seed", "accuracy"]
    shown = rendered.tables.runs[names].itertuples(index=False)
    assert set(shown) == set(usual[names].itertuples(index=False))
    assert len(runs) == 4 * len(usual) == len(rendered.tables.all_runs)
    for name in ("history", "confusion", "slots", "coactivation"):
        assert not getattr(rendered.tables, name).duplicated().any()
        assert len(pd.read_csv(f"results/{name}.csv")) > len(getattr(rendered.tables, name))
    assert "swept-settings" in rendered.drawn
    for recipe in ("blog", "logits"):
        for rate in (0.001, 0.01):
            of = runs[(runs["recipe"] == recipe) & (runs["learning_rate"] == rate)]
            table = over_setting(rendered.tables.all_runs, "learning_rate")
            (mean,) = table[(table["recipe"] == recipe) & (table["value"] == rate)]["mean"]
            # Every cell has two seeds, two rates and two numbers of epochs: means of means agree.
            assert mean == pytest.approx(of["accuracy"].mean())


# Keys that six digits would round; two of them would become equal.
EXACT = (0, 1e-12, 0.0316227766, 0.1, 0.10000001, 1e6)


def test_every_digit_of_lc_is_kept(
    mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = [sweep("logits", lc=list(EXACT))]
    rendered = render(tmp_path / "study", mnist_5k, sweeps, monkeypatch)
    assert_says_no_nan(rendered)
    runs = pd.read_csv("results/runs.csv")
    assert len(runs) == 2 * len(EXACT) * 2  # ne, lc, seeds
    for name in ("runs", "history", "evaluation", "confusion", "slots"):
        assert set(pd.read_csv(f"results/{name}.csv")["lc"]) == set(EXACT)
    # One trial each in the explorer, including 1e6, whether or not it diverged.
    shown = {trial["lc"] for trial in rendered.explorer["trials"]}
    assert shown >= set(EXACT[:-1])
    assert "lc = 0.10000001" in rendered.texts


def test_a_study_that_diverged_says_so(
    mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = [sweep(("logits", "switch"), (1, 2), k=[1, 2], lc=[0, 1])]
    extreme = {"learning_rate": 1e30, "z_loss": 1e6}
    rendered = render(tmp_path / "study", mnist_5k, sweeps, monkeypatch, **extreme)
    assert_says_no_nan(rendered)
    diverged = pd.read_csv("results/runs.csv")["diverged"].sum()
    assert diverged > 0
    assert f"{diverged} of 24 runs diverged" in rendered.texts
    assert len(rendered.tables.runs) == 24 - diverged


def test_the_extremes_that_are_allowed_are_rendered(
    mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeps = [sweep(("switch", "gshard"), lc=[0, 1e-12, 1e6])]
    settings = {"capacity_factor": 1e6, "z_loss": 0.001}
    assert_says_no_nan(render(tmp_path / "study", mnist_5k, sweeps, monkeypatch, **settings))


@pytest.mark.parametrize(
    ("sweeps", "train", "says"),
    [
        ([sweep(lc=[1e-320])], {}, "sweeps.0.lc.0: 1e-320: must be 0, or from 1e-12 to 1e+06"),
        ([sweep(lc=[1e308])], {}, "sweeps.0.lc.0: 1e+308: must be 0, or from 1e-12 to 1e+06"),
        ([sweep()], {"capacity_factor": 1e300}, "train.capacity_factor: 1e+300: input should be"),
        ([sweep()], {"z_loss": 1e300}, "train.z_loss: 1e+300: input should be less than or equal"),
    ],
)
def test_what_no_engine_can_compute_is_refused(
    sweeps: list, train: dict, says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"params\.yaml: ") as refusal:
        write_params(tmp_path, sweeps, **train)
    assert says in str(refusal.value)


# --- random studies

# Values that a sweep of a setting may list
SWEPT = {
    "epochs": [2, 1],
    "batch_size": [50, 25, 100],
    "learning_rate": [0.001, 0.0003, 0.01],
    "hidden": [3, 4],
    "capacity_factor": [1.25, None, 1],
    "z_loss": [0, 0.001],
    "precision": ["float32", "bf16"],
}


@st.composite
def sweeps_of_a_study(draw: st.DrawFn) -> list[dict[str, Any]]:
    """One to three unrelated sweeps."""
    sweeps = []
    for _ in range(draw(st.integers(1, 3))):
        recipes = draw(
            st.lists(st.sampled_from(list(RECIPES)), min_size=1, max_size=4, unique=True)
        )
        ne = draw(
            st.lists(st.sampled_from([1, 2, 3, 4, 5, 8]), min_size=1, max_size=3, unique=True)
        )
        allowed = [k for k in (1, 2, 3, 4) if not any(RECIPES[r].why_not_k(k) for r in recipes)]
        allowed = [k for k in allowed if k <= max(ne)]
        if not allowed:
            continue
        k = draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=3, unique=True))
        if min(k) > max(ne):
            continue
        weights = [
            lc
            for lc in (0, 0.001, 0.1, 1, 10)
            if not any(RECIPES[r].why_not_lc(lc) for r in recipes)
        ]
        lc = draw(st.lists(st.sampled_from(weights), min_size=1, max_size=3, unique=True))
        seeds = draw(st.integers(1, 3))
        settings = draw(
            st.dictionaries(st.sampled_from(list(SWEPT)), st.integers(1, 3), max_size=2)
        )
        train = {name: SWEPT[name][:count] for name, count in settings.items()}
        if math.prod(map(len, train.values())) > 4:
            train = {}
        sweeps.append({"recipe": recipes, "ne": ne, "k": k, "lc": lc, "seeds": seeds, **train})
    return sweeps or [sweep("blog", [1], k=[1])]


def holds_for_any_study(sweeps: list, data: Dataset, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        rendered = render(folder, data, sweeps, patch)
        assert_says_no_nan(rendered)
        assert_has_every_trial(rendered)


COMMON = {
    "deadline": None,
    "derandomize": True,  # the same studies in every run
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@settings(max_examples=10, **COMMON)
@given(sweeps=sweeps_of_a_study())
def test_any_study_is_rendered(
    sweeps: list, mnist_5k: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    holds_for_any_study(sweeps, mnist_5k, tmp_path_factory.getbasetemp() / "any")


@pytest.mark.slow
@settings(max_examples=int(os.environ.get("STUDIES", "300")), **COMMON)
@given(sweeps=sweeps_of_a_study())
def test_any_of_many_studies_is_rendered(
    sweeps: list, mnist_5k: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> None:
    holds_for_any_study(sweeps, mnist_5k, tmp_path_factory.getbasetemp() / "many")
