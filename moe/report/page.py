"""The report: one HTML file that needs nothing else, and its figures one by one."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moe.figures import Figure, Tables, all_figures
from moe.report.facts import facts
from moe.study.params import Params

REPORTS_DIR = Path("reports")
TEMPLATE_DIR = REPORTS_DIR / "template"
LONGEST_TABLE = 400  # rows


def write_report(tables: Tables, params: Params, claims: list[dict[str, Any]], into: Path) -> None:
    """Write index.html and figures/ into a folder; the same tables always give the same bytes."""
    folder = into / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for figure in all_figures(tables):
        content = figure.to_bytes()
        (folder / figure.file_name).write_bytes(content)
        figures[figure.number] = _for_template(figure, content)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((TEMPLATE_DIR / "report.css").read_text(encoding="utf-8"))
    html = environment.get_template("index.html").render(
        figures=figures, claims=by_id(claims), facts=facts(tables, params, claims), style=style
    )
    (into / "index.html").write_text(html, encoding="utf-8")


def by_id(claims: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """id -> recipe -> what `judged` says of it."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for claim in claims:
        found.setdefault(claim["id"], {})[claim["recipe"]] = claim
    return found


def _for_template(figure: Figure, content: bytes) -> dict[str, Any]:
    kind = "png" if figure.dense else "svg+xml"
    table = figure.table.head(LONGEST_TABLE)
    return {
        "number": figure.number,
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "source": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "file": f"figures/{figure.file_name}",
        "table": _as_html(table),
        "left_out": len(figure.table) - len(table),
    }


def _as_html(table: pd.DataFrame) -> Markup:
    """pandas escapes what stands in the cells."""
    return Markup(table.to_html(index=False, border=0, float_format="{:.4g}".format, na_rep=""))
