"""Says what the store of finished runs holds."""

from stages.command import command


@command
def cache() -> None:
    """Print the store's runs by recipe, its files and their size."""
    from collections import Counter

    from moe.grid import Trial
    from moe.store import STORE_DIR, Store

    entries = list(Store().entries())
    names = [name for entry in entries for name in entry.runs.values()]
    recipes = Counter(name.partition("/")[0] for name in names)
    trials = {Trial.parse(name.rpartition("/")[0]) for name in names}
    size = sum(entry.path.stat().st_size for entry in entries)
    print(
        f"{STORE_DIR}: {len(names):,} runs of {len(trials):,} trials in {len(entries):,} files, "
        f"{size / 1e6:,.0f} MB"
    )
    for recipe, count in sorted(recipes.items()):
        print(f"  {recipe:10} {count:,} runs")


if __name__ == "__main__":
    cache()
