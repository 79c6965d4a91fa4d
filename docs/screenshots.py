"""python docs/screenshots.py: take the pictures of the playground in docs/images, in Chromium."""

import io
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "reports/playground.html").as_uri()
IMAGES = ROOT / "docs/images"
WINDOW = {"width": 1440, "height": 900}
SMALL = (864, 540)  # of the animated picture
COLOURS = 128
# Of the animated picture: steps of training before each frame, and how long it is shown, in ms
FRAMES = [(0, 900), *[(3, 180)] * 10, *[(31, 220)] * 14, (0, 1800)]
# Of the tour: a stop's number, whether to press its second button, a digit to draw
STOPS = {
    "1-no-gate-loss": (1, False, None),
    "2-gate-loss": (2, False, None),
    "3-k-1": (3, False, None),
    "3-switch": (3, True, None),
    "4-double-softmax": (4, False, None),
    "5-specialists": (5, True, 8),
}


def main() -> None:
    """Write the pictures; each says on standard output how large it is."""
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        for name, (number, second, digit) in STOPS.items():
            page = browser.new_page(viewport=WINDOW)
            page.goto(f"{PAGE}#stop={number}")
            finish(page)
            if second:
                page.locator("#then").click()
                finish(page)
            if digit is not None:
                draw(page, digit)
            save(page.screenshot(), IMAGES / f"playground-{name}.png")
            page.close()
        animate(browser.new_page(viewport=WINDOW), IMAGES / "playground.gif")
        browser.close()


def finish(page: Page) -> None:
    """Wait until the training of a stop has begun and ended."""
    page.wait_for_function("latest && latest.finished && !waiting && !playing", timeout=120_000)


def draw(page: Page, digit: int) -> None:
    page.locator("#presets button").nth(digit).click()
    page.wait_for_function(f"document.querySelector('#says').dataset.answer === '{digit}'")
    page.mouse.move(0, 0)


def animate(page: Page, path: Path) -> None:
    """Eight experts learn, a few steps to a frame, with a 3 on the pad."""
    page.goto(f"{PAGE}#recipe=logits&ne=8&k=2&lc=1&seed=0")
    page.wait_for_function("latest && !waiting")
    page.locator("#presets button").nth(3).click()
    frames, done = [], 0
    for steps, _ in FRAMES:
        if steps:
            page.evaluate("(steps) => tell('advance', { steps })", steps)
        done += steps
        page.wait_for_function(f"Math.round(31 * latest.at) >= {done} && !waiting")
        page.wait_for_timeout(100)
        picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        frames.append(picture.resize(SMALL, Image.Resampling.LANCZOS))
    # One palette for all frames: an expert keeps its colour. MAXCOVERAGE keeps their colours apart.
    palette = frames[-1].quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    first, *rest = (f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames)
    times = [ms for _, ms in FRAMES]
    first.save(path, save_all=True, append_images=rest, duration=times, loop=0, optimize=True)
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


def save(png: bytes, path: Path) -> None:
    """A screenshot with a palette, which takes a third of the bytes."""
    Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
