"""Tidy CSV tables, which stages pass to one another; small enough for git."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe.errors import UserError
from moe.study.runs import RUN_KEYS, Run, Trial
from moe.study.schema import check_columns

RESULTS_DIR = Path("results")
PICTURES_DIR = RESULTS_DIR / "pictures"


def write_table(rows: Iterable[Mapping[str, Any]] | pd.DataFrame, path: Path) -> None:
    """Write rows, or a frame without its index; the same rows always give the same bytes.

    A number that is not finite is an empty cell. The key lc is written exactly, so that tables can
    be joined; other numbers have six digits. Raises ValueError for a table or a column without a
    description in moe/study/schema.py.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    check_columns(path, map(str, frame.columns))
    frame = frame.replace([np.inf, -np.inf], np.nan)
    if "lc" in frame:
        frame = frame.assign(lc=[exactly(lc) for lc in frame["lc"]])
    path.parent.mkdir(parents=True, exist_ok=True)
    # Six digits: more than any statement needs, fewer than differ by rounding.
    frame.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def read_table(path: Path) -> pd.DataFrame:
    """A table whose first columns are recipe, ne, k, lc, seed; UserError if it is not one."""
    types = dict(zip(RUN_KEYS, (str, int, int, float, int), strict=True))
    try:
        table = pd.read_csv(path, dtype=types)
        if list(table.columns[: len(types)]) != list(types):
            raise ValueError(f"its columns are {', '.join(map(str, table.columns))}")
    except ValueError as error:  # pandas' own errors are among these
        reason = " ".join(str(error).split())
        message = f"{path}: not a table of runs ({reason}); run dvc repro to regenerate it"
        raise UserError(message) from None
    return table


def joined(one: pd.DataFrame, other: pd.DataFrame) -> pd.DataFrame:
    """Two tables with a row for each run, side by side; UserError where they differ in runs."""
    both = one.merge(other, on=RUN_KEYS, how="outer", indicator="_side")
    if len(both) == len(one) == len(other) and (both["_side"] == "both").all():
        return one.merge(other, on=RUN_KEYS)  # in the order of the first
    odd = both[(both["_side"] != "both") | both.duplicated(RUN_KEYS)]
    raise UserError(
        f"{RESULTS_DIR}: two tables of one study differ in {len(odd):,} runs, the first of them "
        f"{Run(*odd.iloc[0][RUN_KEYS])}; run `dvc repro --force` to write them again"
    )


def exactly(lc: float) -> str:
    """The shortest text that reads back as the same number, such as 0.01 or 1."""
    return repr(float(lc)).removesuffix(".0")


def picture_of(trial: Trial, results: Path = RESULTS_DIR) -> Path:
    """The picture of a trial's experts, of the first seed: router weights above, images below."""
    return results / PICTURES_DIR.name / f"{str(trial).replace('/', ',')}.png"
