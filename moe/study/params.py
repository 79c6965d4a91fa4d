"""params.yaml as frozen dataclasses. Only this module reads the file.

The fields have no defaults: params.yaml has every setting that a user may change.
"""

import dataclasses
import itertools
import math
import re
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from moe.data.sets import dataset_named
from moe.errors import UserError
from moe.recipes import recipe_named
from moe.study.runs import Settings
from moe.study.train_settings import (
    SETTING_TYPES,
    CapacityFactor,
    LearningRate,
    Positive,
    Precision,
    Real,
    Train,
    Whole,
    ZLoss,
    strict,
)

PARAMS_FILE = Path("params.yaml")
LARGEST_FILE = 100_000  # bytes; this project's params.yaml has 2,200, and parsing is slow
LARGEST_SEED = 1_000_000_000
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-12, 1e6  # of lc, other than 0
LONGEST_SHOWN = 80  # characters of a value or a key in a message


def _is_list(value: Any) -> Any:
    """Reject a bare number or string; pydantic would split a string into letters."""
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list, like [1, 2]")
    return value


def _is_one_line(text: str) -> str:
    """Reject line breaks and control characters: names are printed, logged and sent to servers."""
    if not text.isprintable():
        raise ValueError("must be printable characters in one line")
    return text


def _is_recipe(name: str) -> str:
    recipe_named(name)
    return name


def _is_dataset(name: str) -> str:
    dataset_named(name)
    return name


def _seeds(value: Any) -> range:
    """5 is seeds 0 … 4; {from: 1000, count: 5} is seeds 1000 … 1004."""
    if isinstance(value, range):
        return value
    parts = value if isinstance(value, dict) else {"from": 0, "count": value}
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in parts.values())
    if set(parts) != {"from", "count"} or not whole:
        raise ValueError("must be a number of seeds, or like {from: 1000, count: 250}")
    first, count = parts["from"], parts["count"]
    if first < 0 or count < 1 or first + count > LARGEST_SEED + 1:
        raise ValueError(f"must be at least one seed, between 0 and {LARGEST_SEED:,}")
    return range(first, first + count)


def _is_weight(lc: float) -> float:
    """Check that a weight times a loss fits in float32."""
    if lc != 0 and not SMALLEST_WEIGHT <= lc <= LARGEST_WEIGHT:
        raise ValueError(f"must be 0, or from {SMALLEST_WEIGHT:g} to {LARGEST_WEIGHT:g}")
    return lc


T = TypeVar("T")
ListOf = BeforeValidator(_is_list)
Swept = Annotated[tuple[T, ...], Field(min_length=1), ListOf] | None
Weight = Annotated[Real, Field(ge=0), AfterValidator(_is_weight)]
RecipeName = Annotated[str, Field(strict=True, max_length=200), AfterValidator(_is_recipe)]
Name = Annotated[
    str, Field(strict=True, min_length=1, max_length=200), AfterValidator(_is_one_line)
]


@strict
class Data:
    dataset: Annotated[str, Field(strict=True), AfterValidator(_is_dataset)]


@strict
class Sweep:
    """A Cartesian product of cells, without those with k > ne.

    Settings of `train` may be swept too; for None, the value in `train` is used.
    """

    name: Name
    recipe: Annotated[tuple[RecipeName, ...], Field(min_length=1), ListOf]
    ne: Annotated[tuple[Annotated[Positive, Field(le=64)], ...], Field(min_length=1), ListOf]
    k: Annotated[tuple[Positive, ...], Field(min_length=1), ListOf]
    lc: Annotated[tuple[Weight, ...], Field(min_length=1), ListOf]
    seeds: Annotated[range, PlainValidator(_seeds)]
    epochs: Swept[Positive] = None
    batch_size: Swept[Positive] = None
    learning_rate: Swept[LearningRate] = None
    hidden: Swept[Positive] = None
    capacity_factor: Swept[CapacityFactor] = None
    z_loss: Swept[ZLoss] = None
    precision: Swept[Precision] = None

    def __post_init__(self) -> None:
        if min(self.k) > max(self.ne):
            raise ValueError(
                f"k: {list(self.k)}: every k is larger than every ne of {list(self.ne)}, "
                "so the sweep has no trial"
            )
        for recipe in map(recipe_named, self.recipe):
            if reason := next(filter(None, map(recipe.why_not_k, self.k)), None):
                raise ValueError(f"k: {list(self.k)}: {reason}")
            if reason := next(filter(None, map(recipe.why_not_lc, self.lc)), None):
                raise ValueError(f"lc: {list(self.lc)}: {reason}")

    @property
    def cells(self) -> int:
        """An upper bound of the number of trials, without expanding them."""
        axes = (self.recipe, self.ne, self.k, self.lc, *map(self.swept, SETTING_TYPES))
        return math.prod(len(axis) for axis in axes if axis is not None)

    def swept(self, name: str) -> tuple[Any, ...] | None:
        """The values of a setting, or None."""
        return getattr(self, name)

    def settings(self) -> Iterator[Settings]:
        """Every combination of the swept settings; capacity_factor None becomes inf."""
        axes = {name: self.swept(name) for name in SETTING_TYPES}
        named = [
            [(name, math.inf if value is None else SETTING_TYPES[name](value)) for value in values]
            for name, values in axes.items()
            if values is not None
        ]
        return itertools.product(*named)


@strict
class Analyze:
    pictured_digits: Annotated[Whole, Field(ge=10)]
    null_tables: Positive


