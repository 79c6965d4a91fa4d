"""download: data/, the four IDX files of the data set that params.yaml names."""

from pathlib import Path

from stages.command import stage

DOWNLOADS = Path(".cache/mnist")  # kept from run to run; DVC empties data/ itself


@stage
def download() -> None:
    """Fetch and verify the data set into data/."""
    from moe.data.dataset import DATA_DIR, FILES, Dataset
    from moe.data.download import fetch
    from moe.study.params import read_params

    dataset = read_params().data.dataset
    for name in FILES:  # DVC's cache may have links to them: never write into them
        (DATA_DIR / name).unlink(missing_ok=True)
    fetch(dataset, DATA_DIR, DOWNLOADS)
    data = Dataset(DATA_DIR)
    print(f"{dataset}: {len(data.train_x):,} training and {len(data.test_x):,} test images")


if __name__ == "__main__":
    download()
