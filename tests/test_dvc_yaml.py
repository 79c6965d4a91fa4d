"""dvc.yaml and the keys of runs, compared with the files that are really imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from moe.recipes import RECIPES
from moe.train.import_closure import import_closure
from moe.train.run_key import sources

ROOT = Path(__file__).parent.parent
STAGES = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
# Files that the track stage passes to MLflow by path instead of importing them
BY_PATH = {"track": {"moe/tracking/served.py"}}

LOADED = """
import sys
from pathlib import Path
import {module}
{then}
root = Path({root!r})
ours = [m for name, m in sys.modules.items() if name.split(".")[0] in ("moe", "stages")]
files = [Path(module.__file__) for module in ours if module.__file__]
print("\\n".join(str(file.relative_to(root)) for file in files if file.is_relative_to(root)))
"""


def loaded_by(module: str, then: str = "") -> set[str]:
    """The project's files that a new process has loaded after an import and some code."""
    code = LOADED.format(module=module, then=then, root=str(ROOT))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    return set(done.stdout.split())


def code_of(files: set[str]) -> set[str]:
    """Without empty files, which cannot affect results, and without the package's __init__."""
    return {f for f in files if (ROOT / f).read_text().strip() and f != "moe/__init__.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_folders_that_it_imports_and_on_no_others(stage: str) -> None:
    deps = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("moe", "stages"))}
    code = code_of(import_closure(f"stages/{stage}.py")) | BY_PATH.get(stage, set())
    covered = {dep: {f for f in code if f == dep or f.startswith(f"{dep}/")} for dep in deps}
    assert code == set().union(*covered.values())
    assert [dep for dep, files in covered.items() if not files] == []


@pytest.mark.parametrize("engine", ["kernel", "fused"])
def test_a_runs_key_covers_all_that_training_it_loads(engine: str) -> None:
    """Except the files of other recipes, which are discovered but not used."""
    train = (
        "import tempfile, torch\n"
        "from pathlib import Path\n"
        "from moe.data.dataset import Dataset\n"
        "from moe.data.idx import write_idx\n"
        "from moe.study.runs import Run\n"
        "from moe.study.train_settings import Train\n"
        "folder = Path(tempfile.mkdtemp())\n"
        "g = torch.Generator().manual_seed(0)\n"
        "for part in ('train', 't10k'):\n"
        "    x = torch.randint(256, (20, 28, 28), dtype=torch.uint8, generator=g)\n"
        "    write_idx(folder / f'{part}-images-idx3-ubyte', x.numpy())\n"
        "    y = (torch.arange(20) % 10).to(torch.uint8)\n"
        "    write_idx(folder / f'{part}-labels-idx1-ubyte', y.numpy())\n"
        "run, settings = Run('switch', 2, 1, 1.0, 0), Train(1, 10, 0.001, 4)\n"
        "if engine == 'kernel':\n"
        "    moe.engine.kernel.train([run], Dataset(folder), settings, cache=folder)\n"
        "else:\n"
        "    moe.engine.fused.train([run], Dataset(folder), settings, torch.device('cpu'))\n"
    )
    loaded = code_of(loaded_by(f"moe.engine.{engine}", f"engine = {engine!r}\n{train}"))
    files = {str(path.relative_to(ROOT)) for path in sources(engine, "switch")}
    others = {f"moe/recipes/{name.replace('-', '_')}.py" for name in RECIPES if name != "switch"}
    assert loaded - others == code_of(files) - {"moe/engine/kernel.c", "moe/engine/router.c"}


def test_one_more_recipe_leaves_the_keys_of_the_others() -> None:
    files = {path.name for path in sources("kernel", "blog")}
    assert {"blog.py", "gating.py", "recipe.py", "kernel.c", "router.c", "kernel.py"} <= files
    assert not files & {"logits.py", "switch.py", "gshard.py"}


def test_track_depends_on_all_that_it_uploads() -> None:
    from stages.track import ARTIFACTS

    # params.yaml is covered by the stage's params.
    assert set(ARTIFACTS) - {"params.yaml"} <= set(STAGES["track"]["deps"])


def test_freezing_the_stages_adds_a_line_to_each(tmp_path: Path) -> None:
    """DVC rewrites dvc.yaml; since the file has DVC's format and order, no other line changes."""
    dvc = str(Path(sys.executable).with_name("dvc"))
    before = (ROOT / "dvc.yaml").read_text()
    (tmp_path / "dvc.yaml").write_text(before)
    for command in (["init", "--no-scm", "-q"], ["freeze", *STAGES]):
        subprocess.run([dvc, *command], cwd=tmp_path, check=True, capture_output=True)
    after = (tmp_path / "dvc.yaml").read_text().splitlines()
    assert after.count("    frozen: true") == len(STAGES)
    assert [line for line in after if line != "    frozen: true"] == before.splitlines()
