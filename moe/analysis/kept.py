"""The tables of a study in its own copy that are kept in git, for claims and figures.

params.yaml    the study's runs, settings and data set
runs.csv       as results/runs.csv
slots.csv      as results/slots.csv, only k = 2 and lc = 1
confusion.csv  as results/confusion.csv, only base models (ne = 1)
pictures/      as results/pictures/, only some trials
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from moe.analysis.results import Tables, cells
from moe.data.sets import dataset_named
from moe.engine.divergence import split, without
from moe.study.params import PARAMS_FILE, Params, read_params
from moe.study.runs import RUN_KEYS, Trial
from moe.study.tables import RESULTS_DIR, picture_of, read_table, write_table

NEEDED = {"runs": {}, "slots": {"k": 2, "lc": 1.0}, "confusion": {"ne": 1}}


class Kept(NamedTuple):
    """A study with its tables; the history and coactivation tables are empty."""

    params: Params
    tables: Tables


def write_kept(study: Path, into: Path, pictured: Sequence[Trial] = ()) -> None:
    """Copy the tables from a finished study's folder.

    pictured: trials whose pictures are copied too, if the study has them.
    """
    into.mkdir(parents=True, exist_ok=True)
    for name, wanted in NEEDED.items():
        table = read_table(study / RESULTS_DIR / f"{name}.csv")
        write_table(cells(table, **wanted), into / f"{name}.csv")
    shutil.copyfile(study / PARAMS_FILE, into / PARAMS_FILE)
    for trial in pictured:
        source, copy = picture_of(trial, study / RESULTS_DIR), picture_of(trial, into)
        if source.exists():
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(source, copy)


def read_kept(folder: Path) -> Kept | None:
    """Read the study of a folder; None if there is none. Diverged runs are left out."""
    if not (folder / PARAMS_FILE).exists():
        return None
    params = read_params(folder / PARAMS_FILE)
    runs, slots, confusion = (read_table(folder / f"{name}.csv") for name in NEEDED)
    runs, diverged = split(runs)
    nothing = pd.DataFrame(columns=RUN_KEYS)
    tables = Tables(
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
    return Kept(params, tables)
