"""A trained model as MLflow serves it: pixels in, class probabilities out.

MLflow runs this file when it loads the model, and reads the weights as safetensors: nothing is
pickled. In use:

    model = mlflow.pyfunc.load_model("models:/moe-mnist-on-mnist@champion")
    model.predict(images)  # (N, 784) pixels in [0, 1], float32 -> (N, 10) probabilities
"""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from safetensors import safe_open

import moe
from moe.model.weights import model_of
from moe.study.runs import Trial


class Classifier(PythonModel):
    """A `MoE` with its softmax."""

    def load_context(self, context: Any) -> None:
        """Read the weights, and which trial they are from."""
        with safe_open(Path(context.artifacts["weights"]), "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            trial = Trial.parse(file.metadata()["trial"])
        # A recipe of extensions/ is found from the folder that moe/ is in.
        with contextlib.chdir(Path(moe.__path__[0]).parent):
            self.model = model_of(trial, state)

    @torch.no_grad()
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        """Class probabilities."""
        output, _ = self.model(torch.as_tensor(np.asarray(model_input), dtype=torch.float32))
        return output.softmax(-1).numpy()


set_model(Classifier())
