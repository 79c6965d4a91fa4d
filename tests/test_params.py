"""params.yaml: what stands in it, and what is refused, with one line that names key and value."""

from pathlib import Path

import pytest

from moe.recipes import RECIPES
from moe.study.grid import runs_of, study_digest
from moe.study.params import ParamsError, read_params
from moe.study.runs import Run, Trial

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
    old = "recipe: [switch]\n    ne: [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16]\n    k: [1, 2]"
    assert DEFAULT.count(old) == 1
    path.write_text(DEFAULT.replace(old, f"recipe: [{name}]\n    ne: [2]\n    k: [{k}]"))
    assert Run(name, 2, k, 1.0, 0) in runs_of(read_params(path).sweeps)


def test_the_20_seed_study_differs_in_its_seeds_alone() -> None:
    study, default = (read_params(ROOT / name) for name in ("studies/study.yaml", "params.yaml"))
    assert {run.trial for run in runs_of(study.sweeps)} == {
        run.trial for run in runs_of(default.sweeps)
    }
    assert min(sweep.seeds for sweep in study.sweeps) == 20
    assert study.train == default.train


def test_the_demo_by_hand() -> None:
    # k = 1: 4 ne; k = 2: 3 ne; × 2 lc × 3 seeds × 3 recipes
    assert len(runs_of(read_params(ROOT / "studies/demo.yaml").sweeps)) == 7 * 2 * 3 * 3


def test_a_trial_reads_its_own_name() -> None:
    for lc in (0.0, 1.0, 0.01, 1e-7, 0.123456789012):
        trial = Trial("blog", 4, 2, lc)
        assert Trial.parse(str(trial)) == trial
    assert str(Run("blog", 4, 2, 0.1, 3)) == "blog/ne=4/k=2/lc=0.1/seed=3"


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
    "no cell": ("k: [1, 2, 3, 4]", "k: [20]", "[20] holds no k that is at most an ne of"),
    "k of gshard": ("recipe: [switch]", "recipe: [gshard]", "[1, 2]: gshard allows only k = 2"),
    "k of dense": (
        *("recipe: [switch]", "recipe: [dense-total]"),
        "[1, 2]: dense-total allows only k = 1",
    ),
    "capacity": ("epochs: 5", "epochs: 5\n  capacity_factor: 0", "train.capacity_factor"),
    "duplicate": ("epochs: 5", "epochs: 5\n  epochs: 6", "not valid YAML"),
    "not yaml": ("epochs: 5", "epochs: [5", "not valid YAML"),
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


@pytest.mark.parametrize("text", ["", "[]", "5", "\x00", "!!python/object/apply:os.getcwd []"])
def test_what_is_no_params_file_at_all(text: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(ParamsError):
        read_params(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="cannot be read"):
        read_params(tmp_path / "params.yaml")
