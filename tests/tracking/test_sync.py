"""A sync with a real SQLite store: what is there, that it is there once, and that it comes back."""

import hashlib
import re
import shutil
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import mlflow
import pandas as pd
import pytest

from moe.data.dataset import Dataset
from moe.engine import HISTORY
from moe.study.params import Params
from moe.study.runs import RUN_KEYS
from moe.tracking.experiments import names_of, open_experiments
from moe.tracking.notes import NOTE
from moe.tracking.records import best_trial, run_records, trial_records
from moe.tracking.store import client
from moe.tracking.study import Results, Study
from moe.tracking.study_run import open_study_run
from moe.tracking.sync import Counts, sync
from tests.tracking.conftest import ROOT, everything, models, run_ids, study_run


def test_what_is_there(here: Path, params: Params, study: tuple[Path, Results]) -> None:
    _, results = study
    assert sync(params, results) == Counts(trials=2, runs=6)
    dump = everything(params)
    levels = pd.Series([run["tags"]["level"] for run in dump]).value_counts()
    assert levels.to_dict() == {"study": 1, "trial": 2, "run": 6}
    assert {run["status"] for run in dump} == {"FINISHED"}
    assert not any("mlflow.parentRunId" in run["tags"] for run in dump)  # it would fold the rows
    by_name = {run["name"]: run for run in dump}
    for row in results.runs.to_dict("records"):
        run = by_name[f"logits ne={row['ne']:02d} k=1 lc=1 seed={row['seed']:02d}"]
        seed = str(row["seed"])
        expected = {"recipe": "logits", "ne": str(row["ne"]), "k": "1", "lc": "1", "seed": seed}
        assert run["params"] == expected
        assert run["tags"]["trial"] == f"logits ne={row['ne']:02d} k=1 lc=1"
        for name in set(row) - set(RUN_KEYS):
            metric = f"class/{name}" if name.startswith("accuracy_") else name
            assert run["metrics"][metric] == [(0, row[name], 0)]
        curve = results.history.merge(pd.DataFrame([row])[RUN_KEYS])
        for name in HISTORY:
            expected = list(zip(curve["epoch"], curve[name], [0, 0], strict=True))
            assert run["metrics"][f"epoch/{name}"] == expected
    for ne, of_trial in results.runs.groupby("ne"):
        trial = by_name[f"logits ne={ne:02d} k=1 lc=1"]
        values = {"recipe": "logits", "ne": str(ne), "k": "1", "lc": "1", "seeds": "3"}
        assert trial["params"] == values
        metrics = trial["metrics"]
        assert metrics["accuracy"][0][1] == pytest.approx(of_trial["accuracy"].mean(), abs=1e-6)
        # Three seeds: t(0.975, 2) = 4.303
        half = 4.3027 * of_trial["accuracy"].std() / 3**0.5
        low, high = (metrics[f"ci/accuracy_{end}"][0][1] for end in ("low", "high"))
        assert high - low == pytest.approx(2 * half, rel=1e-4)


