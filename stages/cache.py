"""Shows the store of finished runs, and a study's disk usage."""

import subprocess
from pathlib import Path

from stages.command import command


@command
def cache() -> None:
    """Print the store's runs by recipe; the sizes of the store, weights/ and DVC's cache."""
    from collections import Counter

    from moe.model.weights import WEIGHTS_DIR
    from moe.study.runs import Trial
    from moe.train.run_store import STORE_DIR, Store

    entries = list(Store().entries())
    names = {key: name for entry in entries for key, name in entry.runs.items()}
    trials = {name.rpartition("/")[0] for name in names.values()}
    recipes = Counter(Trial.parse(name.rpartition("/")[0]).recipe for name in names.values())
    print(
        f"{STORE_DIR}: {len(names):,} runs of {len(trials):,} trials in "
        f"{len({entry.path for entry in entries}):,} files"
    )
    for recipe, count in sorted(recipes.items()):
        print(f"  {recipe:14} {count:>9,} runs")
    used = {path for entry in entries for path in (entry.path, entry.index_file)}
    used.add(STORE_DIR / ".lock")
    if others := [path for path in STORE_DIR.glob("*") if path.is_file() and path not in used]:
        size = sum(path.stat().st_size for path in others)
        print(f"  damaged or incomplete, not used: {len(others):,} files, {size / 1e6:,.1f} MB")
    print_sizes([STORE_DIR, WEIGHTS_DIR, dvc_cache()])


def print_sizes(folders: list[Path]) -> None:
    """Print the size of each folder, and the size of the files that are in no other folder."""
    files = {folder: files_in(folder) for folder in folders}
    everything = {inode: size for found in files.values() for inode, size in found.items()}
    print(f"{'on disk':18} {'MB':>10} {'not linked':>12}")
    for folder, found in files.items():
        elsewhere = {i for other, these in files.items() if other != folder for i in these}
        own = sum(size for inode, size in found.items() if inode not in elsewhere)
        print(f"  {folder!s:16} {sum(found.values()) / 1e6:>10,.1f} {own / 1e6:>12,.1f}")
    print(f"  {'together':16} {sum(everything.values()) / 1e6:>10,.1f}")


def files_in(folder: Path) -> dict[tuple[int, int], int]:
    """The size of every file in a folder, by device and inode."""
    found = [path.lstat() for path in folder.rglob("*") if not path.is_dir()]
    return {(file.st_dev, file.st_ino): file.st_size for file in found}


def dvc_cache() -> Path:
    """The folder of DVC's cache; relative to this folder if it is inside."""
    asked = subprocess.run(["dvc", "cache", "dir"], capture_output=True, text=True)
    folder = Path(asked.stdout.strip() or ".dvc/cache")
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


if __name__ == "__main__":
    cache()
