"""The playground's JavaScript engine, compared with the Python layer."""

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import playwright
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest

from moe.analysis.results import read_tables
from moe.data.batches import batch_order, numbers, random_draws
from moe.data.dataset import Dataset
from moe.data.sets import DATASETS
from moe.model.layer import MoE, initial_weights
from moe.recipes import RECIPES
from moe.report.playground import ENGINE, TRAINER, about_recipe, tour_facts
from moe.report.playground import mnist_5k as mnist_5k_of_page

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
SOURCES = ROOT / "reports" / "template" / "playground"
NODE = Path(playwright.__file__).parent / "driver" / "node"  # available in every test run
EXPERTS, STEPS, BATCH, RATE = 6, 50, 32, 0.003


def in_node(script: str, given: Any, folder: Path) -> Any:
    """The result of a script, run with the page's own source files and the variable `given`."""
    (folder / "given.json").write_text(json.dumps(given))
    sources = "\n".join((SOURCES / name).read_text("utf-8") for name in TRAINER[:-1])
    (folder / "run.js").write_text(
        f"{sources}\nconst given = JSON.parse(require('fs').readFileSync('given.json', 'utf8'));\n"
        f"console.log(JSON.stringify((() => {{ {script} }})()));"
    )
    done = subprocess.run(
        [NODE, "run.js"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


TRAIN = """
const [bytes, labels] = [given.bytes, given.labels].map((all) => Uint8Array.from(all));
const images = new Images(bytes, labels, Float64Array);
const model = new MixtureOfExperts({ ...given.sizes, Float: Float64Array });
model.set(given.weights);
const { lossCoef, learningRate } = given;
const steps = given.batches.map((batch, i) =>
  model.step(images, batch, { lossCoef, learningRate, draws: given.draws && given.draws[i] }));
const weights = { ...model.get(), bias: model.bias };
for (const name of Object.keys(weights)) weights[name] = [...weights[name]];
return { steps, weights };
"""


def names_of(model: MoE) -> dict[str, torch.Tensor]:
    """The layer's weights, by the engine's names."""
    weights = {"router": model.router.weight, **dict(model.experts.named_parameters())}
    if model.recipe.trainable_noise:
        weights["noise"] = model.noise.weight
    if model.recipe.selection_bias:
        weights["bias"] = model.selection_bias
    return {name: weight.detach() for name, weight in weights.items()}


def allowed() -> list[tuple[str, int]]:
    """Recipes of the engine, with k = 1, 2 and ne where the recipe allows it."""
    known = [RECIPES[name] for name in ENGINE if name in RECIPES]
    return [
        (recipe.name, k)
        for recipe in known
        for k in (1, 2, EXPERTS)
        if recipe.least_k <= k <= (recipe.most_k or EXPERTS)
    ]


@pytest.mark.parametrize(("recipe", "top_k"), allowed())
def test_the_engine_trains_as_the_layer_does(
    recipe: str, top_k: int, mnist_5k: Dataset, tmp_path: Path
) -> None:
    """Equal within 1e-9 after 50 steps of Adam from the same weights on the same batches."""
    loss_coef = 0.01 if RECIPES[recipe].selection_bias else 0.5
    model = MoE(784, 10, 10, EXPERTS, top_k, recipe, seed=3).double()
    batches = batch_order(3, 0, len(mnist_5k.train_x), BATCH)[:STEPS]
    used, batches = batches.unique(return_inverse=True)
    images, labels = mnist_5k.train_x[used], mnist_5k.train_y[used]
    draws = None
    if RECIPES[recipe].draws:
        draws = random_draws("normal", 3, 0, EXPERTS, STEPS, BATCH).permute(1, 2, 0).double()
    start = {name: weight.flatten().tolist() for name, weight in names_of(model).items()}
    theirs = in_node(
        TRAIN,
        {
            "bytes": images.flatten().tolist(),
            "labels": labels.tolist(),
            "sizes": {"experts": EXPERTS, "topK": top_k, "recipe": recipe},
            "weights": start,
            "batches": batches.tolist(),
            "draws": draws.flatten(1).tolist() if draws is not None else None,
            "lossCoef": loss_coef,
            "learningRate": RATE,
        },
        tmp_path,
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    x, y = numbers(images, torch.float64), labels.long()
    for step, batch in enumerate(batches):
        output, aux = model(x[batch], draws[step] if draws is not None else None)
        network_loss = F.cross_entropy(output, y[batch])
        optimizer.zero_grad()
        (network_loss + loss_coef * aux.gate_loss).backward()
        optimizer.step()
        model.balance(aux, loss_coef)
        step_of_theirs = theirs["steps"][step]
        losses = [network_loss.item(), aux.gate_loss.item()]
        assert [step_of_theirs[name] for name in ("networkLoss", "gateLoss")] == pytest.approx(
            losses, abs=1e-9
        )
        assert step_of_theirs["right"] == int((output.argmax(-1) == y[batch]).sum())
    apart, moved = 0.0, 0.0
    for name, weight in names_of(model).items():
        ours = weight.flatten().numpy()
        apart = max(apart, np.abs(ours - theirs["weights"][name]).max())
        moved = max(moved, np.abs(ours - start[name]).max())
    print(f"{recipe}, k = {top_k}: {apart:.1e}")  # for docs/playground.md: pytest -s
    assert apart < 1e-9
    assert moved > 0.01


GATES = """
const [bytes, labels] = [given.bytes, given.labels].map((all) => Uint8Array.from(all));
const images = new Images(bytes, labels, Float64Array);
const model = new MixtureOfExperts({ ...given.sizes, Float: Float64Array });
model.set(given.weights);
const gates = given.labels.flatMap((_, n) => {
  model.forward(images, n, n, null);
  return [...model.gates.slice(n * model.E, (n + 1) * model.E)];
});
const first = [...given.labels.keys()];
const { networkLoss } = model.step(images, first, { lossCoef: 0.01, learningRate: 0.001 });
return { gates, networkLoss, finite: model.weights.every(Number.isFinite) };
"""


def test_gates_are_finite_where_every_sigmoid_rounds_to_0(
    mnist_5k: Dataset, tmp_path: Path
) -> None:
    """deepseek-v3 divides sigmoids by their sum, which is 0 / 0 if done as it is written."""
    model = MoE(784, 10, 10, 3, 3, "deepseek-v3", seed=0).double()
    with torch.no_grad():
        model.router.weight -= 50.0  # about 100 lit pixels an image: logits far below -745
    images, labels = mnist_5k.train_x[:16], mnist_5k.train_y[:16]
    theirs = in_node(
        GATES,
        {
            "bytes": images.flatten().tolist(),
            "labels": labels.tolist(),
            "sizes": {"experts": 3, "topK": 3, "recipe": "deepseek-v3"},
            "weights": {n: weight.flatten().tolist() for n, weight in names_of(model).items()},
        },
        tmp_path,
    )
    x = numbers(images, torch.float64)
    assert (model.router(x).sigmoid() == 0).all()
    output, aux = model(x)
    assert theirs["gates"] == pytest.approx(aux.gates.flatten().tolist(), abs=1e-9)
    assert theirs["networkLoss"] == pytest.approx(F.cross_entropy(output, labels.long()).item())
    assert theirs["finite"]


def test_the_first_weights_and_the_batches_of_a_seed_are_the_layer_s(tmp_path: Path) -> None:
    script = """
    const weights = initialWeights(7, 3), uniform = new Random([1, 2, 3, 4, 5, 6]).double();
    for (const name of Object.keys(weights)) weights[name] = [...weights[name]];
    return { weights, uniform, order: [...epochOrder(7, 2, 4000)] };
    """
    theirs = in_node(script, None, tmp_path)
    expected = initial_weights(7, 3, 784, 10, 10)
    assert len(expected) == len(theirs["weights"]) == 5
    for name, weight in expected.items():
        short = name.removesuffix(".weight").removeprefix("experts.")
        assert theirs["weights"][short] == weight.flatten().tolist()
    batches = batch_order(7, 2, 4000, 128)
    assert theirs["order"][: batches.numel()] == batches.flatten().tolist()
    assert theirs["uniform"] == np.random.default_rng((1, 2, 3, 4, 5, 6)).random()


def test_the_noise_is_standard_normal(tmp_path: Path) -> None:
    script = "const all = new Float64Array(20000); new Noise(5).fill(all); return [...all];"
    noise = in_node(script, None, tmp_path)
    assert kstest(noise, "norm").pvalue > 0.01
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.03


OFF = """
const [bytes, labels] = [given.bytes, given.labels].map((all) => Uint8Array.from(all));
const images = new Images(bytes, labels), all = [...labels.keys()];
const model = new MixtureOfExperts(given.sizes);
model.set(initialWeights(0, model.E));
const slots = () => {
  model.clearTally();
  for (const n of all) {
    model.forward(images, n, n, null);
    model.tally(n);
  }
  return [...model.slots];
};
const rows = () => [...model.rows()].slice(one * model.D, (one + 1) * model.D);
const expert = () => [...model.weights.slice(model.expertAt(one), model.expertAt(one + 1))];
const train = (steps) => {
  for (let i = 0; i < steps; i++) model.step(images, all, { lossCoef: 0.01, learningRate: 0.003 });
};
train(5); // so that Adam has a momentum
const before = slots(), one = before.indexOf(Math.max(...before)); // the busiest
model.turn(one, false);
const weights = expert(), row = rows(), off = slots();
train(20);
const trained = expert(), after = slots(), still = rows();
model.turn(one, true);
model.setExpert(one, initialWeights(0, model.E));
const first = expert();
train(1);
const moved = Math.max(...expert().map((weight, i) => Math.abs(weight - first[i])));
return { one, before, off, weights, trained, after, row, still, moved };
"""


@pytest.mark.parametrize("recipe", [name for name in ENGINE if name in RECIPES])
def test_an_expert_that_is_off_sees_nothing_and_keeps_its_weights(
    recipe: str, mnist_5k: Dataset, tmp_path: Path
) -> None:
    k = RECIPES[recipe].most_k or 2
    given = {
        "bytes": mnist_5k.train_x[:64].flatten().tolist(),
        "labels": mnist_5k.train_y[:64].tolist(),
        "sizes": {"experts": 5, "topK": k, "recipe": recipe},
    }
    done = in_node(OFF, given, tmp_path)
    one = done["one"]
    assert done["before"][one] > 0
    assert done["off"][one] == done["after"][one] == 0
    assert done["trained"] == done["weights"]
    assert done["still"] == done["row"]
    assert done["moved"] <= 0.003 * 1.001  # Adam's first step, as for new weights
    if RECIPES[recipe].chooses:
        assert sum(done["off"]) == sum(done["before"]) == 64 * k  # the others take over


def test_recipes_are_described_without_what_the_page_lacks() -> None:
    described = {name: about_recipe(name) for name in ENGINE}
    assert described["switch"]["gates"].startswith("g = p at the top k")
    assert described["switch"]["gateLoss"].startswith("ne · Σ f·P")
    assert not [name for name, about in described.items() if "capacity" in str(about)]
    assert not [name for name, about in described.items() if "z-loss" in str(about)]


def test_the_page_has_the_images_of_mnist_5k(mnist_5k: Dataset) -> None:
    images, labels, trained_on = mnist_5k_of_page()
    assert trained_on == 4000
    assert np.array_equal(images[:4000], mnist_5k.train_x.numpy())
    assert np.array_equal(labels[4000:], mnist_5k.test_y.numpy())


def test_the_map_puts_alike_images_side_by_side(mnist_5k: Dataset) -> None:
    """Most of an image's ten nearest neighbours on the map have its class; by chance, a tenth."""
    places = np.array(json.loads((SOURCES / "map.json").read_text()))
    labels = mnist_5k.test_y.numpy()
    assert places.shape == (1000, 2)
    assert (places.min(0), places.max(0)) == (pytest.approx([0, 0]), pytest.approx([1000, 1000]))
    far = ((places[:, None] - places) ** 2).sum(-1)
    nearest = far.argsort(1)[:, 1:11]
    assert (labels[nearest] == labels[:, None]).mean() > 0.7


def test_a_study_without_the_tour_s_cells_has_no_numbers_for_it() -> None:
    tables = read_tables(RESULTS, 10)
    assert None not in tour_facts(tables).values()
    empty = tour_facts(tables._replace(runs=tables.runs[:0]))
    assert set(empty.values()) == {None}
    assert len(empty) == len(tour_facts(tables))
    # The tour is about digits.
    clothes = tour_facts(tables._replace(dataset=DATASETS["fashion-mnist"]))
    assert set(clothes.values()) == {None}
