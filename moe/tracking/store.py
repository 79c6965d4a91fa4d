"""Where MLflow keeps its runs: MLFLOW_TRACKING_URI, or the SQLite database mlflow.db.

A SQLite database is created atomically. Its artifacts are in the folder mlruns next to it, and are
still found after both have been moved. The path of the working folder may contain "%", "?" and "#".
"""

import contextlib
import logging
import os
import re
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import mlflow
from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from requests.exceptions import RequestException
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.exc import SQLAlchemyError

from moe.errors import UserError, without_secrets

VARIABLE = "MLFLOW_TRACKING_URI"
DEFAULT_URI = "sqlite:///mlflow.db"
LOCKS = Path(".cache")
LONGEST_REASON = 300  # characters of an MLflow error that our message quotes
SQLITE_SECONDS = 60  # timeout to wait for other writers while addresses are updated
# ImportError: a database whose driver is not installed; ValueError: a malformed address
FAILURES = (MlflowException, RequestException, SQLAlchemyError, OSError, ImportError, ValueError)
# Every column of MLflow's tables that holds the address of an artifact
ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)

# urllib3 logs each retry with the full URL, which may contain secrets.
for _logger in ("mlflow", "alembic", "urllib3"):
    logging.getLogger(_logger).setLevel(logging.ERROR)


class TrackingError(UserError):
    """MLflow cannot be updated; the message says what to run once it can."""


@contextlib.contextmanager
def failures_as_one_line(consequence: str) -> Iterator[None]:
    """Raise MLflow's own errors as TrackingError, without the secrets of a tracking URI."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FAILURES as error:
        uri = without_secrets(_configured_uri())
        raise TrackingError(f"MLflow at {uri}: {_reason(error)}; {consequence}") from None


def _reason(error: Exception) -> str:
    """The error in one line, without secrets. Keeps the end, where MLflow names the root cause."""
    text = without_secrets(" ".join(str(error).split())) or type(error).__name__
    if len(text) <= LONGEST_REASON:
        return text
    return f"{text[: LONGEST_REASON // 2]} ... {text[-LONGEST_REASON // 2 :]}"


def command() -> str:
    """The command that tracks the study of this folder, which may be a copy of the pipeline."""
    here = Path.cwd()
    return f"make track STUDY={here.name}" if here.parent.name == ".work" else "make track"


def _configured_uri() -> str:
    return os.environ.get(VARIABLE) or DEFAULT_URI


def client() -> MlflowClient:
    """A client of the configured store; creates a missing SQLite database."""
    configured, uri = os.environ.get(VARIABLE), tracking_uri()
    mlflow.set_tracking_uri(uri)
    # set_tracking_uri also sets the variable: restore it, or the URI would be quoted twice.
    if configured is None:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = configured
    return MlflowClient(uri)


def tracking_uri() -> str:
    """The configured URI as MLflow can open it. Raises MlflowException for an unusable one."""
    uri = _configured_uri()
    database = database_of(uri)
    if database is None:
        return uri
    path, query = database
    if path.name in ("", ":memory:"):
        raise MlflowException("a database in memory is lost at once; name a file")
    if unquote(str(path.resolve())) != str(path.resolve()):
        raise MlflowException("MLflow cannot keep artifacts in a path with an escape such as %20")
    _create_database(path)
    # "?" would begin a query and "%" an escape: a relative path leaves out the working folder's.
    local = os.path.relpath(path) if set("%?#") & set(str(path)) else path
    return f"sqlite:///{local}{query and f'?{query}'}"


def database_of(uri: str) -> tuple[Path, str] | None:
    """The path and the query of a SQLite URI; None for any other."""
    scheme, _, rest = uri.partition("://")
    if scheme.partition("+")[0] != "sqlite":
        return None
    path, _, query = rest.removeprefix("/").rpartition("?")
    if not path or not re.fullmatch(r"\w+=[^/?]*", query):  # the "?" is part of the path
        path, query = rest.removeprefix("/"), ""
    return Path(path), query


def _create_database(path: Path) -> None:
    """Create atomically: a database with interrupted migrations would stay broken."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(LOCKS / "database.lock"):
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(".mlflow-database.unfinished")
        unfinished.unlink(missing_ok=True)
        # Migrations cannot open a path with "%", so run them inside the folder.
        migrate = f"mlflow.MlflowClient('sqlite:///{unfinished.name}').search_runs(['0'])"
        done = subprocess.run(
            [sys.executable, "-P", "-c", f"import mlflow; {migrate}"],
            cwd=path.parent,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
        if done.returncode:
            raise MlflowException(f"{path} cannot be created: {done.stderr.strip()[-200:]}")
        unfinished.rename(path)


@event.listens_for(Engine, "connect")
def _quick_sqlite(connection: Any, record: object) -> None:
    # Waiting for the disk at each commit costs half a second per run; a sync can be repeated.
    if type(connection).__module__.startswith("sqlite3"):
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")


def artifact_location() -> str | None:
    """The folder mlruns next to a SQLite database; None for a server, which chooses its own."""
    database = database_of(_configured_uri())
    return (database[0].resolve().parent / "mlruns").as_uri() if database else None


def follow_a_move(old: str) -> None:
    """Update the addresses of all artifacts after the database and its mlruns have been moved.

    old: the previous address of an experiment's artifacts.
    """
    database, new = database_of(_configured_uri()), artifact_location()
    if database is None or new in (None, old):
        return
    with contextlib.closing(sqlite3.connect(database[0], SQLITE_SECONDS)) as connection, connection:
        for table, column in ADDRESSES:
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?)"
                f" WHERE substr({column}, 1, ?) IN (?, ?)",
                (new, len(old) + 1, len(old) + 1, old, f"{old}/"),
            )
