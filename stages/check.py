"""Says what is wrong with params.yaml, if anything; the make targets ask before they start DVC.

And puts right what a DVC that was killed left half written, which would keep it from starting.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.command import command

RWLOCK = Path(".dvc/tmp/rwlock")  # who reads and writes what, as JSON, written in place
LOCK = Path("dvc.lock")  # likewise, as YAML


@command
def check() -> None:
    """Read params.yaml and print what it asks for."""
    from moe.study.grid import runs_of
    from moe.study.params import read_params

    params = read_params()
    runs = runs_of(params.sweeps)
    trials, experts = {run.trial for run in runs}, sum(run.ne for run in runs)
    print(
        f"params.yaml: {len(runs):,} runs of {len(trials):,} trials, {experts:,} experts, "
        f"on {params.data.dataset} for {params.train.epochs} epochs"
    )
    mend()


def mend() -> None:
    """Set aside what cannot be read: DVC makes both files anew, and finished runs are elsewhere."""
    from ruamel.yaml import YAML

    for path, read in ((RWLOCK, json.loads), (LOCK, YAML(typ="safe", pure=True).load)):
        if is_broken(path, read) and is_broken(path, read):
            aside = path.replace(path.with_name(f"{path.name}.damaged"))
            print(f"{path}: half written by a DVC that was killed; set aside as {aside}")


def is_broken(path: Path, read: Callable[[bytes], Any]) -> bool:
    """Whether it is there and holds no dictionary; one at work may be about to write it."""
    from ruamel.yaml.error import YAMLError

    try:
        broken = path.exists() and not isinstance(read(path.read_bytes()), dict)
    except (YAMLError, ValueError):
        broken = True
    if broken:
        time.sleep(0.2)
    return broken


if __name__ == "__main__":
    check()
