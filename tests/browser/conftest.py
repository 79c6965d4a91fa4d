"""Debian's Chromium, driven by Playwright, on pages rendered from the committed tables."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from stages.report import render

ROOT = Path(__file__).parent.parent.parent
_folder = tempfile.TemporaryDirectory()
PAGES = Path(_folder.name)  # the report's pages and claims.json, as of the present templates
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@pytest.fixture(scope="session", autouse=True)
def pages() -> Path:
    """Render what `dvc repro` would, into PAGES."""
    render(PAGES)
    return PAGES


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, from wherever it is on the path."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.exit("there is no Chromium here: apt-get install chromium", returncode=1)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield browser
        browser.close()


class Visit:
    """A page opened from a file, with all that it said and asked for."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", lambda request: self.requests.append(request.url))

    def open(self, path: Path, fragment: str = "") -> None:
        self.page.goto(path.as_uri() + fragment)
        self.page.wait_for_load_state("load")

    @property
    def hosts(self) -> list[str]:
        """Requests for anything but the file itself and what it carries."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(10_000)
    yield Visit(context.new_page())
    context.close()


def in_a_frame(page: Page, path: Path) -> None:
    """Show a page as MLflow's artifact viewer does: as a blob in a frame without an address."""
    page.goto("about:blank")
    page.evaluate(
        """html => {
          const frame = document.createElement("iframe");
          frame.sandbox = "allow-scripts";
          frame.style = "width: 1000px; height: 800px";
          frame.src = URL.createObjectURL(new Blob([html], {type: "text/html"}));
          document.body.append(frame);
        }""",
        path.read_text(encoding="utf-8"),
    )


def has_no_sideways_scroll(page: Page) -> bool:
    """Whether the page fits its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
