"""params.yaml: its content, and invalid files, refused in one line that names key and value."""

import dataclasses
import math
import re
from pathlib import Path

import pytest

from moe.recipes import RECIPES
from moe.study.grid import runs_of, study_digest
from moe.study.params import ParamsError, Sweep, read_params
from moe.study.runs import Run, Trial
from moe.study.train_settings import SETTING_TYPES, Train

ROOT = Path(__file__).parent.parent
DEFAULT = (ROOT / "params.yaml").read_text()


def test_the_default_study_by_hand() -> None:
    # effect of lc: 2 recipes × 10 ne × 5 lc × 5 seeds = 500.
    # effect of k, k <= ne: ne = 1, 2, 3 allow 1, 2, 3 k, eight others 4: 6 + 32 = 38 cells;
    #   the ten with k = 2 were there: 28 × 2 × 5 = 280 new.
    # switch: 11 + 10 cells × 5 = 105. Claims: 2 × 10 × (20 − 5) = 300. Base: 2 × (100 − 5) = 190.
    runs = runs_of(read_params(ROOT / "params.yaml").sweeps)
    assert len(runs) == len(set(runs)) == 500 + 280 + 105 + 300 + 190
    # effect of lc: 2 × 50; of k: 2 × 28 more; switch: 21.
    assert len({run.trial for run in runs}) == 100 + 56 + 21
    assert all(run.k <= run.ne for run in runs)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_named(name: str, tmp_path: Path) -> None:
    path, k = tmp_path / "params.yaml", RECIPES[name].only_k or 2
    assert RECIPES[name].why_not_lc(1.0) is None
    old = "recipe: [switch]\n    ne: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16]\n    k: [1, 2]"
    assert DEFAULT.count(old) == 1
    path.write_text(DEFAULT.replace(old, f"recipe: [{name}]\n    ne: [2]\n    k: [{k}]"))
    assert Run(name, 2, k, 1.0, 0) in runs_of(read_params(path).sweeps)


def test_the_confirmatory_study_by_hand() -> None:
    study, default = (read_params(ROOT / name) for name in ("studies/confirm.yaml", "params.yaml"))
    runs = runs_of(study.sweeps)
    # k = 2, lc = 1: 2 recipes × 10 ne × 100 = 2,000; other lc: 2 × 10 × 4 × 50 = 4,000.
    # k = 1: blog 11 × 250 = 2,750, logits and switch 2 × 11 × 100 = 2,200.
    # k = 3 has nine ne, k = 4 eight: 2 × 17 × 20 = 680. Base: 250 of 400 are there, 150 are new.
    assert len(runs) == 2000 + 4000 + 2750 + 2200 + 680 + 150
    # switch at k = 2 is in the exploratory study alone: ten trials.
    trials = {run.trial for run in runs_of(default.sweeps)}
    assert trials - {run.trial for run in runs} == {
        Trial("switch", ne, 2, 1.0) for ne in (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)
    }
    assert {run.trial for run in runs} <= trials
    assert min(run.seed for run in runs) == 1000 > max(r.seed for r in runs_of(default.sweeps))
    assert study.train == default.train


def test_seeds_start_where_the_sweep_says(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULT.replace("seeds: 100", "seeds: {from: 7, count: 3}", 1))
    base = [run.seed for run in runs_of(read_params(path).sweeps) if run.ne == 1 and run.k == 1]
    # blog and logits: seeds 0 … 4 of "effect of k" and 7 … 9 of "base models"; switch: 0 … 4
    assert sorted(base) == sorted([0, 1, 2, 3, 4, 7, 8, 9] * 2 + [0, 1, 2, 3, 4])


def test_the_default_studies_digest_is_what_it_was() -> None:
    digest = study_digest(read_params(ROOT / "params.yaml"))
    assert digest.startswith("d0224ff6")


def test_the_demo_by_hand() -> None:
    # k = 1: 4 ne; k = 2: 3 ne; × 2 lc × 3 seeds × 3 recipes
    assert len(runs_of(read_params(ROOT / "studies/demo.yaml").sweeps)) == 7 * 2 * 3 * 3


def test_a_trial_reads_its_own_name() -> None:
    for lc in (0.0, 1.0, 0.01, 1e-7, 0.123456789012):
        trial = Trial("blog", 4, 2, lc)
        assert Trial.parse(str(trial)) == trial
    assert str(Run("blog", 4, 2, 0.1, 3)) == "blog/ne=4/k=2/lc=0.1/seed=3"


