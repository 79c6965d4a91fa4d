"""Checks params.yaml; the make targets do this before they start DVC.

Also fixes what would keep DVC from starting: incomplete files of a killed DVC process, and a folder
without git. In a folder made by `moe-mnist init`, it records which code is installed.
"""

import configparser
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.command import command
from stages.init import CODE, code_version

RWLOCK = Path(".dvc/tmp/rwlock")  # DVC's lock file, JSON
LOCK = Path("dvc.lock")
CONFIGS = (Path(".dvc/config"), Path(".dvc/config.local"))


@command
def check() -> None:
    """Check params.yaml and print the size of its study."""
    from moe.study.grid import runs_of
    from moe.study.params import read_params
    from moe.study.train_settings import with_settings

    params = read_params()
    runs = runs_of(params.sweeps)
    epochs = sorted({with_settings(params.train, run.settings).epochs for run in runs})
    trials, experts = {run.trial for run in runs}, sum(run.ne for run in runs)
    print(
        f"params.yaml: {len(runs):,} runs of {len(trials):,} trials, {experts:,} experts, "
        f"on {params.data.dataset} for {', '.join(map(str, epochs))} epochs"
    )
    if CODE.exists():
        CODE.write_text(code_version())
    forget_changed_data(params.data.dataset)
    set_aside_damaged_files()
    allow_a_folder_without_git()


def forget_changed_data(dataset: str) -> None:
    """Remove data/ if the user's own file has changed, of which DVC only tracks the name."""
    from moe.data.own import SUFFIX

    if not dataset.endswith(SUFFIX):
        return
    from moe.data.dataset import ARRAY_FILES, DATA_DIR, Dataset
    from moe.data.download import fetch

    if not all((DATA_DIR / name).exists() for name in ARRAY_FILES):
        return
    with tempfile.TemporaryDirectory() as folder:
        fetch(dataset, Path(folder), Path(folder))
        same = Dataset(Path(folder)).digest == Dataset(DATA_DIR).digest
    if not same:
        for name in ARRAY_FILES:
            (DATA_DIR / name).unlink()
        print(f"{dataset} has changed since {DATA_DIR}/ was written: it will be written again")


def set_aside_damaged_files() -> None:
    """Rename unreadable files of DVC. DVC writes new ones; finished runs are not affected."""
    from ruamel.yaml import YAML

    for path, read in ((RWLOCK, json.loads), (LOCK, YAML(typ="safe", pure=True).load)):
        if is_broken(path, read) and is_broken(path, read):
            aside = path.replace(path.with_name(f"{path.name}.damaged"))
            print(f"{path}: incomplete, since DVC was killed; renamed to {aside}")


def is_broken(path: Path, read: Callable[[bytes], Any]) -> bool:
    """Whether a file exists but does not hold a dictionary. Waits, as DVC may be writing it."""
    from ruamel.yaml.error import YAMLError

    try:
        broken = path.exists() and not isinstance(read(path.read_bytes()), dict)
    except (YAMLError, ValueError):
        broken = True
    if broken:
        time.sleep(0.2)
    return broken


def allow_a_folder_without_git() -> None:
    """Set core.no_scm, which DVC needs in a folder that is not a git repository."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(CONFIGS)
    if Path(".git").exists() or config.getboolean("core", "no_scm", fallback=False):
        return
    command = [sys.executable, "-m", "dvc", "config", "--local", "core.no_scm", "true"]
    subprocess.run(command, check=True)
    print(
        "this folder is not a git repository: core.no_scm is set in .dvc/config.local; "
        "after git init, remove it: dvc config --local --unset core.no_scm"
    )


if __name__ == "__main__":
    check()
