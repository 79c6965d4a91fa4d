"""The folders of moe/: which folder imports which, and the diagram of it in docs/internals.md."""

import re
from pathlib import Path

from moe.train.import_closure import ROOT, imported_by

# In order: a folder or file imports only from those before it.
ORDER = [
    *("errors", "statistics", "recipes", "data", "study", "model", "engine", "train"),
    *("analysis", "library", "claims", "figures", "report", "tracking"),
]
MOST_LINES = 400


def room_of(file: str) -> str:
    return Path(file).parts[1].removesuffix(".py")


def arrows() -> dict[str, set[str]]:
    """The other folders that each folder imports from."""
    found: dict[str, set[str]] = {room: set() for room in ORDER}
    for path in (ROOT / "moe").rglob("*.py"):
        file = path.relative_to(ROOT).as_posix()
        if file != "moe/__init__.py":
            names = {room_of(name) for name in imported_by(file) if name != "moe/__init__.py"}
            found[room_of(file)] |= {name for name in names if name.startswith(tuple(ORDER))}
    return {room: names - {room} for room, names in found.items()}


def without_detours(graph: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The transitive reduction: arrows that no longer path implies."""

    def reached(room: str) -> set[str]:
        return graph[room].union(*(reached(other) for other in graph[room]))

    return {
        (room, other)
        for room, others in graph.items()
        for other in others
        if not any(other in reached(between) for between in others - {other})
    }


def test_every_folder_of_moe_has_its_place() -> None:
    here = {path.name.removesuffix(".py") for path in (ROOT / "moe").iterdir()}
    assert here - {"__init__", "__pycache__"} == set(ORDER)


def test_no_folder_imports_from_one_below_it() -> None:
    upward = {
        (room, other)
        for room, others in arrows().items()
        for other in others
        if ORDER.index(other) > ORDER.index(room)
    }
    assert upward == set()


def test_moe_does_not_import_the_stages() -> None:
    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "moe").rglob("*.py")]
    assert [f for f in files if any(name.startswith("stages") for name in imported_by(f))] == []


def test_the_diagram_shows_the_imports() -> None:
    text = (ROOT / "docs/internals.md").read_text(encoding="utf-8")
    (diagram,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    assert set(re.findall(r"(\w+) --> (\w+)", diagram)) == without_detours(arrows())


def test_no_file_is_long() -> None:
    files = [path for folder in ("moe", "stages") for path in (ROOT / folder).rglob("*.py")]
    lines = {
        path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in files
    }
    assert {file: count for file, count in lines.items() if count > MOST_LINES} == {}
