"""Links to the MLflow pages that a user opens first."""

from moe.study.params import read_params
from moe.tracking.experiments import names_of, search
from moe.tracking.store import client
from moe.tracking.study import Study
from moe.tracking.views import view_links


def links() -> dict[str, str]:
    """The views of this folder's study, or of the newest study, by title; {} if there is none."""
    params, store = read_params(), client()
    trials, _, studies = map(store.get_experiment_by_name, names_of(params.track.experiment))
    if trials is None or studies is None:
        return {}
    runs = search(store, studies.experiment_id, "")
    known = {run.data.tags["study"]: run.info.start_time for run in runs}
    if not known:
        return {}
    own = Study.of(params).short
    study = own if own in known else max(known, key=lambda short: known[short])
    return view_links(trials.experiment_id, study, trials.tags)
