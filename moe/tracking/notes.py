"""The descriptions that MLflow shows of experiments, runs and models, in Markdown."""

from collections.abc import Mapping

import pandas as pd
from mlflow.tracking import MlflowClient

from moe.data.sets import dataset_named
from moe.statistics import mean_with_interval
from moe.study.runs import Trial
from moe.study.tables import runs_in
from moe.tracking.experiments import Experiments, search, set_experiment_tags
from moe.tracking.records import Record, best_trial, sound, trial_name
from moe.tracking.study import Study
from moe.tracking.views import in_study, link, trials_link, view_tags

NOTE = "mlflow.note.content"


def trial_note(record: Record, experiments: Experiments, study: Study) -> str:
    """The description of a trial."""
    of_study = in_study(study.short)
    runs = link(experiments.runs, f"{of_study} and tags.trial = '{record.trial}'")
    return (
        f"Means over {record.params['seeds']} seeds on {dataset_named(study.dataset).title}; 95 % "
        f"intervals under `ci/`. [Its runs]({runs}) · [its study]"
        f"({link(experiments.studies, of_study)})"
    )


def study_note(experiments: Experiments, study: Study, runs: pd.DataFrame, run_id: str) -> str:
    """The description of a study's run."""
    trial, _ = best_trial(runs)
    files = f"#/experiments/{experiments.studies}/runs/{run_id}/artifacts"
    links = (
        f"[report]({files}/index.html) · [trials]({trials_link(experiments, study.short)}) · "
        f"[runs]({link(experiments.runs, in_study(study.short))})"
    )
    return (
        f"{len(runs):,} runs on {dataset_named(study.dataset).title}: "
        f"{', '.join(dict.fromkeys(runs['recipe']))}.\n\n"
        f"Best trial: **{trial_name(trial)}**, {_accuracy(of_trial(runs, trial))}.\n\n{links}"
    )


def model_note(trial: Trial, runs: pd.DataFrame, study: Study) -> str:
    """The description of a model and its version. runs: the runs of its trial."""
    first = runs.loc[runs["seed"].idxmin()]
    return (
        f"`{trial_name(trial)}`, seed {first['seed']}: {first['accuracy']:.2%} of the test images "
        f"of {dataset_named(study.dataset).title}. Its trial has the highest mean of study "
        f"{study.short}: {_accuracy(runs)}."
    )


def champion_note(name: str, tags: Mapping[str, str], dataset: str) -> str:
    """The description of the registered model. tags: the champion version's."""
    info = dataset_named(dataset)
    classes = len(info.class_names)
    height, width = info.image_shape or (1, 0)
    pixels = f": the pixels of {height} × {width} images, row by row, in [0, 1]" if width else ""
    return f"""Mixture-of-experts classifiers of {info.title}. A version for each study; the alias \
`champion` is on the one with the highest mean accuracy on the test set, now \
`{tags.get("trial")}` with {float(tags.get("accuracy", "nan")):.2%}.

**Input**: float32, shape (N, {height * width or "D"}){pixels}. An image of another shape is to be \
flattened first. **Output**: (N, {classes}), probabilities of the {info.items}.

```python
model = mlflow.pyfunc.load_model("models:/{name}@champion")
probabilities = model.predict(images)
```

**Limits**: trained to study routers, not for use. Selected on the test set, so its accuracy is \
slightly optimistic.
"""


def of_trial(runs: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    """The rows of a trial, without diverged runs."""
    return sound(runs[[run.trial == trial for run in runs_in(runs)]])


def _accuracy(runs: pd.DataFrame) -> str:
    mean, low, high = map(float, mean_with_interval(runs["accuracy"].to_numpy(float)))
    if len(runs) == 1:
        return f"{mean:.2%} (one seed)"
    return f"{mean:.2%} [{low:.2%}, {high:.2%}] over {len(runs)} seeds"


def describe(
    store: MlflowClient, experiments: Experiments, study: Study, when: int, runs: pd.DataFrame
) -> None:
    """Update the descriptions of the experiments, and the views."""
    rows = [
        f"| [{run.info.run_name}](#/experiments/{experiments.studies}/runs/{run.info.run_id}) "
        f"| [trials]({trials_link(experiments, run.data.tags['study'])}) "
        f"| [runs]({link(experiments.runs, in_study(run.data.tags['study']))}) "
        f"| {run.data.metrics.get('best_accuracy', float('nan')):.2%} |"
        for run in search(store, experiments.studies, "")
    ]
    studies = "\n".join(["| study | | | best mean accuracy |", "| --- | --- | --- | --- |", *rows])
    first = {
        experiments.trials: "A row for each trial (recipe, ne, k, lc): means over its seeds. "
        'Charts ready to open: the menu "Views".',
        experiments.runs: "A row for each run: a trial with one seed, with its curves by epoch.",
        experiments.studies: "A row for each study: its report, tables and best model.",
    }
    for experiment, line in first.items():
        set_experiment_tags(store, experiment, {NOTE: f"{line}\n\n{studies}"})
    tags = view_tags(study.short, study.dataset, when, runs)
    set_experiment_tags(store, experiments.trials, tags)
