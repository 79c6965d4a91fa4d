"""`sweep`: compared with the pipeline; its arguments, its store, and ways to call it."""

import inspect
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import moe
from moe import MoE, sweep
from moe.analysis.evaluation import evaluate
from moe.data.dataset import Dataset
from moe.engine import fused, kernel
from moe.errors import UserError
from moe.recipes import RECIPES
from moe.recipes.recipe import Recipe
from moe.study.grid import runs_of
from moe.study.tables import write_table
from moe.study.workers import in_threads
from moe.train.run_store import Store
from moe.train.shards import train_study
from stages.analyze import analyze
from stages.evaluate import evaluate as evaluate_stage
from tests import small_studies

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/library.md").read_text(encoding="utf-8")
SMALL: dict[str, Any] = {"ne": 2, "k": 1, "seeds": 1, "epochs": 1, "batch_size": 20, "hidden": 3}


def toy(samples: int = 60, classes: int = 3) -> dict[str, Any]:
    """Signed inputs (N, 4), with class-dependent means."""
    rng = np.random.default_rng(0)
    y = np.arange(samples) % classes
    x = rng.normal(size=(samples, 4)) + np.eye(classes, 4)[y]
    return {"x_train": x[:40], "y_train": y[:40], "x_test": x[40:], "y_test": y[40:]}


# --- the same runs as the pipeline's


