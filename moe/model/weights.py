"""The trained weights of a study on disk: one safetensors file a seed, a cohort.

A tensor is called `run/parameter`, such as `blog/ne=4/k=2/lc=1/seed=0/router.weight`, the
parameters as in `MoE`; `run/history` is what training recorded. Files of fixed size class, few and
large, suit DVC's cache better than one a run.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from moe.model.layer import MoE
from moe.recipes import recipe_named
from moe.study.runs import Run, Trial

WEIGHTS_DIR = Path("weights")
HISTORY_FILE = WEIGHTS_DIR / "history.csv"  # what training recorded of them, by epoch


def link_weights(cohorts: Mapping[int, Path], folder: Path = WEIGHTS_DIR) -> None:
    """Fill a folder with the file of each seed, as a hard link, or as a copy where there is none.

    What was there goes first: DVC's cache may have links to it, so it is never written into.
    Raises OSError where the disk does not take the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        path.unlink()
    for seed, cohort in cohorts.items():
        place = weights_file(seed, folder)
        try:
            os.link(cohort, place)
        except OSError:
            _copy(cohort, place)


def _copy(file: Path, place: Path) -> None:
    try:
        shutil.copyfile(file, place)
    except OSError as error:  # a full disk, among others
        raise OSError(f"{place}: cannot be written: {error.strerror or error}") from None


def weights_file(seed: int, folder: Path = WEIGHTS_DIR) -> Path:
    """Where a cohort's weights are."""
    return folder / f"seed-{seed:03d}.safetensors"


def read_models(
    seed: int, folder: Path = WEIGHTS_DIR, recipe: str | None = None
) -> Iterator[tuple[Run, MoE]]:
    """The trained models of a seed, in the order of their trials."""
    with safe_open(weights_file(seed, folder), "pt") as file:
        names: dict[Trial, list[str]] = {}
        for key in file.keys():  # noqa: SIM118, not a mapping
            run, _, name = key.rpartition("/")
            if name != "history":
                names.setdefault(Trial.parse(run.rpartition("/")[0]), []).append(name)
        for trial in sorted(names):
            if recipe in (None, trial.recipe):
                run = trial.run(seed)
                state = {name: file.get_tensor(f"{run}/{name}") for name in names[trial]}
                yield run, model_of(trial, state)


def model_of(trial: Trial, state: Mapping[str, Tensor]) -> MoE:
    """A `MoE` with trained weights."""
    _, in_features, hidden = state["experts.w1"].shape
    out_features = state["experts.b2"].shape[1]
    knob = None if recipe_named(trial.recipe).knob is None else trial.lc
    sizes = (in_features, hidden, out_features, trial.ne, trial.k)
    model = MoE(*sizes, trial.recipe, seed=0, knob=knob)
    model.load_state_dict(dict(state))
    return model.eval()
