"""The playground in a real browser: it trains, every control has its effect, and it answers."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from moe.analysis.results import cells
from moe.report.playground import ENGINE, mnist_5k
from tests.browser.conftest import PAGES, ROOT, Visit, has_no_sideways_scroll, in_a_frame
from tests.small_studies import committed

PLAYGROUND = PAGES / "playground.html"
SECTIONS = ROOT / "reports" / "template" / "sections"
START = "#recipe=logits&ne=8&k=2&lc=1&seed=0"
SLOW = 60_000  # ms: a limit for a busy machine, where a test has none of its own


@pytest.fixture
def opened(visit: Visit) -> Callable[..., Page]:
    """Open the page with some settings; wait until its first frame is drawn."""

    def open_page(fragment: str = START) -> Page:
        visit.open(PLAYGROUND, fragment)
        visit.page.wait_for_function("document.querySelector('#test-accuracy').dataset.value > 0")
        return visit.page

    return open_page


@pytest.fixture
def page(opened: Callable[..., Page]) -> Page:
    return opened()


def value(page: Page, name: str) -> float:
    return float(page.locator(f"#{name}").get_attribute("data-value") or "nan")


def chosen(page: Page) -> dict[str, str]:
    names = ("recipe", "ne", "k", "lc", "rate", "batch", "seed")
    return {name: page.locator(f"#{name}").input_value() for name in names}


def epochs_done(page: Page, count: int, timeout: float = SLOW) -> None:
    page.wait_for_function(
        f"+document.querySelector('#epoch').dataset.value >= {count}", timeout=timeout
    )


def train(page: Page, epochs: int) -> None:
    """Train until so many epochs are done, pause, and wait for the last frame to be drawn."""
    page.locator("#play").click()
    epochs_done(page, epochs)
    page.locator("#play").click()
    page.wait_for_function("latest && !latest.training && !waiting", timeout=SLOW)


def is_training(page: Page) -> bool:
    return page.locator("#play").get_attribute("data-playing") == "true"


def loads(page: Page) -> list[float]:
    """Each expert's share of all slots, in per cent, as the tooltips say it."""
    titles = page.locator("#experts .load td").evaluate_all("all => all.map(c => c.title)")
    return [float(title.split(" has ")[1].split(" %")[0]) for title in titles]


def stay(page: Page) -> None:
    page.wait_for_timeout(400)


# --- training


def test_it_trains_to_above_88_per_cent_within_15_seconds(page: Page) -> None:
    assert value(page, "test-accuracy") < 0.4
    page.locator("#play").click()
    page.wait_for_function(
        "+document.querySelector('#test-accuracy').dataset.value > 0.88", timeout=15_000
    )
    assert value(page, "epoch") >= 1


def test_a_step_an_epoch_and_a_reset(page: Page) -> None:
    begin = value(page, "test-accuracy")
    page.locator("#step").click()
    page.wait_for_function("document.querySelector('#train-accuracy').textContent !== '–'")
    assert value(page, "epoch") == 0
    page.locator("#advance").click()
    epochs_done(page, 1)
    stay(page)
    assert value(page, "epoch") == 1
    assert value(page, "test-accuracy") > begin + 0.1
    page.locator("#reset").click()
    page.wait_for_function("document.querySelector('#epoch').dataset.value === '0'")
    assert value(page, "test-accuracy") == begin
    stay(page)
    assert value(page, "epoch") == 0


def test_steps_and_epochs_add_up(page: Page) -> None:
    for name, count in (("step", 3), ("advance", 2)):
        page.evaluate(
            "([name, count]) => { for (let i = 0; i < count; i++) $(name).click(); }", [name, count]
        )
    page.wait_for_function("latest && latest.at >= 2 && !latest.training && !waiting")
    stay(page)
    assert page.evaluate("latest.at") == 2  # the 3 steps are of the first epoch


def test_a_seed_is_the_same_training_again(page: Page) -> None:
    accuracies = []
    for _ in range(2):
        page.locator("#reset").click()
        page.locator("#advance").click()
        epochs_done(page, 1)
        page.locator("#advance").click()
        epochs_done(page, 2)
        stay(page)
        accuracies.append(value(page, "test-accuracy"))
    assert accuracies[0] == accuracies[1]
    page.locator("#seed").select_option("1")
    page.locator("#advance").click()
    epochs_done(page, 1)
    stay(page)
    assert value(page, "test-accuracy") != accuracies[0]


