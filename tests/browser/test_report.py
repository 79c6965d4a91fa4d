"""The rendered report in a browser."""

import json

import pytest

from moe.figures import MAKERS
from tests.browser.conftest import ROOT, Visit, has_no_sideways_scroll

REPORT = ROOT / "reports" / "index.html"
CLAIMS = json.loads((ROOT / "reports" / "claims.json").read_text(encoding="utf-8"))
FIGURES = len(MAKERS)


@pytest.mark.parametrize("width", [360, 1440])
def test_it_needs_nobody_and_fits(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(REPORT)
    assert visit.errors == []
    assert visit.hosts == []
    assert has_no_sideways_scroll(visit.page)
    assert REPORT.stat().st_size < 6_000_000


def test_every_picture_is_drawn_and_has_its_alt_text(visit: Visit) -> None:
    visit.open(REPORT)
    pictures = visit.page.eval_on_selector_all(
        "img", "images => images.map(i => [i.alt, i.complete && i.naturalWidth])"
    )
    assert len(pictures) == FIGURES == len(list((ROOT / "reports" / "figures").iterdir()))
    for alt, width in pictures:
        assert len(alt) > 20
        assert width > 300
    assert len({alt for alt, _ in pictures}) == FIGURES


def test_every_figure_has_its_table(visit: Visit) -> None:
    visit.open(REPORT)
    for number in range(1, FIGURES + 1):
        assert visit.page.locator(f"#figure-{number} details tr").count() > 1


@pytest.mark.parametrize("width", [360, 1440])
def test_every_claim_has_its_rows_and_nothing_of_them_is_cut_off(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(REPORT)
    rows = visit.page.locator("tr[data-claim]").all()
    shown = [(row.get_attribute("data-claim"), row.inner_text()) for row in rows]
    expected = [(name, c["verdict"]) for name, of in CLAIMS.items() for c in of.values()]
    assert len(shown) == len(expected) == 37
    for (name, text), (expected_name, verdict) in zip(shown, expected, strict=True):
        assert name == expected_name
        assert verdict in text
    ends = visit.page.eval_on_selector_all(
        "tr[data-claim] td", "cells => cells.map(c => c.getBoundingClientRect().right)"
    )
    assert max(ends) <= width


def test_the_slopes_at_every_k_are_those_of_the_claims(visit: Visit) -> None:
    visit.open(REPORT)
    rows = [row.split("\t") for row in visit.page.locator("#slopes tbody tr").all_inner_texts()]
    shown = {recipe: cells for recipe, *cells in rows}
    for recipe in ("blog", "logits", "switch"):
        beside = CLAIMS["C5"]["logits" if recipe == "switch" else recipe]["beside"]
        for k, text in enumerate(shown[recipe], start=1):
            slope = beside.get(f"slope of {recipe} at k = {k}")
            if slope is None:
                assert text == "–"
            else:
                assert text.startswith(f"{slope['estimate']:+.2f}")
                assert f"[{slope['low']:.2f}, {slope['high']:.2f}]" in text


def test_links_within_the_page_lead_somewhere(visit: Visit) -> None:
    visit.open(REPORT)
    targets = visit.page.eval_on_selector_all(
        "a", "links => links.map(a => a.getAttribute('href'))"
    )
    assert len(targets) > 20
    for target in set(targets):
        if target.startswith("#"):
            assert visit.page.locator(target).count() == 1
        else:
            assert (REPORT.parent / target).exists()
