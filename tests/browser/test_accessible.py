"""Deque's axe finds nothing in the pages: names, roles, contrasts, the reach of the keyboard."""

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import PAGES, Visit


def of_report(page: Page) -> None:
    for details in page.locator("details").all()[:3]:
        details.evaluate("node => { node.open = true; }")


def of_explorer(page: Page) -> None:
    page.locator("#tour button").first.click()


def of_playground(page: Page) -> None:
    """A stop of the tour, an expert that is followed, a digit that is answered."""
    page.locator("#stops button").first.click()
    page.wait_for_function("latest && latest.epoch >= 40 && !latest.training", timeout=60_000)
    page.locator("#experts thead button").nth(1).click()
    page.locator("#presets button").nth(3).click()
    page.wait_for_function("document.querySelector('#says').dataset.answer !== ''")


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "prepare"),
    [("index", of_report), ("explorer", of_explorer), ("playground", of_playground)],
)
def test_axe_finds_nothing(
    visit: Visit, name: str, prepare: Callable[[Page], None], scheme: str, width: int
) -> None:
    visit.page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    visit.page.set_viewport_size({"width": width, "height": 900})
    visit.open(PAGES / f"{name}.html")
    prepare(visit.page)
    found = Axe().run(visit.page)
    assert found.response["violations"] == [], found.generate_report()
