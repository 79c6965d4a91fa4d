"""Tidy CSV tables, the interface between stages; small enough for git."""

import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe.errors import UserError
from moe.study.runs import RUN_KEYS, TRIAL_KEYS, Run, Trial, exactly
from moe.study.schema import check_columns
from moe.study.train_settings import SETTING_TYPES

RESULTS_DIR = Path("results")
PICTURES_DIR = RESULTS_DIR / "pictures"
EXACT = {"lc", *SETTING_TYPES}  # columns that are keys, not measures


def write_table(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, path: Path) -> None:
    """Write rows, or a frame without its index; equal rows give identical bytes.

    Numbers that are not finite are written as empty cells. Keys, such as lc, are written exactly,
    so that tables can be joined; other numbers have six digits. Raises ValueError for a table or a
    column without a description in moe/study/schema.py.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    check_columns(path, map(str, frame.columns))
    exact = {name: [*map(exactly, frame[name])] for name in frame if name in EXACT}
    frame = frame.replace([np.inf, -np.inf], np.nan).assign(**exact)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Six digits: enough for every statement, few enough to hide rounding differences.
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def swept(table: pd.DataFrame) -> list[str]:
    """The settings of `train` that a study sweeps: the columns after seed with their names."""
    names = list(table.columns)
    after = names[names.index("seed") + 1 :] if "seed" in names else []
    return list(itertools.takewhile(SETTING_TYPES.__contains__, after))


def trial_columns(table: pd.DataFrame) -> list[str]:
    """The columns that identify a trial."""
    return [*TRIAL_KEYS, *swept(table)]


def run_columns(table: pd.DataFrame) -> list[str]:
    """The columns that identify a run."""
    return [*RUN_KEYS, *swept(table)]


def by_trial(table: pd.DataFrame) -> Iterator[tuple[Trial, pd.DataFrame]]:
    """Each trial with its rows, sorted."""
    names = trial_columns(table)
    for key, rows in table.groupby(names):
        yield Trial.of(dict(zip(names, key, strict=True))), rows


def runs_in(table: pd.DataFrame) -> list[Run]:
    """The run of each row."""
    rows = table[run_columns(table)].to_dict("records")
    return [Run.of({str(name): value for name, value in row.items()}) for row in rows]


def read_table(path: Path) -> pd.DataFrame:
    """Read a table whose first columns are recipe, ne, k, lc, seed; UserError for any other."""
    types = dict(zip(RUN_KEYS, (str, int, int, float, int), strict=True))
    try:
        table = pd.read_csv(path, dtype={**types, **SETTING_TYPES})
        if list(table.columns[: len(types)]) != list(types):
            raise ValueError(f"its columns are {', '.join(map(str, table.columns))}")
    except ValueError as error:  # includes pandas' errors
        reason = " ".join(str(error).split())
        message = f"{path}: not a table of runs ({reason}); run dvc repro to regenerate it"
        raise UserError(message) from None
    return table


def joined(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Join two tables with a row for each run; UserError if their runs differ."""
    keys = run_columns(one)
    if keys != run_columns(other):
        raise UserError(
            f"{RESULTS_DIR}: two tables of one study differ in the settings that it sweeps; run "
            "`dvc repro --force` to regenerate them"
        )
    both = one.merge(other, on=keys, how="outer", indicator="_side")
    if len(both) == len(one) == len(other) and (both["_side"] == "both").all():
        return one.merge(other, on=keys)  # in the order of `one`
    odd = both[(both["_side"] != "both") | both.duplicated(keys)]
    raise UserError(
        f"{RESULTS_DIR}: two tables of one study differ in {len(odd):,} runs, the first of them "
        f"{runs_in(odd)[0]}; run `dvc repro --force` to regenerate them"
    )


def picture_of(trial: Trial, results: Path = RESULTS_DIR) -> Path:
    """The picture of a trial's experts, of the first seed: router weights above, images below."""
    return results / PICTURES_DIR.name / f"{str(trial).replace('/', ',')}.png"
