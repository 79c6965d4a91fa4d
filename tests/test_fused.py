"""The fused engine against `MoE` trained alone, and against itself."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from moe.data import Dataset, batch_order, pixels, random_draws
from moe.engine import HISTORY, fused
from moe.grid import Run
from moe.layer import MoE
from moe.params import Train
from moe.recipes import RECIPES

CPU = torch.device("cpu")
# 4,000 images in batches of 80: 50 steps
FIFTY_STEPS = Train(epochs=1, batch_size=80, learning_rate=0.001, hidden=10)
# Ragged ne, mixed k, several seeds, in one shard
CELLS = [(1, 1, 1.0, 0), (4, 2, 0.1, 1), (3, 1, 1.0, 0), (8, 4, 10.0, 0), (5, 3, 0.0, 1)]


def runs_of(recipe: str) -> list[Run]:
    """The cells; where the recipe allows one k alone, all with that k."""
    only = RECIPES[recipe].only_k
    cells = ((max(ne, only or 1), only or k, lc, seed) for ne, k, lc, seed in CELLS)
    return [Run(recipe, *cell) for cell in cells]


def train_alone(
    run: Run, data: Dataset, settings: Train
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The state dict and last-epoch measures of one `MoE`, by autograd and torch's Adam."""
    sizes = (784, settings.hidden, 10, run.ne, run.k)
    model = MoE(*sizes, run.recipe, run.seed, settings.capacity_factor).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    measures = {}
    for epoch in range(settings.epochs):
        steps = []
        batches = batch_order(run.seed, epoch, len(data.train_x), settings.batch_size)
        draws = None
        if model.recipe.draws:
            shape = (run.ne, len(batches), settings.batch_size)
            draws = random_draws(model.recipe.draws, run.seed, epoch, *shape).double()
        for step, batch in enumerate(batches):
            y = data.train_y[batch].long()
            drawn = None if draws is None else draws[:, step].T
            output, aux = model.train()(pixels(data.train_x[batch], torch.float64), drawn)
            network_loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            z_loss = 0 if aux.z_loss is None else settings.z_loss * aux.z_loss
            (network_loss + run.lc * aux.gate_loss + z_loss).backward()
            gradient = model.router.weight.grad
            norm = 0.0 if gradient is None else gradient.norm().item()
            correct = (output.argmax(1) == y).double().mean().item()
            dropped = 0.0 if aux.dropped is None else aux.dropped.item()
            steps.append((network_loss.item(), aux.gate_loss.item(), correct, norm, dropped))
            optimizer.step()
            model.balance(aux, run.lc)
        columns = list(zip(*steps, strict=True))
        means = [sum(column) / len(column) for column in columns]
        output, aux = model.eval()(pixels(data.test_x, torch.float64))
        tokens = aux.chosen.sum(0).double()
        measures = {
            **dict(zip(HISTORY[:3], means[:3], strict=True)),
            "router_grad_norm": means[3],
            "router_grad_norm_max": max(columns[3]),
            "dropped": means[4],
            "test_accuracy": (output.argmax(1) == data.test_y).double().mean().item(),
            "max_violation": (tokens.max() / tokens.mean()).item() - 1,
            "dead_experts": (tokens == 0).sum().item(),
        }
    return dict(model.state_dict()), measures


def assert_like_alone(runs: list[Run], data: Dataset, settings: Train) -> list[float]:
    """Returns the share that each run dropped in its last epoch."""
    dropped = []
    together = fused.train(runs, data, settings, CPU, torch.float64)
    for run, trained in zip(runs, together, strict=True):
        weights, measures = train_alone(run, data, settings)
        assert weights.keys() == trained.weights.keys()
        for name, expected in weights.items():
            torch.testing.assert_close(trained.weights[name], expected, rtol=0, atol=1e-10)
        history = dict(zip(HISTORY, trained.history[-1].tolist(), strict=True))
        assert history == pytest.approx(measures, abs=1e-9)
        dropped.append(measures["dropped"])
    return dropped


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_parameter_is_that_of_the_layer_trained_alone(recipe: str, mnist_5k: Dataset) -> None:
    assert_like_alone(runs_of(recipe), mnist_5k, FIFTY_STEPS)


@pytest.mark.parametrize("recipe", ["switch", "gshard"])
def test_the_same_with_limited_capacity_and_z_loss(recipe: str, mnist_5k: Dataset) -> None:
    limited = replace(FIFTY_STEPS, capacity_factor=1.0, z_loss=0.01)
    dropped = assert_like_alone(runs_of(recipe), mnist_5k, limited)
    assert max(dropped) > 0.05
    (free,) = fused.train(runs_of(recipe)[:1], mnist_5k, FIFTY_STEPS, CPU)
    assert (free.history[:, HISTORY.index("dropped")] == 0).all()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_does_not_depend_on_its_shard_mates(recipe: str, mnist_5k: Dataset) -> None:
    runs = runs_of(recipe)
    together = fused.train(runs, mnist_5k, FIFTY_STEPS, CPU, torch.float64)
    for run, trained in zip(runs, together, strict=True):
        (alone,) = fused.train([run], mnist_5k, FIFTY_STEPS, CPU, torch.float64)
        for name, expected in alone.weights.items():
            torch.testing.assert_close(trained.weights[name], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_same_shard_gives_the_same_bits(recipe: str, mnist_5k: Dataset) -> None:
    runs = runs_of(recipe)
    first, second = (fused.train(runs, mnist_5k, FIFTY_STEPS, CPU) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.history, other.history)
        for name, weights in one.weights.items():
            assert torch.equal(weights, other.weights[name])


@pytest.mark.parametrize("recipe", ["blog", "logits"])
def test_with_k_1_the_weight_of_the_gate_loss_changes_no_bit(
    recipe: str, mnist_5k: Dataset
) -> None:
    runs = [Run(recipe, 4, 1, lc, 0) for lc in (0.0, 1.0, 10.0)]
    none, some, much = fused.train(runs, mnist_5k, FIFTY_STEPS, CPU)
    for name, weights in none.weights.items():
        assert torch.equal(weights, some.weights[name])
        assert torch.equal(weights, much.weights[name])
    assert (none.history[:, HISTORY.index("router_grad_norm_max")] == 0).all()


def test_progress_is_told_after_each_epoch(mnist_5k: Dataset) -> None:
    told = []
    settings = Train(epochs=3, batch_size=128, learning_rate=0.001, hidden=4)
    runs = [Run("logits", 2, 1, 1.0, 0), Run("logits", 3, 2, 1.0, 0)]
    trained = fused.train(runs, mnist_5k, settings, CPU, on_epoch=told.append)
    column = HISTORY.index("test_accuracy")
    accuracies = torch.stack([run.history[:, column] for run in trained], 1)
    assert torch.equal(torch.stack(told), accuracies)
