"""The arguments of `sweep`: checked by the rules of params.yaml, in messages that name them."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter, ValidationError

from moe.data.arrays import checked
from moe.data.dataset import Dataset
from moe.recipes import recipe_file, recipe_in, register
from moe.recipes.recipe import Recipe
from moe.study.grid import runs_of
from moe.study.params import Runtime, Sweep, one_line
from moe.study.runs import Run
from moe.study.train_settings import Train
from moe.train.shards import Settings

AXES = ("recipe", "ne", "k", "lc")
NO_LIMIT = 1_000_000_000  # of the number of runs; also the largest whole number of params.yaml


class Asked(NamedTuple):
    """A call's checked arguments. data: in memory."""

    data: Dataset
    runs: tuple[Run, ...]
    settings: Settings


def read_arguments(
    arrays: Mapping[str, Any],
    axes: Mapping[str, Any],
    seeds: Any,
    settings: Mapping[str, Any],
    runtime: Mapping[str, Any],
) -> Asked:
    """Check the arguments; returns the data, the runs and their training settings.

    arrays: by the argument names of `checked`; axes: AXES, each one value or several; settings: the
    fields of Train, likewise. Raises ValueError, in one line that begins with the argument.
    """
    data = Dataset.of(checked(**{name: _as_array(name, x) for name, x in arrays.items()}))
    swept = {name: _several(value) for name, value in axes.items()}
    swept["recipe"] = [_known(recipe) for recipe in swept["recipe"]]
    plain = {name: _plain(value) for name, value in settings.items()}
    swept |= {name: value for name, value in plain.items() if isinstance(value, list)}
    single = {name: value[0] if isinstance(value, list) else value for name, value in plain.items()}
    train = _checked(Train, single)
    asked = _checked(Sweep, {"name": "sweep", "seeds": _seeds(seeds), **swept})
    most = max(asked.batch_size or (train.batch_size,))
    if most > len(data.train_x):
        raise ValueError(
            f"batch_size: {most}: x_train has {len(data.train_x):,} samples, so there is no whole "
            "batch"
        )
    how = {"executor": "local", "experts_per_shard": "auto", "most_runs": NO_LIMIT}
    named = {name: _plain(value) for name, value in runtime.items()}
    named["device"] = str(named["device"])
    return Asked(data, runs_of([asked]), Settings(train, _checked(Runtime, {**how, **named})))


def _checked(kind: type, values: Mapping[str, Any]) -> Any:
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        raise ValueError(one_line(error)) from None


def _as_array(name: str, given: Any) -> Any:
    """Convert to what numpy accepts; tensors from any device, with or without a gradient."""
    if callable(getattr(given, "detach", None)):
        given = given.detach().cpu()
        if given.is_floating_point():  # numpy has no bfloat16
            given = given.float()
    if name.startswith("y"):
        kinds = np.asarray(given).dtype.kind
        if kinds in "USO":
            raise ValueError(
                f"{name} holds {type(np.asarray(given).ravel()[0]).__name__}, but labels are whole "
                "numbers from 0: names, labels = numpy.unique(labels, return_inverse=True) "
                "encodes them"
            )
    return given


def _several(value: Any) -> list[Any]:
    """The values of an axis as a list; a single value becomes a list of one."""
    plain = _plain(value)
    return plain if isinstance(plain, list) else [plain]


def _plain(value: Any) -> Any:
    """Convert numbers and arrays of numpy, torch and pandas to Python's."""
    if isinstance(value, str | bytes | Recipe) or value is None:
        return value
    if callable(getattr(value, "tolist", None)):  # numpy, torch, pandas
        return value.tolist()
    if isinstance(value, list | tuple | range | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _seeds(seeds: Any) -> Any:
    """Seeds in the form of params.yaml: a number, or a first seed with a count."""
    if isinstance(seeds, range):
        if seeds.step != 1 or not seeds:
            raise ValueError(f"seeds: {seeds}: must be neighbours, like range(1000, 1250)")
        return {"from": seeds.start, "count": len(seeds)}
    return _plain(seeds)


def _known(recipe: Any) -> Any:
    """The name of a recipe; registers a user's own recipe for this process."""
    try:
        if isinstance(recipe, Recipe):
            register(recipe.name, recipe, _file_of(recipe))
            return recipe.name
        if isinstance(recipe, str) and ":" in recipe:
            register(recipe, recipe_in(recipe), Path(recipe.rpartition(":")[0]))
    except ValueError as error:
        raise ValueError(f"recipe: {error}") from None
    return recipe


def _file_of(recipe: Recipe) -> Path | None:
    """The file that defines the recipe's function; None at a prompt and in a notebook."""
    try:
        file = Path(inspect.getsourcefile(recipe.route) or "")
    except TypeError:  # not a Python function
        return None
    return file if file.is_file() else None


def without_files(runs: tuple[Run, ...]) -> list[str]:
    """The recipes of these runs that are not defined in a file."""
    return sorted({run.recipe for run in runs if recipe_file(run.recipe) is None})
