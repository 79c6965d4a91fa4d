"""Compares the figures with values recomputed by plain loops over the CSV files."""

import itertools
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.lines import Line2D
from PIL import Image

from moe.analysis.confirmed import confirmed
from moe.analysis.kept import read_kept
from moe.analysis.results import Tables
from moe.figures import FIGURES, all_figures
from moe.figures.drawn import Drawn
from tests.plain_tables import (
    RESULTS,
    confusion,
    interval,
    judged_on,
    mean,
    of_routers,
    slots,
    swept_seeds,
    where,
)
from tests.small_studies import committed

ROOT = RESULTS.parent
RECIPES = ("blog", "logits")
LC = (0.0, 0.01, 0.1, 1.0, 10.0)
SIZES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 16)


@pytest.fixture(scope="module")
def tables() -> Tables:
    return committed()


@pytest.fixture(scope="module")
def drawn(tables: Tables) -> dict[str, Drawn]:
    return {figure.slug: figure.drawn for figure in all_figures(tables) if figure.drawn}


def axes_of(drawn: Drawn, start: str) -> Axes:
    """The one panel whose title starts with `start`."""
    (found,) = [ax for ax in drawn.drawing.axes if ax.get_title(loc="left").startswith(start)]
    return found


def images(drawn: Drawn) -> list[tuple[str, np.ndarray, Axes]]:
    """Title, array and panel of each heatmap, without the colour bars."""
    shown = [(ax, ax.images[0]) for ax in drawn.drawing.axes if ax.images]
    return [
        (ax.get_title(loc="left") or ax.get_title(), np.ma.filled(image.get_array(), np.nan), ax)
        for ax, image in shown
    ]


def lines(ax: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in ax.lines if len(line.get_xdata()) > 0}


def band(ax: Axes, place: int) -> tuple[dict[float, float], dict[float, float]]:
    """Lower and upper end of a filled band at each x."""
    bands = [artist for artist in ax.collections if isinstance(artist, PolyCollection)]
    points = bands[place].get_paths()[0].vertices
    low: dict[float, float] = {}
    high: dict[float, float] = {}
    for x, y in np.asarray(points):
        low[x], high[x] = min(y, low.get(x, y)), max(y, high.get(x, y))
    return low, high


def assert_line(ax: Axes, label: str, values: dict[float, list[float]], scale: float = 1) -> None:
    """Assert a line through the means, with a band at the 95 % intervals. values: by x."""
    place = list(lines(ax)).index(label)
    line = lines(ax)[label]
    assert list(line.get_xdata()) == sorted(values)
    expected = [scale * mean(values[x]) for x in sorted(values)]
    assert list(line.get_ydata()) == pytest.approx(expected, rel=1e-9, abs=1e-12)
    low, high = band(ax, place)
    for x, of_x in values.items():
        if len(of_x) > 1:
            ends = interval(of_x)
            assert low[x] == pytest.approx(scale * ends[0], rel=1e-6, abs=1e-9)
            assert high[x] == pytest.approx(scale * ends[1], rel=1e-6, abs=1e-9)


def swept(recipe: str, lc: float, column: str, name: str = "confirm/runs") -> list[tuple]:
    """(ne, seed, epoch, value) of the runs behind the figures over lc."""
    seeds = swept_seeds(recipe, name)
    return [
        (row["ne"], row["seed"], row.get("epoch"), row[column])
        for row in where(name, recipe=recipe, k=2, lc=lc)
        if row["seed"] in seeds
    ]


def by(place: int, found: list[tuple]) -> dict[float, list[float]]:
    groups: dict[float, list[float]] = {}
    for row in found:
        groups.setdefault(row[place], []).append(row[-1])
    return groups


def means_of_seeds(found: list[tuple]) -> dict[Any, list[float]]:
    """By epoch, each seed's mean over ne."""
    groups: dict[Any, dict[float, list[float]]] = {}
    for _, seed, epoch, value in found:
        groups.setdefault(epoch, {}).setdefault(seed, []).append(value)
    return {epoch: [mean(of) for of in seeds.values()] for epoch, seeds in groups.items()}