@pytest.mark.parametrize(
    ("name", "option"),
    [("recipe", "switch"), ("ne", "4"), ("k", "4"), ("batch", "32"), ("seed", "5")],
)
def test_what_starts_over(page: Page, name: str, option: str) -> None:
    page.locator("#advance").click()
    epochs_done(page, 1)
    page.locator(f"#{name}").select_option(option)
    page.wait_for_function("document.querySelector('#epoch').dataset.value === '0'")
    assert chosen(page)[name] == option
    assert f"{name}={option}" in page.url
    ne = int(chosen(page)["ne"])
    assert page.locator("#experts thead button").count() == ne
    assert page.locator("#votes .vote").count() == ne


def test_lc_and_the_learning_rate_act_while_it_runs(opened: Callable[..., Page]) -> None:
    page = opened("#recipe=logits&ne=12&k=2&lc=0&seed=0")
    page.locator("#play").click()
    epochs_done(page, 8)
    uneven = max(loads(page))
    assert uneven > 2 * 100 / 12
    page.locator("#lc").select_option("3")
    assert is_training(page)
    page.wait_for_function(
        f"Math.max(...[...document.querySelectorAll('#experts .load td')].map("
        f"c => parseFloat(c.title.split(' has ')[1]))) < {1.7 * 100 / 12}",
        timeout=SLOW,
    )
    assert value(page, "epoch") > 8  # it went on
    page.locator("#rate").select_option("0.0001")
    assert is_training(page)
    assert "rate=0.0001" in page.url


def test_k_follows_ne_and_recipe(page: Page) -> None:
    page.locator("#k").select_option("8")
    page.locator("#ne").select_option("3")
    assert chosen(page)["k"] == "3"
    page.locator("#recipe").select_option("dense-total")
    assert chosen(page)["k"] == "1"
    assert page.locator("#k").is_disabled()
    train(page, 1)
    assert all(load == pytest.approx(100 / 3, abs=0.1) for load in loads(page))
    assert page.evaluate("new Set(latest.favourite).size") == 1  # none is preferred
    assert page.evaluate("latest.favourite[0] === NO_EXPERT")


@pytest.mark.parametrize("recipe", ENGINE)
def test_every_recipe_trains(page: Page, visit: Visit, recipe: str) -> None:
    page.locator("#recipe").select_option(recipe)
    begin = value(page, "test-accuracy")
    train(page, 4)
    assert value(page, "test-accuracy") > begin + 0.3
    assert visit.errors == []


def test_a_step_at_a_time_is_slow(page: Page) -> None:
    page.locator("#play").click()
    epochs_done(page, 1)
    page.locator("#speed").select_option("slow")
    assert is_training(page)  # it acts at once
    assert "speed=slow" in page.url
    stay(page)
    before = value(page, "epoch")
    page.wait_for_timeout(700)
    assert value(page, "epoch") <= before + 1  # 31 steps take at least a second


def test_divergence_is_said(opened: Callable[..., Page], visit: Visit) -> None:
    page = opened("#recipe=logits&ne=4&k=2&lc=1&rate=1")
    page.evaluate("tell('change', { lc: 1, rate: 1e300 })")
    page.locator("#play").click()
    page.wait_for_function("document.querySelector('#hint').textContent.includes('diverged')")
    assert not is_training(page)
    page.locator("#rate").select_option("0.001")  # too late: the weights are lost
    page.locator("#play").click()
    page.wait_for_function("document.querySelector('#hint').textContent.includes('diverged')")
    assert not is_training(page)
    assert visit.errors == []


def test_a_page_in_a_hidden_tab_does_not_train(visit: Visit) -> None:
    visit.page.add_init_script(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
    )
    visit.open(PLAYGROUND, "#stop=1")
    visit.page.wait_for_function("latest")
    visit.page.wait_for_timeout(1_000)
    assert value(visit.page, "epoch") == 0
    visit.page.evaluate(
        """Object.defineProperty(document, 'hidden', { value: false });
        document.dispatchEvent(new Event('visibilitychange'));"""
    )
    epochs_done(visit.page, 1)


