"""The report: one self-contained HTML file, and a file for each figure."""

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moe.figures import Figure, Tables, all_figures, ref, with_numbers
from moe.figures.panels import panels
from moe.report.facts import facts
from moe.report.single_page import joined
from moe.study.params import Params
from moe.study.runs import exactly

REPORTS_DIR = Path("reports")
TEMPLATE_DIR = REPORTS_DIR / "template"
LONGEST_TABLE = 400  # rows


def write_report(
    tables: Tables,
    params: Params,
    claims: list[dict[str, Any]],
    into: Path,
    beyond: Sequence[dict[str, Any]] = (),
) -> None:
    """Write index.html and figures/ into a folder; equal tables give identical bytes.

    beyond: the claims on other data, from `moe.claims.beyond.compared`.
    """
    folder = into / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    placed = Placed(all_figures(tables), folder)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(ref=ref, exactly=exactly)
    found = Claims(claims)
    html = environment.get_template("index.html").render(
        placed=placed,
        claims=found,
        facts=facts(tables, params, claims),
        elsewhere=_elsewhere(tables, claims, beyond),
        css=joined(TEMPLATE_DIR, ["report.css"]),
        js=joined(TEMPLATE_DIR, ["neighbours.js", "report.js"]),
    )
    (into / "index.html").write_text(with_numbers(html, placed.numbers), encoding="utf-8")


def _elsewhere(
    tables: Tables, claims: list[dict[str, Any]], rows: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """The study on other data; None without it."""
    if tables.beyond is None:
        return None
    runs = tables.beyond.runs
    return {
        "dataset": tables.beyond.dataset,
        "runs": len(runs),
        "seeds": runs["seed"].nunique(),
        "confirmatory": bool(claims) and all(claim["confirmatory"] for claim in claims),
        "rows": list(rows),
    }


class Placed:
    """Figures, numbered in the order in which the template places them."""

    def __init__(self, figures: list[Figure], folder: Path) -> None:
        self.figures = {figure.slug: figure for figure in figures}
        self.folder = folder
        self.numbers: dict[str, int] = {}

    def __call__(self, slug: str) -> dict[str, Any]:
        """Number a figure and write its file; returns the template's values."""
        if slug not in self.figures:
            raise KeyError(f"the template places a figure {slug!r}, which no function declares")
        number = self.numbers.setdefault(slug, len(self.numbers) + 1)
        figure = self.figures[slug]
        named = {"slug": slug, "number": number, "title": figure.title, "needs": figure.needs}
        if figure.drawn is None:
            return named
        content = figure.to_bytes()
        (self.folder / figure.file_name).write_bytes(content)
        kind = "png" if figure.drawn.dense else "svg+xml"
        table = figure.drawn.table.head(LONGEST_TABLE)
        width, height = figure.drawn.drawing.get_size_inches()
        return {
            **named,
            "caption": figure.drawn.caption,
            "alt": figure.drawn.alt,
            "source": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
            "panels": json.dumps(panels(figure.drawn.drawing)),
            "ratio": f"{height / width:.4f}",
            "table": _as_html(table),
            "left_out": len(figure.drawn.table) - len(table),
        }

    @property
    def rest(self) -> list[str]:
        """The drawn figures that the template has not placed so far."""
        return [
            slug
            for slug, figure in self.figures.items()
            if slug not in self.numbers and figure.drawn is not None
        ]


class Claims:
    """The results of `moe.claims.judged`, by id and recipe; None for missing ones."""

    def __init__(self, claims: list[dict[str, Any]]) -> None:
        self.by_id: dict[str, dict[str, dict[str, Any]]] = {}
        for claim in claims:
            self.by_id.setdefault(claim["id"], {})[claim["recipe"]] = claim

    def measured(self, name: str, recipe: str) -> dict[str, Any] | None:
        """A claim's result, if it has numbers."""
        claim = self.by_id.get(name, {}).get(recipe)
        return claim if claim and _is_number(claim.get("estimate")) else None

    def verdict(self, name: str, recipe: str) -> str | None:
        claim = self.by_id.get(name, {}).get(recipe)
        return claim["verdict"] if claim else None

    def beside(self, name: str, recipe: str, what: str) -> Any:
        """One of a claim's further numbers."""
        claim = self.measured(name, recipe)
        return claim["beside"].get(what) if claim and claim.get("beside") else None

    def part(self, name: str, recipe: str, place: int = 0) -> dict[str, Any] | None:
        """One of a claim's parts, with its interval."""
        claim = self.measured(name, recipe)
        parts = claim.get("parts", []) if claim else []
        return parts[place] if place < len(parts) and _is_number(parts[place]["estimate"]) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _as_html(table: pd.DataFrame) -> Markup:
    """Convert to an HTML table; pandas escapes the cells."""
    return Markup(table.to_html(index=False, border=0, float_format="{:.4g}".format, na_rep=""))
