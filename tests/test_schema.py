"""Every committed file with results has the columns that moe/study/schema.py describes."""

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from moe.data.arrays import Arrays
from moe.data.dataset import Dataset
from moe.engine import HISTORY, fused
from moe.recipes import RECIPES
from moe.study.columns import RANGES, SETTINGS, Column
from moe.study.runs import RUN_KEYS, Run
from moe.study.schema import ARRAYS, FILES, JSON, TABLES, check_columns, table_at
from moe.study.tables import write_table
from moe.study.train_settings import Train
from moe.train.run_store import pack

ROOT = Path(__file__).parent.parent
COMMITTED = sorted((ROOT / "results").rglob("*.csv"))
# The types of cells; rounding to six digits may leave 1.00001 of a share.
CELLS = {"text": str, "whole": int, "number": float, "flag": int}


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_table_has_the_columns_the_types_and_the_ranges_that_are_described(path: Path) -> None:
    table = table_at(path)
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    found = {name: table.column(name) for name in header}
    assert None not in found.values(), header
    assert [c.name for c in table.columns if not c.optional and c not in found.values()] == []
    assert len(set(header)) == len(header)
    for name, cells in zip(header, zip(*rows, strict=True), strict=True):
        column = found[name]
        assert column is not None
        values = {CELLS[column.type](cell) for cell in set(cells) if cell}
        assert column.type != "flag" or values <= {0, 1}
        if column.unit in RANGES and values:
            low, high = RANGES[column.unit]
            assert low <= min(values), name
            assert max(values) <= high, name


def test_a_json_file_has_the_keys_that_are_described() -> None:
    metrics = json.loads((ROOT / "reports/metrics.json").read_text())
    claims = json.loads((ROOT / "reports/claims.json").read_text())
    objects = [("reports/metrics.json", metrics)]
    for of_claim in claims.values():
        objects += [("reports/claims.json", claim) for claim in of_claim.values()]
    types = {
        "text": str | None,
        "whole": int | None,
        "number": float | int | None,
        "flag": bool,
        "object": dict | list | float | int | None,
        "list": list,
    }
    for name, found in objects:
        table = table_at(ROOT / name)
        assert {c.name for c in table.columns if not c.optional} <= set(found)
        for key, value in found.items():
            column = table.column(key)
            assert column is not None, key
            assert isinstance(value, types[column.type]), key


@pytest.mark.parametrize("recipe", RECIPES)
def test_weights_have_the_arrays_that_are_described(recipe: str, mnist_5k: Dataset) -> None:
    few = Dataset.of(Arrays(*(array[::100] for array in mnist_5k.arrays)))
    k = RECIPES[recipe].least_k
    run = Run(recipe, max(3, k), k, 1.0, 0)
    settings = Train(epochs=2, batch_size=10, learning_rate=0.001, hidden=4)
    (trained,) = fused.train([run], few, settings, torch.device("cpu"))
    arrays = load(pack({str(run): trained}))
    (table,) = ARRAYS
    sizes = {
        "ne": run.ne,
        "inputs": 784,
        "hidden": 4,
        "classes": 10,
        "epochs": 2,
        "9": len(HISTORY),
    }
    names = {name.removeprefix(f"{run}/") for name in arrays}
    assert {c.name for c in table.columns if not c.optional} <= names
    for name in names:
        column = table.column(name)
        assert column is not None, name
        array = arrays[f"{run}/{name}"]
        assert str(array.dtype) == f"torch.{column.type}"
        letters = [size.strip() for size in column.unit.strip("()").split(",")]
        assert array.shape == tuple(sizes[size] for size in letters if size)


def test_a_column_or_table_that_is_not_described_cannot_be_written(tmp_path: Path) -> None:
    row = Run("logits", 2, 1, 1.0, 0).columns
    with pytest.raises(ValueError, match=r"runs\.csv: .* declares no column 'speed' of it"):
        write_table([{**row, "speed": 1.0}], tmp_path / "runs.csv")
    with pytest.raises(ValueError, match=r"schema\.py declares no file of this name"):
        write_table([row], tmp_path / "speeds.csv")
    assert list(tmp_path.iterdir()) == []
    # A family is a name with a number.
    with pytest.raises(ValueError, match="'accuracy_x'"):
        check_columns(Path("results/runs.csv"), ["accuracy_0", "accuracy_11", "accuracy_x"])


def test_every_setting_of_training_may_be_a_column() -> None:
    fields = Train.__dataclass_fields__
    assert set(SETTINGS) == set(fields)  # each has a description
    for table in TABLES:
        if table.column("seed"):
            check_columns(Path(table.name), [*RUN_KEYS, *fields])


def test_files_are_described_once_and_in_full() -> None:
    assert len({file.name for file in FILES}) == len(FILES)
    described = [(file, column) for file in FILES for column in file.columns]
    for file, column in described:
        assert column.meaning, (file.name, column.name)
        allowed = set(CELLS) if file in TABLES else set(Column.__annotations__["type"].__args__)
        assert column.type in allowed
    # If one file's name is the end of another's, the longer match is found.
    for file in (*TABLES, *JSON):
        assert table_at(Path(file.name.replace("*", "switch"))) == file
    assert table_at(Path("results/confirm/runs.csv")).name == "results/runs.csv"
    own = Path("results/plots/training/extensions/mine.py:mine.csv")
    assert table_at(own).name == "results/plots/training/*.csv"
