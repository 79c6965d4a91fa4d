"""train: trains every run of the study; writes weights/, a file for each seed, and history.csv.

All outputs are in DVC's cache, not in git: with an output outside the cache, DVC would train again
in a fresh clone.
"""

from stages.command import stage, when_stopped


@stage
def train() -> None:
    """Train every run that is not yet in the store of finished runs."""
    from moe.data.dataset import Dataset
    from moe.engine import history_rows
    from moe.engine.divergence import has_diverged, in_one_line, losses_of
    from moe.model.weights import HISTORY_FILE, link_weights
    from moe.study.grid import runs_of
    from moe.study.params import read_params
    from moe.study.progress import TrainingProgress, shown
    from moe.study.tables import write_table
    from moe.study.train_settings import with_settings
    from moe.tracking.live import Live
    from moe.train.run_store import Store
    from moe.train.shards import Epochs, store_cohorts, train_study

    params = read_params()
    runs, data, store = runs_of(params.sweeps), Dataset(), Store()
    epochs = [with_settings(params.train, run.settings).epochs for run in runs]
    progress = TrainingProgress(dict(zip(runs, epochs, strict=True)), len(data.train_x))

    def on_epochs(epochs: Epochs) -> None:
        live.tell()
        progress.on_epochs(*epochs)

    def on_stop() -> str:
        live.interrupt()
        return f"{progress.runs:,} of {len(runs):,} runs are finished and kept"

    live = Live(params, progress.measures)
    when_stopped(on_stop)
    with live, shown(progress.work):
        trained = train_study(params, runs, data, store, on_epochs, progress.on_runs, print)
        with store.lock():  # a larger study must not replace the files before they are linked
            link_weights(store_cohorts(params, trained, data, store))
    rows = (row for run, result in trained.items() for row in history_rows(run, result))
    write_table(rows, HISTORY_FILE)
    diverged = [
        run
        for run, result in trained.items()
        if has_diverged(result.weights.values(), losses_of(result.history))
    ]
    if said := in_one_line(diverged, len(runs)):
        print(said)


if __name__ == "__main__":
    train()