# --- experts


def test_an_expert_is_switched_off_and_on(page: Page) -> None:
    train(page, 6)
    page.locator("#experts thead button").nth(3).click()
    assert loads(page)[3] > 1
    page.locator("#switch").press("Enter")
    page.wait_for_function(
        "document.querySelectorAll('#experts .load td')[3].innerText.includes('off')"
    )
    assert page.evaluate("document.activeElement.id") == "switch"  # the keyboard stays there
    assert loads(page)[3] == 0
    assert sum(loads(page)) == pytest.approx(100, abs=0.5)
    title = page.locator("#experts .load td").first.get_attribute("title") or ""
    assert title.endswith("the even share is 14.3 %")  # a seventh
    hurt = value(page, "test-accuracy")
    train(page, 10)
    assert loads(page)[3] == 0
    assert value(page, "test-accuracy") > hurt  # the others take over
    page.locator("#switch").click()
    page.wait_for_function("document.querySelector('#switch').textContent === 'Switch off'")
    assert loads(page)[3] > 0


def test_a_reinitialized_expert_learns_again(page: Page) -> None:
    train(page, 6)
    before, sees = value(page, "test-accuracy"), loads(page)
    page.locator("#experts thead button").nth(sees.index(max(sees))).click()
    page.locator("#reinitialize").click()
    # Training is paused: only the new weights change the accuracy.
    page.wait_for_function(f"document.querySelector('#test-accuracy').dataset.value != {before}")
    assert value(page, "test-accuracy") < before - 0.02
    assert loads(page) == sees  # the router is as it was
    train(page, 12)
    assert value(page, "test-accuracy") > before - 0.02


def test_no_fewer_experts_than_k_stay_on(opened: Callable[..., Page]) -> None:
    page = opened("#recipe=logits&ne=2&k=2&lc=1")
    page.locator("#experts thead button").first.click()
    assert page.locator("#switch").is_disabled()


# Of each picture of a router row, how much differs from its corner, which no digit lights
INKED = """() => {
  const pictures = document.querySelector('#experts .pictures').querySelectorAll('canvas');
  return [...pictures].map((canvas) => {
    const all = canvas.getContext('2d').getImageData(0, 0, 28, 28).data;
    return all.filter((value, i) => i % 4 < 3 && Math.abs(value - all[i % 4]) > 40).length;
  });
}"""


PIXELS = """(row) => {
  const canvas = document.querySelectorAll('#experts .pictures')[row].querySelector('canvas');
  return [...canvas.getContext('2d').getImageData(0, 0, 28, 28).data];
}"""


def test_the_pictures_are_upright(opened: Callable[..., Page]) -> None:
    """One expert: it gets the mean of all test images, and its router's weights are red above 0."""
    page = opened("#recipe=logits&ne=1&k=1&lc=1")
    router, gets = (np.reshape(page.evaluate(PIXELS, row), (784, 4)) for row in (0, 1))
    images, _, trained_on = mnist_5k()
    mean = images[trained_on:].mean(0)
    assert np.corrcoef(255.0 - gets[:, 0], mean)[0, 1] > 0.99
    weights = page.evaluate("[...latest.router]")
    assert np.corrcoef(1.0 * router[:, 0] - router[:, 2], weights)[0, 1] > 0.9


def test_the_dashed_line_is_at_the_even_share(opened: Callable[..., Page]) -> None:
    page = opened("#recipe=dense-total&ne=4&k=1")  # whose loads are even
    boxes = """(name) => [...document.querySelectorAll(`#experts .load .${name}`)]
      .map((node) => node.getBoundingClientRect())"""
    tops = [box["top"] for box in page.evaluate(boxes, "bar")]
    lines = [box["bottom"] for box in page.evaluate(boxes, "even")]
    assert tops == pytest.approx(lines, abs=1.5)


