"""The confirmatory study's tables in results/confirm/: what its claims need, small enough for git.

params.yaml   what the study was: its runs, settings and data set
runs.csv      as results/runs.csv
slots.csv     as results/slots.csv, k = 2 and lc = 1 alone
confusion.csv as results/confusion.csv, base models (ne = 1) alone
"""

import shutil
from pathlib import Path

import pandas as pd

from moe.analysis.results import Tables, cells
from moe.data.sets import dataset_named
from moe.engine.divergence import split, without
from moe.study.params import PARAMS_FILE, Params, read_params
from moe.study.runs import RUN_KEYS
from moe.study.tables import RESULTS_DIR, read_table, write_table

CONFIRM_DIR = RESULTS_DIR / "confirm"
FIRST_SEED = 1000  # no other study has this seed or a later one
NEEDED = {"runs": {}, "slots": {"k": 2, "lc": 1.0}, "confusion": {"ne": 1}}


def write_confirm(study: Path, into: Path = CONFIRM_DIR) -> None:
    """Copy from a finished study's folder what the claims need."""
    into.mkdir(parents=True, exist_ok=True)
    for name, wanted in NEEDED.items():
        table = read_table(study / RESULTS_DIR / f"{name}.csv")
        write_table(cells(table, **wanted), into / f"{name}.csv")
    shutil.copyfile(study / PARAMS_FILE, into / PARAMS_FILE)


def read_confirm(params: Params, folder: Path = CONFIRM_DIR) -> Tables | None:
    """The confirmatory study, if it is there and of the same data and training as these params.

    Its tables of history and coactivation are empty.
    """
    if not (folder / PARAMS_FILE).exists():
        return None
    confirm = read_params(folder / PARAMS_FILE)
    if (confirm.data, confirm.train) != (params.data, params.train):
        return None
    runs, slots, confusion = (read_table(folder / f"{name}.csv") for name in NEEDED)
    runs, diverged = split(runs)
    nothing = pd.DataFrame(columns=RUN_KEYS)
    return Tables(
        folder,
        params.train.hidden,
        runs,
        history=nothing,
        confusion=without(confusion, diverged),
        slots=without(slots, diverged),
        coactivation=nothing,
        routers=nothing,
        diverged=diverged,
        dataset=dataset_named(params.data.dataset),
    )


def is_confirmatory(tables: Tables) -> bool:
    """Whether all of its seeds are those that docs/protocol.md keeps for the confirmatory study."""
    return bool((tables.runs["seed"] >= FIRST_SEED).all())
