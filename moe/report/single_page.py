"""One HTML file that needs no other: styles, scripts and data stand in the page itself."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup


def render(page: Path, data: Any, styles: Sequence[str], **parts: Any) -> str:
    """The page's template, filled in; the same data always gives the same text.

    styles: CSS files, by their paths from the template's folder.
    parts: lists of script files, joined in their order, by the name that the template has for them;
        anything that is no list goes to the template as it is.
    """
    folder = page.parent

    def joined(names: Sequence[str]) -> Markup:
        return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))

    # "<" could end the script element; JSON can spell it otherwise.
    packed = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template(page.name).render(
        data=Markup(packed),
        style=joined(styles),
        **{name: joined(part) if isinstance(part, list) else part for name, part in parts.items()},
    )