def test_the_pictures_show_what_the_router_learned(opened: Callable[..., Page]) -> None:
    page = opened("#recipe=logits&ne=4&k=2&lc=1")
    assert min(page.evaluate(INKED)) > 500  # the first, random weights
    page.locator("#learned").click()
    assert page.evaluate(INKED) == [0, 0, 0, 0]  # nothing yet
    train(page, 5)
    assert min(page.evaluate(INKED)) > 100
    page.locator("#recipe").select_option("random")  # its router is never trained
    page.wait_for_function("latest && latest.epoch === 0 && !waiting")
    train(page, 5)
    assert page.evaluate(INKED) == [0, 0, 0, 0]
    page.locator("#learned").click()
    assert min(page.evaluate(INKED)) > 500


# --- nothing is drawn of another number of experts

SELECT_16 = """() => {
  trainer.onmessage({ data: latest });  // a frame of 8 experts, not drawn yet
  const ne = document.querySelector('#ne');
  ne.value = '16';
  ne.dispatchEvent(new Event('change'));
"""


@pytest.mark.parametrize(
    "at_once",
    [
        "document.querySelectorAll('#experts thead button')[9].click(); }",
        "window.dispatchEvent(new Event('resize')); show(); }",
        "draw(); }",  # an animation frame that was asked for before
    ],
)
def test_more_experts_while_a_frame_waits(page: Page, visit: Visit, at_once: str) -> None:
    train(page, 1)
    page.evaluate(f"{SELECT_16}{at_once}")
    page.wait_for_function("latest && latest.on.length === 16 && !waiting")
    train(page, 1)
    assert visit.errors == []
    assert sum(loads(page)) == pytest.approx(100, abs=1)


def test_the_page_waits_for_its_data(visit: Visit) -> None:
    """Clicks, keys and a new address while the images are still being unpacked."""
    visit.page.add_init_script(
        """const Real = Worker;
        window.Worker = class extends Real {
          postMessage(message) {
            if (message.type !== 'data') super.postMessage(message);
            else setTimeout(() => super.postMessage(message), 1500);
          }
        };"""
    )
    visit.open(PLAYGROUND, "#recipe=logits&ne=3&k=2&lc=1&seed=0")
    for name in ("map", "play", "advance"):
        box = visit.page.locator(f"#{name}").bounding_box()
        assert box is not None
        visit.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.page.evaluate("location.hash = '#recipe=logits&ne=6&k=2&lc=1&seed=0'")
    visit.page.locator("#stops button").first.click()
    visit.page.wait_for_timeout(200)
    assert value(visit.page, "test-accuracy") == 0  # the data are not there yet
    visit.page.wait_for_function("latest && latest.epoch >= 1", timeout=SLOW)
    assert visit.errors == []


# --- a digit


def test_presets_are_what_they_are_called(page: Page) -> None:
    """By the keyboard."""
    train(page, 20)
    for digit in range(10):
        page.locator("#presets button").nth(digit).focus()
        page.keyboard.press("Enter")
        page.wait_for_function(f"document.querySelector('#says').dataset.answer === '{digit}'")
        assert page.locator("#votes .asks").count() == 2


def test_a_drawn_1_is_answered(page: Page) -> None:
    assert page.locator("#says").inner_text() == "What will it say?"
    train(page, 12)
    box = page.locator("#pad").bounding_box()
    assert box is not None
    x, y = box["x"] + 0.3 * box["width"], box["y"]  # small and off the centre: it is moved
    page.mouse.move(x, y + 0.3 * box["height"])
    page.mouse.down()
    for step in range(10):
        page.mouse.move(x + step, y + (0.3 + 0.03 * step) * box["height"])
    page.mouse.up()
    page.wait_for_function("document.querySelector('#says').dataset.answer === '1'")
    gates = [float(text) for text in page.locator("#votes .asks small").all_inner_texts()]
    assert sum(gates) == pytest.approx(1, abs=0.011)
    page.locator("#presets .clear").click()
    page.wait_for_function("document.querySelector('#says').textContent === 'What will it say?'")