def test_what_a_page_of_mlflow_shows_of_it(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    """Data set, source, user, description; and links that find what they name."""
    _, results = study
    sync(params, results)
    trials, runs, studies = experiment_ids(params)
    digests = [split_digest(results.data, split) for split in ("test", "train")]
    for run in everything(params):
        assert {split: digest for _, digest, split in run["inputs"]} == {
            "test": digests[0],
            "train": digests[1],
        }
        assert {name for name, _, _ in run["inputs"]} == {"mnist"}
        assert run["tags"]["mlflow.user"]
        assert (ROOT / run["tags"]["mlflow.source.name"]).exists()
    store = client()
    (trial, *_) = store.search_runs([trials], "params.ne = '2'")
    links = re.findall(r"#/experiments/(\d+)/runs\?([^)]*)", trial.data.tags[NOTE])
    found = [
        len(store.search_runs([experiment], parse_qs(words)["searchFilter"][0]))
        for experiment, words in links
    ]
    assert [experiment for experiment, _ in links] == [runs, studies]
    assert found == [3, 1]  # its seeds, its study
    note = study_run(params).data.tags[NOTE]
    best = results.runs.groupby("ne")["accuracy"].mean()
    assert f"**logits ne={best.idxmax():02d} k=1 lc=1**, {best.max():.2%}" in note
    for experiment in (trials, runs, studies):
        described = store.get_experiment(experiment).tags[NOTE]
        assert f"[{study_run(params).info.run_name}]" in described
        assert f"{best.max():.2%}" in described


def experiment_ids(params: Params) -> list[str]:
    found = map(client().get_experiment_by_name, names_of(params.track.experiment))
    return [experiment.experiment_id for experiment in found if experiment]


def split_digest(data: Dataset, split: str) -> str:
    """Of its two files without their headers of 16 and 8 bytes."""
    part = {"train": "train", "test": "t10k"}[split]
    assert data.folder is not None
    images = (data.folder / f"{part}-images-idx3-ubyte").read_bytes()[16:]
    labels = (data.folder / f"{part}-labels-idx1-ubyte").read_bytes()[8:]
    return hashlib.sha256(images + labels).hexdigest()[:8]


def test_the_trials_are_sorted_as_created(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    """MLflow's first page is: newest first."""
    sync(params, study[1])
    trials, runs, _ = experiment_ids(params)
    for experiment in (trials, runs):
        found = client().search_runs([experiment], order_by=["attributes.start_time DESC"])
        names = [run.info.run_name for run in found]
        assert names == sorted(names)


def test_intervals_stay_in_the_possible_range() -> None:
    keys = {"recipe": "blog", "ne": 8, "k": 2, "lc": 0.1}
    # Mean 0.75, s = 0.3535, t(0.975, 1) = 12.706: ± 3.18. Dead experts: mean 0.5, ± 6.35.
    table = pd.DataFrame(
        [
            {**keys, "seed": 0, "accuracy": 0.5, "dead_experts": 0},
            {**keys, "seed": 1, "accuracy": 1.0, "dead_experts": 1},
        ]
    )
    (record,) = trial_records(table)
    assert record.name == "blog ne=08 k=2 lc=0.1"
    assert record.metrics["ci/accuracy_low"] == 0
    assert record.metrics["ci/accuracy_high"] == 1
    assert record.metrics["ci/dead_experts_low"] == 0
    assert record.metrics["ci/dead_experts_high"] == pytest.approx(0.5 + 12.706 * 0.5, rel=1e-4)


def test_a_diverged_run_is_tagged_and_in_no_mean() -> None:
    keys = {"recipe": "blog", "ne": 8, "k": 2, "lc": 1.0}
    rows = [
        {**keys, "seed": 0, "accuracy": 0.9, "diverged": 0},
        {**keys, "seed": 1, "accuracy": 0.7, "diverged": 0},
        {**keys, "seed": 2, "accuracy": float("nan"), "diverged": 1},
        {**keys, "ne": 16, "seed": 0, "accuracy": 0.1, "diverged": 1},
    ]
    table = pd.DataFrame(rows)
    first, second = trial_records(table)
    assert first.metrics["accuracy"] == pytest.approx(0.8)
    assert first.params["seeds"] == "3"
    assert first.tags["diverged"] == second.tags["diverged"] == "true"
    assert "diverged" not in first.metrics
    history = pd.DataFrame([{**dict.fromkeys(HISTORY, 0.0), **row, "epoch": 1} for row in rows])
    tags = [record.tags.get("diverged") for record in run_records(table, history)]
    assert tags == [None, None, "true", "true"]
    assert best_trial(table)[0].ne == 8


def test_twice_adds_nothing(here: Path, params: Params, study: tuple[Path, Results]) -> None:
    sync(params, study[1])
    before = everything(params)
    ids, kept = run_ids(), models()[0].model_id
    tags = [client().get_experiment(each).tags for each in experiment_ids(params)]
    sync(params, study[1])
    assert everything(params) == before
    assert run_ids() == ids
    assert [model.model_id for model in models()] == [kept]
    assert [client().get_experiment(each).tags for each in experiment_ids(params)] == tags


def test_stopped_half_way_and_repeated_it_ends_the_same(
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    migrated: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync(params, study[1])
    undisturbed = everything(params)
    shutil.copyfile(migrated, here / "again.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/again.db")
    stop_after(4, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        sync(params, study[1])
    monkeypatch.undo()
    monkeypatch.chdir(here)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{here}/again.db")
    sync(params, study[1])
    assert everything(params) == undisturbed


def stop_after(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a sync die in the middle of its n-th run: created, but without its metrics."""
    log_batch, made = mlflow.MlflowClient.log_batch, []

    def dies(self: Any, *args: Any, **kwargs: Any) -> Any:
        made.append(1)
        if len(made) > calls:
            raise KeyboardInterrupt
        return log_batch(self, *args, **kwargs)

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", dies)


def test_other_results_replace_the_old(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    _, results = study
    sync(params, results)
    changed = results.runs.copy()
    changed.loc[0, "accuracy"] = 0.123
    sync(params, results._replace(runs=changed))
    dump = {run["name"]: run for run in everything(params)}
    assert len(dump) == 9
    assert dump["logits ne=01 k=1 lc=1 seed=00"]["metrics"]["accuracy"][0][1] == 0.123
    mean = changed["accuracy"].mean()
    assert study_run(params).data.metrics["mean_accuracy"] == pytest.approx(mean)
    assert mean < results.runs["accuracy"].mean()
    sync(params, results)  # and back: the same numbers at another time
    assert study_run(params).data.metrics["mean_accuracy"] > mean
    assert len(models()) == 1


def test_results_that_change_are_shown_though_the_clock_went_back(
    here: Path, params: Params, study: tuple[Path, Results], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, results = study
    sync(params, results)
    lower = results.runs.assign(accuracy=results.runs["accuracy"] - 0.1)
    monkeypatch.setattr("moe.tracking.study_run._milliseconds", lambda: 1_000)
    sync(params, results._replace(runs=lower))
    mean = lower["accuracy"].mean()
    assert study_run(params).data.metrics["mean_accuracy"] == pytest.approx(mean)


def test_lost_artifacts_come_back(here: Path, params: Params, study: tuple[Path, Results]) -> None:
    _, results = study
    figures = here / "figures"
    figures.mkdir()
    (figures / "a.svg").write_text("a figure")
    results = results._replace(artifacts=[*results.artifacts, figures])
    sync(params, results)
    before = {path.name for path in (here / "mlruns").rglob("*") if path.is_file()}
    assert {"runs.csv", "a.svg", "MLmodel", "weights.safetensors"} <= before
    shutil.rmtree(here / "mlruns")
    sync(params, results)
    after = {path.name for path in (here / "mlruns").rglob("*") if path.is_file()}
    assert after == before
    (only,) = (here / "mlruns").rglob("a.svg")
    only.write_text("half")
    sync(params, results)
    assert only.read_text() == "a figure"
    assert len(models()) == 1


def test_a_study_s_run_of_a_killed_training_is_finished(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    store = client()
    studies = open_experiments(store, params.track.experiment).studies
    run = open_study_run(store, studies, Study.of(params))
    assert run.info.status == "RUNNING"
    sync(params, study[1])
    assert study_run(params).info.run_id == run.info.run_id
    assert {each["status"] for each in everything(params)} == {"FINISHED"}


def test_doubles_of_two_checkouts_are_removed_by_the_next_sync(
    here: Path,
    params: Params,
    study: tuple[Path, Results],
    undisturbed: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two that see an empty server at once write everything twice."""
    sync(params, study[1])
    with monkeypatch.context() as patched:
        patched.setattr("moe.tracking.sync.search", lambda *args: [])
        patched.setattr("moe.tracking.study_run.search", lambda *args: [])
        sync(params, study[1])
    assert len(run_ids()) == 18
    sync(params, study[1])
    assert everything(params) == undisturbed
    assert len(models()) == 1


def test_two_at_once_leave_no_double(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    threads = [threading.Thread(target=sync, args=(params, study[1])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(everything(params)) == 9


def test_a_deleted_experiment_comes_back(
    here: Path, params: Params, study: tuple[Path, Results]
) -> None:
    sync(params, study[1])
    before = everything(params)
    for experiment in experiment_ids(params):
        client().delete_experiment(experiment)
    sync(params, study[1])
    assert [run["name"] for run in everything(params)] == [run["name"] for run in before]
