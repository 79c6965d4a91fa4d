"""Where to split a figure, so that a narrow screen can show its panels below each other."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.figure import FigureBase
from matplotlib.transforms import Bbox

from moe.figures.drawn import own_style

MOST_WIDTH = 0.53  # of the figure: neighbours that are narrower together are not split
SLACK = 0.004  # of the figure, around a panel: text is drawn a little larger than its box
DIGITS = 3


class Box(NamedTuple):
    """A rectangle, in shares of the figure's width and height, from its top left corner.

    joins: must stay with its left neighbour, such as a colour bar or a heatmap without row labels.
    heads: must stay with what is below it, such as the title of a subfigure.
    """

    left: float
    top: float
    right: float
    bottom: float
    joins: bool = False
    heads: bool = False


def panels(drawing: Drawing) -> list[list[float]]:
    """[left, top, right, bottom] of each panel, row by row; together they cover everything.

    Rows are separated by gaps across the whole figure, panels by gaps across their row. Consecutive
    rows of a single panel are merged.
    """
    with own_style():
        # After saving as SVG, legends are still laid out for 72 dots per inch.
        FigureCanvasAgg(drawing)
        drawing.draw_without_rendering()
        boxes = list(_boxes(drawing, drawing.bbox, FigureCanvasAgg(drawing).get_renderer()))
    parts: list[Box] = []
    whole = False  # whether the last part is a row of one panel
    titles: list[Box] = []
    for row in _groups(boxes, "top", "bottom"):
        if all(box.heads for box in row):
            titles += row
            continue
        row, titles = [*titles, *row], []
        columns = _side_by_side(_groups(row, "left", "right"))
        if len(columns) == 1 and whole:
            parts[-1] = _around([parts[-1], *row])
        else:
            parts += [_around(column) for column in columns]
        whole = len(columns) == 1
    return [_edges(part) for part in parts]


def _boxes(part: FigureBase, whole: Any, renderer: Any) -> Iterator[Box]:
    """The boxes of all axes, titles and legend entries of a drawing and its subfigures."""

    def share(box: Bbox, **kind: bool) -> Box:
        width, height = map(float, whole.size)
        edges = (box.x0 / width, 1 - box.y1 / height, box.x1 / width, 1 - box.y0 / height)
        return Box(*map(float, edges), **kind)

    for ax in part.axes if isinstance(part, Drawing) else ():
        box = ax.get_tightbbox(renderer)
        if box is not None:
            yield share(box, joins=not _has_labels(ax))
    title = part._suptitle  # pyright: ignore[reportAttributeAccessIssue] # matplotlib has no getter
    for text in [*part.texts, *([title] if title else [])]:
        yield share(text.get_window_extent(renderer), heads=True)
    for legend in part.legends:
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            marks = [mark for mark in (handle, text) if mark is not None]
            yield share(Bbox.union([mark.get_window_extent(renderer) for mark in marks]))
    for child in part.subfigs:
        yield from _boxes(child, whole, renderer)


def _has_labels(ax: Axes) -> bool:
    """Whether a panel has tick labels of its own on the left."""
    labels = [label for label in ax.get_yticklabels() if label.get_visible() and label.get_text()]
    return not ax.axison or (bool(labels) and ax.yaxis.get_ticks_position() != "right")


def _groups(boxes: list[Box], start: str, end: str) -> list[list[Box]]:
    """Group boxes along one direction, with gaps between the groups."""
    groups: list[list[Box]] = []
    reached = -1.0
    for box in sorted(boxes, key=lambda box: getattr(box, start)):
        if getattr(box, start) > reached:
            groups.append([])
        groups[-1].append(box)
        reached = max(reached, getattr(box, end))
    return groups


def _side_by_side(columns: list[list[Box]]) -> list[list[Box]]:
    """Merge neighbouring columns of a row that are narrow enough or must stay together."""
    joined = [columns[0]]
    for column in columns[1:]:
        both = _around([*joined[-1], *column])
        if both.right - both.left <= MOST_WIDTH or all(box.joins or box.heads for box in column):
            joined[-1] = [*joined[-1], *column]
        else:
            joined.append(column)
    return joined


def _around(boxes: list[Box]) -> Box:
    return Box(
        min(box.left for box in boxes),
        min(box.top for box in boxes),
        max(box.right for box in boxes),
        max(box.bottom for box in boxes),
    )


def _edges(box: Box) -> list[float]:
    edges = (box.left - SLACK, box.top - SLACK, box.right + SLACK, box.bottom + SLACK)
    return [round(min(1.0, max(0.0, edge)), DIGITS) for edge in edges]
