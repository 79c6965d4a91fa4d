"""Results of the comparison of routers on synthetic runs, against plain loops and by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from moe.analysis import router_answers as answers
from moe.analysis.results import Tables, read_tables
from moe.analysis.router_answers import Difference, difference, on_the_front
from moe.analysis.router_study import RouterStudy
from moe.figures import FIGURES
from moe.figures.drawn import Drawn
from moe.recipes import RECIPES
from moe.report import router_told as said
from tests.made_up import router_study
from tests.plain_tables import RESULTS, interval, mean


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> RouterStudy:
    return router_study(tmp_path_factory.mktemp("routers"))


@pytest.fixture(scope="module")
def draw(study: RouterStudy) -> Callable[[str], Drawn]:
    tables: Tables = read_tables(RESULTS, hidden=10)._replace(router_study=study)

    def drawn(slug: str) -> Drawn:
        found = FIGURES[slug].of(tables).drawn
        assert found is not None
        return found

    return drawn


def accuracies(study: RouterStudy, **wanted: Any) -> dict[int, float]:
    """Accuracy by seed, for the runs of phase two with these values."""
    values = {"hidden": 10, "capacity_factor": math.inf, **wanted}
    rows = study.runs
    for name, value in values.items():
        rows = rows[rows[name] == value]
    return dict(zip(rows["seed"], rows["accuracy"], strict=True))


def apart(one: dict[int, float], other: dict[int, float]) -> tuple[float, float, float]:
    """Mean and interval of the differences in points."""
    assert set(one) == set(other)
    found = [100 * (one[seed] - other[seed]) for seed in one]
    return (mean(found), *interval(found))


def test_a_difference_by_hand() -> None:
    one = pd.DataFrame({"seed": [1, 2, 3], "accuracy": [0.95, 0.97, 0.5]})
    other = pd.DataFrame({"seed": [2, 1, 4], "accuracy": [0.94, 0.94, 0.1]})
    # Seeds 1 and 2: 1 and 3 points, mean 2, standard error 1, t(0.975, 1) = 12.7062.
    found = difference(one, other)
    assert found is not None
    assert found == pytest.approx((2, 2 - 12.7062, 2 + 12.7062, 2), abs=1e-3)
    assert found.is_tie
    assert difference(one, other[other["seed"] != 1]) is None


def test_the_front_by_hand() -> None:
    table = pd.DataFrame(
        {
            "recipe": ["a", "b", "c", "d", "dense"],
            "accuracy": [0.96, 0.95, 0.95, 0.94, 0.99],
            "max_violation": [1.0, 0.5, 0.6, 0.5, math.nan],
        }
    )
    # c: b is as accurate and more even; d: b is more accurate and as even.
    assert list(on_the_front(table)["recipe"]) == ["a", "b"]


def test_gains_are_differences_within_a_seed(study: RouterStudy) -> None:
    table = answers.gains(study)
    assert len(table) == 3 * (2 * 9 + 3)  # blog, logits, … at both k; gshard, shared and top-p at 2
    for row in table.to_dict("records"):
        its_k = 1 if row["control"] == "dense-total" else row["k"]
        control = accuracies(study, recipe=row["control"], ne=16, k=its_k)
        expected = apart(accuracies(study, recipe=row["recipe"], ne=16, k=row["k"]), control)
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected)


def test_decisions_are_differences_within_a_seed(study: RouterStudy) -> None:
    table = answers.choices(study)
    table = table[table["measure"] == "accuracy"]
    # A shared expert: 2 ne; gates: 2 × (2 ne × 2 k); a capacity: 2 ne × 2 k × 3.
    assert len(table) == 2 + 8 + 12
    for row in table.to_dict("records"):
        cell = {"ne": row["ne"], "k": row["k"]}
        if row["question"] == "a capacity":
            factor = float(row["one"].removeprefix("factor "))
            one = accuracies(study, recipe="switch", **cell, capacity_factor=factor)
            other = accuracies(study, recipe="switch", **cell)
        else:
            one, other = (accuracies(study, recipe=row[name], **cell) for name in ("one", "other"))
        expected = apart(one, other)
        assert (row["difference"], row["low"], row["high"]) == pytest.approx(expected)


def test_sizes(study: RouterStudy) -> None:
    table = answers.grains(study).set_index(["recipe", "ne"])
    assert [ne for recipe, ne in table.index if recipe == "switch"] == [4, 8, 16, 32]
    assert [ne for recipe, ne in table.index if recipe == "deepseek-v3"] == [8, 16, 32]
    for ne, k, hidden in ((4, 1, 40), (32, 8, 5)):
        found = accuracies(study, recipe="switch", ne=ne, k=k, hidden=hidden)
        assert table.loc[("switch", ne), "accuracy"] == pytest.approx(mean(list(found.values())))
    many = accuracies(study, recipe="switch", ne=32, k=8, hidden=5)
    few = accuracies(study, recipe="switch", ne=4, k=1, hidden=40)
    gain = table.loc[("switch", 32), ["gain_difference", "gain_low", "gain_high"]]
    assert tuple(gain) == pytest.approx(apart(many, few))
    dense = accuracies(study, recipe="dense-active", ne=4, k=1, hidden=40)
    expected = apart(many, dense)
    text = f"{expected[0]:+.2f} points [{expected[1]:.2f}, {expected[2]:.2f}]"
    assert f"{text} compared with dense-active" in said.grains(study).replace(" (a tie)", "")


def test_the_weights_are_those_of_phase_one_at_the_chosen_learning_rate(study: RouterStudy) -> None:
    table = answers.by_weight(study)
    rate = {
        (row["recipe"], row["ne"], row["k"]): (row["lc"], row["learning_rate"])
        for row in study.chosen.to_dict("records")
    }
    runs = study.select.to_dict("records")
    for row in table.to_dict("records"):
        lc, chosen_rate = rate[row["recipe"], row["ne"], row["k"]]
        found = [
            run["accuracy"]
            for run in runs
            if all(run[name] == row[name] for name in ("recipe", "ne", "k", "lc"))
            and run["learning_rate"] == chosen_rate
        ]
        assert len(found) == 3
        assert row["accuracy"] == pytest.approx(mean(found))
        assert row["chosen"] == (row["lc"] == lc)


def test_who_has_the_highest_mean_and_who_ties_with_it(study: RouterStudy) -> None:
    found = {
        recipe: accuracies(study, recipe=recipe, ne=16, k=2)
        for recipe in dict.fromkeys(study.main["recipe"])
    }
    routers = {
        name: values
        for name, values in found.items()
        if values and name not in ("random", "dense-active", "dense-total")
    }
    best = max(routers, key=lambda name: mean(list(routers[name].values())))
    text = said.highest(said.ranking(study, 2))
    assert text.startswith(
        f"{best} has the highest mean, {100 * mean([*routers[best].values()]):.2f}"
    )
    for name in set(routers) - {best}:
        value, low, high = apart(routers[name], routers[best])
        if low <= 0 <= high:
            assert f"{name} ({value:+.2f} points [{low:.2f}, {high:.2f}])" in text
    assert ("with it" in text) == any(
        apart(routers[name], routers[best])[2] >= 0 for name in set(routers) - {best}
    )


@pytest.mark.parametrize(
    ("low", "high", "tie"), [(-1, 1, True), (0.1, 1, False), (-1, -0.1, False)]
)
def test_an_interval_around_0_is_a_tie(low: float, high: float, tie: bool) -> None:
    assert Difference(0, low, high, 20).is_tie is tie
    assert bool(said.tie(Difference(0, low, high, 20))) is tie
    assert said.is_tie(pd.Series({"low": low, "high": high})) is tie


def whiskers(ax: Axes) -> dict[int, tuple[float, float]]:
    """Ends of the interval drawn at each height."""
    points = [np.asarray(line.get_xydata(), float) for line in ax.lines]
    return {
        round(xy[0, 1]): (xy[0, 0], xy[1, 0])
        for xy in points
        if len(xy) == 2 and xy[0, 0] != xy[1, 0]
    }


def test_the_drawn_gains(study: RouterStudy, draw: Callable[[str], Drawn]) -> None:
    axes = draw("router-gains").drawing.axes
    names = [label.get_text() for label in axes[0].get_yticklabels()]
    for ax, control in zip(axes, ("random", "dense-active", "dense-total"), strict=True):
        shown = whiskers(ax)
        assert len(shown) == len(names) == 21
        for y, (low, high) in shown.items():
            recipe, _, k = names[y].partition(", k = ")
            its_k = 1 if control == "dense-total" else int(k)
            other = accuracies(study, recipe=control, ne=16, k=its_k)
            expected = apart(accuracies(study, recipe=recipe, ne=16, k=int(k)), other)
            assert (low, high) == pytest.approx(expected[1:])


def test_the_drawn_balance_is_in_the_row_of_its_router(
    study: RouterStudy, draw: Callable[[str], Drawn]
) -> None:
    *_, one, two = draw("router-front").drawing.axes
    names = [label.get_text() for label in one.get_yticklabels()]
    for ax, k in ((one, 1), (two, 2)):
        points = [np.asarray(line.get_xydata(), float) for line in ax.lines]
        dots = {(round(y), round(y % 1, 2)): x for xy in points if len(xy) == 1 for x, y in xy}
        for (y, _), x in dots.items():
            rows = study.main[
                (study.main["recipe"] == names[y])
                & (study.main["ne"] == 16)
                & (study.main["k"] == k)
            ]
            columns = ("max_violation", "max_violation_batch", "max_violation_epoch")
            assert any(x == pytest.approx(max(0.01, rows[name].mean())) for name in columns)
        assert len(dots) == 3 * len(set(study.main.query("ne == 16 and k == @k")["recipe"]) - DENSE)


DENSE = {"dense-active", "dense-total"}


def test_the_drawn_sizes(study: RouterStudy, draw: Callable[[str], Drawn]) -> None:
    ax = draw("router-grains").drawing.axes[0]
    line = next(line for line in ax.lines if line.get_label() == "switch")
    expected = [
        100
        * mean([*accuracies(study, recipe="switch", ne=ne, k=ne // 4, hidden=160 // ne).values()])
        for ne in (4, 8, 16, 32)
    ]
    assert np.asarray(line.get_ydata(), float) == pytest.approx(expected)


def test_the_drawn_weights(study: RouterStudy, draw: Callable[[str], Drawn]) -> None:
    axes = np.reshape(draw("router-weights").drawing.axes, (3, 3))
    columns = {"switch": 0, "deepseek-v3": 1, "top-p": 2}
    table = answers.by_weight(study).query("ne == 16 and k == 2")
    for recipe, column in columns.items():
        rows = table[table["recipe"] == recipe].sort_values("lc")
        for ax, name, scale in zip(
            axes[:, column], ("accuracy", "max_violation", "dead_experts"), (100, 1, 1), strict=True
        ):
            lines = [
                np.asarray(line.get_ydata(), float)
                for line in ax.lines
                if line.get_color() == RECIPES[recipe].color and line.get_linestyle() == "-"
            ]
            assert any(
                len(line) == len(rows) and line == pytest.approx(scale * rows[name].to_numpy())
                for line in lines
            )


def test_the_drawn_decisions(study: RouterStudy, draw: Callable[[str], Drawn]) -> None:
    ax = draw("router-choices").drawing.axes[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    shown = whiskers(ax)
    assert len(shown) == len(names) == 2 + 8 + 12
    compared = 0
    for y, (low, high) in shown.items():
        pair, ne, k = names[y].split(", ")
        one, _, other = pair.partition(" − ")
        if one.startswith("factor"):
            continue
        cell = {"ne": int(ne.removeprefix("ne = ")), "k": int(k.removeprefix("k = "))}
        found = (accuracies(study, recipe=recipe, **cell) for recipe in (one, other))
        assert (low, high) == pytest.approx(apart(*found)[1:])
        compared += 1
    assert compared == 2 + 8


def test_what_was_chosen_at_an_end_of_the_grid(study: RouterStudy) -> None:
    chosen = pd.DataFrame(
        [("switch", 8, 1, 0.0, 0.01), ("top-p", 8, 2, 0.8, 0.003), ("gshard", 8, 2, 0.1, 0.003)],
        columns=["recipe", "ne", "k", "lc", "learning_rate"],
    )
    # Tried: learning rates 0.001, 0.003, 0.01; lc 0 … 10, for top-p 0.2 … 0.8. 0 is no end.
    ends = answers.at_an_end(study._replace(chosen=chosen))
    assert ends == {"learning_rate": {"switch": [0.01]}, "lc": {"top-p": [0.8]}}
    text = said.held_equal(study._replace(chosen=chosen))
    assert text.endswith("might differ: learning rate 0.01 of switch and lc 0.8 of top-p.")
    middle = chosen[chosen["recipe"] == "gshard"]
    assert "might differ" not in said.held_equal(study._replace(chosen=middle))


def test_every_answer_has_words_and_no_nan(study: RouterStudy) -> None:
    texts = [answer.text for answer in said.told(study)]
    texts += [*said.purposes(study), said.held_equal(study)]
    for text in texts:
        assert len(text) > 60
        assert "nan" not in text
    assert {answer.figure for answer in said.told(study)} <= set(FIGURES)
