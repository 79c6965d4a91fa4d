"""analyze: routing of every run; the joined table runs.csv; pictures of the first seed's experts.

results/history.csv       a row per run and epoch: measures during training, copied from weights/
results/slots.csv         a row per run and expert: test images of each digit that choose it
results/coactivation.csv  a row per run and pair of experts: test images that choose both
results/runs.csv          a row per run: all scalar measures; diverged: 1 if a loss or a weight is
                          not finite
results/plots/            a table for each plot of `dvc plots`
results/digits.csv        a row per run of the first seed and pictured digit: its gates
results/pictures/         a PNG per trial of the first seed, its experts from left to right: above,
                          the router weights, with grey 128 for 0; below, the mean image that the
                          expert receives; digits.png: the pictured digits
reports/metrics.json      the study's headline numbers, for `dvc metrics` and `dvc exp show`
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.command import stage

METRICS_FILE = Path("reports/metrics.json")


@stage
def analyze() -> None:
    """Measure how every run routes the test images, and draw the experts."""
    import itertools
    import shutil
    from functools import partial

    import pandas as pd

    from moe.analysis import expert_images as pictures
    from moe.analysis.dvc_metrics import headline, write_plots
    from moe.analysis.results import at_settings, usual_settings
    from moe.analysis.run_row import of_training
    from moe.data.dataset import Dataset
    from moe.engine.divergence import split, without
    from moe.model.weights import HISTORY_FILE
    from moe.study.grid import runs_of
    from moe.study.params import read_params
    from moe.study.progress import runs_of_a_study, shown
    from moe.study.schema import check_columns
    from moe.study.tables import PICTURES_DIR, RESULTS_DIR, joined, read_table, write_table
    from moe.study.workers import in_workers, worker_count

    params = read_params()
    runs = runs_of(params.sweeps)
    seeds = sorted({run.seed for run in runs})
    analyze_seed = partial(
        analyze_cohort, null_tables=params.analyze.null_tables, pictured=seeds[0]
    )
    data = Dataset()
    work, workers = runs_of_a_study(len(runs)), worker_count(params.runtime.workers)
    with shown(work):
        cohorts = dict(in_workers(analyze_seed, seeds, workers, work.add))
    by_run = dict(sorted(itertools.chain(*(cohort.items() for cohort in cohorts.values()))))
    columns = {
        "slots": ("expert", *(f"digit_{digit}" for digit in range(data.classes))),
        "coactivation": ("expert", "other", "images"),
    }
    for name, own in columns.items():
        rows = itertools.chain(*(result[name] for result in by_run.values()))
        # Write the columns even if there are no rows: at k = 1, no two experts share an image.
        write_table(
            pd.DataFrame(rows, columns=[*runs[0].columns, *own]), RESULTS_DIR / f"{name}.csv"
        )

    evaluation, history = read_table(RESULTS_DIR / "evaluation.csv"), read_table(HISTORY_FILE)
    shutil.copyfile(HISTORY_FILE, RESULTS_DIR / HISTORY_FILE.name)
    measures = pd.DataFrame([run.columns | r["measures"] for run, r in by_run.items()])
    table = joined(joined(evaluation, of_training(history)), measures)
    write_table(table, RESULTS_DIR / "runs.csv")
    finite, left_out = split(table)
    confusion = read_table(RESULTS_DIR / "confusion.csv")
    settings = usual_settings(table, params.train)
    plotted = (finite, without(history, left_out), without(confusion, left_out))
    write_plots(*(at_settings(each, settings) for each in plotted), RESULTS_DIR / "plots")
    metrics = headline(finite, settings)
    check_columns(METRICS_FILE, metrics)
    METRICS_FILE.write_text(json.dumps(metrics, indent=2) + "\n")

    digits = pictures.draw_digits(data, params.analyze.pictured_digits)
    if not data.image_shape:  # DVC warns of an output folder that is empty
        (PICTURES_DIR / "README.md").write_text("The samples of this data set are no images.\n")
    write_table(pictures.gates_of(digits, seeds[0]), RESULTS_DIR / "digits.csv")


def analyze_cohort(
    seed: int, send: Callable[[int], None], null_tables: int, pictured: int
) -> dict[Any, dict[str, Any]]:
    """For every run of a seed: its rows of slots.csv and coactivation.csv, and its measures.

    Also draws the experts, if the seed is the one with pictures.
    """
    import numpy as np

    from moe.analysis import expert_images as pictures
    from moe.analysis import routing_metrics as routing
    from moe.analysis.run_row import of_routing
    from moe.data.batches import numbers
    from moe.data.dataset import Dataset
    from moe.model.weights import read_models

    data = Dataset()
    x, labels = numbers(data.test_x), data.test_y.numpy().astype(int)
    grey, shape = data.test_x.numpy().astype(np.float32), data.image_shape
    losses = _losses(seed)
    cohort = {}
    for run, model in read_models(seed):
        routed = routing.route(model, x)
        if seed == pictured and shape:
            pictures.draw_experts(run, model, routed, grey, shape)
        slots = routing.slot_counts(routed, labels, data.classes)
        together = routing.coactivation(routed)
        cohort[run] = {
            "slots": [
                {
                    **run.columns,
                    "expert": expert,
                    **{f"digit_{digit}": n for digit, n in enumerate(counts)},
                }
                for expert, counts in enumerate(slots.tolist())
            ],
            "coactivation": [
                {**run.columns, "expert": a, "other": b, "images": int(together[a, b])}
                for a in range(run.ne)
                for b in range(a + 1, run.ne)
                if run.k > 1
            ],
            "measures": of_routing(
                run, model, routed, labels, data.classes, null_tables, losses[run]
            ),
        }
        send(1)
    return cohort


def _losses(seed: int) -> dict[Any, list[float]]:
    """The losses of every run of a seed, after each epoch and on the test set."""
    import pandas as pd

    from moe.engine.divergence import LOSSES
    from moe.model.weights import HISTORY_FILE
    from moe.study.tables import RESULTS_DIR, read_table, runs_in

    tables = [read_table(path) for path in (HISTORY_FILE, RESULTS_DIR / "evaluation.csv")]
    of_seed = pd.concat([table[table["seed"] == seed] for table in tables], ignore_index=True)
    losses: dict[Any, list[float]] = {}
    for run, row in zip(runs_in(of_seed), of_seed[list(LOSSES)].to_numpy().tolist(), strict=True):
        losses.setdefault(run, []).extend(row)
    return losses


if __name__ == "__main__":
    analyze()
