"""Saved views of a study's trials, opened by links or from the menu "Views".

MLflow 3.17 stores a saved view as an experiment tag, mlflow.sharedViewState.KEY: its name, times,
and the page's columns, filter, order and charts, as JSON.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import pandas as pd

from moe.study.tables import swept
from moe.tracking.experiments import Experiments
from moe.tracking.records import as_params, best_trial

TAG = "mlflow.sharedViewState."
COLUMNS = [
    *(f"params.`{name}`" for name in ("recipe", "ne", "k", "lc", "seeds")),
    *(f"metrics.`{name}`" for name in ("accuracy", "max_violation")),
]
OTHER_SECTIONS = ("Model metrics", "class", "ci")
BEST_FIRST = {"orderByKey": "metrics.`accuracy`", "orderByAsc": False}
NE = {"key": "ne", "type": "PARAM"}
K = {"key": "k", "type": "PARAM"}
LC = {"key": "lc", "type": "PARAM"}
ACCURACY = {"key": "accuracy", "type": "METRIC"}
GATE_LOSS = {"key": "gate_loss", "type": "METRIC"}
MAX_VIOLATION = {"key": "max_violation", "type": "METRIC"}
NMI = {"key": "nmi", "type": "METRIC"}


class View(NamedTuple):
    """A page of trials. where: a filter in addition to the study's; without charts, a table."""

    key: str
    title: str
    where: Mapping[str, str]
    charts: tuple[dict[str, Any], ...] = ()


def views_of(runs: pd.DataFrame) -> Iterator[View]:
    """The views of a study's trials, for the recipe with the best trial.

    Charts show at most 100 trials, so each view filters. The colour of a point shows k.
    """
    yield View("trials", "trials, the best first", {})
    recipe = best_trial(runs)[0].recipe
    of_recipe = runs[runs["recipe"] == recipe]
    lc = of_recipe.drop_duplicates(["ne", "k", "lc"])["lc"].mode().min()
    at_lc = as_params({"recipe": recipe, "lc": float(lc)})
    over = (_scatter(NE, ACCURACY), _contour(NE, K, ACCURACY), _parallel(NE, K, ACCURACY))
    yield View("accuracy-over-ne", f"accuracy over ne by k, {recipe}", at_lc, over)
    k = int(of_recipe.groupby("k")["lc"].nunique().idxmax())
    at_k = as_params({"recipe": recipe, "k": k})
    over = (_scatter(LC, ACCURACY), _scatter(LC, GATE_LOSS), _parallel(LC, NE, ACCURACY))
    yield View("accuracy-over-lc", f"accuracy over lc, {recipe}", at_k, over)
    over = (_scatter(MAX_VIOLATION, ACCURACY), _scatter(NMI, ACCURACY))
    yield View("balance", f"balance against accuracy, {recipe}", {"recipe": recipe}, over)


def view_tags(study: str, dataset: str, when: int, runs: pd.DataFrame) -> dict[str, str]:
    """The experiment tags of a study's views. when: a fixed time, in milliseconds."""
    return {
        f"{TAG}{study}-{view.key}": json.dumps(
            {
                "name": f"{dataset} {study}: {view.title}",
                "createdAt": when,
                "updatedAt": when,
                "state": json.dumps(_state(study, view, swept(runs)), separators=(",", ":")),
            }
        )
        for view in views_of(runs)
    }


def _state(study: str, view: View, settings: Sequence[str]) -> dict[str, Any]:
    """The page's state, where it differs from MLflow's defaults. settings: those swept."""
    conditions = [in_study(study)]
    conditions += [f"params.{name} = '{value}'" for name, value in view.where.items()]
    table = {
        "searchFilter": " and ".join(conditions),
        **BEST_FIRST,
        "selectedColumns": [*COLUMNS, *(f"params.`{name}`" for name in settings)],
        "columnOrder": [],
        "runsHiddenMode": "SHOW_ALL",
    }
    if not view.charts:
        return table
    section = {"uuid": view.key, "name": view.title, "display": True, "columns": 2}
    # MLflow adds a chart for every metric, in sections with these names: collapse them.
    others = [{"uuid": name, "name": name, "display": False} for name in OTHER_SECTIONS]
    sections = [{**each, "isReordered": True} for each in (section, *others)]
    cards = [
        {**chart, "uuid": f"{view.key}-{i}", "metricSectionId": view.key}
        for i, chart in enumerate(view.charts)
    ]
    return {**table, "compareRunSections": sections, "compareRunCharts": cards}


def _chart(kind: str, **options: Any) -> dict[str, Any]:
    return {"type": kind, "deleted": False, "isGenerated": False, **options}


def _scatter(x: dict, y: dict) -> dict[str, Any]:
    return _chart("SCATTER", xaxis=x, yaxis=y, runsCountToCompare=100)


def _contour(x: dict, y: dict, z: dict) -> dict[str, Any]:
    return _chart("CONTOUR", xaxis=x, yaxis=y, zaxis=z, runsCountToCompare=100)


def _parallel(x: dict, y: dict, z: dict) -> dict[str, Any]:
    params, metrics = [x["key"], y["key"]], [z["key"]]
    return _chart("PARALLEL", selectedParams=params, selectedMetrics=metrics, showAllRuns=True)


# --- links


def in_study(study: str) -> str:
    """A filter for the study's runs."""
    return f"tags.study = '{study}'"


def link(experiment: str, query: str = "", **options: str) -> str:
    """A link to an experiment's runs that match a filter, in MLflow's model-training view."""
    words = {"workflowType": "machine_learning", "searchFilter": query, **options}
    return f"#/experiments/{experiment}/runs?{urlencode(words, quote_via=quote)}"


def view_links(trials: str, study: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Links to a study's views by title, from the tags of the experiment of trials."""
    links = {}
    for name, value in tags.items():
        if name.startswith(f"{TAG}{study}-"):
            view = json.loads(value)
            mode = "CHART" if "compareRunCharts" in view["state"] else "TABLE"
            # A searchFilter in the link, even an empty one, overrides the view.
            words = {
                "workflowType": "machine_learning",
                "viewStateShareKey": name.removeprefix(TAG),
                "compareRunsMode": mode,
            }
            links[view["name"]] = f"#/experiments/{trials}/runs?{urlencode(words)}"
    return links


def trials_link(experiments: Experiments, study: str) -> str:
    """A link to a study's trials, the best first."""
    return link(
        experiments.trials,
        in_study(study),
        orderByKey=BEST_FIRST["orderByKey"],
        orderByAsc="false",
    )