@pytest.mark.parametrize(("recipe", "lc"), list(itertools.product(RECIPES, LC)))
def test_lines_over_lc(drawn: dict[str, Drawn], recipe: str, lc: float) -> None:
    label = f"lc = {lc:g}"
    above = axes_of(drawn["effect-of-lc-on-accuracy"], f"{recipe}: accuracy over ne")
    assert_line(above, label, by(0, swept(recipe, lc, "accuracy")), 100)
    for slug, column in (
        ("effect-of-lc-on-gate-loss", "gate_loss"),
        ("effect-of-lc-on-network-loss", "network_loss"),
    ):
        above = axes_of(drawn[slug], f"{recipe}: test set, at the end")
        assert_line(above, label, by(0, swept(recipe, lc, column)))
        below = axes_of(drawn[slug], f"{recipe}: in training")
        assert_line(below, f"{lc:g}", means_of_seeds(swept(recipe, lc, column, "history")))
    balance = drawn["balance"]
    values = by(0, swept(recipe, lc, "max_violation"))
    assert_line(axes_of(balance, f"{recipe}: imbalance"), label, values)
    values = by(0, swept(recipe, lc, "dead_experts"))
    assert_line(axes_of(balance, f"{recipe}: dead experts"), f"{lc:g}", values)
    values = means_of_seeds(swept(recipe, lc, "max_violation", "history"))
    assert_line(axes_of(balance, f"{recipe}: in training"), f"{lc:g}", values)


@pytest.mark.parametrize("recipe", RECIPES)
def test_points_over_lc(drawn: dict[str, Drawn], recipe: str) -> None:
    ax = axes_of(drawn["effect-of-lc-on-accuracy"], f"{recipe}: mean over ne")
    assert [label.get_text() for label in ax.get_xticklabels()] == [f"{lc:g}" for lc in LC]
    bars = [item for item in ax.containers if isinstance(item, ErrorbarContainer)]
    highest = []
    for place, (lc, bar) in enumerate(zip(LC, bars, strict=True)):
        (of_seeds,) = means_of_seeds(swept(recipe, lc, "accuracy")).values()
        assert bar.lines[0].get_xdata() == [place]
        assert bar.lines[0].get_ydata() == pytest.approx([100 * mean(of_seeds)])
        ((_, low), (_, high)) = bar.lines[2][0].get_segments()[0]
        assert (low, high) == pytest.approx([100 * end for end in interval(of_seeds)])
        highest.append((mean(of_seeds), lc))
    best, lc = max(highest)
    sentence = f"{recipe} is highest at lc = {lc:g} with {best:.2%}".lower()
    assert sentence in drawn["effect-of-lc-on-accuracy"].caption.lower()


@pytest.mark.parametrize(("recipe", "k"), list(itertools.product(RECIPES, (1, 2, 3, 4))))
def test_lines_over_ne_for_each_k(drawn: dict[str, Drawn], recipe: str, k: int) -> None:
    ax = axes_of(drawn["effect-of-k"], f"{recipe}: accuracy over ne")
    found = [(row["ne"], row["accuracy"]) for row in judged_on(recipe, k, lc=1)]
    assert_line(ax, f"k = {k}", by(0, found), 100)
    switch = [(row["ne"], row["accuracy"]) for row in judged_on("switch", 1, lc=1)]
    assert_line(ax, "switch, k = 1", by(0, switch), 100)


def test_gradients_at_k_1(drawn: dict[str, Drawn]) -> None:
    ax = axes_of(drawn["effect-of-k"], "k = 1: what reaches the router")
    assert list(lines(ax)) == ["blog", "logits", "switch"]
    for recipe in lines(ax):
        found = [r for r in judged_on(recipe, 1, lc=1) if r["ne"] > 1]
        assert_line(ax, recipe, by(0, [(r["ne"], r["router_grad_norm"]) for r in found]))


def slope_of(pairs: list[tuple[float, float]]) -> float:
    """The least-squares slope, by the textbook formula."""
    x, y = mean([x for x, _ in pairs]), mean([y for _, y in pairs])
    return sum((a - x) * (b - y) for a, b in pairs) / sum((a - x) ** 2 for a, _ in pairs)


def slopes(recipe: str, k: int) -> list[float]:
    """Each seed's slope of accuracy on log2 ne, in points, for the seeds that all ne share."""
    found = [r for r in judged_on(recipe, k, lc=1) if r["ne"] >= max(2, k)]
    sizes = {row["ne"] for row in found}
    seeds: dict[float, list[tuple[float, float]]] = {}
    for row in found:
        seeds.setdefault(row["seed"], []).append((math.log2(row["ne"]), 100 * row["accuracy"]))
    return [slope_of(pairs) for pairs in seeds.values() if len(pairs) == len(sizes)]