@strict
class Track:
    experiment: Name


@strict
class Runtime:
    """Computation settings. No output depends on them, except for rounding."""

    device: Annotated[str, Field(strict=True, pattern=r"^(auto|cpu|cuda(:[0-9]{1,2})?)$")]
    engine: Literal["auto", "kernel", "fused"]
    executor: Literal["local", "ray"]
    workers: Annotated[Literal["auto"] | Positive, Field(union_mode="left_to_right")]
    experts_per_shard: Annotated[Literal["auto"] | Positive, Field(union_mode="left_to_right")]
    most_runs: Positive


@strict
class Params:
    data: Data
    sweeps: Annotated[tuple[Sweep, ...], Field(min_length=1), ListOf]
    train: Train
    analyze: Analyze
    track: Track
    runtime: Runtime

    def __post_init__(self) -> None:
        # A setting that one sweep lists is part of every trial; other sweeps use train's value.
        listed = [name for name in SETTING_TYPES if any(s.swept(name) for s in self.sweeps)]
        own = {name: (getattr(self.train, name),) for name in listed}
        filled = (
            dataclasses.replace(sweep, **{n: v for n, v in own.items() if sweep.swept(n) is None})
            for sweep in self.sweeps
        )
        object.__setattr__(self, "sweeps", tuple(filled))
        samples = dataset_named(self.data.dataset).training_samples
        sizes = {f"sweeps.{i}.batch_size": s.batch_size or () for i, s in enumerate(self.sweeps)}
        for where, listed_sizes in {**sizes, "train.batch_size": (self.train.batch_size,)}.items():
            if listed_sizes and max(listed_sizes) > samples:
                raise ValueError(
                    f"{where}: {max(listed_sizes)}: {self.data.dataset} has {samples:,} training "
                    "samples, so there is no whole batch"
                )
        runs = sum(sweep.cells * len(sweep.seeds) for sweep in self.sweeps)
        if runs > self.runtime.most_runs:
            raise ValueError(
                f"sweeps: {runs:,} runs are more than runtime.most_runs = "
                f"{self.runtime.most_runs:,}; raise most_runs to allow this"
            )
        files = [name for sweep in self.sweeps for name in sweep.recipe if ":" in name]
        if files and self.runtime.executor == "ray":
            raise ValueError(
                f"runtime.executor: 'ray': {files[0]} is a file of this folder, which other "
                "machines do not have; use executor: local"
            )


class ParamsError(UserError, ValueError):
    """params.yaml is invalid; the message is one line with the key, the value and the rule."""


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check a params file.

    Raises ParamsError unless the file is complete and valid.
    """
    tree = _tree(path)
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: must hold sections such as train:, not {_shown(tree)}")
    try:
        return TypeAdapter(Params).validate_python(tree)
    except ValidationError as error:
        raise ParamsError(f"{path}: {one_line(error)}") from None


def _tree(path: Path) -> Any:
    """The file's content as plain Python values; YAML tags for other objects are rejected."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read: {error}") from None
    if len(content) > LARGEST_FILE:
        raise ParamsError(f"{path}: is larger than {LARGEST_FILE:,} bytes")
    try:
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError:
        raise ParamsError(f"{path}: not valid YAML: nested too deeply") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = error.problem or error.context or "cannot be parsed"
        raise ParamsError(f"{path}: not valid YAML: {where}{_cut(what)}") from None
    except (YAMLError, ValueError, LookupError, TypeError, ArithmeticError) as error:
        # Python's errors for values that do not match their tag or format: a 13th month, an integer
        # of 5,000 digits, `!!bool maybe`.
        raise ParamsError(f"{path}: not valid YAML: {_cut(str(error))}") from None


def one_line(error: ValidationError) -> str:
    """The first error in one line: its key, its value and the rule."""
    first, others = error.errors(include_url=False)[0], error.error_count() - 1
    # Union branches add their type's name to the location: show only the keys of the file.
    keys = [_key(part) for part in first["loc"] if not str(part).startswith(("literal", "constr"))]
    key = ".".join(keys) or "the file"
    more = f" (and {others} more)" if others else ""
    if first["type"] in ("missing", "missing_argument"):
        return f"{key}: is missing{more}"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: unknown key (value {_shown(first['input'])}){more}"
    rule = first["msg"].removeprefix("Value error, ")
    if not keys:  # messages on the whole file include key and value
        return rule
    if re.match(r"(ne|k|lc): ", rule):  # so do messages on a sweep
        return f"{key}.{rule}{more}"
    return f"{key}: {_shown(first['input'])}: {rule[0].lower()}{rule[1:]}{more}"


def _key(part: int | str) -> str:
    """A key as in the file, or its repr() if it is long or not printable."""
    text = str(part)
    return text if text.isprintable() and len(text) <= LONGEST_SHOWN else _shown(text)


def _shown(value: Any) -> str:
    """A short repr() of a value: with YAML aliases, a short file can have a billion elements."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 3, LONGEST_SHOWN, LONGEST_SHOWN
    if isinstance(value, int) and abs(value) > 10**LONGEST_SHOWN:
        return f"an integer of {value.bit_length():,} bits"
    return _cut(brief.repr(value))


def _cut(text: str) -> str:
    """The text on one line, shortened."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 2 * LONGEST_SHOWN else f"{line[: 2 * LONGEST_SHOWN - 3]}..."
