"""Random tables of the comparison of routers, and of a study with swept settings: figures and
sentences are tested on them before any run exists."""

from pathlib import Path

import numpy as np
import pandas as pd

from moe.analysis.results import Tables
from moe.analysis.router_study import RouterStudy, choose, main_comparison, second_phase_file
from moe.study.grid import runs_of
from moe.study.params import read_params

ROOT = Path(__file__).parent.parent
FIRST = ROOT / "studies/routers-select.yaml"


def measured(runs: list, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of runs: each recipe has a mean accuracy and balance, each seed random deviations."""
    rows = []
    for run in runs:
        level = sum(map(ord, run.recipe)) % 7
        luck = np.random.default_rng(run.seed).normal()
        uneven = abs(rng.normal(level / 3, 0.1)) / (1 + 5 * run.lc)
        rows.append(
            {
                **run.columns,
                "accuracy": round(0.93 + level / 300 + luck / 1000 + rng.normal() / 2000, 4),
                "network_loss": 0.2,
                "train_accuracy": 0.95,
                "dropped": 0.0,
                "router_grad_norm": 0.01 * level,
                "experts_per_image": float(run.k),
                "gate_entropy": 0.3,
                "max_violation": uneven,
                "dead_experts": int(uneven > 1),
                "nmi": 0.3,
                "diverged": 0,
                "max_violation_batch": uneven + 0.2,
                "max_violation_epoch": uneven / 2,
            }
        )
    return pd.DataFrame(rows)


def router_study(folder: Path) -> RouterStudy:
    """folder: where params may be written."""
    rng = np.random.default_rng(0)
    select = measured(list(runs_of(read_params(FIRST).sweeps)), rng)
    chosen = choose(select)
    second = folder / "routers.yaml"
    second.write_text(second_phase_file(chosen, read_params(FIRST)), encoding="utf-8")
    runs = measured(list(runs_of(read_params(second).sweeps)), rng)
    drop = ["diverged", "max_violation_batch", "max_violation_epoch"]
    runs = runs.drop(columns="diverged")
    main = main_comparison(runs, chosen)
    return RouterStudy(select.drop(columns=drop), chosen, runs, main, [])


def with_swept_settings(tables: Tables) -> Tables:
    """As if the study had three learning rates and two capacities."""
    others, rng = [], np.random.default_rng(0)
    for rate in (0.0003, 0.001, 0.003):
        for factor in (1.25, np.inf):
            settings = (("learning_rate", rate), ("capacity_factor", factor))
            accuracy = tables.runs["accuracy"] + rng.normal(rate, 0.001, len(tables.runs))
            runs = tables.runs.assign(accuracy=accuracy)
            others.append(tables._replace(runs=runs, settings=settings))
    return others[0]._replace(others=others[1:])
