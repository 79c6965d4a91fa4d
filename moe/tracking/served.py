"""A trained model as MLflow serves it: pixels in, class probabilities out.

MLflow runs this file when it loads the model, and reads the weights as safetensors: nothing is
pickled. In use:

    model = mlflow.pyfunc.load_model("models:/<model id>")
    model.predict(images)  # (N, 784) pixels in [0, 1], float32 -> (N, 10) probabilities
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel
from safetensors import safe_open

from moe.model.weights import model_of
from moe.study.runs import Trial


class Classifier(PythonModel):
    """A `MoE` with its softmax."""

    def load_context(self, context: Any) -> None:
        """Read the weights and which trial they are of."""
        with safe_open(Path(context.artifacts["weights"]), "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.model = model_of(Trial(*json.loads(file.metadata()["trial"])), state)

    @torch.no_grad()
    def predict(self, context: Any, model_input: np.ndarray, params: Any = None) -> Any:
        """Class probabilities."""
        output, _ = self.model(torch.as_tensor(np.asarray(model_input), dtype=torch.float32))
        return output.softmax(-1).numpy()


set_model(Classifier())
