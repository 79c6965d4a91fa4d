"""Debian's Chromium, driven by Playwright, on pages rendered from the committed tables."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from moe.analysis.kept import read_kept
from moe.analysis.results import read_tables
from moe.claims import judged, write_claims
from moe.claims.beyond import FASHION_DIR, compared
from moe.claims.confirmatory import read_confirm
from moe.claims.general import GENERAL
from moe.claims.judge import judge
from moe.report.explorer import write_explorer
from moe.report.page import TEMPLATE_DIR, write_report
from moe.report.playground import write_playground
from moe.study.params import read_params

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
    params = read_params()
    tables = read_tables(ROOT / "results", params.train.hidden, params.data.dataset)
    confirm = read_confirm(params)
    claims = judged(confirm, tables) if confirm else judged(tables)
    write_claims(claims, PAGES / "claims.json")
    kept = read_kept(FASHION_DIR)
    rows = []
    if kept:
        tables = tables._replace(beyond=kept.tables)
        here = [*claims, *judge(GENERAL, confirm or tables)]
        rows = compared(here, [*judged(kept.tables), *judge(GENERAL, kept.tables)])
    write_report(tables, params, claims, PAGES, rows)
    write_explorer(tables, TEMPLATE_DIR, PAGES / "explorer.html")
    write_playground(tables, TEMPLATE_DIR, PAGES / "playground.html")
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


def has_no_sideways_scroll(page: Page) -> bool:
    """Whether the page fits its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    )
