"""Routing metrics, against arithmetic by hand and another library."""

import numpy as np
import pytest
import torch

from moe.analysis import routing_metrics as routing
from moe.model.layer import MoE

# Three experts; expert 0 has all of classes 0-4, expert 1 all of 5-9, expert 2 nothing.
SPLIT = np.array([[10] * 5 + [0] * 5, [0] * 5 + [10] * 5, [0] * 10])
EVEN = np.full((4, 10), 7)


def test_a_clean_split_by_hand() -> None:
    assert routing.experts_per_class(SPLIT) == pytest.approx(1)
    assert routing.classes_per_expert(SPLIT) == pytest.approx(5)  # of the two that are not dead
    assert routing.dead_experts(SPLIT) == 1
    # Tokens 50, 50, 0: 50 / (100/3) − 1
    assert routing.max_violation(SPLIT) == pytest.approx(0.5)
    # The class determines the expert: I = H(expert) = ln 2, H(class) = ln 10.
    expected = 2 * np.log(2) / (np.log(2) + np.log(10))
    assert float(routing.normalised_mutual_information(SPLIT)) == pytest.approx(expected)


def test_an_even_spread_by_hand() -> None:
    assert routing.experts_per_class(EVEN) == pytest.approx(4)
    assert routing.classes_per_expert(EVEN) == pytest.approx(10)
    assert routing.max_violation(EVEN) == pytest.approx(0)
    assert float(routing.normalised_mutual_information(EVEN)) == pytest.approx(0, abs=1e-12)


def test_nothing_shared_is_never_less_than_nothing() -> None:
    # One expert has all images: I = 0. Without care, MNIST's test digits give −4e−16 in floats.
    counts = np.array([[980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]])
    assert routing.normalised_mutual_information(counts) >= 0
    assert routing.normalised_mutual_information(counts) == pytest.approx(0, abs=1e-12)


def test_gate_entropy_by_hand() -> None:
    # Gates of 0.3 and 0.1 are shares of 3/4 and 1/4; one gate alone is certain, however small.
    gates = np.array([[0.3, 0, 0.1], [0, 0.2, 0]])
    expected = (0.75 * np.log(4 / 3) + 0.25 * np.log(4)) / 2
    routed = routing.Routed(gates, (gates > 0).astype(float))
    assert routing.gate_entropy(routed) == pytest.approx(expected)


def test_measures_leave_out_a_shared_expert_and_images_without_any() -> None:
    # Two images with expert 0 and one other, and one with none: entropies of (1, 0.3) and (1, 0.1)
    # over their sums; of the others alone, 0. One expert of three images, by hand 4/3 in all.
    gates = np.array([[1, 0.3, 0], [1, 0, 0.1], [0, 0, 0]])
    routed = routing.Routed(gates, (gates > 0).astype(float))
    shares = [(1 / 1.3, 0.3 / 1.3), (1 / 1.1, 0.1 / 1.1)]
    entropies = [-sum(p * np.log(p) for p in pair) for pair in shares]
    assert routing.gate_entropy(routed) == pytest.approx(np.mean(entropies))
    assert routing.experts_per_image(routed) == pytest.approx(4 / 3)
    shared = MoE(4, 5, 3, num_experts=3, top_k=2, recipe="shared-expert", seed=0)
    alone = routing.routed_alone(shared, routed)
    assert alone.gates.tolist() == [[0.3, 0], [0, 0.1], [0, 0]]
    assert routing.gate_entropy(alone) == 0
    plain = MoE(4, 5, 3, num_experts=3, top_k=2, seed=0)
    assert np.array_equal(routing.routed_alone(plain, routed).chosen, routed.chosen)


def test_shares_are_taken_within_a_class() -> None:
    # Class 0 has 1,000 images and the others 10, all of them split evenly over two experts.
    counts = np.full((2, 10), 5)
    counts[:, 0] = 500
    assert routing.classes_per_expert(counts) == pytest.approx(10)


def test_nmi_against_its_definition_over_samples() -> None:
    rng = np.random.default_rng(0)
    expert, digit = rng.integers(0, 3, 500), rng.integers(0, 10, 500)
    expert[digit == 4] = 1
    slots = np.zeros((3, 10), int)
    np.add.at(slots, (expert, digit), 1)
    # I(A; B) = Σ over samples of log p(a, b) / p(a) p(b), divided by n
    total = sum(
        np.log(slots[a, b] * 500 / slots[a].sum() / slots[:, b].sum())
        for a, b in zip(expert, digit, strict=True)
    )
    entropy = [-sum(p * np.log(p)) for p in (slots.sum(1) / 500, slots.sum(0) / 500)]
    expected = 2 * total / 500 / sum(entropy)
    assert float(routing.normalised_mutual_information(slots)) == pytest.approx(expected)


def test_the_null_is_what_shuffled_labels_give() -> None:
    rng = np.random.default_rng(0)
    expert, digit = rng.integers(0, 4, 2000), rng.integers(0, 10, 2000)
    shuffled, slots = [], np.zeros((4, 10), int)
    for _ in range(200):
        slots = np.zeros((4, 10), int)
        np.add.at(slots, (expert, rng.permutation(digit)), 1)
        shuffled.append(float(routing.normalised_mutual_information(slots)))
    null = routing.nmi_null(slots, 200, rng)
    # Both are means of 200 draws.
    error = 3 * np.std(shuffled) * (2 / 200) ** 0.5
    assert null == pytest.approx(np.mean(shuffled), abs=error)
    assert routing.nmi_null(slots[:1], 5, rng) == 0


def test_counts_of_a_real_router_against_a_loop() -> None:
    model = MoE(20, 6, 10, num_experts=5, top_k=2, seed=0)
    x, labels = torch.rand(50, 20), np.arange(50) % 10
    routed = routing.route(model, x)
    slots, together = np.zeros((5, 10), int), np.zeros((5, 5), int)
    received: list[list[np.ndarray]] = [[] for _ in range(5)]
    entropy = []
    _, aux = model(x)
    for image, gates, label in zip(x.numpy(), aux.gates.detach().numpy(), labels, strict=True):
        kept = np.flatnonzero(gates)
        slots[kept, label] += 1
        entropy.append(-(gates[kept] * np.log(gates[kept])).sum())
        for a in kept:
            received[a].append(image)
            for b in kept:
                together[a, b] += 1
    assert (routing.slot_counts(routed, labels, 10) == slots).all()
    assert (routing.coactivation(routed) == together).all()
    assert routing.gate_entropy(routed) == pytest.approx(np.mean(entropy), rel=1e-5)
    expected = [np.mean(images, 0) if images else np.zeros(20) for images in received]
    np.testing.assert_allclose(routing.mean_images(routed, x.numpy()), expected, atol=1e-5)


def test_routes_are_those_of_evaluation() -> None:
    # gshard keeps both experts at any capacity, and shazeer adds no noise.
    x = torch.rand(50, 20)
    for recipe, capacity in (("gshard", 0.1), ("shazeer", None)):
        sizes = {"num_experts": 5, "top_k": 2, "capacity_factor": capacity}
        model = MoE(20, 6, 10, recipe=recipe, seed=0, **sizes)
        routed = routing.route(model.eval(), x)
        assert (routed.chosen.sum(1) == 2).all()
        assert (routed.chosen == routing.route(model, x).chosen).all()
