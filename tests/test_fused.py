"""The fused engine, compared with `MoE` trained alone, and with itself."""

import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from moe.data.batches import batch_order, numbers, random_draws
from moe.data.dataset import Dataset
from moe.engine import HISTORY, fused
from moe.engine.packing import Layout
from moe.model.layer import MoE
from moe.recipes import RECIPES
from moe.study.runs import Run
from moe.study.train_settings import Precision, Train
from moe.train.shards import SHARE_OF_MEMORY

ROOT = Path(__file__).parent.parent
CPU = torch.device("cpu")
# 4,000 images in batches of 80: 50 steps
FIFTY_STEPS = Train(epochs=1, batch_size=80, learning_rate=0.001, hidden=10)
# Ragged ne, mixed k, several seeds, in one shard
CELLS = [(1, 1, 1.0, 0), (4, 2, 0.1, 1), (3, 1, 1.0, 0), (8, 4, 10.0, 0), (5, 3, 0.0, 1)]

KNOBS = {"top-p": [0.4, 0.6, 0.9, 0.5, 0.3], "sinkhorn": [1.0, 8.0, 2.0, 16.0, 3.0]}


def runs_of(recipe: str) -> list[Run]:
    """The cells, with k and lc adjusted to what the recipe allows."""
    of = RECIPES[recipe]
    runs = []
    for (ne, k, lc, seed), knob in zip(CELLS, KNOBS.get(recipe, [None] * len(CELLS)), strict=True):
        k = of.only_k or max(of.least_k, k)
        runs.append(Run(recipe, max(ne, k), k, lc if knob is None else knob, seed))
    return runs


