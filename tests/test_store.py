"""The store of finished runs: entries are read back unchanged; damaged ones are not used."""

from pathlib import Path

import pytest
import torch

from moe.engine import Trained
from moe.train.run_store import Store, pack


def trained(seed: int) -> Trained:
    generator = torch.Generator().manual_seed(seed)
    weights = {"router.weight": torch.randn(2, 5, generator=generator)}
    return Trained(weights, torch.randn(3, 8, generator=generator).double())


@pytest.fixture
def store(tmp_path: Path) -> Store:
    said: list[str] = []
    store = Store(tmp_path, said.append)
    store.said = said  # type: ignore[attr-defined]
    store.add(pack({"run a": trained(0), "run b": trained(1)}), {"a": "run a", "b": "run b"})
    store.add(pack({"run c": trained(2)}), {"c": "run c"})
    return store


def test_what_goes_in_comes_out(store: Store) -> None:
    found = store.load({"a", "c", "elsewhere"})
    assert found.keys() == {"a", "c"}
    for key, seed in (("a", 0), ("c", 2)):
        assert torch.equal(found[key].history, trained(seed).history)
        assert torch.equal(
            found[key].weights["router.weight"], trained(seed).weights["router.weight"]
        )
    names = {key: name for entry in store.entries() for key, name in entry.runs.items()}
    assert names == {"a": "run a", "b": "run b", "c": "run c"}


def test_the_same_runs_are_kept_once(store: Store) -> None:
    store.add(pack({"run c": trained(2)}), {"c": "run c"})
    assert len(list(store.entries())) == 2


def damage_first_byte(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],  # truncated in its tensors
        lambda content: content[:20],  # and in its header
        lambda content: content[:4],
        lambda content: b"",
        lambda content: content[:-3] + b"xyz",  # altered
        damage_first_byte,  # a header of another length
        lambda content: b"<html>" + b" " * 500,  # a different file type
        lambda content: b"\xff" * 500,
    ],
)
def test_a_damaged_entry_is_reported_set_aside_and_not_used(store: Store, damage) -> None:
    entry = next(entry for entry in store.entries() if "c" in entry.runs)
    entry.path.write_bytes(damage(entry.path.read_bytes()))
    found = store.load({"a", "c"})
    assert found.keys() == {"a"}
    assert not entry.path.exists()
    assert entry.path.with_suffix(".damaged").exists()
    (line,) = store.said  # type: ignore[attr-defined]
    assert str(entry.path) in line
    assert "set aside" in line
    store.add(pack({"run c": trained(2)}), {"c": "run c"})
    assert store.load({"c"}).keys() == {"c"}


def test_an_entry_that_lacks_a_run_it_names_is_set_aside(store: Store) -> None:
    """Its digest matches, so no other check would detect it."""
    store.add(pack({"run d": trained(3)}), {"d": "run d", "e": "run e"})
    assert store.find({"d", "e"}) == set()
    (line,) = store.said  # type: ignore[attr-defined]
    assert "it names run e" in line
    assert store.load({"a", "d"}).keys() == {"a"}


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda index: index[:-1], lambda index: index.replace(b"run", b"RUN")]
)
def test_a_damaged_index_is_set_aside(store: Store, damage) -> None:
    entry = next(entry for entry in store.entries() if "c" in entry.runs)
    entry.index_file.write_bytes(damage(entry.index_file.read_bytes()))
    assert store.find({"a", "c"}) == {"a"}
    (line,) = store.said  # type: ignore[attr-defined]
    assert str(entry.index_file) in line
    store.add(entry.path.read_bytes(), {"c": "run c"})
    assert store.find({"a", "c"}) == {"a", "c"}


def test_the_same_bytes_under_other_keys_are_one_file(store: Store) -> None:
    """As after a change of the sources that does not change results."""
    first = store.add(pack({"run c": trained(2)}), {"c": "run c"})
    inode = first.stat().st_ino
    assert store.add(pack({"run c": trained(2)}), {"new c": "run c"}) == first
    assert first.stat().st_ino == inode
    assert store.find({"c", "new c"}) == {"c", "new c"}
    assert len(list(store.folder.glob("*.safetensors"))) == 2


def test_a_cohort_replaces_the_entries_of_its_runs_alone(store: Store) -> None:
    cohort = store.add(
        pack({"run a": trained(0), "run b": trained(1), "run d": trained(3)}),
        {"a": "run a", "b": "run b", "d": "run d"},
    )
    (store.folder / "00.safetensors").write_bytes(b"killed before its index was written")
    store.keep_instead([cohort])
    c = next(entry.path for entry in store.entries() if "c" in entry.runs)
    assert set(store.folder.glob("*.safetensors")) == {cohort, c}
    assert len(list(store.folder.glob("*.json"))) == 2
    found = store.load({"a", "b", "c", "d"})
    for key, seed in (("a", 0), ("b", 1), ("c", 2), ("d", 3)):
        assert torch.equal(found[key].history, trained(seed).history)


def test_what_another_process_removes_meanwhile_is_no_error(store: Store) -> None:
    entries = store.entries()
    next(entries)
    for path in store.folder.iterdir():
        path.unlink()
    assert list(entries) == []
    for work in (store.find, store.load):
        store.add(pack({"run c": trained(2)}), {"c": "run c"})
        listed = list(store.entries())
        for entry in listed:
            entry.path.unlink()
        store.entries = lambda listed=listed: iter(listed)  # type: ignore[method-assign]
        assert not work({"c"})
        del store.entries
    assert store.said == []  # type: ignore[attr-defined]


def test_an_unfinished_entry_is_not_seen(store: Store) -> None:
    (store.folder / ".0123.99.tmp").write_bytes(b"half of it")
    assert len(list(store.entries())) == 2


def test_an_empty_store_is_no_error(tmp_path: Path) -> None:
    assert Store(tmp_path / "nowhere").load({"a"}) == {}
