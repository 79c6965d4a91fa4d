"""The input of a sync, and a study's name and tags in MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from moe.data.dataset import Dataset
from moe.study.grid import runs_of, study_digest
from moe.study.params import Params


class Results(NamedTuple):
    """The outputs of earlier stages. artifacts: files and folders for the study's run."""

    runs: pd.DataFrame
    history: pd.DataFrame
    artifacts: Sequence[Path]
    data: Dataset


@dataclass(frozen=True)
class Study:
    """A study in MLflow. short: the first digits of its digest, the tag `study`."""

    params: Params
    short: str
    runs: int

    @classmethod
    def of(cls, params: Params) -> "Study":
        """The study of a params.yaml."""
        return cls(params, study_digest(params)[:8], len(runs_of(params.sweeps)))

    @property
    def dataset(self) -> str:
        return self.params.data.dataset

    @property
    def name(self) -> str:
        return f"{self.dataset}, {self.runs:,} runs, study {self.short}"

    @property
    def tags(self) -> dict[str, str]:
        """The tags of all the study's records."""
        return {"study": self.short, "dataset": self.dataset}
