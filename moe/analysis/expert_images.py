"""Pictures of one seed's models: router weights, and the mean image of each expert.

Axes: E experts, D pixels of an image.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from PIL import Image

from moe.analysis import routing_metrics as routing
from moe.analysis.routing_metrics import Routed
from moe.data.batches import numbers
from moe.data.dataset import Dataset
from moe.model.layer import MoE
from moe.model.weights import read_models
from moe.study.runs import Run
from moe.study.tables import PICTURES_DIR, picture_of

Shape = tuple[int, int]  # height and width of an image


class Digits(NamedTuple):
    """Some test samples: their rows in the test set, inputs and labels."""

    rows: Int[np.ndarray, " N"]
    inputs: Shaped[np.ndarray, "N D"]
    labels: Int[np.ndarray, " N"]


def draw_digits(data: Dataset, count: int) -> Digits:
    """The first samples of each class in the test set, equally many of each. If they are images,
    also draw them to digits.png."""
    labels = data.test_y.numpy().astype(int)
    each = max(1, count // data.classes)
    of_digit = [np.flatnonzero(labels == digit)[:each] for digit in range(data.classes)]
    rows = np.concatenate(of_digit)
    digits = Digits(rows, data.test_x.numpy()[rows], labels[rows])
    PICTURES_DIR.mkdir(parents=True, exist_ok=True)  # a stage output: must exist even if empty
    if data.image_shape:
        _save(digits.inputs[None], data.image_shape, PICTURES_DIR / "digits.png")
    return digits


def gates_of(digits: Digits, seed: int) -> list[dict[str, Any]]:
    """A row per model of a seed and digit: image (its row in the test set), digit, predicted, and
    the gate of each expert that the run has."""
    import torch

    x = numbers(torch.from_numpy(digits.inputs))
    table = []
    for run, model in read_models(seed):
        output, aux = model(x)
        columns = (digits.rows, digits.labels, output.argmax(-1), aux.gates)
        for image, digit, predicted, gates in zip(*(c.tolist() for c in columns), strict=True):
            row = {**run.columns, "image": image, "digit": digit, "predicted": predicted}
            table.append(row | {f"gate_{expert}": gate for expert, gate in enumerate(gates)})
    return table


def draw_experts(
    run: Run, model: MoE, routed: Routed, grey: Float[np.ndarray, "N D"], shape: Shape
) -> None:
    """Draw a PNG for a trial, its experts from left to right: above, the router weights, scaled by
    the trial's largest, with grey 128 for 0; below, the mean image that the expert gets.

    Weights that are not finite, in a diverged run, are drawn as 0.
    """
    weights = model.router.weight.detach().nan_to_num(0, 0, 0).numpy()
    signed = 128 + 127 * weights / max(np.abs(weights).max(), np.finfo(np.float32).tiny)
    received = routing.mean_images(routed, grey)
    _save(np.stack([signed, received]).round(), shape, picture_of(run.trial))


def _save(tiles: Shaped[np.ndarray, "rows E D"], shape: Shape, path: Path) -> None:
    (rows, columns, _), (height, width) = tiles.shape, shape
    sheet = tiles.reshape(rows, columns, height, width).transpose(0, 2, 1, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(sheet.reshape(rows * height, columns * width).astype(np.uint8))
    image.save(path, optimize=True)