@pytest.mark.slow
def test_the_table_is_the_pipelines_runs_csv(
    mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages train on files, with worker processes; `sweep` on arrays, with threads."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("reports").mkdir()
    small_studies.write_data(mnist_5k, Path("data"))
    cells = {"recipe": ["logits", "switch", "gshard"], "ne": [2, 3], "k": [2], "lc": [0, 1]}
    params = small_studies.write_params(tmp_path, [cells], epochs=2)

    def trainer(runs: Any, data: Any, settings: Any) -> Any:
        trained = train_study(params, runs, data, Store(tmp_path / "store"))
        return [trained[run] for run in runs]

    small_studies.train(params, trainer)
    inspect.unwrap(evaluate_stage.callback)()
    inspect.unwrap(analyze.callback)()
    data = Dataset()
    settings = {"seeds": 2, "epochs": 2, "batch_size": 50, "hidden": 4}
    found = sweep(*data.arrays, **cells, **settings, progress=False)
    assert len(found) == len(runs_of(params.sweeps)) == 3 * 2 * 2 * 2
    # Six digits, except for the mean of the gradients, which the stage computes from rounded ones;
    # the stage has fewer null tables.
    write_table(found, tmp_path / "found/runs.csv")
    ours, theirs = (
        pd.read_csv(path, dtype=str).drop(columns=["router_grad_norm", "nmi_null"])
        for path in (tmp_path / "found/runs.csv", tmp_path / "results/runs.csv")
    )
    pd.testing.assert_frame_equal(ours, theirs)
    theirs = pd.read_csv(tmp_path / "results/runs.csv")
    assert found["router_grad_norm"].to_numpy() == pytest.approx(
        theirs["router_grad_norm"].to_numpy(), rel=1e-4
    )


@pytest.mark.parametrize("recipe", ["logits", "gshard"])
def test_in_memory_weights_have_the_same_bits(
    recipe: str, mnist_5k: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    small_studies.write_data(mnist_5k, tmp_path / "data")
    cells = {"recipe": [recipe], "ne": [2, 4], "k": [2], "lc": [1]}
    params = small_studies.write_params(tmp_path, [cells])
    runs = runs_of(params.sweeps)
    on_files = train_study(params, runs, Dataset(), Store(tmp_path / "one"))
    in_memory = Dataset.of(Dataset().arrays)
    in_threads_ = train_study(params, runs, in_memory, Store(tmp_path / "other"))
    for run in runs:
        for name, weights in on_files[run].weights.items():
            assert torch.equal(weights, in_threads_[run].weights[name]), (run, name)
        assert torch.equal(on_files[run].history, in_threads_[run].history)


# --- what it returns


def test_a_row_for_each_run_and_its_model() -> None:
    data = toy()
    runs, models = sweep(
        **data, recipe=["switch", "logits"], ne=[3, 1], k=[1, 2], lc=[1, 0], seeds=range(7, 9),
        epochs=2, batch_size=20, hidden=3, models=True, progress=False,
    )  # fmt: skip
    # ne = 1 has k = 1; ne = 3 has both: 3 cells, 2 lc, 2 recipes, 2 seeds
    assert len(runs) == len(models) == 3 * 2 * 2 * 2
    keys = ["recipe", "ne", "k", "lc", "seed"]
    assert list(runs.columns[:5]) == keys
    assert [*runs[keys].itertuples(index=False)] == sorted(runs[keys].itertuples(index=False))
    assert set(runs["seed"]) == {7, 8}
    assert (runs["diverged"] == 0).all()
    assert list(runs.filter(regex=r"accuracy_\d")) == ["accuracy_0", "accuracy_1", "accuracy_2"]
    x, y = torch.tensor(data["x_test"]).float(), torch.tensor(data["y_test"])
    for row, model in zip(runs.to_dict("records"), models, strict=True):
        assert isinstance(model, MoE)
        assert not model.training
        assert (model.recipe.name, model.num_experts, model.top_k) == (
            row["recipe"], row["ne"], row["k"],
        )  # fmt: skip
        right = (model(x)[0].argmax(-1) == y).float().mean()
        assert row["accuracy"] == pytest.approx(float(right))


def test_several_values_of_a_setting_are_a_column() -> None:
    settings = {**SMALL, "epochs": [1, 3], "learning_rate": [0.01, 0.1]}
    runs = sweep(**toy(), **settings, progress=False)
    assert list(runs.columns[4:7]) == ["seed", "epochs", "learning_rate"]
    assert sorted(zip(runs["epochs"], runs["learning_rate"], strict=True)) == [
        (1, 0.01), (1, 0.1), (3, 0.01), (3, 0.1),
    ]  # fmt: skip
    alone = sweep(**toy(), **{**SMALL, "epochs": 3, "learning_rate": 0.1}, progress=False)
    same = runs[(runs["epochs"] == 3) & (runs["learning_rate"] == 0.1)]
    assert same["network_loss"].tolist() == alone["network_loss"].tolist()


# --- its arguments


def test_arrays_of_every_kind_give_the_same_runs() -> None:
    data = {name: np.asarray(x, np.float32 if name[0] == "x" else int) for name, x in toy().items()}
    first = sweep(**data, **SMALL, progress=False)
    kinds = {
        "float64": {n: x.astype(np.float64) if n[0] == "x" else x for n, x in data.items()},
        "lists": {name: x.tolist() for name, x in data.items()},
        "frames": {n: pd.DataFrame(x) if n[0] == "x" else pd.Series(x) for n, x in data.items()},
        "tensors": {
            name: torch.tensor(x, requires_grad=name[0] == "x") for name, x in data.items()
        },
        "more axes": {n: x.reshape(-1, 2, 2) if n[0] == "x" else x for n, x in data.items()},
        "small labels": {n: x if n[0] == "x" else x.astype(np.uint8) for n, x in data.items()},
    }
    for name, arrays in kinds.items():
        pd.testing.assert_frame_equal(sweep(**arrays, **SMALL, progress=False), first), name
    numpys = {n: np.int64(v) for n, v in SMALL.items() if n != "ne"}
    again = sweep(**data, **numpys, ne=np.array([2]), lc=np.float64(1), progress=False)
    pd.testing.assert_frame_equal(again, first)


def test_bytes_are_divided_by_255() -> None:
    data = toy()
    inputs = {name: np.abs(data[name]) for name in ("x_train", "x_test")}
    grey = {name: (60 * x).clip(0, 255).astype(np.uint8) for name, x in inputs.items()}
    scaled = {name: x.astype(np.float32) / 255 for name, x in grey.items()}
    one, other = (sweep(**{**data, **x}, **SMALL, progress=False) for x in (grey, scaled))
    assert one["network_loss"].to_numpy() == pytest.approx(other["network_loss"].to_numpy(), 1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"ne": 0}, r"^ne\.0: 0: input should be greater than or equal to 1"),
        ({"ne": [2, 65]}, r"^ne\.1: 65: input should be less than or equal to 64"),
        ({"ne": []}, r"^ne: \[\]"),
        ({"k": "two"}, r"^k\.0: 'two': input should be a valid integer"),
        ({"k": 3}, r"^k: \[3\]: every k is larger than every ne of \[2\]"),
        ({"lc": -1}, r"^lc\.0: -1: input should be greater than or equal to 0"),
        ({"lc": float("nan")}, r"^lc\.0: nan: input should be a finite number"),
        ({"recipe": "logit"}, r"^recipe\.0: 'logit': recipe 'logit' is unknown; it can be blog"),
        ({"recipe": "no/such.py:R"}, r"^recipe: recipe 'no/such\.py:R': there is no file"),
        ({"recipe": "gshard"}, r"^k: \[1\]: gshard allows only k = 2"),
        ({"seeds": 0}, r"^seeds: 0: must be at least one seed"),
        ({"seeds": range(0, 10, 2)}, r"^seeds: range\(0, 10, 2\): must be neighbours"),
        ({"seeds": "many"}, r"^seeds: 'many': must be a number of seeds"),
        ({"epochs": 0.5}, r"^epochs: 0\.5: input should be a valid integer"),
        ({"epochs": [1, 0]}, r"^epochs\.1: 0: input should be greater"),
        ({"batch_size": 41}, "^batch_size: 41: x_train has 40 samples, so there is no whole batch"),
        ({"learning_rate": 0}, r"^learning_rate: 0: input should be greater than 0"),
        ({"hidden": 0}, "^hidden: 0: input should be greater"),
        ({"capacity_factor": -1.0}, r"^capacity_factor: -1\.0: input should be greater"),
        ({"precision": "fp8"}, "^precision: 'fp8': input should be 'float32', 'tf32' or 'bf16'"),
        ({"device": "tpu"}, "^device: 'tpu': string should match"),
        ({"device": "cuda:99"}, "^device: 'cuda:99': this machine has"),
        ({"engine": "slow"}, "^engine: 'slow': input should be 'auto', 'kernel' or 'fused'"),
        ({"engine": "kernel", "precision": "bf16"}, "^engine: 'kernel': the kernel computes in fl"),
        ({"workers": 0}, "^workers: 0: "),
        ({"y_train": list("abca" * 10)}, r"^y_train holds str_, but labels are whole numbers"),
        ({"y_test": np.zeros(20, int)}, "^y_test has no sample of class 1"),
        ({"x_test": np.ones((20, 5))}, r"^x_test has samples of shape \(5,\), but x_train of"),
        ({"x_train": np.full((40, 4), np.inf)}, "^x_train: sample 0 has a number that is not"),
        ({"x_train": pd.DataFrame({"a": ["b"] * 40})}, "^x_train has type object, but"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        sweep(**{**toy(), **SMALL, **wrong}, progress=False)
    assert "\n" not in str(raised.value)


def test_help_says_what_every_argument_is() -> None:
    text = inspect.getdoc(sweep) or ""
    for name in inspect.signature(sweep).parameters:
        assert re.search(rf"^ *(.*, )?{name}(, \w+)*: |\. {name}: ", text, re.MULTILINE), name
    for word in ("Returns", "Raises", "Shazeer", "Kingma", "share", "nats", "(N, D)"):
        assert word in text


def test_the_layer_is_imported_without_pandas() -> None:
    code = "import sys\nfrom moe import MoE\nprint({'pandas', 'scipy', 'dvc'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr
    assert set(moe.__all__) == {"MoE", "sweep"}


# --- a user's own recipes


def _route(inputs: Any) -> Any:
    return RECIPES["logits"].route(inputs)


OWN = Recipe(
    name="own", route=_route, source="a test", gates="as logits", gate_loss="as logits", lc="-",
    random="nothing", use_it="never", color="#000000",
)  # fmt: skip


def test_a_recipe_of_ones_own_as_an_object_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(
        "from moe.recipes.recipe import Recipe\nfrom moe.recipes import RECIPES\n"
        "MINE = Recipe(name='mine', route=RECIPES['logits'].route, source='a test', gates='-',\n"
        "              gate_loss='-', lc='-', random='nothing', use_it='never', color='#000000')\n"
    )
    recipes = ["logits", OWN, f"{file}:MINE"]
    runs, models = sweep(
        **toy(), **{**SMALL, "k": 2}, recipe=recipes, engine="fused", models=True, progress=False
    )
    assert set(runs["recipe"]) == {"logits", "own", f"{file}:MINE"}
    # The same function, so the same numbers.
    assert runs["network_loss"].nunique() == 1
    assert {model.recipe.name for model in models} == {"logits", "own", "mine"}


def test_the_store_trains_again_when_the_file_of_a_recipe_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "own.py"
    text = (
        "from moe.recipes.recipe import Recipe\n\ndef route(inputs):\n"
        "    from moe.recipes import gating\n"
        "    return gating.sparsely_gated(inputs._replace(logits=FACTOR * inputs.logits))\n\n"
        "R = Recipe(name='r', route=route, source='-', gates='-', gate_loss='-', lc='-',\n"
        "           random='nothing', use_it='-', color='#000000')\n"
    )
    losses = []
    for factor, in_store in ((1, 0), (1, 1), (9, 0)):
        file.write_text(text.replace("FACTOR", str(factor)))
        # Python caches sources by time and size; the keys do not.
        from moe.train import run_key

        run_key._bytes_of.cache_clear()
        runs = sweep(**toy(), **{**SMALL, "k": 2}, recipe=f"{file}:R", store=tmp_path / "store")
        assert f"{in_store} of 1 runs are in the store" in capsys.readouterr().err
        losses.append(float(runs["network_loss"].iloc[0]))
    assert losses[0] == losses[1] != losses[2]


def test_what_cannot_be_a_recipe_or_be_kept(tmp_path: Path) -> None:
    taken = Recipe(**{**vars(OWN), "name": "switch"})
    with pytest.raises(ValueError, match=r"^recipe: recipe 'switch': a published recipe has this"):
        sweep(**toy(), **SMALL, recipe=taken)
    # A function typed at a prompt is not defined in a file.
    typed: dict[str, Any] = {}
    exec(compile("def route(inputs): ...", "<stdin>", "exec"), typed)
    at_a_prompt = Recipe(**{**vars(OWN), "name": "typed", "route": typed["route"]})
    with pytest.raises(ValueError, match=r"^store: typed is not defined in a file"):
        sweep(**toy(), **SMALL, recipe=at_a_prompt, store=tmp_path / "store")


# --- its store, and how it stops


def test_no_run_is_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = sweep(**toy(), **SMALL, recipe=["logits", "gshard"][:1], store=str(tmp_path / "runs"))
    larger = {**SMALL, "ne": [2, 3], "seeds": 2}
    both = sweep(**toy(), **larger, store=tmp_path / "runs")
    assert "1 of 4 runs are in the store, 3 to train" in capsys.readouterr().err

    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("trained again")

    monkeypatch.setattr(kernel, "train", fail)
    monkeypatch.setattr(fused, "train", fail)
    again = sweep(**toy(), **larger, store=tmp_path / "runs", progress=False)
    pd.testing.assert_frame_equal(again, both)
    same = both[(both["ne"] == 2) & (both["seed"] == 0)].reset_index(drop=True)
    pd.testing.assert_frame_equal(same, first)
    assert capsys.readouterr() == ("", "")
    with pytest.raises(AssertionError, match="trained again"):  # other data
        sweep(**{**toy(), "x_train": toy()["x_train"] + 1}, **SMALL, store=tmp_path / "runs")


def test_without_a_store_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    sweep(**toy(), **SMALL, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_progress_is_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    sweep(**toy(), **SMALL, recipe=["logits", OWN])
    out, err = capsys.readouterr()
    assert out == ""
    assert "own: trained by the fused engine, because" in err
    assert err.splitlines()[-1] == "2 runs finished, testing them"
    assert "store" not in err
    sweep(**toy(), **{**SMALL, "learning_rate": 1e30, "epochs": 3})
    assert "1 of 1 runs diverged: logits/ne=2/k=1/lc=1/seed=0" in capsys.readouterr().err


def test_threads_end_with_an_error_and_leave_torchs_threads_as_they_were() -> None:
    began, ended = threading.Event(), threading.Event()

    def work(task: int, send: Any) -> int:
        assert torch.get_num_threads() == 1
        if task == 0:
            began.wait(10)
            raise KeyError("the first fails")
        try:
            began.set()
            while True:
                send(task)
                time.sleep(0.01)
        finally:
            ended.set()

    torch.set_num_threads(2)
    with pytest.raises(KeyError):
        list(in_threads(work, [0, 1], 2))
    assert ended.is_set()
    assert torch.get_num_threads() == 2
    assert list(in_threads(work, [], 2)) == []


def test_a_run_that_does_not_fit_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(*_: Any, **__: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(kernel, "train", too_large)
    monkeypatch.setattr(fused, "train", too_large)
    with pytest.raises(UserError, match=r"seed=0: not enough memory to train this run"):
        sweep(**toy(), **SMALL, progress=False)


SCRIPT = """
import sys
from moe import sweep
from sklearn.datasets import load_digits
x, y = load_digits(return_X_y=True)
runs = sweep(x[:1000] / 16, y[:1000], x[1000:] / 16, y[1000:], ne=[2, 4, 8], k=[1, 2],
             recipe=["logits", "shazeer"], seeds=4, epochs=EPOCHS, store=sys.argv[1])
print(round(float(runs["accuracy"].mean()), 6))
"""


@pytest.mark.slow
def test_a_script_without_a_guard_a_prompt_and_a_kill(tmp_path: Path) -> None:
    """kill -9 once a run is in the store; the same call then gives the same numbers."""
    store = tmp_path / "store"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.replace("EPOCHS", "20"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script), str(store)]
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while not list(store.glob("*.json")):  # the index of an entry, written last
        assert started.poll() is None
        time.sleep(0.02)
    started.kill()
    started.wait()
    resumed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    (found,) = re.findall(r"^(\d+) of 48 runs are in the store", resumed.stderr, re.MULTILINE)
    assert 0 < int(found) < 48
    # From standard input, without a script file, and without interruption.
    typed = subprocess.run(
        [sys.executable, "-", str(tmp_path / "other")],
        input=script.read_text(), env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "0 of 48 runs are in the store" in typed.stderr
    assert typed.stdout == resumed.stdout


# --- docs/library.md

EXAMPLES = re.findall(r"```python\n# (\w+\.py)\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL)


def test_the_page_has_three_examples() -> None:
    assert [name for name, _, _ in EXAMPLES] == ["wine.py", "sharp.py", "digits.py"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "code", "printed"), EXAMPLES, ids=[e[0] for e in EXAMPLES])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_example_prints_what_the_page_says(
    name: str, code: str, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Processors round differently: numbers may differ by 0.02."""
    known: dict[str, Any] = {}
    exec(compile(code, name, "exec"), known)
    out = capsys.readouterr().out
    number = re.compile(r"\d+\.\d+")
    words = [number.sub("#", text).split() for text in (out, printed)]
    assert words[0] == words[1]
    theirs, ours = (np.array(number.findall(text), float) for text in (printed, out))
    assert ours == pytest.approx(theirs, abs=0.02)
    if name == "digits.py":  # the last block continues it
        last = PAGE.rpartition("```python\n")[2].partition("```")[0]
        exec(last, known)
        assert known["output"].shape == (3, 10)
        best = known["runs"]["accuracy"].max()
        x, y = (torch.tensor(known[part]) for part in ("x_test", "y_test"))
        assert evaluate(known["best"], x.float(), y).accuracy == pytest.approx(best)
