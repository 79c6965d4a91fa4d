"""The confirmatory study, whose tables are in results/confirm/."""

from pathlib import Path

from moe.analysis.confirmed import FIRST_SEED
from moe.analysis.kept import read_kept, write_kept
from moe.analysis.results import Tables
from moe.study.params import Params
from moe.study.tables import RESULTS_DIR

CONFIRM_DIR = RESULTS_DIR / "confirm"


def write_confirm(study: Path, into: Path = CONFIRM_DIR) -> None:
    """Copy the tables that the claims need from a finished study's folder."""
    write_kept(study, into)


def read_confirm(params: Params, folder: Path = CONFIRM_DIR) -> Tables | None:
    """The confirmatory study, if it exists and has the data and training of these params."""
    kept = read_kept(folder)
    if kept is None or (kept.params.data, kept.params.train) != (params.data, params.train):
        return None
    return kept.tables


def is_confirmatory(tables: Tables) -> bool:
    """Whether all seeds are those that docs/protocol.md reserves for the confirmatory study."""
    return bool((tables.runs["seed"] >= FIRST_SEED).all())