def test_a_finger_draws_and_does_not_scroll(page: Page) -> None:
    train(page, 12)
    page.set_viewport_size({"width": 360, "height": 700})
    page.locator("#pad").scroll_into_view_if_needed()
    box, scrolled = page.locator("#pad").bounding_box(), page.evaluate("scrollY")
    assert box is not None
    session = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [
            {"x": box["x"] + x * box["width"], "y": box["y"] + y * box["height"]} for x, y in points
        ]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    touch("touchStart", (0.5, 0.1))
    for step in range(1, 9):
        touch("touchMove", (0.5, 0.1 + 0.1 * step))
    touch("touchEnd")
    page.wait_for_function("document.querySelector('#says').dataset.answer === '1'")
    assert page.evaluate("scrollY") == scrolled


@pytest.mark.parametrize(
    "strokes",
    [
        [[[10, 10], [10, 90]]],
        [[[200, 30], [260, 30], [215, 210]]],
        [[[0, 0], [5, 9]], [[8, 2], [3, 12]]],
        [[[140, 140]]],
    ],
)
def test_a_digit_is_scaled_and_centred_as_in_mnist(page: Page, strokes: list[Any]) -> None:
    """LeCun et al. 1998: its longer side 20 pixels, its centre of mass in the middle of 28."""
    grey = np.array(page.evaluate("(all) => [...asMnist(all)]", strokes)).reshape(28, 28)
    rows, columns = (np.flatnonzero(grey.max(axis) > 25) for axis in (1, 0))
    longer = max(np.ptp(rows), np.ptp(columns)) + 1
    assert 19 <= longer <= 21 or len(strokes[0]) == 1  # a dot stays a dot
    for axis in (0, 1):
        centre = (grey.sum(1 - axis) * (np.arange(28) + 0.5)).sum() / grey.sum()
        assert centre == pytest.approx(14, abs=0.1)
    # Where it is drawn, and how large, makes no difference.
    moved = [[[30 + 0.5 * x, 7 + 0.5 * y] for x, y in stroke] for stroke in strokes]
    again = np.array(page.evaluate("(all) => [...asMnist(all)]", moved)).reshape(28, 28)
    assert np.abs(again - grey).max() <= 2


def test_the_answer_follows_the_training(page: Page) -> None:
    page.locator("#presets button").nth(7).click()
    page.wait_for_function("document.querySelector('#says').dataset.answer !== ''")
    label = page.locator("#probabilities").get_attribute("aria-label")
    train(page, 3)
    stay(page)
    assert page.locator("#probabilities").get_attribute("aria-label") != label


def test_an_image_of_the_map_is_asked(page: Page) -> None:
    train(page, 12)
    page.locator("#map").focus()
    page.keyboard.press("ArrowRight")  # the first test image is a 0
    page.wait_for_function("document.querySelector('#says').dataset.answer === '0'")
    assert "and is right" in page.locator("#says").inner_text()
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 0.93 * box["width"], box["y"] + 0.47 * box["height"])
    page.wait_for_function("/is right|it is a/.test(document.querySelector('#says').textContent)")


# --- the tour


def test_the_tour_shows_what_it_says(opened: Callable[..., Page], visit: Visit) -> None:
    page = opened("")
    stops = page.locator("#stops button")
    assert stops.count() == 5

    def visited(number: int) -> None:
        stops.nth(number).click()
        assert stops.nth(number).get_attribute("aria-pressed") == "true"
        finished()

    def finished() -> None:
        assert is_training(page)
        page.wait_for_function(
            "document.querySelector('#play').dataset.playing === 'false'", timeout=SLOW
        )

    def dead() -> int:
        return page.locator("#experts .load span", has_text="dead").count()

    def digits_of_an_expert() -> float:
        """How many digits it sees a fifth of, on average."""
        shares = page.locator("#experts .digits td").all_inner_texts()
        many = sum(int(text or 0) >= 20 for text in shares)
        return many / page.locator("#experts thead button").count()

    visited(0)
    assert value(page, "epoch") == 40  # where the stop ends, on any machine
    assert dead() >= 2
    assert max(loads(page)) > 2 * 100 / 12
    visited(1)
    assert dead() == 0
    assert max(loads(page)) < 1.8 * 100 / 12
    visited(2)
    assert page.locator("#router-norm").inner_text() == "0"
    frozen = value(page, "test-accuracy")
    page.locator("#then").click()
    finished()
    assert page.locator("#router-norm").inner_text() != "0"
    assert value(page, "test-accuracy") > frozen
    visited(3)
    assert value(page, "test-accuracy") < 0.86
    assert "Most often a 9 is taken for a 4" in page.locator("#confusion-note").inner_text()
    assert page.evaluate("latest.confusion[99]") == 0  # not one 9 is recognised
    assert value(page, "epoch") == 60
    page.locator("#then").click()
    finished()
    assert value(page, "test-accuracy") > 0.87
    visited(4)
    few = digits_of_an_expert()
    page.locator("#then").click()
    finished()
    assert digits_of_an_expert() < 0.7 * few
    assert visit.errors == []


