"""The Makefile in unusual folders and environments; versions that must agree."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parent.parent
# A fake Python: `-m venv` creates a .venv with the same fake and a `pip` script, `-m pip` does
# nothing. It logs its arguments to $CALLS.
STAND_IN = """#!/bin/bash
echo "$PYTHONHOME|$PYTHONPATH|$PYTHONUTF8|$*" >> "$CALLS"
case "$*" in
  "-m venv .venv")
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    printf '#!%s/.venv/bin/python\\n' "$(pwd -P)" > .venv/bin/pip;;
  --version) echo "Python $VERSION";;
  *version_info*) [ "$VERSION" != 3.10.13 ];;
esac
"""


class Folder:
    """A folder with the Makefile, in which make runs with a fake Python."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copyfile(ROOT / name, path / name)
        (path / "moe/engine").mkdir(parents=True)
        (path / "moe/engine/_kernel.so").touch()
        self.python = path.parent / "python"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def make(self, *arguments: str, version: str = "3.11.7", **variables: str):
        """Run make; returns the process, and the calls of Python, without queries."""
        calls = self.path.parent / "calls"
        calls.write_text("")
        environment = {**os.environ, "CALLS": str(calls), "VERSION": version, **variables}
        done = subprocess.run(
            ["make", f"PYTHON={self.python}", *arguments],
            cwd=self.path,
            env=environment,
            capture_output=True,
            text=True,
        )
        lines = calls.read_text().splitlines()
        return done, [line for line in lines if "version_info" not in line]


INSTALL = "||1|-m pip install {}-c constraints.txt -e .[dev]"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "a folder's $HOME & (more), 100%")


def test_setup_in_a_path_with_spaces_and_worse(folder: Folder) -> None:
    done, calls = folder.make("setup")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "about 100 packages are downloaded and installed" in done.stdout
    assert ".venv is ready, with the C kernel" in done.stdout
    assert calls == ["||1|-m venv .venv", INSTALL.format("")]  # not quiet
    done, calls = folder.make("setup")
    assert calls == []
    # After a change of the dependencies, quietly
    os.utime(folder.path / "pyproject.toml", (2e9, 2e9))
    done, calls = folder.make("setup")
    assert calls == [INSTALL.format("--quiet ")]


def test_a_path_with_a_colon_is_refused_in_one_line(tmp_path: Path) -> None:
    done, calls = Folder(tmp_path / "a:b").make("setup")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.endswith(
        'a:b: the path of this folder has a ":", which PATH cannot hold: move it.  Stop.'
    )
    assert calls == []


def test_an_old_python_is_refused_in_one_line(folder: Folder) -> None:
    done, _ = folder.make("setup", version="3.10.13")
    assert done.returncode == 2
    line, _ = done.stderr.splitlines()  # the other one is make's
    assert line.endswith(
        "is Python 3.10.13; Python 3.11 or newer is needed: make PYTHON=/path/to/python3.12"
    )
    assert not (folder.path / ".venv").exists()


def interrupted(venv: Path) -> None:
    """The state after Ctrl-C before pip was installed."""
    (venv / ".ready").unlink()
    (venv / "bin/pip").unlink()


def without_its_python(venv: Path) -> None:
    (venv / "bin/python").unlink()
    (venv / "bin/python").symlink_to("/nowhere/python3")


def of_another_folder(venv: Path) -> None:
    (venv / "bin/pip").write_text("#!/elsewhere/.venv/bin/python\n")


@pytest.mark.parametrize("damage", [interrupted, without_its_python, of_another_folder])
def test_a_venv_that_does_not_work_is_made_again(damage, folder: Folder) -> None:
    folder.make("setup")
    (folder.path / ".venv/old").touch()
    damage(folder.path / ".venv")
    done, calls = folder.make("setup")
    assert done.returncode == 0, done.stderr
    assert calls[0] == "||1|-m venv .venv"
    assert not (folder.path / ".venv/old").exists()
    assert folder.make("setup")[1] == []


def test_an_interrupted_installation_goes_on_and_shows_it(folder: Folder) -> None:
    folder.make("setup")
    (folder.path / ".venv/.ready").unlink()
    _, calls = folder.make("setup")
    assert calls == [INSTALL.format("")]


def test_make_setup_builds_a_kernel_that_is_not_there(folder: Folder) -> None:
    folder.make("setup")
    (folder.path / "moe/engine/_kernel.so").unlink()
    done, calls = folder.make("setup")
    assert calls == ["||1|-m pip install --quiet --no-deps -c constraints.txt -e ."]
    assert "install a C compiler and run make setup" in done.stdout  # the stand-in builds none


def test_python_s_own_variables_do_not_reach_our_python(folder: Folder) -> None:
    _, calls = folder.make("setup", PYTHONHOME="/a", PYTHONPATH="/b", PYTHONUTF8="0")
    assert calls[0] == "||1|-m venv .venv"


def test_a_study_that_is_not_there_is_refused_in_one_line(folder: Folder) -> None:
    done, _ = folder.make("track", "STUDY=nope")
    assert done.returncode == 2
    assert "STUDY=nope: studies/ has no nope.yaml\n" in done.stderr
    assert not (folder.path / ".work").exists()


def test_help_lists_every_target_once_under_a_heading() -> None:
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = re.findall(r"^  make ([a-z-]+) +\S", done.stdout, re.MULTILINE)
    text = (ROOT / "Makefile").read_text()
    (phony,) = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(set(phony.replace("\\", "").split()) - {"remake"})
    headings = re.findall(r"^[A-Z].*", done.stdout, re.MULTILINE)
    assert headings == ["Set up", "Run a study", "Look at the results", "Disk space", "Develop"]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_pre_commit_has_the_ruff_of_constraints_txt() -> None:
    (pinned,) = re.findall(r"^ruff==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    (repo,) = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repo["rev"] == f"v{pinned}"


def test_ci_runs_the_lint_and_every_group_of_tests() -> None:
    script = (ROOT / ".ci/run").read_text()
    for target in ("lint", "test", "test-slow", "test-browser"):
        assert re.search(rf"^make {target}$", script, re.MULTILINE)
    workflow = YAML(typ="safe").load(ROOT / ".github/workflows/ci.yml")
    assert workflow["jobs"]["checks"]["steps"][-1] == {"run": "bash .ci/run"}
    assert "secrets" not in (ROOT / ".github/workflows/ci.yml").read_text()
