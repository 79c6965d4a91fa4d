"""The published routers, by name: RECIPES holds the RECIPE of every file in this folder.

`recipe_named` also takes a recipe of your own, as "extensions/file.py:name": the constant `name`
of a file in the folder extensions/ of the project, which DVC's stages depend on; and one that
`register` has made known in this process.
"""

import functools
import importlib.util
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from moe.recipes.recipe import Recipe

EXTENSIONS = Path("extensions")


NOT_RECIPES = ("gating", "recipe")  # gating imports torch


def _found() -> dict[str, tuple[Recipe, Path]]:
    files = [file for file in pkgutil.iter_modules(__path__) if file.name not in NOT_RECIPES]
    modules = [import_module(f"{__name__}.{file.name}") for file in files]
    by_order = sorted(modules, key=lambda module: (module.RECIPE.order, module.RECIPE.name))
    return {m.RECIPE.name: (m.RECIPE, Path(m.__file__ or "")) for m in by_order}


_FOUND = _found()
RECIPES = {name: recipe for name, (recipe, _) in _FOUND.items()}
_registered: dict[str, tuple[Recipe, Path | None]] = {}


def register(name: str, recipe: Recipe, file: Path | None) -> None:
    """Make a recipe known by a name in this process; the last one of a name counts.

    file: what declares it; None where there is none. Raises ValueError for a published name.
    """
    if name in RECIPES:
        raise ValueError(f"recipe {name!r}: a published recipe has this name; choose another")
    _registered[name] = recipe, file


def recipe_named(name: str) -> Recipe:
    """The recipe with that name; ValueError, in one line, for an unknown one."""
    if name in RECIPES:
        return RECIPES[name]
    if name in _registered:
        return _registered[name][0]
    if ":" in name:
        return _from_file(name)
    raise ValueError(
        f"recipe {name!r} is unknown; it can be {', '.join(RECIPES)}, or one of your own as "
        f"{EXTENSIONS}/file.py:name"
    )


def in_order(names: Iterable[str]) -> list[str]:
    """The names of recipes, each once, in the order of tables and legends."""
    return sorted(set(names), key=lambda name: (recipe_named(name).order, name))


def recipe_file(name: str) -> Path | None:
    """The file that declares a recipe; None for one that is registered without a file."""
    if name in _registered:
        return _registered[name][1]
    return _FOUND[name][1] if name in _FOUND else Path(name.rpartition(":")[0])


@functools.cache
def _from_file(name: str) -> Recipe:
    """The recipe of "extensions/file.py:name"."""
    path = Path(name.rpartition(":")[0])
    if path.suffix != ".py" or not path.resolve().is_relative_to(EXTENSIONS.resolve()):
        raise ValueError(
            f"recipe {name!r}: must be a .py file in {EXTENSIONS}/, so that DVC sees it"
        )
    return recipe_in(name)


def recipe_in(name: str) -> Recipe:
    """The recipe of "file.py:name", in any folder. Raises ValueError, in one line."""
    file, _, constant = name.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"extensions_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"recipe {name!r}: there is no file {path}")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever is wrong with the user's file
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"recipe {name!r}: {path} cannot be imported: {reason}") from error
    recipe = getattr(module, constant, None)
    if not isinstance(recipe, Recipe):
        raise ValueError(f"recipe {name!r}: {path} has no moe.recipes.recipe.Recipe {constant!r}")
    return recipe
