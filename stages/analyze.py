"""analyze: who gets what, by run; the joined table runs.csv; pictures of the seed-0 experts.

results/history.csv       a row per run and epoch: what training recorded, as it stands in weights/
results/slots.csv         a row per run and expert: test images of each digit that choose it
results/coactivation.csv  a row per run and pair of experts: test images that choose both
results/runs.csv          a row per run: everything that is one number
results/accuracy_over_ne.csv  for `dvc plots`: mean accuracy at k = 2 (1 at ne = 1), lc = 1
results/digits.csv        a row per seed-0 run and pictured digit: its gates
results/pictures/         a PNG per seed-0 trial, its experts from left to right: above, the router
                          weights, grey 128 being 0; below, the mean image that the expert receives;
                          digits.png: the pictured digits
reports/metrics.json      the study's headline numbers, a DVC metric
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
    from moe.data.dataset import CLASSES, Dataset
    from moe.model.weights import HISTORY_FILE
    from moe.study.grid import runs_of
    from moe.study.params import read_params
    from moe.study.runs import RUN_KEYS
    from moe.study.tables import RESULTS_DIR, read_table, write_table
    from moe.study.workers import in_workers, worker_count
    from stages.progress import runs_of_a_study, shown

    params = read_params()
    runs = runs_of(params.sweeps)
    seeds = sorted({run.seed for run in runs})
    analyze_seed = partial(analyze_cohort, null_tables=params.analyze.null_tables)
    work, workers = runs_of_a_study(len(runs)), worker_count(params.runtime.workers)
    with shown(work):
        cohorts = dict(in_workers(analyze_seed, seeds, workers, work.add))
    by_run = dict(sorted(itertools.chain(*(cohort.items() for cohort in cohorts.values()))))
    columns = {
        "slots": ("expert", *(f"digit_{digit}" for digit in range(CLASSES))),
        "coactivation": ("expert", "other", "images"),
    }
    for name, own in columns.items():
        rows = itertools.chain(*(result[name] for result in by_run.values()))
        # Columns are written even if there is no row: at k = 1 no two experts share an image.
        write_table(pd.DataFrame(rows, columns=[*RUN_KEYS, *own]), RESULTS_DIR / f"{name}.csv")

    evaluation, history = read_table(RESULTS_DIR / "evaluation.csv"), read_table(HISTORY_FILE)
    shutil.copyfile(HISTORY_FILE, RESULTS_DIR / HISTORY_FILE.name)
    measures = pd.DataFrame([run._asdict() | r["measures"] for run, r in by_run.items()])
    joined = evaluation.merge(_of_training(history), on=RUN_KEYS).merge(measures, on=RUN_KEYS)
    write_table(joined, RESULTS_DIR / "runs.csv")
    write_table(accuracy_over_ne(joined), RESULTS_DIR / "accuracy_over_ne.csv")
    METRICS_FILE.write_text(json.dumps(headline(joined), indent=2) + "\n")

    digits = pictures.draw_digits(Dataset(), params.analyze.pictured_digits)
    write_table(pictures.gates_of(digits), RESULTS_DIR / "digits.csv")


def analyze_cohort(
    seed: int, send: Callable[[int], None], null_tables: int
) -> dict[Any, dict[str, Any]]:
    """For every run of a seed: its rows of slots.csv and coactivation.csv, its measures.

    Also draws the experts, for the one seed that has pictures.
    """
    import numpy as np

    from moe.analysis import expert_images as pictures
    from moe.analysis import routing_metrics as routing
    from moe.data.batches import pixels
    from moe.data.dataset import Dataset
    from moe.model.weights import read_models

    data = Dataset()
    x, labels = pixels(data.test_x), data.test_y.numpy()
    grey = data.test_x.numpy().astype(np.float32)
    cohort = {}
    for run, model in read_models(seed):
        routed = routing.route(model, x)
        if seed == pictures.SEED:
            pictures.draw_experts(run, model, routed, grey)
        slots = routing.slot_counts(routed, labels)
        together = routing.coactivation(routed)
        rng = np.random.default_rng((seed, run.ne, run.k))
        cohort[run] = {
            "slots": [
                {
                    **run._asdict(),
                    "expert": expert,
                    **{f"digit_{digit}": n for digit, n in enumerate(counts)},
                }
                for expert, counts in enumerate(slots.tolist())
            ],
            "coactivation": [
                {**run._asdict(), "expert": a, "other": b, "images": int(together[a, b])}
                for a in range(run.ne)
                for b in range(a + 1, run.ne)
                if run.k > 1
            ],
            "measures": {
                "gate_entropy": routing.gate_entropy(routed),
                "max_violation": routing.max_violation(slots),
                "dead_experts": routing.dead_experts(slots),
                "nmi": float(routing.normalised_mutual_information(slots)),
                "nmi_null": routing.nmi_null(slots, null_tables, rng),
                "experts_per_class": routing.experts_per_class(slots),
                "classes_per_expert": routing.classes_per_expert(slots),
            },
        }
        send(1)
    return cohort


def _of_training(history: Any) -> Any:
    """A row per run: accuracy and dropped slots of its last epoch, gradients of all."""
    from moe.study.runs import RUN_KEYS

    by_run = history.sort_values("epoch").groupby(RUN_KEYS)
    return by_run.agg(
        train_accuracy=("train_accuracy", "last"),
        dropped=("dropped", "last"),
        router_grad_norm=("router_grad_norm", "mean"),
        router_grad_norm_max=("router_grad_norm_max", "max"),
    ).reset_index()


def accuracy_over_ne(runs: Any) -> Any:
    """A row per ne, a column per recipe."""
    of_curve = runs[(runs["lc"] == 1) & (runs["k"] == runs["ne"].clip(upper=2))]
    return of_curve.pivot_table("accuracy", "ne", "recipe").reset_index()


def headline(runs: Any) -> dict[str, Any]:
    """Runs, mean and best accuracy of each recipe, and its base accuracy, ne = 1.

    best: of a trial's mean over seeds. Recipes without ne = 1 have no base.
    """
    from moe.study.runs import TRIAL_KEYS, Trial

    metrics: dict[str, Any] = {"runs": len(runs), "trials": 0, "recipes": {}}
    for recipe, of_recipe in runs.groupby("recipe"):
        trials = of_recipe.groupby(TRIAL_KEYS)["accuracy"].mean()
        base = of_recipe.loc[of_recipe["ne"] == 1, "accuracy"]
        metrics["trials"] += len(trials)
        metrics["recipes"][recipe] = {
            "runs": len(of_recipe),
            "mean_accuracy": round(of_recipe["accuracy"].mean(), 5),
            "best_accuracy": round(trials.max(), 5),
            "best_trial": str(Trial(*trials.idxmax())),
            **({"base_accuracy": round(base.mean(), 5)} if len(base) else {}),
        }
    return metrics


if __name__ == "__main__":
    analyze()
