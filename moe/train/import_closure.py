"""The files of the project that a Python file imports, directly or indirectly.

Files are parsed, not imported; imports inside functions count. Modules whose names are computed at
run time are not found.
"""

import ast
import functools
from pathlib import Path

import moe

ROOT = Path(moe.__file__).parent.parent
PACKAGES = ("moe", "stages")
# Imports the layer only when moe.MoE is used.
LAZY = "moe/__init__.py"


def import_closure(file: str) -> set[str]:
    """The file and everything that it imports, as paths relative to the project's root."""
    reached: set[str] = set()
    new = {file}
    while new:
        reached |= new
        new = {found for known in new - {LAZY} for found in imported_by(known)} - reached
    return reached


@functools.cache
def imported_by(file: str) -> frozenset[str]:
    """The files that a file imports directly."""
    modules = set()
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(
        found for module in modules if module.split(".")[0] in PACKAGES for found in _files(module)
    )


def _files(module: str) -> set[str]:
    """A module's file and the __init__ files of its packages."""
    parts = module.split(".")
    candidates = [
        "/".join(parts) + ".py",
        *("/".join([*parts[:depth], "__init__.py"]) for depth in range(1, len(parts) + 1)),
    ]
    return {path for path in candidates if (ROOT / path).is_file()}
