"""Self-contained HTML files, with inlined styles, scripts and data."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(page: Path, data: Any, styles: Sequence[str], **parts: Any) -> str:
    """Render the page's template; equal data give identical text.

    styles: CSS files, relative to the template's folder.
    parts: the template's variables. A list is a list of script files, which are concatenated; other
        values are passed unchanged.
    """
    folder = page.parent
    # "<" could end the script element, so it is escaped in JSON.
    packed = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(page.name).render(
        data=Markup(packed),
        style=joined(folder, styles),
        **{
            name: joined(folder, part) if isinstance(part, list) else part
            for name, part in parts.items()
        },
    )


def joined(folder: Path, names: Sequence[str]) -> Markup:
    """The text of some files, to inline."""
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))