def test_slopes_over_k(drawn: dict[str, Drawn]) -> None:
    ax = axes_of(drawn["effect-of-k"], "what a doubling of ne brings")
    bars = {b.get_label(): b for b in ax.containers if isinstance(b, ErrorbarContainer)}
    assert list(bars) == ["blog", "logits", "switch"]
    for recipe, bar in bars.items():
        all_k = (1, 2) if recipe == "switch" else (1, 2, 3, 4)
        assert np.round(np.asarray(bar.lines[0].get_xdata(), float)).tolist() == list(all_k)
        expected = [mean(slopes(recipe, k)) for k in all_k]
        assert list(bar.lines[0].get_ydata()) == pytest.approx(expected)
        for k, segment in zip(all_k, bar.lines[2][0].get_segments(), strict=True):
            assert segment[:, 1] == pytest.approx(interval(slopes(recipe, k)))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_changes_in_the_caption_are_within_seeds(drawn: dict[str, Drawn], recipe: str) -> None:
    for k, fewest in ((1, 1), (2, 2)):
        ends = [
            {row["seed"]: row["accuracy"] for row in judged_on(recipe, k, ne=ne, lc=1)}
            for ne in (fewest, 16)
        ]
        gains = [100 * (ends[1][seed] - ends[0][seed]) for seed in ends[0] if seed in ends[1]]
        low, high = interval(gains)
        sentence = (
            f"{mean(gains):+.1f} [{low:.1f}, {high:.1f}] points at k = {k} from {fewest} to 16"
        )
        assert sentence in drawn["effect-of-k"].caption


@pytest.mark.parametrize(("recipe", "ne"), list(itertools.product(RECIPES, SIZES)))
def test_bars_of_classes(drawn: dict[str, Drawn], recipe: str, ne: int) -> None:
    panels = drawn["accuracy-by-class"].drawing.axes
    ax = panels[2 * SIZES.index(ne) + RECIPES.index(recipe)]
    assert ax.get_ylabel() == f"ne = {ne}"
    bars = [item for item in ax.containers if isinstance(item, BarContainer)]
    for bar, size in zip(bars, (1, ne), strict=True):
        found = judged_on(recipe, min(size, 2), ne=size, lc=1)
        for digit, patch in enumerate(bar.patches):
            assert round(patch.get_x() + patch.get_width() / 2) == digit
            expected = 100 * mean([row[f"accuracy_{digit}"] for row in found])
            assert patch.get_height() == pytest.approx(expected)


def off_diagonal(counts: list[list[float]]) -> list[list[float]]:
    return [
        [math.nan if p == d else n / sum(row) for p, n in enumerate(row)]
        for d, row in enumerate(counts)
    ]


def cell_texts(ax: Axes) -> dict[tuple[int, int], str]:
    return {
        (int(text.get_position()[1]), int(text.get_position()[0])): text.get_text()
        for text in ax.texts
    }


def test_confusion_of_the_base(drawn: dict[str, Drawn]) -> None:
    panels = images(drawn["confusion-of-the-base"])
    for recipe, (title, shown, ax) in zip(RECIPES, panels, strict=False):
        assert title.startswith(f"{recipe}, {400 if recipe == 'blog' else 100} seeds")
        counts = confusion(recipe, 1, "confirm/confusion")
        np.testing.assert_allclose(shown, off_diagonal(counts), rtol=1e-9)
        assert cell_texts(ax) == {
            (d, p): f"{counts[d][p]:.0f}"
            for d, p in itertools.product(range(10), repeat=2)
            if counts[d][p] >= 5
        }
    base = where("confirm/runs", recipe="blog", ne=1)
    weakest = min(base, key=lambda row: min(row[f"accuracy_{digit}"] for digit in range(10)))
    (title, shown, _) = panels[2]
    assert title == f"blog, seed {weakest['seed']:.0f} only"
    of_seed = where("confirm/confusion", recipe="blog", ne=1, seed=weakest["seed"])
    counts = [[row[f"predicted_{p}"] for p in range(10)] for row in of_seed]
    np.testing.assert_allclose(shown, off_diagonal(counts), rtol=1e-9)


