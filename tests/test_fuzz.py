"""Fuzzing: 10,000 broken files for each reader of external files give one line, no traceback."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moe.data.idx import DataError, read_idx, write_idx
from moe.study.params import Params, ParamsError, read_params

pytestmark = pytest.mark.slow
CASES = settings(
    max_examples=5_000, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
GOOD = {
    "data": {"dataset": "mnist-5k"},
    "sweeps": [
        {"name": "a", "recipe": ["blog"], "ne": [1, 2], "k": [1], "lc": [0, 0.1], "seeds": 2}
    ],
    "train": {"epochs": 1, "batch_size": 128, "learning_rate": 0.001, "hidden": 10},
    "analyze": {"pictured_digits": 50, "null_tables": 20},
    "track": {"experiment": "moe"},
    "runtime": {
        "device": "auto",
        "engine": "auto",
        "executor": "local",
        "workers": "auto",
        "experts_per_shard": "auto",
        "most_runs": 100,
    },
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "file"


# --- params.yaml

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(
        ["auto", "blog", "gshard", "mnist", "cuda:0", "1e3", "~", "0x10", ".inf", "5k"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
# YAML's special characters, which random text rarely has
YAML_TEXT = st.lists(
    st.sampled_from(
        [
            *(
                "train",
                ": ",
                "\n",
                "  ",
                "- ",
                "[",
                "]",
                "{",
                "}",
                ",",
                "&a ",
                "*a",
                "!!",
                "!!int ",
            ),
            *(
                "!!python/object:os.system ",
                "|",
                ">",
                "'",
                '"',
                "#",
                "? ",
                "%YAML 9.9",
                "---",
                "...",
            ),
            *("2026-13-45", "<<: ", "0b2", "\t", "\x00", "\ud7ff", "é", "1", "epochs", "..", "@"),
        ]
    )
    | st.text(max_size=4),
    max_size=30,
).map("".join)


def places(tree: Any, at: tuple = ()) -> list[tuple]:
    """The paths to all values."""
    inner: Any = tree.items() if isinstance(tree, dict) else ()
    inner = enumerate(tree) if isinstance(tree, list) else inner
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def changed(place: tuple, value: Any) -> Any:
    """GOOD with another value at a path; None removes the key."""
    if not place:
        return value
    tree = json.loads(json.dumps(GOOD))
    *way, last = place
    inner = tree
    for key in way:
        inner = inner[key]
    if value is None and isinstance(inner, dict):
        del inner[last]
    else:
        inner[last] = value
    return tree


def assert_one_line_or_good(path: Path) -> None:
    try:
        assert isinstance(read_params(path), Params)
        said = ""
    except ParamsError as error:
        said = str(error)
    assert not said or said.isprintable(), repr(said)
    assert len(said) < 1_000


def test_the_good_file_is_good(file: Path) -> None:
    file.write_text(json.dumps(GOOD))
    assert isinstance(read_params(file), Params)


@CASES
@given(place=st.sampled_from(places(GOOD)), value=VALUES, extra=st.text(max_size=6) | st.none())
def test_params_with_another_value_somewhere(
    file: Path, place: tuple, value: Any, extra: str | None
) -> None:
    tree = changed(place, value)
    if extra is not None and isinstance(tree, dict):
        tree[extra] = 1
    file.write_text(json.dumps(tree), encoding="utf-8", errors="replace")
    assert_one_line_or_good(file)


@CASES
@given(text=YAML_TEXT | st.text() | st.binary(max_size=60))
def test_params_of_any_text(file: Path, text: str | bytes) -> None:
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    file.write_bytes(content)
    assert_one_line_or_good(file)


# --- IDX files


def assert_array_or_one_line(path: Path) -> None:
    array, said = None, ""
    try:
        array = read_idx(path)
    except DataError as error:
        said = str(error)
    if array is None:
        assert said.isprintable(), repr(said)
        return
    # The array has the sizes in the header, and the rest of the file as content.
    content = path.read_bytes()
    assert content[:3] == b"\0\0\x08"
    assert content[3] == array.ndim
    assert array.tobytes() == content[4 + 4 * array.ndim :]


@CASES
@given(content=st.binary(max_size=80), begin=st.sampled_from([b"", b"\0\0\x08", b"\0\0\x08\x01"]))
def test_idx_of_any_bytes(file: Path, content: bytes, begin: bytes) -> None:
    file.write_bytes(begin + content)
    assert_array_or_one_line(file)


@CASES
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    place=st.integers(0, 30),
    byte=st.integers(0, 255),
    cut=st.integers(0, 40),
)
def test_idx_damaged_somewhere(
    file: Path, shape: list[int], place: int, byte: int, cut: int
) -> None:
    file.unlink(missing_ok=True)  # may still be memory-mapped
    write_idx(file, np.ones(shape, np.uint8))
    content = bytearray(file.read_bytes())
    content[place % len(content)] = byte
    file.write_bytes(bytes(content[: len(content) - cut] if cut < 20 else content))
    assert_array_or_one_line(file)
