"""The committed study's figures: none is empty, nothing is clipped, no texts overlap."""

import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from moe.analysis.kept import read_kept
from moe.analysis.results import MissingCellsError, Tables, read_tables
from moe.figures import FIGURES
from moe.figures import figure as declare
from moe.figures.drawn import Declared, Drawn, Figure, own_style, ref
from moe.figures.panels import panels
from moe.figures.style import canvas
from moe.report.page import write_report
from moe.study.params import read_params
from tests.made_up import with_swept_settings

ROOT = Path(__file__).parent.parent
SLACK = 1.5  # pixels at 100 to the inch: boxes of text are a little larger than their ink


@pytest.fixture(scope="module")
def tables() -> Tables:
    """The tables, with the study on Fashion-MNIST or, until that exists, the study itself."""
    tables = read_tables(ROOT / "results", hidden=10)
    kept = read_kept(ROOT / "results/fashion")
    return tables._replace(beyond=kept.tables if kept else tables)


@pytest.fixture(params=FIGURES, scope="module")
def figure(request: pytest.FixtureRequest, tables: Tables) -> Drawn:
    if request.param == "swept-settings":  # which the committed study does not have
        tables = with_swept_settings(tables)
    found = FIGURES[request.param].of(tables).drawn
    assert found is not None
    with own_style():
        FigureCanvasAgg(found.drawing)
        found.drawing.draw_without_rendering()
    return found


