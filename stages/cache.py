"""Shows what the store of finished runs holds."""

from stages.command import command


@command
def cache() -> None:
    """Print the store's runs by recipe, its files and their size."""
    from collections import Counter

    from moe.study.runs import Trial
    from moe.train.run_store import STORE_DIR, Store

    entries = list(Store().entries())
    runs, sizes = Counter[str](), Counter[str]()
    trials = set()
    for entry in entries:
        names = [name.rpartition("/")[0] for name in entry.runs.values()]
        trials |= {Trial.parse(name) for name in names}
        recipes = [name.partition("/")[0] for name in names]
        runs.update(recipes)
        sizes[recipes[0]] += entry.path.stat().st_size  # a shard has runs of one recipe only
    print(
        f"{STORE_DIR}: {runs.total():,} runs of {len(trials):,} trials in {len(entries):,} files, "
        f"{sizes.total() / 1e6:,.1f} MB"
    )
    for recipe, count in sorted(runs.items()):
        print(f"  {recipe:10} {count:>9,} runs {sizes[recipe] / 1e6:>11,.1f} MB")
    whole = {entry.path for entry in entries}
    if others := [path for path in STORE_DIR.glob("*") if path.is_file() and path not in whole]:
        size = sum(path.stat().st_size for path in others)
        print(f"  damaged or never finished, not used: {len(others):,} files, {size / 1e6:,.1f} MB")


if __name__ == "__main__":
    cache()
