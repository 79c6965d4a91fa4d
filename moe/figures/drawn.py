"""The types of figures: a decorated function from a study's tables to a drawing with its texts."""

import io
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure as Drawing

from moe.analysis.confirmed import study_text
from moe.analysis.results import MissingCellsError, Tables
from moe.figures.style import DPI, STYLE


class Drawn(NamedTuple):
    """The result of a figure's function.

    caption, alt: plain text; ref("slug") in a caption refers to another figure. table: the numbers
    in the drawing. dense: save as PNG instead of SVG.
    """

    caption: str
    alt: str
    table: pd.DataFrame
    drawing: Drawing
    dense: bool = False


class Figure(NamedTuple):
    """A figure of one study; drawn is None if the study lacks cells, and needs says which."""

    slug: str
    title: str
    drawn: Drawn | None
    needs: str = ""

    @property
    def file_name(self) -> str:
        """Such as effect-of-k.svg."""
        return f"{self.slug}.{'png' if self.drawn and self.drawn.dense else 'svg'}"

    def to_bytes(self) -> bytes:
        """The file's content: identical bytes for equal figures, with any matplotlibrc."""
        assert self.drawn is not None
        file = io.BytesIO()
        with own_style():
            if self.drawn.dense:
                self.drawn.drawing.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
            else:
                nothing = {"Date": None, "Creator": None}
                self.drawn.drawing.savefig(file, format="svg", metadata=nothing)
        return file.getvalue()


class Declared(NamedTuple):
    """A figure before it is drawn."""

    slug: str
    title: str
    order: int
    make: Callable[[Tables], Drawn]
    for_claims: bool = False

    def of(self, tables: Tables) -> Figure:
        """Draw the figure, or say which cells the study lacks."""
        if tables.runs.empty:
            return Figure(self.slug, self.title, None, "a run that did not diverge")
        shown = tables.for_claims if self.for_claims else tables
        try:
            with own_style():
                drawn = self.make(shown)
            study = study_text(drawn.table, shown) if tables.confirmed and self.for_claims else ""
            drawn = drawn._replace(caption=f"{drawn.caption} {study}".strip())
            return Figure(self.slug, self.title, drawn)
        except MissingCellsError as missing:
            return Figure(self.slug, self.title, None, str(missing))


FIGURES: dict[str, Declared] = {}


def figure(
    slug: str, title: str, order: int = 100, for_claims: bool = False
) -> Callable[[Callable[[Tables], Drawn]], Callable[[Tables], Drawn]]:
    """Declare a function of this folder as a figure.

    slug: its file name, its link in the report, and its name in `ref`. order: its position among
    figures that the report's template does not place, smallest first. for_claims: draw it from the
    confirmatory study, where that has the same cells; such a figure may only use the runs and the
    confusion of base models. The function raises MissingCellsError, whose message completes
    "Figure 5 needs …", if it cannot draw the study.
    """

    def declare(make: Callable[[Tables], Drawn]) -> Callable[[Tables], Drawn]:
        known = FIGURES.get(slug)
        if known is not None and known.make.__module__ != make.__module__:
            raise ValueError(f"two figures are called {slug!r}")
        FIGURES[slug] = Declared(slug, title, order, make, for_claims)
        return make

    return declare


def ref(slug: str) -> str:
    """A reference in a caption, which the report replaces by "figure 5"."""
    return f"⟦{slug}⟧"


def with_numbers(text: str, numbers: Mapping[str, int]) -> str:
    """Replace references by "figure N", or by the title if the figure has no number."""

    def name(found: re.Match[str]) -> str:
        slug = found[1]
        if slug in numbers:
            return f"figure {numbers[slug]}"
        return f"“{FIGURES[slug].title}”" if slug in FIGURES else slug

    return re.sub(r"⟦([^⟧]*)⟧", name, text)


def own_style() -> AbstractContextManager[None]:
    """matplotlib's defaults with STYLE, without a user's matplotlibrc."""
    # Without the backend: drawing to a file needs none, and the user's may not be installed.
    defaults = {k: v for k, v in mpl.rcParamsDefault.items() if not k.startswith("backend")}
    return mpl.rc_context({**defaults, **STYLE})
