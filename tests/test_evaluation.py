"""Losses, accuracies and confusion counts against arithmetic by hand."""

import math

import pytest
import torch

from moe import MoE
from moe.analysis.evaluation import evaluate


def model_that_says(digits: list[int]) -> MoE:
    """One expert for each input that is 1; expert e answers digits[e], with a logit of 1."""
    size = len(digits)
    model = MoE(size, 1, 10, num_experts=size, top_k=1, recipe="logits", seed=0).double().eval()
    with torch.no_grad():
        model.router.weight.copy_(torch.eye(size))
        model.experts.w2.zero_()
        model.experts.b2.zero_()
        for expert, digit in enumerate(digits):
            model.experts.b2[expert, digit] = 1
    return model


def test_losses_and_confusion_by_hand() -> None:
    # Experts predict 4, 9 and 7. Two 4s are predicted as 4 and one as 9; one 9 as 9 and one as 7;
    # every other digit, one image each, as 7.
    model = model_that_says([4, 9, 7])
    pairs = [(4, 0), (4, 0), (4, 1), (9, 1), (9, 2), *((d, 2) for d in (0, 1, 2, 3, 5, 6, 7, 8))]
    y = torch.tensor([digit for digit, _ in pairs])
    x = torch.eye(3, dtype=torch.float64)[[expert for _, expert in pairs]]
    result = evaluate(model, x, y)

    assert result.confusion.shape == (10, 10)
    assert result.confusion[4].tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 0, 1]
    assert result.confusion[9].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 0, 1]
    assert result.confusion[:, 7].tolist() == [1, 1, 1, 1, 0, 1, 1, 1, 1, 1]
    # 2 fours, 1 nine, 1 seven of 13
    assert result.accuracy == pytest.approx(4 / 13)
    assert result.class_accuracies.tolist() == pytest.approx([0, 0, 0, 0, 2 / 3, 0, 0, 1, 0, 1 / 2])
    # The softmax of one 1 among nine 0s: −1 less where right, ln(e + 9) everywhere.
    assert result.network_loss == pytest.approx(math.log(math.e + 9) - 4 / 13)
    # Gates of 1: importance 2, 2 and 9 of a mean of 13/3; variance 98/9 over 169/9.
    assert result.gate_loss == pytest.approx(98 / 169)
