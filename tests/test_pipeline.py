"""The real pipeline, run by `dvc repro` in a copy of the project, with a real MLflow store."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from ruamel.yaml import YAML

from moe.figures import FIGURES

ROOT = Path(__file__).parent.parent
STAGES = ("download", "train", "evaluate", "analyze", "report", "track")
RECIPES = ("blog", "switch")
yaml = YAML()


class Copy:
    """A clone of a working tree in an empty folder, in which commands run."""

    def __init__(self, folder: Path, mirror: Path | None = None, root: Path = ROOT) -> None:
        self.folder = folder
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=root, capture_output=True, check=True, text=True)
        for name in filter(None, files.stdout.split("\0")):
            if (root / name).is_file() and name != "dvc.lock":
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(root / name, folder / name)
        for built in (root / "moe").rglob("*.so"):
            shutil.copyfile(built, folder / built.relative_to(root))
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
        who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
        subprocess.run(["git", *who, "commit", "-qm", "clone"], cwd=folder, check=True)
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
            "PYTHONPATH": "",
            **({"MNIST_MIRROR": str(mirror)} if mirror else {}),
        }

    def params(self, **sections: dict | list) -> None:
        """Replace or update sections of params.yaml."""
        path = self.folder / "params.yaml"
        tree = yaml.load(path)
        for name, section in sections.items():
            if isinstance(section, dict):
                tree[name].update(section)
            else:
                tree[name] = section
        yaml.dump(tree, path)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def repro(self) -> str:
        done = self.run("dvc", "repro")
        return done.stdout + done.stderr

    def tracked(self) -> pd.DataFrame:
        """Every MLflow run, with its level."""
        mlflow.set_tracking_uri(self.environment["MLFLOW_TRACKING_URI"])
        names = [f"moe-mnist{of}" for of in ("", "-runs", "-studies")]
        frame = mlflow.search_runs(experiment_names=names, output_format="pandas")
        assert isinstance(frame, pd.DataFrame)
        return frame

    def outputs(self) -> dict[str, bytes]:
        """Every file of results/ and reports/, by name."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for folder in ("results", "reports")
            for path in sorted((self.folder / folder).rglob("*"))
            if path.is_file()
        }


def sweep(**axes: list | int) -> list:
    cells = {"recipe": list(RECIPES), "ne": [1, 2], "k": [1, 2], "lc": [1], "seeds": 2}
    return [{"name": "small", **cells, **axes}]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    """A finished study: 2 recipes × (ne, k) = (1, 1), (2, 1), (2, 2) × 2 seeds on mnist-5k."""
    copy = Copy(tmp_path_factory.mktemp("small"))
    copy.params(data={"dataset": "mnist-5k"}, sweeps=sweep(), train={"epochs": 2})
    said = copy.repro()
    for stage in STAGES:
        assert f"Running stage '{stage}'" in said
    return copy


def test_every_run_is_in_every_table(small: Copy) -> None:
    runs = pd.read_csv(small.folder / "results/runs.csv")
    assert list(runs.columns[:8]) == [
        *("recipe", "ne", "k", "lc", "seed"),
        *("accuracy", "network_loss", "gate_loss"),
    ]
    assert len(runs) == 12
    assert runs["accuracy"].between(0.2, 1).all()
    history = pd.read_csv(small.folder / "results/history.csv")
    assert len(history) == 12 * 2
    # The engine's last test accuracy is that of MoE with the trained weights.
    last = history[history["epoch"] == 2].reset_index(drop=True)
    assert (last["test_accuracy"] - runs["accuracy"]).abs().max() < 0.0011  # an image
    confusion = pd.read_csv(small.folder / "results/confusion.csv")
    assert confusion.filter(like="predicted_").sum(axis=1).eq(100).all()
    slots = pd.read_csv(small.folder / "results/slots.csv")
    slots = slots.groupby(["recipe", "ne", "k", "lc", "seed"]).sum()
    by_run = slots.filter(like="digit_").sum(axis=1)
    assert (by_run == 1000 * by_run.index.get_level_values("k")).all()
    metrics = json.loads((small.folder / "reports/metrics.json").read_text())
    assert metrics["runs"] == 12
    blog = runs[runs["recipe"] == "blog"]
    assert metrics["base"]["blog"] == pytest.approx(
        blog.loc[blog["ne"] == 1, "accuracy"].mean(), abs=1e-5
    )
    means = blog.groupby(["ne", "k"])["accuracy"].mean()
    assert metrics["best"]["blog"] == pytest.approx(means.max(), abs=1e-5)


