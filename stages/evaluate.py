"""evaluate: evaluates every run; writes results/evaluation.csv and results/confusion.csv."""

from collections.abc import Callable
from typing import Any

from stages.command import stage


@stage
def evaluate() -> None:
    """Measure losses, accuracies and confusions of every run on the test set."""
    import itertools

    from moe.study.grid import runs_of
    from moe.study.params import read_params
    from moe.study.progress import runs_of_a_study, shown
    from moe.study.tables import RESULTS_DIR, write_table
    from moe.study.workers import in_workers, worker_count

    params = read_params()
    wanted = runs_of(params.sweeps)
    seeds = sorted({run.seed for run in wanted})
    work, workers = runs_of_a_study(len(wanted)), worker_count(params.runtime.workers)
    with shown(work):
        done = dict(in_workers(evaluate_cohort, seeds, workers, work.add))
    runs = sorted(itertools.chain(*done.values()), key=lambda pair: pair[0])
    write_table((row for _, row, _ in runs), RESULTS_DIR / "evaluation.csv")
    write_table(itertools.chain(*(rows for _, _, rows in runs)), RESULTS_DIR / "confusion.csv")


Rows = dict[str, Any]


def evaluate_cohort(seed: int, send: Callable[[int], None]) -> list[tuple[tuple, Rows, list[Rows]]]:
    """For every run of a seed: the run, its row of evaluation.csv, its rows of confusion.csv."""
    from moe.analysis.evaluation import evaluate as evaluate_model
    from moe.analysis.run_row import of_evaluation
    from moe.data.batches import numbers
    from moe.data.dataset import Dataset
    from moe.model.weights import read_models

    data = Dataset()
    x, y = numbers(data.test_x), data.test_y.long()
    cohort = []
    for run, model in read_models(seed):
        result = evaluate_model(model, x, y)
        row = {**run.columns, **of_evaluation(result)}
        counts = [
            {
                **run.columns,
                "digit": digit,
                **{f"predicted_{c}": n for c, n in enumerate(predicted)},
            }
            for digit, predicted in enumerate(result.confusion.tolist())
        ]
        cohort.append((run, row, counts))
        send(1)
    return cohort


if __name__ == "__main__":
    evaluate()