def test_confusion_of_experts(drawn: dict[str, Drawn]) -> None:
    panels = {}
    recipe = ""
    for title, shown, ax in images(drawn["confusion-of-experts"]):
        recipe = title.split(",")[0] if "," in title else recipe
        panels[recipe, title] = shown, ax
    assert len(panels) == 12
    for recipe, ne in itertools.product(RECIPES, (4, 8, 16)):
        counts, base = confusion(recipe, ne), confusion(recipe, 1)
        shown, _ = panels[recipe, f"{recipe}, ne = {ne}"]
        np.testing.assert_allclose(shown, off_diagonal(counts), rtol=1e-9)
        shown, ax = panels[recipe, f"ne = {ne} less base"]
        less = [
            [a - b for a, b in zip(*pair, strict=True)] for pair in zip(counts, base, strict=True)
        ]
        np.testing.assert_allclose(shown, less, atol=1e-9)
        assert ax.images[0].get_cmap().name == "RdBu_r"  # red is more
        assert ax.images[0].norm.vmax == -ax.images[0].norm.vmin >= np.abs(less).max()


def test_dropped_digits(drawn: dict[str, Drawn]) -> None:
    ax = axes_of(drawn["fingerprint"], "which digits are dropped")
    bars = [item for item in ax.containers if isinstance(item, ErrorbarContainer)]
    for recipe, bar in zip(RECIPES, bars, strict=True):
        base = where("confirm/runs", recipe=recipe, ne=1)
        expected = [sum(row[f"accuracy_{d}"] < 0.5 for row in base) for d in range(10)]
        assert list(bar.lines[0].get_ydata()) == pytest.approx(
            [100 * n / len(base) for n in expected]
        )
        dropping = sum(any(row[f"accuracy_{d}"] < 0.5 for d in range(10)) for row in base)
        assert f"{recipe}: {dropping} of {len(base)} ({dropping / len(base):.0%}," in (
            drawn["fingerprint"].caption
        )
        # Wilson: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
        p, n, z = dropping / len(base), len(base), 1.959964
        middle, root = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        low, high = ((middle + side * root) / (1 + z * z / n) for side in (-1, 1))
        assert f"95 % interval {low:.0%} to {high:.0%}" in drawn["fingerprint"].caption
    went = np.zeros((10, 10))
    for row in where("confirm/confusion", recipe="blog", ne=1):
        counts = [row[f"predicted_{p}"] for p in range(10)]
        digit = int(row["digit"])
        if counts[digit] / sum(counts) < 0.5:
            went[digit] += counts
    ((_, shown, _),) = [
        panel for panel in images(drawn["fingerprint"]) if "where they go" in panel[0]
    ]
    for digit in range(10):
        if went[digit].sum():
            np.testing.assert_allclose(shown[digit], went[digit] / went[digit].sum())
        else:
            assert np.isnan(shown[digit]).all()


def order_of(shares: list[list[float]]) -> list[int]:
    """Experts sorted by the digit of which each gets the largest share, then by that share."""
    return sorted(
        range(len(shares)), key=lambda e: (shares[e].index(max(shares[e])), -max(shares[e]))
    )


def shares_of(recipe: str, ne: int) -> list[list[float]]:
    counts = slots(recipe, ne)
    total = [sum(row[digit] for row in counts) / 2 for digit in range(10)]
    return [[row[digit] / total[digit] for digit in range(10)] for row in counts]


def test_who_gets_what(drawn: dict[str, Drawn]) -> None:
    panels = images(drawn["who-gets-what"])
    shown_sizes = (2, 3, 4, 5, 6, 7, 8, 10, 16)
    expected_panels = list(itertools.product(RECIPES, shown_sizes))
    for (recipe, ne), (title, shown, ax) in zip(expected_panels, panels, strict=True):
        assert title == f"ne = {ne}"
        shares = shares_of(recipe, ne)
        order = order_of(shares)
        np.testing.assert_allclose(shown, np.transpose([shares[e] for e in order]), rtol=1e-9)
        assert [label.get_text() for label in ax.get_xticklabels()] == [str(e) for e in order]
        assert ax.images[0].get_cmap().name == "cividis"  # bright is much
    specialists = sum(max(row) >= 0.5 for recipe in RECIPES for row in shares_of(recipe, 16))
    assert f"With 16 experts, {specialists} of 32" in drawn["who-gets-what"].caption