def test_the_report_is_there(small: Copy) -> None:
    html = (small.folder / "reports/index.html").read_text()
    assert "5,000 images of MNIST" in html
    # A single lc shows no effect of lc, and ne = 1, 2 are too few for a specialisation curve.
    without = {
        *("effect-of-lc-on-accuracy", "effect-of-lc-on-gate-loss", "effect-of-lc-on-network-loss"),
        *("balance", "specialisation"),
    }
    # This study sweeps no other setting, and has no other data set to be compared with.
    absent = {"swept-settings", "beyond-mnist", "what-routers-look-for-beyond"}
    assert figures_of(small.folder) == set(FIGURES) - without - absent
    for slug in without:
        assert f"{FIGURES[slug].title}, needs two values of" in html


def figures_of(folder: Path) -> set[str]:
    return {path.stem for path in (folder / "reports/figures").iterdir()}


def test_mlflow_has_every_run_and_track_adds_none(small: Copy) -> None:
    first = small.tracked()
    levels = first["tags.level"].value_counts().to_dict()
    assert levels == {"study": 1, "trial": 6, "run": 12}
    small.run("dvc", "repro", "-s", "-f", "track")
    second = small.tracked()
    assert sorted(second["run_id"]) == sorted(first["run_id"])


def test_dvc_shows_its_metrics_in_few_columns(small: Copy) -> None:
    shown = small.run("dvc", "metrics", "show").stdout.splitlines()
    columns = [f"{name}.{recipe}" for name in ("base", "best") for recipe in RECIPES]
    assert shown[0].split() == ["Path", *columns, "runs"]
    assert max(map(len, shown)) <= 100


@pytest.mark.slow
def test_dvc_draws_its_plots_for_any_study(small: Copy) -> None:
    """This study has only lc = 1, and no recipe `logits`."""
    done = small.run("dvc", "plots", "show", "--json")
    assert done.stderr == ""
    plots = json.loads(done.stdout)["data"]
    names = {name.removeprefix("results/plots/") for name in plots}
    by_recipe = {f"{of}/{recipe}.csv" for of in ("training", "confusion") for recipe in RECIPES}
    assert names == {"accuracy_over_ne.csv", "accuracy_over_lc.csv", *by_recipe}
    runs = pd.read_csv(small.folder / "results/runs.csv")
    content = plots["results/plots/accuracy_over_ne.csv"][0]["content"]
    points = {(p["series"], int(p["ne"])): float(p["accuracy"]) for p in content["data"]["values"]}
    means = runs.groupby(["recipe", "k", "ne"])["accuracy"].mean().reset_index()
    assert points == {
        (f"{row['recipe']} k={row['k']} lc=1", row["ne"]): pytest.approx(row["accuracy"], rel=1e-5)
        for row in means.to_dict("records")
    }


def test_again_it_does_nothing(small: Copy) -> None:
    assert "Data and pipelines are up to date" in small.repro()


@pytest.mark.slow
def test_the_report_renders_to_the_same_bytes_from_tables_alone(small: Copy) -> None:
    before = small.outputs()
    for gone in ("weights", "data", ".cache", ".dvc/cache"):
        shutil.move(small.folder / gone, small.folder / f"away-{gone.replace('/', '-')}")
    small.run("dvc", "repro", "-s", "-f", "report")
    assert small.outputs() == before
    for gone in ("weights", "data", ".cache", ".dvc/cache"):
        shutil.move(small.folder / f"away-{gone.replace('/', '-')}", small.folder / gone)


