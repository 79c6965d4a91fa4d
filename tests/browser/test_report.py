"""The committed report in a browser."""

import pytest

from tests.browser.conftest import ROOT, Visit, has_no_sideways_scroll

REPORT = ROOT / "reports" / "index.html"


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
    assert len(pictures) == 15
    for alt, width in pictures:
        assert len(alt) > 20
        assert width > 300


def test_every_claim_has_its_row(visit: Visit) -> None:
    visit.open(REPORT)
    rows = visit.page.locator(".claims tbody tr").all_inner_texts()
    assert {row.split()[0] for row in rows} == {f"C{number}" for number in range(1, 20)}
    assert len(rows) == 37


def test_links_within_the_page_lead_somewhere(visit: Visit) -> None:
    visit.open(REPORT)
    for target in visit.page.eval_on_selector_all(
        "nav a", "links => links.map(a => a.getAttribute('href'))"
    ):
        if target.startswith("#"):
            assert visit.page.locator(target).count() == 1
        else:
            assert (REPORT.parent / target).exists()