def test_router_pictures(drawn: dict[str, Drawn]) -> None:
    panels = [ax for ax in drawn["what-routers-look-for"].drawing.axes if ax.images]
    shown = iter(np.asarray(ax.images[0].get_array()) for ax in panels)
    for ne, recipe in itertools.product((4, 8), RECIPES):
        with Image.open(RESULTS / f"pictures/{recipe},ne={ne},k=2,lc=1.png") as sheet:
            pixels = np.asarray(sheet)
        for row, expert in itertools.product((0, 1), order_of(shares_of(recipe, ne))):
            expected = pixels[28 * row : 28 * row + 28, 28 * expert : 28 * expert + 28]
            np.testing.assert_array_equal(next(shown), expected)
    assert next(shown, None) is None
    assert {ax.images[0].get_cmap().name for ax in panels} == {"RdBu_r", "gray_r"}


def test_specialisation(drawn: dict[str, Drawn]) -> None:
    for title, value in (
        ("expert tells digit", lambda row: row["nmi"] - row["nmi_null"]),
        ("experts per digit", lambda row: row["experts_per_class"]),
        ("digits per expert", lambda row: row["classes_per_expert"]),
    ):
        ax = axes_of(drawn["specialisation"], title)
        for recipe in RECIPES:
            found = [r for r in judged_on(recipe, 2, lc=1) if r["ne"] > 1]
            assert_line(ax, recipe, by(0, [(row["ne"], value(row)) for row in found]))


def test_coactivation(drawn: dict[str, Drawn]) -> None:
    panels = images(drawn["coactivation"])
    highest = []
    for (recipe, ne), (title, shown, _) in zip(
        itertools.product(RECIPES, (4, 8, 16)), panels, strict=True
    ):
        assert title == f"{recipe}, ne = {ne}"
        counts = slots(recipe, ne)
        given = [[math.nan if a == b else 0.0 for b in range(ne)] for a in range(ne)]
        for row in where("coactivation", recipe=recipe, ne=ne, k=2, lc=1, seed=0):
            a, b = int(row["expert"]), int(row["other"])
            given[a][b] = row["images"] / max(1, sum(counts[a]))
            given[b][a] = row["images"] / max(1, sum(counts[b]))
        order = order_of(shares_of(recipe, ne))
        np.testing.assert_allclose(shown, [[given[a][b] for b in order] for a in order], rtol=1e-9)
        highest += [given[a][b] for a in range(ne) for b in range(ne) if a != b]
    assert f", {max(highest):.0%} go to expert" in drawn["coactivation"].caption


def test_capacity_and_compute(drawn: dict[str, Drawn]) -> None:
    left = axes_of(drawn["capacity-and-compute"], "what it holds")
    sizes = (1, *SIZES)
    # Each expert: 784 · 10 + 10 + 10 · 10 + 10; and a row of the router, 784.
    assert list(lines(left)["parameters"].get_ydata()) == [ne * (7960 + 784) for ne in sizes]
    flops = [2 * (784 * ne + min(ne, 2) * (7840 + 100)) for ne in sizes]
    assert list(lines(left)["FLOPs per image"].get_ydata()) == flops
    right = axes_of(drawn["capacity-and-compute"], "accuracy over size")
    for recipe in RECIPES:
        found = [r for r in where("runs", recipe=recipe, lc=1) if r["k"] == min(r["ne"], 2)]
        values = by(0, [(r["ne"] * (7960 + 784), r["accuracy"]) for r in found])
        assert_line(right, recipe, values, 100)
    assert f"grow 8.0 times and the operations per image {flops[-1] / flops[1]:.2f} times" in (
        drawn["capacity-and-compute"].caption
    )