SWEEPS = """
sweeps:
  - {name: a, recipe: [blog, switch], ne: [2, 4], k: [2], lc: [1], seeds: 2,
     learning_rate: [0.001, 0.01], capacity_factor: [null, 1]}
  - {name: b, recipe: [switch], ne: [2], k: [2], lc: [0, 1], seeds: 1, hidden: [5, 10]}
"""


def test_a_sweep_may_list_settings_of_train(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(re.sub(r"\nsweeps:.*?(?=\ntrain:)", SWEEPS, DEFAULT, flags=re.DOTALL))
    runs = runs_of(read_params(path).sweeps)
    # a: 2 recipes × 2 ne × 2 rates × 2 capacities × 2 seeds, hidden as in train: 10.
    # b: 2 lc × 2 widths, the rest as in train; of these (lc 1, hidden 10) is in a.
    assert len(runs) == len(set(runs)) == 32 + 4 - 1
    names = {tuple(name for name, _ in run.settings) for run in runs}
    assert names == {("learning_rate", "hidden", "capacity_factor")}
    usual = (("learning_rate", 0.001), ("hidden", 10), ("capacity_factor", math.inf))
    of_b = {(run.lc, run.settings) for run in runs if run.lc == 0 or ("hidden", 5) in run.settings}
    narrow = (usual[0], ("hidden", 5), usual[2])
    assert of_b == {(0.0, usual), (0.0, narrow), (1.0, narrow)}
    assert Run("switch", 2, 2, 1.0, 0, usual) in runs
    assert str(Run("switch", 2, 2, 1.0, 0, usual)) == (
        "switch/ne=2/k=2/lc=1/learning_rate=0.001/hidden=10/capacity_factor=inf/seed=0"
    )


def test_a_trial_with_settings_reads_its_own_name() -> None:
    settings = (("epochs", 3), ("learning_rate", 1e-5), ("precision", "bf16"))
    for recipe in ("blog", "extensions/mine.py:SHARP"):
        trial = Trial(recipe, 16, 2, 0.1, settings)
        assert Trial.parse(str(trial)) == trial
        assert Trial.of(trial.columns) == trial
    with pytest.raises(ValueError, match="is not the name of a trial"):
        Trial.parse("blog/ne=4")


def test_the_fields_of_a_sweep_are_those_of_train() -> None:
    names = [field.name for field in dataclasses.fields(Train)]
    assert list(SETTING_TYPES) == names
    assert [field.name for field in dataclasses.fields(Sweep)][-len(names) :] == names


def test_a_study_keeps_its_name_when_only_its_computation_changes(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    before = study_digest(read_params(ROOT / "params.yaml"))
    path.write_text(DEFAULT.replace("experts_per_shard: auto", "experts_per_shard: 60"))
    assert read_params(path).runtime.experts_per_shard == 60
    assert study_digest(read_params(path)) == before
    path.write_text(DEFAULT.replace("epochs: 5", "epochs: 6"))
    assert study_digest(read_params(path)) != before


BAD = {
    "unknown key": ("epochs: 5", "epochs: 5\n  epoch: 4", "train.epoch: unknown key (value 4)"),
    "missing key": ("  epochs: 5\n", "", "train.epochs: is missing"),
    "wrong type": ("epochs: 5", "epochs: five", "train.epochs: 'five': input should be a valid"),
    "float": ("epochs: 5", "epochs: 2.5", "train.epochs: 2.5: input should be a valid integer"),
    "zero": ("epochs: 5", "epochs: 0", "train.epochs: 0: input should be greater than or equal"),
    "k below 1": ("k: [1, 2, 3, 4]", "k: [0]", "sweeps.1.k.0: 0: input should be greater than"),
    "negative lc": ("lc: [0, 0.01", "lc: [-1, 0.01", "sweeps.0.lc.0: -1: input should be greater"),
    "nan": ("lc: [0, 0.01", "lc: [.nan, 0.01", "sweeps.0.lc.0: nan: input should be a finite"),
    "infinity": ("lc: [0, 0.01", "lc: [.inf, 0.01", "sweeps.0.lc.0: inf: input should be a finite"),
    "empty list": ("k: [1, 2, 3, 4]", "k: []", "sweeps.1.k: []: tuple should have at least 1"),
    "bare number": ("k: [1, 2, 3, 4]", "k: 2", "sweeps.1.k: 2: must be a list"),
    "bare word": ("recipe: [switch]", "recipe: switch", "sweeps.2.recipe: 'switch': must be a"),
    "recipe": (
        "recipe: [switch]",
        "recipe: [swish]",
        "recipe 'swish' is unknown; it can be blog, ",
    ),
    "dataset": (
        "dataset: mnist ",
        "dataset: cifar ",
        "data set 'cifar' is unknown; it can be mnist, ",
    ),
    "no cell": ("k: [1, 2, 3, 4]", "k: [20]", "[20]: every k is larger than every ne of"),
    "no value of a setting": (
        "lc: [0, 0.01",
        "hidden: []\n    lc: [0, 0.01",
        "sweeps.0.hidden: []",
    ),
    "a setting alone": (
        *("lc: [0, 0.01", "learning_rate: 0.1\n    lc: [0, 0.01"),
        "sweeps.0.learning_rate: 0.1: must be a list",
    ),
    "a wrong setting": (
        *("lc: [0, 0.01", "epochs: [1, 0]\n    lc: [0, 0.01"),
        "sweeps.0.epochs.1: 0: input should be greater than or equal to 1",
    ),
    "a large batch": (
        *("lc: [0, 0.01", "batch_size: [128, 70000]\n    lc: [0, 0.01"),
        "sweeps.0.batch_size: 70000: mnist has 60,000 training samples",
    ),
    "lc of top-p": (
        *("recipe: [blog, logits]    # blog", "recipe: [top-p]    # blog"),
        "sweeps.0.lc: [0.0, 0.01, 0.1, 1.0, 10.0]: of top-p lc is the sum of p to reach, above 0",
    ),
    "k of gshard": ("recipe: [switch]", "recipe: [gshard]", "[1, 2]: gshard allows only k = 2"),
    "k of dense": (
        *("recipe: [switch]", "recipe: [dense-total]"),
        "[1, 2]: dense-total allows only k = 1",
    ),
    "capacity": ("epochs: 5", "epochs: 5\n  capacity_factor: 0", "train.capacity_factor"),
    "duplicate": ("epochs: 5", "epochs: 5\n  epochs: 6", "not valid YAML"),
    "not yaml": ("epochs: 5", "epochs: [5", "not valid YAML"),
    "no seeds": ("seeds: 100", "seeds: 0", "sweeps.4.seeds: 0: must be at least one seed"),
    "seeds of a word": ("seeds: 100", "seeds: many", "sweeps.4.seeds: 'many': must be a number of"),
    "truth for seeds": ("seeds: 100", "seeds: true", "sweeps.4.seeds: True: must be a number of"),
    "seeds from no count": (
        *("seeds: 100", "seeds: {from: 1000}"),
        "sweeps.4.seeds: {'from': 1000}: must be a number of seeds, or like {from: 1000, count",
    ),
    "seeds to nowhere": (
        *("seeds: 100", "seeds: {from: 5, count: 3, to: 8}"),
        "must be a number of seeds, or like {from: 1000, count: 250}",
    ),
    "seeds below 0": ("seeds: 100", "seeds: {from: -1, count: 3}", "between 0 and 1,000,000,000"),
    "device": ("device: auto ", "device: gpu ", "runtime.device: 'gpu': string should match"),
    "workers": ("workers: auto ", "workers: 0 ", "runtime.workers"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_params(case: str, tmp_path: Path) -> None:
    good, bad, message = BAD[case]
    assert good in DEFAULT
    path = tmp_path / "params.yaml"
    path.write_text(DEFAULT.replace(good, bad, 1))
    with pytest.raises(ParamsError) as raised:
        read_params(path)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_recipe_of_extensions_is_not_for_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other machines do not have the recipe's file."""
    (tmp_path / "extensions").mkdir()
    (tmp_path / "extensions/own.py").write_text("from moe.recipes.switch import RECIPE\n")
    monkeypatch.chdir(tmp_path)
    text = DEFAULT.replace("recipe: [switch]", 'recipe: ["extensions/own.py:RECIPE"]', 1)
    path = tmp_path / "params.yaml"
    path.write_text(text)
    read_params(path)
    path.write_text(text.replace("executor: local", "executor: ray"))
    with pytest.raises(ParamsError, match=r"'ray': extensions/own\.py:RECIPE is a file"):
        read_params(path)


@pytest.mark.parametrize("text", ["", "[]", "5", "\x00", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_params_file_at_all(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError):
        read_params(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cannot be read"):
        read_params(tmp_path / "params.yaml")
