"""Writes docs/claims.md and its pictures from reports/claims.json; part of `make readme`."""

import json
from pathlib import Path

from stages.command import command

PAGE = Path("docs/claims.md")


@command
def claims_page() -> None:
    """Write the page, keeping what is written by hand, and a picture for each claim."""
    from moe.claims.page import IMAGES
    from moe.claims.page import claims_page as page
    from moe.claims.pictures import picture

    claims = json.loads(Path("reports/claims.json").read_text(encoding="utf-8"))
    before = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    folder = PAGE.parent / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for name, of_claim in claims.items():
        drawn = picture(of_claim)
        if drawn:
            (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
    PAGE.write_text(page(claims, before), encoding="utf-8")
    print(f"{PAGE}: {len(claims)} claims")


if __name__ == "__main__":
    claims_page()