def test_the_tour_s_numbers_and_links_are_the_report_s(page: Page) -> None:
    runs = committed().for_claims.runs
    report = "".join(path.read_text(encoding="utf-8") for path in SECTIONS.iterdir())
    lines = []
    for stop in page.locator("#stops button").all():
        stop.click()
        link = page.locator("#stop-text a")
        section = (link.get_attribute("href") or "").removeprefix("index.html#")
        assert f'id="{section}"' in report
        lines.append(link.inner_text())
    without, with_loss = (
        cells(runs, recipe="logits", ne=12, k=2, lc=lc)["dead_experts"].mean() for lc in (0, 1)
    )
    assert f"{without:.1f} of 12 experts" in lines[0]
    assert f"{with_loss:.2f} of 12 experts" in lines[1]
    assert with_loss < 0.2 * without
    for recipe in ("logits", "switch"):
        of_recipe = cells(runs, recipe=recipe, ne=8, k=1, lc=1)
        accuracy = of_recipe["accuracy"].mean()  # the two have the same seeds
        assert f"{100 * accuracy:.1f} % under {recipe}" in lines[2]
    base = cells(runs, recipe="blog", ne=1)
    dropped = sum(min(row) < 0.5 for row in base.filter(regex=r"accuracy_\d").to_numpy())
    assert f"{100 * dropped / len(base):.0f} % of {len(base)} such networks" in lines[3]
    for ne in (4, 16):
        classes = cells(runs, recipe="logits", ne=ne, k=2, lc=1)["classes_per_expert"].mean()
        assert f"of {ne} sees {classes:.1f}" in lines[4]


def test_a_link_leads_to_a_stop_of_the_tour(opened: Callable[..., Page]) -> None:
    page = opened("#stop=3")
    assert is_training(page)
    assert "the router learns" in page.locator("#stop-text").inner_text()
    assert (chosen(page)["recipe"], chosen(page)["k"]) == ("logits", "1")
    page.locator("#play").click()  # a pause makes no difference to where it ends
    page.locator("#play").click()
    page.wait_for_function("document.querySelector('#play').dataset.playing === 'false'")
    assert value(page, "epoch") == 40
    page.locator("#reset").click()
    page.locator("#play").click()
    page.wait_for_function("document.querySelector('#play').dataset.playing === 'false'")
    assert value(page, "epoch") == 40
    page.locator("#play").click()
    epochs_done(page, 42)  # and on
    page.locator("#then").click()
    link = page.url
    page = opened("#stop=6")  # there is none
    assert not is_training(page)
    page = opened(link[link.index("#") :])
    assert is_training(page)
    assert "the router learns" in page.locator("#stop-text").inner_text()
    assert chosen(page)["recipe"] == "switch"
    page.locator("#lc").select_option("3")  # from here on it is no stop
    assert "stop=" not in page.url
    assert is_training(page)


# --- the page itself


SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (!entry.hadRecentInput) shifts.push(entry.value);
  }).observe({ type: 'layout-shift', buffered: true });
}"""


@pytest.mark.parametrize("width", [360, 768, 1024, 1366, 1440, 1920])
def test_nothing_moves(visit: Visit, width: int) -> None:
    """While the page loads and trains, and from stop to stop and recipe to recipe."""
    page = visit.page
    page.set_viewport_size({"width": width, "height": 900})
    visit.open(PLAYGROUND, "#recipe=shazeer&ne=16&k=4&lc=1")
    page.evaluate(SHIFTS)
    page.wait_for_function("latest && !waiting")
    shown = "() => [...document.querySelectorAll('section, form, h2')].map(s => s.offsetTop)"
    places = page.evaluate(shown)
    train(page, 2)
    page.locator("#experts thead button").nth(1).click()
    page.locator("#presets button").nth(2).click()
    page.wait_for_function("document.querySelector('#says').dataset.answer !== ''")
    assert page.evaluate(shown) == places
    for stop in page.locator("#stops button").all():
        stop.click()
        page.wait_for_function("latest && latest.epoch > 0 && !waiting")
        assert page.evaluate(shown) == places
    for recipe in ENGINE:
        page.locator("#recipe").select_option(recipe)
        page.wait_for_function("latest && !waiting")
        assert page.evaluate(shown) == places
    assert page.evaluate("shifts") == []
    assert has_no_sideways_scroll(page)
    overflowing = page.evaluate(
        """() => [...document.querySelectorAll('section *, form *, header *')].filter((node) => {
          const [inner, outer] = [node, node.closest('section, form, header')]
            .map((one) => one.getBoundingClientRect());
          return inner.width && !node.closest('.scroll, .ruler, .hidden')
            && (inner.right > outer.right + 1 || inner.bottom > outer.bottom + 1);
        }).map((node) => node.id || node.className)"""
    )
    assert overflowing == []


@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_needs_nobody_and_fits(
    opened: Callable[..., Page], visit: Visit, width: int, scheme: str
) -> None:
    visit.page.emulate_media(color_scheme=scheme)  # pyright: ignore[reportArgumentType]
    visit.page.set_viewport_size({"width": width, "height": 900})
    page = opened("#recipe=shazeer&ne=16&k=4&lc=1")
    train(page, 1)
    page.locator("#presets button").nth(2).click()
    stay(page)
    assert visit.errors == []
    assert visit.hosts == []
    assert has_no_sideways_scroll(page)
    if width == 1440:
        assert page.evaluate("document.documentElement.scrollHeight") <= 900
    assert PLAYGROUND.stat().st_size < 4_000_000


def test_the_address_keeps_the_settings(opened: Callable[..., Page], visit: Visit) -> None:
    page = opened("#recipe=switch&ne=9&k=1&lc=0.05&rate=0.002&batch=100&seed=77")
    expected = ("switch", "9", "1", "0.05", "0.002", "100", "77")
    assert tuple(chosen(page).values()) == expected
    train(page, 1)
    wrong = ("#recipe=<b>&ne=99&k=x&lc=-1&batch=1.5", "#k=4&ne=2", "#lc=&seed=", "#constructor=1")
    for fragment in wrong:
        page = opened(fragment)
        settings = chosen(page)
        assert settings["recipe"] == "logits"
        assert int(settings["k"]) <= int(settings["ne"])
    assert visit.errors == []


def test_the_link_is_copied(page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#ne").select_option("5")
    page.locator("#share").click()
    page.wait_for_function("document.querySelector('#share').textContent === 'Copied'")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    assert "ne=5" in link
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.locator("#share").click()
    page.wait_for_function("document.querySelector('#share').textContent === 'See the address'")


def test_a_setting_that_is_none_changes_nothing(page: Page, visit: Visit) -> None:
    before = chosen(page)
    page.evaluate(
        """for (const name of ['ne', 'k', 'lc', 'recipe']) {
          const control = document.getElementById(name);
          control.value = 'none';
          control.dispatchEvent(new Event('change'));
        }"""
    )
    train(page, 1)
    page.locator("#reset").click()
    assert chosen(page) == before
    assert visit.errors == []


def test_the_explorer_opens_its_trials_here(visit: Visit) -> None:
    fragment = "#recipe=blog&ne=4&k=2&lc=0.1&seed=3"
    visit.open(PAGES / "explorer.html", fragment)
    visit.page.locator("#train").click()
    visit.page.wait_for_url("**/playground.html*")
    assert tuple(chosen(visit.page).values()) == ("blog", "4", "2", "0.1", "0.001", "128", "3")
    # Trials that the page has no room for have no link.
    visit.open(PAGES / "explorer.html", fragment)
    assert visit.page.locator("#train").is_visible()
    visit.page.evaluate("data.mostTrainable = 3; show()")
    assert not visit.page.locator("#train").is_visible()


def test_links_lead_somewhere(page: Page) -> None:
    links = page.eval_on_selector_all("header a", "all => all.map(a => a.getAttribute('href'))")
    assert links == ["index.html", "explorer.html"]
    assert all((Path(PLAYGROUND.parent) / link).exists() for link in links)


def test_a_browser_without_workers_is_told(visit: Visit) -> None:
    visit.page.add_init_script("delete window.Worker")
    visit.open(PLAYGROUND)
    assert "Worker is not defined" in visit.page.locator("#failed").inner_text()
    assert visit.page.locator("h1").is_visible()


def test_what_fails_in_the_worker_is_said(page: Page) -> None:
    assert not page.locator("#failed").is_visible()
    page.evaluate("tell('data', { packed: btoa('no zlib'), labels: [], trainCount: 0 })")
    page.locator("#failed").wait_for()
    assert "TypeError" in page.locator("#failed").inner_text()


def test_it_trains_where_the_page_is_a_blob_in_a_frame(visit: Visit) -> None:
    """As in MLflow's artifact viewer, where links to other pages lead nowhere."""
    in_a_frame(visit.page, PLAYGROUND)
    frame = visit.page.frames[1]
    frame.wait_for_function("document.querySelector('#test-accuracy').dataset.value > 0")
    assert "index.html, among the artifacts" in frame.locator("nav .elsewhere").first.inner_text()
    frame.locator("#stops button").nth(4).click()
    assert "index.html#experts, among" in frame.locator("#stop-text .elsewhere").inner_text()
    frame.locator("#seed").select_option("3")
    frame.wait_for_function("+document.querySelector('#epoch').dataset.value >= 2")
    assert frame.locator("a[href]").count() == 0
    assert visit.errors == []


