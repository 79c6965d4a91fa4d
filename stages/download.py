"""download: the data set of params.yaml, as four files in data/."""

from pathlib import Path

from stages.command import stage

DOWNLOADS = Path(".cache/mnist")  # kept: DVC empties data/ before each run of the stage


@stage
def download() -> None:
    """Fetch the data set and verify it."""
    from moe.data.dataset import ARRAY_FILES, DATA_DIR, FILES, Dataset
    from moe.data.download import fetch
    from moe.study.params import read_params

    dataset = read_params().data.dataset
    for name in (*FILES, *ARRAY_FILES):  # may be hard links into DVC's cache: never overwrite them
        (DATA_DIR / name).unlink(missing_ok=True)
    fetch(dataset, DATA_DIR, DOWNLOADS)
    data = Dataset(DATA_DIR)
    print(f"{dataset}: {len(data.train_x):,} training and {len(data.test_x):,} test samples")


if __name__ == "__main__":
    download()