def words(ax: Axes) -> Iterator[Text]:
    """All visible text of an axes."""
    yield from (ax.title, *ax.texts)
    yield from (ax.xaxis.label, ax.yaxis.label)
    yield from [text for text in ax.get_children() if isinstance(text, Text)]
    legend = ax.get_legend()
    if legend is not None:
        yield from legend.get_texts()
    for place, axis in enumerate((ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for label in axis.get_majorticklabels():
            if low - 1e-9 <= float(label.get_position()[place]) <= high + 1e-9:
                yield label


def boxes(figure: Drawn) -> tuple[list[str], np.ndarray]:
    """Each text with its box (left, bottom, right, top) in pixels."""
    texts = {text for ax in figure.drawing.axes if ax.axison for text in words(ax)}
    texts |= {text for ax in figure.drawing.axes if not ax.axison for text in ax.texts}
    legends = figure.drawing.legends + [
        legend for part in figure.drawing.subfigs for legend in part.legends
    ]
    texts |= {text for legend in legends for text in legend.get_texts()}
    shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return [text.get_text() for text in shown], np.array(
        [text.get_window_extent().extents for text in shown]
    )


def test_nothing_is_cut_off(figure: Drawn) -> None:
    names, extents = boxes(figure)
    width, height = figure.drawing.bbox.max
    outside = (extents[:, :2] < -SLACK).any(1) | (
        extents[:, 2:] > [width + SLACK, height + SLACK]
    ).any(1)
    assert [name for name, out in zip(names, outside, strict=True) if out] == []


def test_no_words_overlap(figure: Drawn) -> None:
    names, extents = boxes(figure)
    low, high = extents[:, :2] + SLACK, extents[:, 2:] - SLACK
    meet = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(2)
    pairs = np.argwhere(np.triu(meet, 1))
    assert [(names[a], names[b]) for a, b in pairs] == []


def test_it_says_what_to_see(figure: Drawn) -> None:
    assert len(figure.table) > 0
    assert len(figure.caption) > 80
    assert len(figure.alt) > 40
    assert "nan" not in (figure.caption + figure.alt).lower().split()


def test_text_is_large_enough_for_half_a_page(figure: Drawn) -> None:
    """At a width of 500 pixels: text has 7.5 pixels or more, numbers of sixteen experts 5.9."""
    scale = 500 / figure.drawing.bbox.width * figure.drawing.dpi / 72
    for ax in figure.drawing.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            assert float(text.get_fontsize()) * scale >= (7.5 if text.get_text() else 0)
        for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
            assert float(text.get_fontsize()) * scale >= 5.9


def test_each_word_is_in_one_panel(figure: Drawn) -> None:
    """A phone shows a figure's panels one by one: each text is in exactly one panel, unclipped."""
    names, extents = boxes(figure)
    width, height = figure.drawing.bbox.size
    parts = np.array(panels(figure.drawing)) * [width, height, width, height]
    parts = np.column_stack([parts[:, 0], height - parts[:, 3], parts[:, 2], height - parts[:, 1]])
    for name, (left, bottom, right, top) in zip(names, extents, strict=True):
        inside = (parts[:, :2] <= [left + SLACK, bottom + SLACK]) & (
            parts[:, 2:] >= [right - SLACK, top - SLACK]
        )
        assert inside.all(1).sum() == 1, name


def test_lines_side_by_side_are_cut_apart(tables: Tables) -> None:
    """Two recipes in two rows with a legend above: four panels of half the width."""
    drawn = FIGURES["effect-of-lc-on-accuracy"].of(tables).drawn
    assert drawn is not None
    drawn.drawing.draw_without_rendering()
    found = np.array(panels(drawn.drawing))[-4:]
    assert found[:, 2] - found[:, 0] == pytest.approx(0.5, abs=0.03)
    assert found[0, 3] <= found[2, 1] + 0.02
    assert found[0, 2] <= found[1, 0] + 0.02


def test_the_same_tables_give_the_same_bytes_whatever_a_matplotlibrc_says(
    tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    for slug in ("the-layer", "confusion-of-the-base"):  # one as SVG, one as PNG
        first = FIGURES[slug].of(tables).to_bytes()
        with mpl.rc_context({"axes.facecolor": "red", "savefig.bbox": "tight", "font.size": 20}):
            assert FIGURES[slug].of(tables).to_bytes() == first


def test_figures_are_numbered_in_the_order_of_the_page(
    tables: Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(Figure, "to_bytes", lambda figure: b"")

    def new(tables: Tables) -> Drawn:
        drawing, _ = canvas(1, 1, 2)
        return Drawn(f"See {ref('effect-of-k')} and {ref('gone')}.", "new", tables.runs, drawing)

    def lacking(tables: Tables) -> Drawn:
        raise MissingCellsError("what it does not have")

    for slug, one in list(FIGURES.items()):
        if slug not in ("the-layer", "effect-of-lc-on-accuracy", "effect-of-k"):  # to save time
            monkeypatch.setitem(FIGURES, slug, one._replace(make=lacking))
    monkeypatch.setitem(FIGURES, "new", Declared("new", "A new one", 1, new))
    params = read_params(ROOT / "params.yaml")
    write_report(tables, params, [], tmp_path)
    html = (tmp_path / "index.html").read_text(encoding="utf-8")
    numbers = re.findall(r"<b>Figure (\d+)\. ([^<]*)\.</b>", html)
    # A figure that this study cannot draw still has a number in the template, but no image.
    drawn = {slug for slug, one in FIGURES.items() if one.of(tables).drawn}
    without = re.findall(r"Figure (\d+), [^<]*, needs ", html)
    assert sorted(int(n) for n in (*without, *(n for n, _ in numbers))) == list(
        range(1, len(drawn) + len(without) + 1)
    )
    assert [int(number) for number, _ in numbers] == sorted(int(number) for number, _ in numbers)
    assert [title for _, title in numbers][:2] == [
        "The mixture-of-experts layer",
        "Effect of lc on accuracy",
    ]
    # Figures that the template does not place come last, before the claims.
    assert numbers[-1] == (str(len(drawn) + len(without)), "A new one")
    assert html.index('id="more"') < html.index('id="figure-new"') < html.index('id="closing"')
    (effect_of_k,) = [number for number, title in numbers if title == "Effect of k"]
    assert f"See figure {effect_of_k} and gone." in html
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == drawn


def test_two_figures_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two figures are called 'effect-of-k'"):
        declare("effect-of-k", "Another")(lambda tables: None)  # type: ignore[arg-type,return-value]