def test_every_control_and_picture_has_a_name(page: Page) -> None:
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, select, canvas, [role=img]')]
          .filter((node) => !(node.getAttribute('aria-label') || node.textContent || '').trim()
            || (node.tagName === 'SELECT' && !node.labels.length))
          .map((node) => node.outerHTML)"""
    )
    assert nameless == []


def test_progress_is_said_to_screen_readers(page: Page) -> None:
    train(page, 2)
    page.wait_for_function(
        "/^Epoch \\d+, test accuracy .* %, paused$/"
        ".test(document.querySelector('#status').textContent)"
    )


def test_less_motion_where_it_is_asked_for(opened: Callable[..., Page], visit: Visit) -> None:
    visit.page.emulate_media(reduced_motion="reduce")
    page = opened()
    page.evaluate(
        """() => {
          window.changes = 0;
          new MutationObserver(() => { window.changes++; }).observe(
            document.querySelector('#test-accuracy'), { attributes: true });
        }"""
    )
    page.locator("#play").click()
    page.wait_for_timeout(2_500)
    assert 1 <= page.evaluate("window.changes") <= 6  # two frames a second
    assert value(page, "epoch") > 0


def test_it_goes_on_after_the_tab_was_hidden(page: Page) -> None:
    page.locator("#play").click()
    epochs_done(page, 1)
    hide = """(hidden) => {
      Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    page.evaluate(hide, True)
    stay(page)
    done = value(page, "epoch")
    page.wait_for_timeout(1_000)
    assert value(page, "epoch") == done  # it rests
    assert is_training(page)
    page.evaluate(hide, False)
    epochs_done(page, int(done) + 2)


def test_memory_is_steady_over_a_hundred_epochs(opened: Callable[..., Page]) -> None:
    page = opened("#recipe=logits&ne=4&k=1&lc=1")
    session = page.context.new_cdp_session(page)

    def used() -> int:
        session.send("HeapProfiler.collectGarbage")
        return session.send("Runtime.getHeapUsage")["usedSize"]

    page.locator("#play").click()
    epochs_done(page, 20)
    before = used()
    epochs_done(page, 120)
    assert used() < before + 3_000_000


def test_its_benchmark_runs() -> None:
    """For so short a time that what it measures means nothing."""
    command = [sys.executable, "-m", "benchmarks.playground", "--rounds", "1", "--seconds", "0.05"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for way in ("engine", "kernel", "torch, plain loop", "page"):
        assert done.stdout.count(f"  {way}: ") == 2
