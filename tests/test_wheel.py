"""The installed package: a wheel used outside the checkout, and the command moe-mnist."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

from stages.cli import COMMANDS, cli
from stages.init import CODE, init
from stages.project_files import project_files
from tests.small_studies import write_params
from tests.test_pipeline import Copy

ROOT = Path(__file__).parent.parent
yaml = YAML()


def test_help_lists_every_command_with_a_summary() -> None:
    said = CliRunner().invoke(cli, ["--help"], catch_exceptions=False).output
    rows = re.findall(r"^  ([a-z]+)  +(\S.*)$", said.partition("Commands:")[2], re.MULTILINE)
    assert [name for name, _ in rows] == list(COMMANDS)
    # Every stage of the pipeline is among them.
    assert set(yaml.load(ROOT / "dvc.yaml")["stages"]) <= set(COMMANDS)
    refused = CliRunner().invoke(cli, ["trane"])
    assert refused.exit_code == 2
    assert "No such command 'trane'" in refused.output


def test_help_is_quick() -> None:
    """It imports none of the slow libraries."""
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom stages.cli import cli\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0\n"
        "print({'torch', 'numpy', 'pandas', 'mlflow', 'dvc'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_init_writes_all_that_the_stages_need_and_cannot_make(tmp_path: Path) -> None:
    folder = tmp_path / "a study"
    said = CliRunner().invoke(init, [str(folder), "--study", "demo"], catch_exceptions=False)
    assert f"cd '{folder}' && moe-mnist repro" in said.output
    assert (folder / "params.yaml").read_bytes() == (ROOT / "studies/demo.yaml").read_bytes()
    stages = yaml.load(folder / "dvc.yaml")["stages"]
    original = yaml.load(ROOT / "dvc.yaml")["stages"]
    made = {
        next(iter(out)) if isinstance(out, dict) else out
        for stage in stages.values()
        for out in (*stage["outs"], *stage.get("metrics", []))
    }
    for name, stage in stages.items():
        code = {dep for dep in original[name]["deps"] if dep.startswith(("moe/", "stages/"))}
        assert set(stage["deps"]) == set(original[name]["deps"]) - code | {str(CODE)}
        assert {k: v for k, v in stage.items() if k != "deps"} == {
            k: v for k, v in original[name].items() if k != "deps"
        }
        others = set(stage["deps"]) - made
        assert [dep for dep in others if not (folder / dep).exists()] == []
    # The tables of this project's own studies are not there.
    assert {path.name for path in (folder / "results").rglob("*")} == {
        *("confirm", "fashion", "routers", "README.md")
    }


def test_init_changes_no_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("mine")
    refused = CliRunner().invoke(init, [str(tmp_path)])
    assert refused.exit_code == 2
    assert f"{tmp_path / 'params.yaml'} already exists; nothing was written" in refused.output
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


class Installed:
    """A wheel of a copy of the checkout, in a virtual environment with this environment's libraries
    but not its editable install."""

    def __init__(self, folder: Path) -> None:
        tree = folder / "tree"
        Copy(tree)
        for built in tree.rglob("*.so"):  # the wheel's own is compiled
            built.unlink()
        pip = [sys.executable, "-m", "pip"]
        build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder)]
        self.run(*pip, *build, str(tree), cwd=folder)
        (wheel,) = folder.glob("moe_mnist-*.whl")
        shutil.rmtree(tree)
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.bin = folder / "venv/bin"
        here = Path(self.run(self.bin / "python", "-c", PURELIB, cwd=folder).strip())
        # A path in a .pth file is searched, but .pth files in it are not read.
        (here / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
        install = ["install", "--no-deps", "--no-index", str(wheel)]
        self.run(*pip, "--python", str(self.bin / "python"), *install, cwd=folder)
        self.folder = folder / "elsewhere"
        self.folder.mkdir()

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        hidden = ("PYTHONPATH", "MLFLOW_TRACKING_URI", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return Installed(tmp_path_factory.mktemp("wheel"))


@pytest.mark.slow
def test_the_wheel_has_the_layer_the_kernel_and_the_project(installed: Installed) -> None:
    code = (
        "import moe, torch\nfrom moe import MoE\nfrom moe.engine import kernel\n"
        "from stages.init import PROJECT\nfrom stages.project_files import project_files\n"
        "print(moe.__file__, kernel.why_not(), len(project_files(PROJECT)))\n"
        "output, aux = MoE(4, 3, 2, num_experts=2, top_k=1)(torch.ones(5, 4))\n"
        "print(tuple(output.shape))"
    )
    first, shape = installed.run(installed.bin / "python", "-c", code).splitlines()
    place, reason, files = first.split(" ", 1)[0], *first.split(" ", 1)[1].rsplit(" ", 1)
    assert Path(place).is_relative_to(installed.bin.parent)
    if shutil.which("cc"):
        assert reason == "None"
    assert int(files) == len(project_files(ROOT))
    assert shape == "(5, 2)"


@pytest.mark.slow
def test_sweep_works_outside_the_checkout(installed: Installed) -> None:
    code = (
        "import numpy as np\nfrom moe import sweep\n"
        "y = np.arange(90) % 3\nnoise = np.random.default_rng(0).normal(0, 0.1, (90, 3))\n"
        "x = np.eye(3)[y] + noise\n"
        "runs = sweep(x[:60], y[:60], x[60:], y[60:], recipe=['logits', 'gshard'], ne=[2, 4],\n"
        "             k=2, seeds=2, epochs=50, batch_size=20, learning_rate=0.01, store='runs')\n"
        "print(len(runs), runs['accuracy'].min())"
    )
    count, lowest = installed.run(installed.bin / "python", "-c", code).split()
    assert int(count) == 2 * 2 * 2
    assert float(lowest) > 0.9  # classes ten deviations apart
    assert list((installed.folder / "runs").glob("*.safetensors"))


@pytest.mark.slow
def test_a_study_runs_outside_the_checkout_up_to_the_report(installed: Installed) -> None:
    command = installed.bin / "moe-mnist"
    assert "evaluate" in installed.run(command, "--help")
    installed.run(command, "init", "study")
    study = installed.folder / "study"
    sweeps = [
        {"recipe": ["logits"], "ne": [1, 2], "k": [1, 2], "lc": [1]},
        {"recipe": ["gshard"], "ne": [2], "k": [2], "lc": [1]},
    ]
    (study / "params.yaml").unlink()
    write_params(study, sweeps)
    installed.run(command, "repro", cwd=study)
    runs = pd.read_csv(study / "results/runs.csv")
    assert len(runs) == (3 + 1) * 2  # (1, 1), (2, 1), (2, 2) and gshard's (2, 2); two seeds
    assert f"{len(runs)} runs" in (study / "reports/index.html").read_text(encoding="utf-8")
    assert (study / "reports/explorer.html").exists()
    assert (study / "results/tracked.json").exists()
    status = [installed.bin / "python", "-m", "dvc", "status"]
    assert "up to date" in installed.run(*status, cwd=study)
    # check records the installed code; with another version the stages would run again.
    (study / CODE).write_text("moe-mnist 0.0.0\n")
    assert "changed deps" in installed.run(*status, cwd=study)
    assert "Running stage" not in installed.run(command, "repro", cwd=study)
