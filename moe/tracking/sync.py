"""Sync a study's results to MLflow; idempotent.

Each trial and run has a digest of its content. A sync keeps finished records whose digest matches
and writes those that are missing, incomplete or stale. A second sync adds nothing; after a lost
database, a sync writes everything again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from filelock import FileLock
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from moe.study.grid import study_digest
from moe.study.params import Params
from moe.tracking.champion import keep_champion
from moe.tracking.experiments import (
    Experiments,
    age,
    delete_nested_runs,
    killed_if_interrupted,
    open_experiments,
    search,
)
from moe.tracking.notes import describe, trial_note
from moe.tracking.origin import dataset_inputs, origin_tags
from moe.tracking.records import Record, color, run_records, trial_records
from moe.tracking.store import LOCKS, client, command, failures_as_one_line
from moe.tracking.study import Results, Study
from moe.tracking.study_run import finish_study_run, open_study_run

BATCH = 1_000  # MLflow's limit on the metrics of one call


class Counts(NamedTuple):
    """How many trials and runs MLflow has of the study."""

    trials: int
    runs: int


def sync(params: Params, results: Results) -> Counts:
    """Write the results to MLflow. Only one sync runs at a time in a checkout and its copies.

    Raises TrackingError, in one line, if MLflow fails; the results are not affected.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    later = f"the results are complete; run `{command()}` when MLflow can be used"
    with failures_as_one_line(later), FileLock(LOCKS / "track.lock"):
        store, name = client(), params.track.experiment
        experiments = open_experiments(store, name)
        trials = list(trial_records(results.runs))
        runs = list(run_records(results.runs, results.history))
        study = Study.of(params)
        study_run = open_study_run(store, experiments.studies, study)
        run_id = study_run.info.run_id
        with killed_if_interrupted(store, run_id):
            writer = _Writer(store, experiments, study, results, study_run.info.start_time)
            writer.update(experiments.trials, trials)
            writer.update(experiments.runs, runs)
            finish_study_run(store, study_run, experiments, study, results)
            keep_champion(store, study_run, study, results.runs, name)
        delete_nested_runs(store, name, study_digest(params))
        describe(store, experiments, study, study_run.info.start_time, results.runs)
    return Counts(len(trials), len(runs))


class _Writer:
    """Writes a study's records. when: the timestamp of all of them, in milliseconds."""

    def __init__(
        self,
        store: MlflowClient,
        experiments: Experiments,
        study: Study,
        results: Results,
        when: int,
    ) -> None:
        self.store, self.experiments, self.study, self.when = store, experiments, study, when
        self.tags = {**study.tags, **origin_tags("stages/train.py")}
        self.inputs = dataset_inputs(study.params.data.dataset, results.data)

    def update(self, experiment: str, records: Sequence[Record]) -> None:
        """Write missing records, and delete those that are not in the study (any more)."""
        present: dict[str, list[Any]] = {}
        for run in search(self.store, experiment, f"tags.study = '{self.study.short}'"):
            present.setdefault(run.info.run_name, []).append(run)
        for place, record in enumerate(records):
            good = [run for run in present.get(record.name, []) if _is_good(run, record)]
            if good:
                present[record.name].remove(min(good, key=age))
            else:
                self._write(experiment, record, place)
        for leftovers in present.values():
            for run in leftovers:
                self.store.delete_run(run.info.run_id)

    def _write(self, experiment: str, record: Record, place: int) -> None:
        """place: index in the list of records. MLflow sorts its first page by start time."""
        tags = {**self.tags, **record.tags}
        if record.level == "trial":
            tags["mlflow.runColor"] = color(record)
            tags["mlflow.note.content"] = trial_note(record, self.experiments, self.study)
        start = self.when - place
        run_id = self.store.create_run(experiment, start, tags, record.name).info.run_id
        metrics = [Metric(name, value, self.when, 0) for name, value in record.metrics.items()]
        metrics += [Metric(name, value, self.when, step) for name, step, value in record.curves]
        params = [Param(name, value) for name, value in record.params.items()]
        with killed_if_interrupted(self.store, run_id):
            self.store.log_inputs(run_id, self.inputs)
            # No end time: when a run was trained, and for how long, is not recorded.
            self.store.update_run(run_id, "FINISHED")
            for first in range(BATCH, len(metrics), BATCH):
                self.store.log_batch(run_id, metrics[first : first + BATCH])
            # log_batch writes tags last: a record without its digest is incomplete.
            content = [RunTag("content", record.content)]
            self.store.log_batch(run_id, metrics[:BATCH], params, content)


def _is_good(run: Any, record: Record) -> bool:
    return run.info.status == "FINISHED" and run.data.tags.get("content") == record.content
