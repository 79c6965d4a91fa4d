"""The playground in WebKit, the engine of Safari: Debian's WebKitGTK, driven by Selenium."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import WebKitGTK
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from selenium.webdriver.webkitgtk.options import Options
from selenium.webdriver.webkitgtk.service import Service

from tests.browser.conftest import PAGES

DRIVER, SCREEN = shutil.which("WebKitWebDriver"), shutil.which("Xvfb")
BROWSER = next(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"), None)

pytestmark = pytest.mark.skipif(
    not (DRIVER and SCREEN and BROWSER),
    reason="needs WebKit: apt-get install webkit2gtk-driver xvfb",
)


@pytest.fixture
def screen() -> Iterator[str]:
    """The name of a virtual X display, by Xvfb."""
    read, write = os.pipe()
    command = [str(SCREEN), "-displayfd", str(write), "-screen", "0", "1600x1000x24"]
    with subprocess.Popen(command, pass_fds=[write], stderr=subprocess.DEVNULL) as server:
        os.close(write)
        with os.fdopen(read, encoding="ascii") as number:
            yield f":{number.readline().strip()}"
        server.terminate()


@pytest.fixture
def webkit(screen: str) -> Iterator[WebKitGTK]:
    options = Options()
    options.binary_location = str(BROWSER)
    options.add_argument("--automation")
    service = Service(str(DRIVER), env={**os.environ, "DISPLAY": screen})
    driver = WebKitGTK(options=options, service=service)
    yield driver
    driver.quit()


def test_the_playground_trains_and_answers(webkit: WebKitGTK) -> None:
    webkit.get(f"{(PAGES / 'playground.html').as_uri()}#recipe=logits&ne=8&k=2&lc=1")

    def happens(condition: str) -> None:
        WebDriverWait(webkit, 60).until(lambda driver: driver.execute_script(f"return {condition}"))

    happens("latest && !waiting")
    webkit.find_element(By.ID, "play").click()
    happens("+document.querySelector('#test-accuracy').dataset.value > 0.88")
    webkit.find_element(By.ID, "play").click()
    webkit.find_elements(By.CSS_SELECTOR, "#presets button")[3].click()
    happens("document.querySelector('#says').dataset.answer === '3'")
    assert not webkit.find_element(By.ID, "failed").is_displayed()