def train_alone(
    run: Run, data: Dataset, settings: Train
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The state dict and last-epoch measures of a `MoE` trained by autograd and torch's Adam."""
    sizes = (data.train_x.shape[1], settings.hidden, data.classes, run.ne, run.k)
    recipe = RECIPES[run.recipe]
    knob = None if recipe.knob is None else run.lc
    model = MoE(*sizes, run.recipe, run.seed, settings.capacity_factor, knob).double()
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
            output, aux = model.train()(numbers(data.train_x[batch], torch.float64), drawn)
            network_loss = F.cross_entropy(output, y)
            optimizer.zero_grad()
            z_loss = 0 if aux.z_loss is None else settings.z_loss * aux.z_loss
            gate_loss = recipe.weight_of(run.lc) * aux.gate_loss
            (network_loss + gate_loss + z_loss).backward()
            gradient = model.router.weight.grad
            norm = 0.0 if gradient is None else gradient.norm().item()
            correct = (output.argmax(1) == y).double().mean().item()
            dropped = 0.0 if aux.dropped is None else aux.dropped.item()
            steps.append((network_loss.item(), aux.gate_loss.item(), correct, norm, dropped))
            optimizer.step()
            model.balance(aux, run.lc)
        columns = list(zip(*steps, strict=True))
        means = [sum(column) / len(column) for column in columns]
        output, aux = model.eval()(numbers(data.test_x, torch.float64))
        tokens = aux.chosen.sum(0).double()[recipe.shared :]
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
    """Returns the share of slots that each run dropped in its last epoch."""
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


@pytest.mark.slow
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
    reported = []
    settings = Train(epochs=3, batch_size=128, learning_rate=0.001, hidden=4)
    runs = [Run("logits", 2, 1, 1.0, 0), Run("logits", 3, 2, 1.0, 0)]
    trained = fused.train(runs, mnist_5k, settings, CPU, on_epoch=reported.append)
    column = HISTORY.index("test_accuracy")
    accuracies = torch.stack([run.history[:, column] for run in trained], 1)
    assert torch.equal(torch.stack(reported), accuracies)


# --- requirements of a GPU, tested without one


def test_seeds_with_the_same_number_of_experts_share_their_products(mnist_5k: Dataset) -> None:
    # 4 experts for each of seeds 0, 1 and 3, then 6 for seed 4: two groups
    cells = [(3, 2, 1.0, 0), (1, 1, 1.0, 0), (4, 2, 0.1, 1), (2, 1, 1.0, 3), (2, 2, 1.0, 3)]
    runs = [Run("logits", *cell) for cell in [*cells, (6, 2, 1.0, 4)]]
    groups = Layout(runs, CPU).groups
    assert [(group.seeds, group.each) for group in groups] == [(slice(0, 3), 4), (slice(3, 4), 6)]
    assert_like_alone(runs, mnist_5k, FIFTY_STEPS)


class NothingFromTheHost(TorchDispatchMode):
    """Fails for operations with a tensor on another device. Operations that read a value fail
    anyway, since meta tensors have none. Neither can be captured in a CUDA graph."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        assert all(x.device.type == "meta" for x in tensors), f"{func} brings a value to the device"
        return func(*args, **(kwargs or {}))


class NoNewTensors(TorchFunctionMode):
    """Fails for numbers that Python would copy to the device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.tensor, torch.as_tensor):
            assert isinstance(args[0], Tensor), f"{args[0]} is brought to the device"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("precision", get_args(Precision))
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_neither_asks_the_device_nor_waits_for_it(
    recipe: str, precision: Precision, mnist_5k: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(FIFTY_STEPS, capacity_factor=1.0, z_loss=0.01, precision=precision)
    # Meta tensors have no fused Adam; on a GPU, torch makes Adam capturable.
    monkeypatch.setattr(torch.optim, "Adam", lambda *args, **options: SimpleNamespace(step=int))
    runs = sorted(runs_of(recipe), key=lambda run: run.seed)
    stack = fused.Stack(runs, mnist_5k, settings, torch.device("meta"))
    stack.begin_epoch(0)
    with NothingFromTheHost(), NoNewTensors():
        stack.step()


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_step_works_on_buffers_that_stay_where_they_are(recipe: str, mnist_5k: Dataset) -> None:
    runs = sorted(runs_of(recipe), key=lambda run: run.seed)
    stack = fused.Stack(runs, mnist_5k, FIFTY_STEPS, CPU)

    def places() -> dict[str, int]:
        named = {**vars(stack), **stack.parameters, "gradient": stack.flat.grad}
        return {name: x.data_ptr() for name, x in named.items() if isinstance(x, Tensor)}

    before = places()
    stack.train_epoch(0)
    assert len(before) > 10
    assert places() == before


@pytest.mark.slow
def test_bf16_products_stay_close_and_leave_the_router_s_logits_alone(mnist_5k: Dataset) -> None:
    runs = [Run("logits", ne, 2, 1.0, seed) for ne in (2, 4, 8) for seed in range(4)]
    longer = replace(FIFTY_STEPS, epochs=10)
    exact = fused.train(runs, mnist_5k, longer, CPU)
    rounded = fused.train(runs, mnist_5k, replace(longer, precision="bf16"), CPU)
    column = HISTORY.index("test_accuracy")
    differences = [
        float(one.history[-1, column] - other.history[-1, column])
        for one, other in zip(exact, rounded, strict=True)
    ]
    assert any(differences)
    # Within a point on 1,000 images: the mean of 12 runs has a standard error of about 0.2 points.
    assert abs(sum(differences) / len(differences)) < 0.01
    # The first step's routing, before any weight has changed, is that of float32 products.
    stacks = [
        fused.Stack(runs[:1], mnist_5k, replace(FIFTY_STEPS, precision=name), CPU)
        for name in ("float32", "bf16")
    ]
    for stack in stacks:
        stack.begin_epoch(0)
        stack.step()
    assert torch.equal(stacks[0].router_out["router"], stacks[1].router_out["router"])
    assert not torch.equal(stacks[0].hidden, stacks[1].hidden)


@pytest.mark.slow
def test_memory_for_a_stack_is_bounded_by_what_is_reckoned() -> None:
    """Peak memory with 400 and with 1,600 experts: the difference is that of 1,200 experts."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from moe.data.dataset import Dataset\n"
        "from moe.data.download import fetch\n"
        "from moe.engine import fused\n"
        "from moe.study.runs import Run\n"
        "from moe.study.train_settings import Train\n"
        "torch.set_num_threads(1)\n"
        "folder = Path(sys.argv[1])\n"
        "fetch('mnist-5k', folder, folder)\n"
        "settings = Train(epochs=1, batch_size=128, learning_rate=0.001, hidden=10)\n"
        "runs = [Run('shazeer', 8, 2, float(i), 0) for i in range(int(sys.argv[2]) // 8)]\n"
        "stack = fused.Stack(runs, Dataset(folder), settings, torch.device('cpu'))\n"
        "stack.begin_epoch(0); stack.step(); stack.test(stack.x[:1000], stack.y[:1000])\n"
        "lines = Path('/proc/self/status').read_text().splitlines()\n"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
    )
    peaks = []
    for experts in (400, 1600):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-c", code, folder, str(experts)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
            peaks.append(1024 * int(done.stdout))
    reckoned = 1200 * fused.bytes_per_expert(FIFTY_STEPS, 784, 10)
    assert 0.3 * reckoned < peaks[1] - peaks[0] < reckoned / SHARE_OF_MEMORY


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_gpu_gives_the_same_bits_each_time_and_the_cpu_s_weights(
    recipe: str, mnist_5k: Dataset
) -> None:
    runs, device = runs_of(recipe), torch.device("cuda")
    first, second = (fused.train(runs, mnist_5k, FIFTY_STEPS, device) for _ in range(2))
    exact = fused.train(runs, mnist_5k, FIFTY_STEPS, device, torch.float64)
    here = fused.train(runs, mnist_5k, FIFTY_STEPS, CPU, torch.float64)
    for one, other, on_gpu, on_cpu in zip(first, second, exact, here, strict=True):
        for name in one.weights:
            assert torch.equal(one.weights[name], other.weights[name])
            torch.testing.assert_close(
                on_gpu.weights[name], on_cpu.weights[name], rtol=0, atol=1e-10
            )
