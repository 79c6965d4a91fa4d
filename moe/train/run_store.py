"""A store of trained runs that outlives the process that trains them.

DVC deletes a stage's outputs before it runs the stage. So every finished shard goes into a file
here, at once, and a study that starts again takes what is there. An entry is one safetensors file
named by the SHA-256 of its bytes; its header lists the keys of its runs. A run's key is a digest of
all that its weights depend on, so nothing here is ever out of date, only unused.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load, save
from torch import Tensor

from moe.engine import Trained

STORE_DIR = Path(".cache/shards")
NOTHING = save({})
LONGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


class Entry(NamedTuple):
    """A file of the store, and the keys of the runs in it, with their names."""

    path: Path
    runs: Mapping[str, str]


def pack(trained: Mapping[str, Trained], names: Mapping[str, str]) -> bytes:
    """The bytes of an entry. trained: by run key; names: what people call each run."""
    tensors = {}
    for key, run in trained.items():
        tensors[f"{key}/history"] = run.history.contiguous()
        for name, tensor in run.weights.items():
            tensors[f"{key}/{name}"] = tensor.contiguous()
    return save(tensors, metadata={"runs": json.dumps(dict(names), sort_keys=True)})


class Store:
    """Finished runs in a folder, found by key.

    report: called with one line about each damaged entry, which is set aside, never used.
    """

    def __init__(self, folder: Path = STORE_DIR, report: Callable[[str], None] = print) -> None:
        self.folder, self.report = folder, report

    def add(self, packed: bytes) -> None:
        """Keep an entry: whole or, if we die meanwhile, not at all."""
        name = hashlib.sha256(packed).hexdigest()
        unfinished = self.folder / f".{name}.{os.getpid()}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(packed)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(self.folder / f"{name}.safetensors")
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"{self.folder}: cannot be written: {reason}") from None
        finally:
            unfinished.unlink(missing_ok=True)  # the disk is full, or we were interrupted

    def entries(self) -> Iterator[Entry]:
        """Every entry whose header can be read."""
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                yield Entry(path, _runs_in(path))
            except FileNotFoundError:  # emptied or set aside by somebody else meanwhile
                continue
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._set_aside(path, str(error))

    def find(self, keys: Collection[str]) -> set[str]:
        """Those of the keys whose runs are here, whole."""
        return {key for path, wanted in self._holding(keys) if self._read(path) for key in wanted}

    def load(self, keys: Collection[str]) -> dict[str, Trained]:
        """Those of the asked-for runs that are here, each entry's digest checked."""
        found: dict[str, Trained] = {}
        for path, wanted in self._holding(keys):
            parts: dict[str, dict[str, Tensor]] = {key: {} for key in wanted - found.keys()}
            for name, tensor in load(self._read(path) or NOTHING).items():
                key, _, part = name.partition("/")
                if key in parts:
                    parts[key][part] = tensor
            found |= {key: Trained(run, run.pop("history")) for key, run in parts.items() if run}
        return found

    def _holding(self, keys: Collection[str]) -> Iterator[tuple[Path, set[str]]]:
        wanted = set(keys)
        for path, runs in self.entries():
            if here := wanted & runs.keys():
                yield path, here

    def _read(self, path: Path) -> bytes | None:
        """An entry's bytes; None if they are not those that were written."""
        try:
            packed = path.read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(packed).hexdigest() == path.stem:
            return packed
        self._set_aside(path, "its digest is not its name")
        return None

    def _set_aside(self, path: Path, reason: str) -> None:
        try:
            path.rename(path.with_suffix(".damaged"))
        except FileNotFoundError:
            return
        self.report(f"{path}: damaged ({reason}); set aside, its runs are trained again")


def _runs_in(path: Path) -> dict[str, str]:
    """The keys and names in an entry's header, without reading its tensors."""
    with path.open("rb") as file:
        (size,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if not 2 <= size <= min(LONGEST_HEADER, path.stat().st_size - 8):
            raise ValueError("its header is not one of safetensors")
        header = json.loads(file.read(size))
    runs = dict(json.loads(header["__metadata__"]["runs"]))
    if lacking := [name for key, name in runs.items() if f"{key}/history" not in header]:
        raise ValueError(f"it names {lacking[0]}, but does not have it")
    return runs
