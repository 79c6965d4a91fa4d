"""params.yaml as frozen dataclasses; the only module that reads it.

Every number that a user may change is in that file and nowhere else, so the fields here have no
defaults.
"""

import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal

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
from moe.study.train_settings import Positive, Real, Train, Whole, strict

PARAMS_FILE = Path("params.yaml")
LARGEST_FILE = 100_000  # bytes; the study of this project has 2,200, and parsing is slow
LARGEST_SEED = 1_000_000_000
SMALLEST_WEIGHT, LARGEST_WEIGHT = 1e-12, 1e6  # of lc, other than 0
LONGEST_SHOWN = 80  # characters of a value or key in a message


def _is_list(value: Any) -> Any:
    """A bare number or a word is not a list of one: say so, rather than take a word apart."""
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list, like [1, 2]")
    return value


def _is_one_line(text: str) -> str:
    """What is printed, logged and sent to servers holds no line breaks or control characters."""
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
    first, count = parts.get("from"), parts.get("count")
    whole = all(isinstance(n, int) and not isinstance(n, bool) for n in (first, count))
    if not whole or set(parts) != {"from", "count"}:
        raise ValueError("must be a number of seeds, or like {from: 1000, count: 250}")
    if not (first >= 0 and count >= 1 and first + count <= LARGEST_SEED + 1):
        raise ValueError(f"must be at least one seed, between 0 and {LARGEST_SEED:,}")
    return range(first, first + count)


def _is_weight(lc: float) -> float:
    """A weight times a loss has to be a float32."""
    if lc != 0 and not SMALLEST_WEIGHT <= lc <= LARGEST_WEIGHT:
        raise ValueError(f"must be 0, or from {SMALLEST_WEIGHT:g} to {LARGEST_WEIGHT:g}")
    return lc


ListOf = BeforeValidator(_is_list)
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
    """A Cartesian product of cells; those with k > ne do not exist and are left out."""

    name: Name
    recipe: Annotated[tuple[RecipeName, ...], Field(min_length=1), ListOf]
    ne: Annotated[tuple[Annotated[Positive, Field(le=64)], ...], Field(min_length=1), ListOf]
    k: Annotated[tuple[Positive, ...], Field(min_length=1), ListOf]
    lc: Annotated[tuple[Weight, ...], Field(min_length=1), ListOf]
    seeds: Annotated[range, PlainValidator(_seeds)]

    def __post_init__(self) -> None:
        if min(self.k) > max(self.ne):
            raise ValueError(
                f"k: {list(self.k)} holds no k that is at most an ne of {list(self.ne)}, "
                "so the sweep has no cell"
            )
        for recipe in map(recipe_named, self.recipe):
            if reason := next(filter(None, map(recipe.why_not_k, self.k)), None):
                raise ValueError(f"k: {list(self.k)}: {reason}")

    @property
    def cells(self) -> int:
        """At most so many trials: counted without being made."""
        return len(self.recipe) * len(self.ne) * len(self.k) * len(self.lc)


@strict
class Analyze:
    pictured_digits: Annotated[Whole, Field(ge=10)]
    null_tables: Positive


@strict
class Track:
    experiment: Name


@strict
class Runtime:
    """How to compute, never what: no stage's output depends on these (beyond rounding)."""

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
        images = dataset_named(self.data.dataset).training_samples
        if self.train.batch_size > images:
            raise ValueError(
                f"train.batch_size: {self.train.batch_size}: {self.data.dataset} has {images:,} "
                "training images, so there is no whole batch"
            )
        runs = sum(sweep.cells * len(sweep.seeds) for sweep in self.sweeps)
        if runs > self.runtime.most_runs:
            raise ValueError(
                f"sweeps: {runs:,} runs are more than runtime.most_runs = "
                f"{self.runtime.most_runs:,}, a guard against slips: raise it if they are meant"
            )


class ParamsError(UserError, ValueError):
    """params.yaml cannot be used; the message is one line that names key, value and the rule."""


def read_params(path: Path = PARAMS_FILE) -> Params:
    """Read and check a params file.

    Raises ParamsError, with a one-line message, for anything but a complete and valid file.
    """
    tree = _tree(path)
    if not isinstance(tree, dict):
        raise ParamsError(f"{path}: must hold sections such as train:, not {_shown(tree)}")
    try:
        return TypeAdapter(Params).validate_python(tree)
    except ValidationError as error:
        raise ParamsError(f"{path}: {_one_line(error)}") from None


def _tree(path: Path) -> Any:
    """What the file says, as plain Python values; tags that build other objects are refused."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: cannot be read: {error}") from None
    if len(content) > LARGEST_FILE:
        raise ParamsError(f"{path}: is larger than {LARGEST_FILE:,} bytes, which no study needs")
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
        # The parser lets through what Python says of a value that its tag or form promises and
        # that is none: the 13th month, an integer of 5,000 digits, `!!bool maybe`.
        raise ParamsError(f"{path}: not valid YAML: {_cut(str(error))}") from None


def _one_line(error: ValidationError) -> str:
    first, others = error.errors(include_url=False)[0], error.error_count() - 1
    # Union branches add their type's name to the location; a user knows only the keys.
    keys = [_key(part) for part in first["loc"] if not str(part).startswith(("literal", "constr"))]
    key = ".".join(keys) or "the file"
    more = f" (and {others} more)" if others else ""
    if first["type"] in ("missing", "missing_argument"):
        return f"{key}: is missing{more}"
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{key}: unknown key (value {_shown(first['input'])}){more}"
    rule = first["msg"].removeprefix("Value error, ")
    if not keys:  # a rule of the whole file names its own key and value
        return rule
    if re.match(r"(ne|k|lc): ", rule):  # and so do those of a sweep
        return f"{key}.{rule}{more}"
    return f"{key}: {_shown(first['input'])}: {rule[0].lower()}{rule[1:]}{more}"


def _key(part: int | str) -> str:
    """A key as the file has it, where that is a word."""
    text = str(part)
    return text if text.isprintable() and len(text) <= LONGEST_SHOWN else _shown(text)


def _shown(value: Any) -> str:
    """A value in a message: of a few lines' YAML an alias can make one of a billion elements."""
    brief = reprlib.Repr()
    brief.maxlevel, brief.maxstring, brief.maxother = 3, LONGEST_SHOWN, LONGEST_SHOWN
    if isinstance(value, int) and abs(value) > 10**LONGEST_SHOWN:
        return f"an integer of {value.bit_length():,} bits"
    return _cut(brief.repr(value))


def _cut(text: str) -> str:
    """On one line, and not for ever."""
    line = " ".join(text.split())
    line = "".join(c if c.isprintable() else "?" for c in line)
    return line if len(line) <= 2 * LONGEST_SHOWN else f"{line[: 2 * LONGEST_SHOWN - 3]}..."
