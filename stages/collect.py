"""collect: the step after phase two of the comparison of routers, for `make routers`.

Writes results/routers/runs.csv: the runs of .work/routers, with their balance in training batches.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.command import command

STUDY = Path(".work/routers")
BALANCE = ("max_violation_batch", "max_violation_epoch")


@command
def collect() -> None:
    """Measure the balance of phase two's runs in training batches, and write the table."""
    from moe.analysis import router_study
    from moe.study.params import PARAMS_FILE, read_params
    from moe.study.progress import runs_of_a_study, shown
    from moe.study.tables import RESULTS_DIR, read_table, runs_in, write_table
    from moe.study.workers import in_workers, worker_count

    params = read_params(STUDY / PARAMS_FILE)
    runs = read_table(STUDY / RESULTS_DIR / "runs.csv")
    seeds = sorted(set(runs["seed"]))
    work, workers = runs_of_a_study(len(runs)), worker_count(params.runtime.workers)
    with shown(work):
        cohorts = dict(in_workers(balance_cohort, seeds, workers, work.add))
    measured = {run: found for cohort in cohorts.values() for run, found in cohort.items()}
    for place, name in enumerate(BALANCE):
        runs[name] = [measured[run][place] for run in runs_in(runs)]
    write_table(router_study.kept(runs, BALANCE), router_study.ROUTERS_DIR / "runs.csv")
    print(f"{router_study.ROUTERS_DIR}: {len(runs):,} runs; make report and make docs show them")


def balance_cohort(seed: int, send: Callable[[int], None]) -> dict[Any, Any]:
    """MaxVio in a batch and over an epoch, for every run of a seed."""
    from moe.analysis.training_balance import training_balance
    from moe.data.dataset import DATA_DIR, Dataset
    from moe.model.weights import WEIGHTS_DIR, read_models
    from moe.study.params import PARAMS_FILE, read_params
    from moe.study.train_settings import with_settings

    data, params, found = Dataset(STUDY / DATA_DIR), read_params(STUDY / PARAMS_FILE), {}
    for run, model in read_models(seed, STUDY / WEIGHTS_DIR):
        train = with_settings(params.train, run.settings)
        last = train.epochs - 1
        found[run] = training_balance(model, data, seed, last, train.batch_size)
        send(1)
    return found


if __name__ == "__main__":
    collect()