def test_routers_side_by_side(drawn: dict[str, Drawn]) -> None:
    names = list(dict.fromkeys(row["recipe"] for row in of_routers()))
    for k in (1, 2):
        ax = axes_of(drawn["routers-side-by-side"], f"k = {k}: accuracy over ne")
        for recipe in names:
            found = of_routers(recipe=recipe, k=k)
            if found:
                assert_line(ax, recipe, by(0, [(r["ne"], r["accuracy"]) for r in found]), 100)
    first, ax, _ = drawn["routers-side-by-side"].drawing.axes[-3:]  # which share their rows
    assert "NMI" in ax.get_title("left")
    labels = [label.get_text() for label in first.get_yticklabels()]
    dots = {}
    for line in ax.lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if len(x) == 1:
            dots[labels[round(y[0])], 2 if y[0] % 1 < 0.5 else 1] = x[0]
    for (recipe, k), shown in dots.items():
        found = [row["nmi"] for row in of_routers(recipe=recipe, k=k, ne=16)]
        assert shown == pytest.approx(mean(found))
    assert len(dots) == 23  # 26 pairs of recipe and k, of which 3 choose nothing
    means = {
        (recipe, k): mean([row["accuracy"] for row in of_routers(recipe=recipe, k=k, ne=16)])
        for recipe in names
        for k in (1, 2)
        if of_routers(recipe=recipe, k=k, ne=16)
    }
    (recipe, k), best = max(means.items(), key=lambda item: item[1])
    caption = drawn["routers-side-by-side"].caption
    words = rf"The most accurate at ne = 16 is {recipe} with k = {k} \(([\d.]+)%\)"
    (said,) = re.findall(words, caption)
    assert float(said) == pytest.approx(100 * best, abs=0.0051)  # a mean may end in a 5


def test_what_a_step_costs(drawn: dict[str, Drawn]) -> None:
    found = json.loads((ROOT / "benchmarks/results.json").read_text(encoding="utf-8"))
    ax = axes_of(drawn["what-a-step-costs"], "The study's cells")
    (bars,) = [item for item in ax.containers if isinstance(item, BarContainer)]
    expected = sorted(found["mix"]["median_ms"].values())
    assert [bar.get_width() for bar in bars] == pytest.approx(expected)
    assert f"takes {found['kernel_vs_module_per_core']:.0f} times as long" in (
        drawn["what-a-step-costs"].caption
    )


def test_captions_say_which_study(tables: Tables, drawn: dict[str, Drawn]) -> None:
    captions = {s: found.caption for s, found in drawn.items() if "confirmatory" in found.caption}
    assert set(captions) == {
        *("effect-of-lc-on-accuracy", "effect-of-k", "accuracy-by-class", "specialisation"),
        *("confusion-of-the-base", "fingerprint", "balance"),
        *("effect-of-lc-on-gate-loss", "effect-of-lc-on-network-loss"),
    }
    assert "those of switch at k = 2 are of the exploratory one" in captions["effect-of-k"]
    assert "but over epochs of the exploratory one" in captions["balance"]
    # Without the confirmatory study, the figures show this study, and captions mention no other.
    for slug in captions:
        alone = FIGURES[slug].of(tables._replace(confirmed=None)).drawn
        assert alone is not None
        assert "confirmatory" not in alone.caption


def test_a_recipe_and_k_with_a_cell_of_its_own_keeps_its_seeds(tables: Tables) -> None:
    kept = read_kept(RESULTS / "confirm")
    assert kept is not None
    runs = tables.runs
    own = runs[(runs["recipe"] == "blog") & (runs["k"] == 2) & (runs["lc"] == 1)]
    swept = tables._replace(runs=pd.concat([runs, own.assign(lc=3.0)]))
    seeds = (
        confirmed(swept, kept.tables, kept.params.train).runs.groupby(["recipe", "k"])["seed"].min()
    )
    assert {key for key, least in seeds.items() if least < 1000} == {("blog", 2), ("switch", 2)}


def test_a_study_shown_at_other_settings_keeps_its_own_runs(tables: Tables) -> None:
    kept = read_kept(RESULTS / "confirm")
    assert kept is not None
    for rate, is_replaced in ((0.003, False), (kept.params.train.learning_rate, True)):
        swept = tables._replace(settings=(("learning_rate", rate),))
        found = confirmed(swept, kept.tables, kept.params.train).runs
        assert (found["seed"].max() >= 1000) == is_replaced


def test_every_figure_is_compared_with_the_tables(drawn: dict[str, Drawn]) -> None:
    """Every new figure of the committed study needs a comparison in a test."""
    # The first needs a study that sweeps a setting, the others the study on Fashion-MNIST.
    not_here = {"swept-settings", "beyond-mnist", "what-routers-look-for-beyond"}
    assert set(FIGURES) - set(drawn) <= not_here
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("test_*.py"))
    assert [slug for slug in drawn if f'"{slug}"' not in text and slug != "the-layer"] == []
