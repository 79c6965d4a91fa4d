"""A persistent store of trained runs, from which interrupted training resumes.

DVC deletes a stage's outputs before it runs the stage. Every shard is therefore stored here as soon
as it is trained, and a study that starts again loads the runs that it finds. When a study is
complete, one file for each seed replaces its shards. The files in weights/ and in DVC's cache are
hard links to these, so each is on disk once.

An entry is a safetensors file, named by its SHA-256, with tensors `run/parameter` and
`run/history`, and an index: a JSON file that maps each run's key to its name. A run's key is a
digest of everything that its weights depend on, so an entry is never stale, only unused.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from moe.engine import Trained
from moe.study.runs import digest

STORE_DIR = Path(".cache/shards")
HISTORY = "history"  # name of a run's history tensor; all other tensors are its parameters


class Entry(NamedTuple):
    """A file of the store. runs: the runs' names by key; index_file: the file with these."""

    path: Path
    runs: Mapping[str, str]
    index_file: Path


def pack(trained: Mapping[str, Trained]) -> bytes:
    """Serialise an entry. The bytes depend on the results and the runs' names, not on the keys."""
    tensors = {}
    for name, run in trained.items():
        tensors[f"{name}/{HISTORY}"] = run.history.contiguous()
        for parameter, tensor in run.weights.items():
            tensors[f"{name}/{parameter}"] = tensor.contiguous()
    return save(tensors)


def unpack(packed: bytes) -> dict[str, Trained]:
    """The inverse of `pack`. Raises SafetensorError or KeyError for other bytes."""
    runs: dict[str, dict[str, Tensor]] = {}
    for tensor_name, tensor in load(packed).items():
        name, _, part = tensor_name.rpartition("/")
        runs.setdefault(name, {})[part] = tensor
    return {name: Trained(run, run.pop(HISTORY)) for name, run in runs.items()}


class Store:
    """Finished runs in a folder, found by key.

    report: called with one line about each damaged entry, which is set aside and not used.
    """

    def __init__(self, folder: Path = STORE_DIR, report: Callable[[str], None] = print) -> None:
        self.folder, self.report = folder, report
        self._file_lock = FileLock(folder / ".lock")

    def lock(self) -> FileLock:
        """A lock on all entries, for context managers. Re-entrant."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self._file_lock

    def add(self, packed: bytes, runs: Mapping[str, str]) -> Path:
        """Write an entry atomically; returns its file. runs: the name of each run, by key."""
        name = hashlib.sha256(packed).hexdigest()
        path = self.folder / f"{name}.safetensors"
        index = self.folder / f"{name}.{_short(runs)}.json"
        try:
            with self.lock():
                if not path.exists() or path.read_bytes() != packed:  # keeps existing hard links
                    _write(path, packed)
                _write(index, json.dumps(dict(runs), sort_keys=True).encode())
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"{self.folder}: cannot be written: {reason}") from None
        return path

    def keep_instead(self, paths: Collection[Path]) -> None:
        """Remove other entries whose runs are all in these files, and files without an index."""
        with self.lock():
            entries = list(self.entries())
            keys = {key for entry in entries if entry.path in paths for key in entry.runs}
            for entry in entries:
                if entry.path not in paths and entry.runs.keys() <= keys:
                    entry.index_file.unlink(missing_ok=True)
            indexed = {entry.path for entry in self.entries()}
            for path in set(self.folder.glob("*.safetensors")) - indexed:
                path.unlink(missing_ok=True)

    def entries(self) -> Iterator[Entry]:
        """Every entry with a readable index."""
        for index in sorted(self.folder.glob("*.json")):
            name, _, runs_digest = index.stem.partition(".")
            path = index.with_name(f"{name}.safetensors")
            try:
                runs = json.loads(index.read_bytes())
                if _short(runs) != runs_digest:
                    raise ValueError("its name does not match its digest")
            except FileNotFoundError:  # removed by another process
                continue
            except (OSError, ValueError, TypeError) as error:
                self._set_aside(index, str(error))
                continue
            if path.exists():
                yield Entry(path, runs, index)

    def find(self, keys: Collection[str]) -> set[str]:
        """The keys whose runs are in the store, undamaged."""
        return {key for key, _ in self._read(keys)}

    def load(self, keys: Collection[str]) -> dict[str, Trained]:
        """The runs with these keys that are in the store."""
        return dict(self._read(keys))

    def _read(self, keys: Collection[str]) -> Iterator[tuple[str, Trained]]:
        """Yield each run found, once, from entries whose digest matches."""
        missing = set(keys)
        with self.lock():  # no entry is replaced while reading
            for entry in self.entries():
                if wanted := missing & entry.runs.keys():
                    trained = self._unpack(entry)
                    missing -= trained.keys()
                    yield from ((key, trained[key]) for key in wanted & trained.keys())

    def _unpack(self, entry: Entry) -> dict[str, Trained]:
        """The runs of an entry by key; none if the file is damaged or missing."""
        try:
            packed = entry.path.read_bytes()
            if hashlib.sha256(packed).hexdigest() != entry.path.stem:
                raise ValueError("its digest does not match its name")
            trained = unpack(packed)
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, SafetensorError) as error:
            self._set_aside(entry.path, str(error))
            return {}
        if lacking := [name for name in entry.runs.values() if name not in trained]:
            self._set_aside(
                entry.index_file, f"it names {lacking[0]}, but {entry.path.name} has none"
            )
            return {}
        return {key: trained[name] for key, name in entry.runs.items()}

    def _set_aside(self, path: Path, reason: str) -> None:
        try:
            path.rename(path.with_suffix(".damaged"))
        except FileNotFoundError:
            return
        self.report(f"{path}: damaged ({reason}); set aside, its runs are trained again")


def _short(runs: Mapping[str, str]) -> str:
    return digest(dict(runs))[:16]


def _write(path: Path, content: bytes) -> None:
    """Write atomically and durably: safe against a power failure."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.rename(path)
    finally:
        with contextlib.suppress(FileNotFoundError):  # the disk is full, or we were interrupted
            unfinished.unlink()
