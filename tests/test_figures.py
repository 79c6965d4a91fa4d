"""The committed study's figures: none empty, nothing cut off, no two words on top of each other."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from moe.analysis.results import Tables, read_tables
from moe.figures import MAKERS, Figure

ROOT = Path(__file__).parent.parent
SLACK = 1.5  # pixels at 100 to the inch: boxes of text are a little larger than their ink


@pytest.fixture(scope="module")
def tables() -> Tables:
    return read_tables(ROOT / "results", hidden=10)


@pytest.fixture(params=MAKERS, ids=lambda make: make.__name__, scope="module")
def figure(request: pytest.FixtureRequest, tables: Tables) -> Figure:
    found = request.param(tables)
    assert found is not None
    FigureCanvasAgg(found.drawing)
    found.drawing.draw_without_rendering()
    return found


def words(ax: Axes) -> Iterator[Text]:
    """All text that belongs to an axes and is drawn."""
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


def boxes(figure: Figure) -> tuple[list[str], np.ndarray]:
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


def test_nothing_is_cut_off(figure: Figure) -> None:
    names, extents = boxes(figure)
    width, height = figure.drawing.bbox.max
    outside = (extents[:, :2] < -SLACK).any(1) | (
        extents[:, 2:] > [width + SLACK, height + SLACK]
    ).any(1)
    assert [name for name, out in zip(names, outside, strict=True) if out] == []


def test_no_words_overlap(figure: Figure) -> None:
    names, extents = boxes(figure)
    low, high = extents[:, :2] + SLACK, extents[:, 2:] - SLACK
    meet = ((low[:, None] < high[None]) & (low[None] < high[:, None])).all(2)
    pairs = np.argwhere(np.triu(meet, 1))
    assert [(names[a], names[b]) for a, b in pairs] == []


def test_it_says_what_to_see(figure: Figure) -> None:
    assert len(figure.table) > 0
    assert len(figure.caption) > 80
    assert len(figure.alt) > 40
    assert "nan" not in (figure.caption + figure.alt).lower().split()


def test_text_is_large_enough_for_half_a_page(figure: Figure) -> None:
    """At 500 pixels: words at 7.5 pixels or more, numbers of sixteen experts at 5.9."""
    scale = 500 / figure.drawing.bbox.width * figure.drawing.dpi / 72
    for ax in figure.drawing.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            assert float(text.get_fontsize()) * scale >= (7.5 if text.get_text() else 0)
        for text in (*ax.get_xticklabels(), *ax.get_yticklabels()):
            assert float(text.get_fontsize()) * scale >= 5.9


def test_figures_are_numbered_in_order(tables: Tables) -> None:
    folder = ROOT / "reports" / "figures"
    names = sorted(path.name for path in folder.iterdir())
    assert [int(name[:2]) for name in names] == list(range(1, len(MAKERS) + 1))


def test_the_same_tables_give_the_same_bytes(tables: Tables) -> None:
    for make in (MAKERS[4], MAKERS[14]):  # a drawing as SVG, one as PNG with dots at random
        first, second = make(tables), make(tables)
        assert first is not None
        assert second is not None
        assert first.to_bytes() == second.to_bytes()
