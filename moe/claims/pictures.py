"""A small picture of a claim: each number with its interval, and the region that counts."""

from typing import Any
from xml.sax.saxutils import escape

WIDTH, ROW, TOP = 720, 26, 24
LEFT, RIGHT = 330, 545  # ends of the strips; names are to their left, numbers to their right
PAD = 0.12  # of the shown range, on both sides
INK, SOFT, COUNTS, PAPER, LINE = "#1f2933", "#616e7c", "#cfe8d5", "#ffffff", "#d3dae1"
COLOURS = {"blog": "#b45309", "logits": "#1d4ed8", "switch": "#7c3aed"}
LONGEST = 50  # characters of a name


def picture(by_recipe: dict[str, dict[str, Any]]) -> str | None:
    """The picture as SVG; equal results give identical bytes. None if there is nothing to show.

    by_recipe: a claim's results for each recipe, as read from claims.json.
    """
    rows = [
        (recipe, part)
        for recipe, result in by_recipe.items()
        if result["verdict"] not in ("exact", "not measured")
        for part in result["parts"]
        if None not in (part["low"], part["high"])
    ]
    if not rows:
        return None
    height = TOP + ROW * len(rows) + 8
    parts = [part for _, part in rows]
    lines = [
        _row(place, recipe, part, _scale(parts, part["unit"]))
        for place, (recipe, part) in enumerate(rows)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="11">',
            f'<rect width="{WIDTH}" height="{height}" rx="6" fill="{PAPER}" stroke="{LINE}"/>',
            f'<text x="12" y="16" fill="{SOFT}">green: counts as reproduced; a dot with its 95 % '
            "interval</text>",
            *lines,
            "</svg>\n",
        ]
    )


def _ends(part: dict[str, Any]) -> list[float]:
    return list(part["within"]) if "within" in part else [part["margin"]]


def _scale(parts: list[dict[str, Any]], unit: str) -> tuple[float, float]:
    """The range of the strips of a unit: all intervals and margins, with some padding."""
    same = [part for part in parts if part["unit"] == unit]
    shown = [value for part in same for value in (part["low"], part["high"], *_ends(part))]
    room = PAD * (max(shown) - min(shown)) or 1.0
    return min(shown) - room, max(shown) + room


def _row(place: int, recipe: str, part: dict[str, Any], scale: tuple[float, float]) -> str:
    y = TOP + ROW * place + ROW / 2
    colour = COLOURS.get(recipe, INK)
    ends, (first, last) = _ends(part), scale

    def at(value: float) -> str:
        return f"{LEFT + (RIGHT - LEFT) * (value - first) / (last - first):.1f}"

    begin = at(ends[0])
    width = float(at(ends[1]) if len(ends) == 2 else RIGHT) - float(begin)
    name = part["what"] if len(part["what"]) <= LONGEST else f"{part['what'][: LONGEST - 1]}…"
    marks = "".join(
        f'<line x1="{at(end)}" x2="{at(end)}" y1="{y - 9}" y2="{y + 9}" stroke="{SOFT}"/>'
        for end in ends
    )
    numbers = f"{part['estimate']:.3g} [{part['low']:.3g}, {part['high']:.3g}]"
    return (
        f'<text x="12" y="{y + 4}" fill="{colour}" font-weight="bold">{escape(recipe)}</text>'
        f'<text x="58" y="{y + 4}" fill="{INK}">{escape(name)}</text>'
        f'<rect x="{begin}" y="{y - 9}" width="{width:.1f}" height="18" fill="{COUNTS}"/>{marks}'
        f'<line x1="{at(part["low"])}" x2="{at(part["high"])}" y1="{y}" y2="{y}" '
        f'stroke="{colour}" stroke-width="3"/>'
        f'<circle cx="{at(part["estimate"])}" cy="{y}" r="4" fill="{colour}"/>'
        f'<text x="{RIGHT + 10}" y="{y + 4}" fill="{INK}">{escape(numbers)}</text>'
    )
