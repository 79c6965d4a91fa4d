"""The rendered report in a browser."""

import hashlib
import json
from typing import Any

import pytest

from moe.claims import CLAIMS
from moe.claims.judge import judge
from moe.figures import FIGURES
from tests.browser.conftest import PAGES, ROOT, Visit, has_no_sideways_scroll, in_a_frame
from tests.small_studies import committed

REPORT = PAGES / "index.html"


@pytest.fixture(scope="module")
def claims() -> dict[str, Any]:
    return json.loads((PAGES / "claims.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("width", [360, 1440])
def test_it_needs_nobody_and_fits(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(REPORT)
    assert visit.errors == []
    assert visit.hosts == []
    assert has_no_sideways_scroll(visit.page)
    assert REPORT.stat().st_size < 6_000_000


def drawn() -> list[str]:
    """All but the figure of a study that sweeps a setting of training, which this one does not."""
    return [slug for slug in FIGURES if slug != "swept-settings"]


def test_every_picture_is_drawn_and_has_its_alt_text(visit: Visit) -> None:
    visit.open(REPORT)
    pictures = visit.page.eval_on_selector_all(
        "img", "images => images.map(i => [i.alt, i.complete && i.naturalWidth])"
    )
    assert len(pictures) == len(drawn()) == len(list((PAGES / "figures").iterdir()))
    for alt, width in pictures:
        assert len(alt) > 20
        assert width > 300
    assert len({alt for alt, _ in pictures}) == len(drawn())


def test_every_figure_has_its_table(visit: Visit) -> None:
    visit.open(REPORT)
    for slug in drawn():
        assert visit.page.locator(f"#figure-{slug} details tr").count() > 1


@pytest.mark.parametrize("width", [360, 1440])
def test_every_claim_has_its_rows_and_none_is_cut_off(
    visit: Visit, width: int, claims: dict[str, Any]
) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(REPORT)
    rows = visit.page.locator("tr[data-claim]").all()
    shown = [(row.get_attribute("data-claim"), row.inner_text()) for row in rows]
    expected = [(name, c["verdict"]) for name, of in claims.items() for c in of.values()]
    assert len(shown) == len(expected)
    for (name, text), (expected_name, verdict) in zip(shown, expected, strict=True):
        assert name == expected_name
        assert verdict in text
    ends = visit.page.eval_on_selector_all(
        "tr[data-claim] td", "cells => cells.map(c => c.getBoundingClientRect().right)"
    )
    assert max(ends) <= width


def test_the_slopes_at_every_k_are_those_that_the_claim_would_take(visit: Visit) -> None:
    c5 = [claim for claim in CLAIMS if claim.id == "C5"]
    found = judge(c5, committed().for_claims)
    of_recipe = {result["recipe"]: result["beside"] for result in found}
    visit.open(REPORT)
    rows = [row.split("\t") for row in visit.page.locator("#slopes tbody tr").all_inner_texts()]
    shown = {recipe: cells for recipe, *cells in rows}
    for recipe in ("blog", "logits", "switch"):
        beside = of_recipe["logits" if recipe == "switch" else recipe]
        for k, text in enumerate(shown[recipe], start=1):
            slope = beside.get(f"slope of {recipe} at k = {k}")
            if slope is None:
                assert text == "–"
            else:
                assert text.startswith(f"{slope['estimate']:+.2f}")
                assert f"[{slope['low']:.2f}, {slope['high']:.2f}]" in text


def test_the_dark_page_is_dark_and_its_figures_are_on_white(visit: Visit) -> None:
    visit.page.emulate_media(color_scheme="dark")
    visit.open(REPORT)
    colors = visit.page.evaluate(
        "['body', '.picture'].map(s => getComputedStyle(document.querySelector(s)).backgroundColor)"
    )
    assert colors == ["rgb(22, 24, 27)", "rgb(255, 255, 255)"]


@pytest.mark.parametrize("width", [360, 1440])
def test_the_contents_stay_in_reach(visit: Visit, width: int) -> None:
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(REPORT)
    visit.page.locator("#closing").scroll_into_view_if_needed()
    way_back = visit.page.locator("#back" if width < 1000 else "#contents")
    box = way_back.bounding_box()
    assert box is not None
    assert 0 <= box["y"] < 900
    if width < 1000:
        way_back.click()
        visit.page.wait_for_function(
            "document.querySelector('#contents').getBoundingClientRect().top < 900"
        )
        # A figure that is wider than the screen says so, above.
        assert visit.page.locator(".swipe").first.is_visible()


def test_a_phone_shows_panels_below_each_other(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 360, "height": 800})
    visit.open(REPORT)
    shown = visit.page.evaluate(
        """() => [...document.querySelectorAll('figure.is-stacked')].map(figure => {
          const image = figure.querySelector('img[data-panels]');
          return {
            slug: figure.id.slice('figure-'.length),
            wanted: JSON.parse(image.dataset.panels),
            hidden: getComputedStyle(image).display === 'none',
            scrolls: figure.querySelector('.picture').scrollWidth > innerWidth,
            hint: getComputedStyle(figure.querySelector('.swipe')).display !== 'none',
            label: figure.querySelector('.panels').getAttribute('aria-label') === image.alt,
            panels: [...figure.querySelectorAll('.panel')].map(panel => {
              const [p, i] = [panel, panel.firstChild].map(node => node.getBoundingClientRect());
              return { width: p.width, scale: i.width, top: p.top, bottom: p.bottom, part: [
                (p.left - i.left) / i.width, (p.top - i.top) / i.height,
                (p.right - i.left) / i.width, (p.bottom - i.top) / i.height] };
            }),
          };
        })"""
    )
    assert len(shown) >= 8
    # A row of each is as wide as the figure.
    wide = {"fingerprint", "router-front", "routers-side-by-side"}
    for figure in shown:
        assert figure["hidden"]
        assert figure["label"]
        assert figure["hint"] == figure["scrolls"] == (figure["slug"] in wide)
        for panel, wanted in zip(figure["panels"], figure["wanted"], strict=True):
            assert panel["part"] == pytest.approx(wanted, abs=0.005)
            # 7.6 inches are scale pixels: words of 9 points have at least 8 pixels.
            assert panel["scale"] / 7.6 * 9 / 72 >= 8
        below = zip(figure["panels"], figure["panels"][1:], strict=False)
        assert all(a["bottom"] <= b["top"] for a, b in below)
    visit.page.set_viewport_size({"width": 1200, "height": 800})
    assert visit.page.locator(".panels").first.is_hidden()
    assert visit.page.locator("img[data-panels]").first.is_visible()


def test_the_footer_names_the_tables(visit: Visit) -> None:
    visit.open(REPORT)
    digest = hashlib.sha256((ROOT / "results" / "runs.csv").read_bytes()).hexdigest()
    assert digest[:12] in visit.page.locator("footer").inner_text()


def test_links_work_where_the_page_is_a_blob_in_a_frame(visit: Visit) -> None:
    """As in MLflow's artifact viewer."""
    in_a_frame(visit.page, REPORT)
    frame = visit.page.frame_locator("iframe")
    frame.locator("nav .elsewhere").first.wait_for(
        timeout=30_000
    )  # the script, at the page's end, is there
    frame.locator("nav a[href='#closing']").click()
    frame.locator("h2#closing").wait_for()
    top = -1.0
    for _ in range(50):  # it scrolls smoothly
        top = frame.locator("h2#closing").evaluate("h => h.getBoundingClientRect().top")
        if -50 < top < 800:
            break
        visit.page.wait_for_timeout(100)
    assert -50 < top < 800
    assert frame.locator("a[href='explorer.html']").count() == 0
    assert (
        "explorer.html, among the artifacts" in frame.locator("nav .elsewhere").first.inner_text()
    )


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
            assert (REPORT.parent / target.partition("#")[0]).exists()


def test_each_stop_of_the_playground_and_its_section_link_to_each_other(visit: Visit) -> None:
    visit.open(REPORT)
    section_of = visit.page.evaluate(
        """() => {
          const sections = {};
          let section = null;
          for (const node of document.querySelectorAll("h2, a[href^='playground.html#stop=']")) {
            if (node.tagName === "H2") section = node.id;
            else sections[node.getAttribute("href").split("=")[1]] = section;
          }
          return sections;
        }"""
    )
    visit.open(PAGES / "playground.html")
    stops = visit.page.evaluate("STOPS.map((stop) => stop.section)")
    assert section_of == {str(number): section for number, section in enumerate(stops, start=1)}
