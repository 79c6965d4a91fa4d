"""The trained weights of a study on disk: one safetensors file a seed, a cohort.

A tensor is called `trial/parameter`, such as `blog/ne=4/k=2/lc=1/router.weight`, the parameters as
in `MoE`. Files of fixed size class, few and large, suit DVC's cache better than one a run.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from moe.model.layer import MoE
from moe.study.runs import Run, Trial

WEIGHTS_DIR = Path("weights")
HISTORY_FILE = WEIGHTS_DIR / "history.csv"  # what training recorded of them, by epoch


def write_weights(weights: Mapping[Run, Mapping[str, Tensor]], folder: Path = WEIGHTS_DIR) -> None:
    """Write every run's state dict. Raises OSError where the disk does not take it."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed in sorted({run.seed for run in weights}):
        cohort = {
            f"{run.trial}/{name}": tensor
            for run, state in weights.items()
            if run.seed == seed
            for name, tensor in state.items()
        }
        try:
            save_file(cohort, weights_file(seed, folder))
        except SafetensorError as error:  # a full disk, among others
            raise OSError(f"{weights_file(seed, folder)}: cannot be written: {error}") from None


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
            trial, _, name = key.rpartition("/")
            names.setdefault(Trial.parse(trial), []).append(name)
        for trial in sorted(names):
            if recipe in (None, trial.recipe):
                state = {name: file.get_tensor(f"{trial}/{name}") for name in names[trial]}
                yield Run(*trial, seed), model_of(trial, state)


def model_of(trial: Trial, state: Mapping[str, Tensor]) -> MoE:
    """A `MoE` with trained weights."""
    _, in_features, hidden = state["experts.w1"].shape
    out_features = state["experts.b2"].shape[1]
    model = MoE(in_features, hidden, out_features, trial.ne, trial.k, trial.recipe, seed=0)
    model.load_state_dict(dict(state))
    return model.eval()