@pytest.mark.slow
def test_one_more_ne_trains_its_cells_alone(small: Copy) -> None:
    before = pd.read_csv(small.folder / "results/runs.csv")
    small.params(sweeps=sweep(ne=[1, 2, 3]))
    said = small.repro()
    # 2 recipes × k = 1, 2 × 2 seeds of ne = 3
    assert "12 of 20 runs are in the store, 8 to train" in said
    after = pd.read_csv(small.folder / "results/runs.csv")
    pd.testing.assert_frame_equal(after[after["ne"] < 3].reset_index(drop=True), before)


@pytest.mark.slow
def test_a_lost_output_comes_back_without_training(small: Copy) -> None:
    before = small.outputs()
    shutil.rmtree(small.folder / "weights")
    (small.folder / "results/history.csv").unlink()
    small.repro()
    assert small.outputs() == before


@pytest.mark.slow
def test_bad_params_cost_nothing(small: Copy) -> None:
    before = small.outputs()
    good = (small.folder / "params.yaml").read_bytes()
    small.params(train={"epochs": 0})
    for stage in ("check", *STAGES):
        done = small.run(sys.executable, "-m", f"stages.{stage}", check=False)
        assert done.returncode == 2
        assert "train.epochs: 0" in done.stderr
        assert "Traceback" not in done.stderr
    assert small.outputs() == before
    (small.folder / "params.yaml").write_bytes(good)


@pytest.mark.slow
def test_a_study_on_all_of_mnist(mirror: Path, tmp_path: Path) -> None:
    copy = Copy(tmp_path, mirror)
    copy.params(sweeps=sweep(recipe=["logits"], seeds=1), train={"epochs": 1})
    copy.repro()
    runs = pd.read_csv(tmp_path / "results/runs.csv")
    assert len(runs) == 3
    assert runs["accuracy"].between(0.85, 0.97).all()
    assert "up to date" in copy.repro()


@pytest.mark.slow
def test_a_study_that_diverges_says_so_everywhere(tmp_path: Path) -> None:
    """Half of the runs have Adam steps of 1e30, whose squares overflow float32."""
    copy = Copy(tmp_path)
    axes = sweep(recipe=["logits"], k=[1], learning_rate=[0.001, 1e30])
    copy.params(data={"dataset": "mnist-5k"}, sweeps=axes, train={"epochs": 1})
    said = [line for line in copy.repro().splitlines() if "diverged" in line]
    assert len(said) == 1
    assert said[0].startswith("4 of 8 runs diverged: logits/ne=1/k=1/lc=1/")
    runs = pd.read_csv(tmp_path / "results/runs.csv")
    assert (runs["diverged"] == (runs["learning_rate"] == 1e30)).all()
    html = (tmp_path / "reports/index.html").read_text()
    assert "4 of 8 runs diverged: a loss or a weight of theirs" in html
    sound = runs[runs["diverged"] == 0].groupby("ne")["accuracy"].mean()
    metrics = json.loads((tmp_path / "reports/metrics.json").read_text())
    assert metrics["best"]["logits"] == pytest.approx(sound.max(), abs=1e-5)
    tracked = copy.tracked()
    tagged = tracked[tracked["tags.diverged"] == "true"]
    assert tagged["tags.level"].value_counts().to_dict() == {"run": 4, "trial": 2}
    assert set(tagged["params.learning_rate"]) == {"1e+30"}


@pytest.mark.parametrize("stage", ["check", "cache", *STAGES])
def test_help_loads_nothing_heavy(stage: str) -> None:
    code = (
        f"import sys; from stages.{stage} import {stage}\n"
        f"try: {stage}(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loads {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
