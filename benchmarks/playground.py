"""python -m benchmarks.playground: the playground in Chromium, beside the kernel and torch.

All on one core, browser included, on mnist-5k. `engine` is the trainer alone, in an empty page;
`page` is the playground as one sees it, with its tests, drawings and frames.
"""

import contextlib
import os
import shutil
import statistics
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from playwright.sync_api import Page, sync_playwright

from benchmarks import ours, rivals
from benchmarks.timing import Case, Take, Way, clocked, side_by_side
from moe.data.dataset import Dataset
from moe.data.sets import dataset_named
from moe.report.playground import TRAINER
from moe.study.params import read_params
from moe.study.runs import Trial
from moe.study.workers import single_thread

TRIALS = (Trial("logits", ne=8, k=2, lc=1.0), Trial("logits", ne=16, k=4, lc=1.0))
SOURCES = Path("reports/template/playground")
PLAYGROUND = Path("reports/playground.html")
STEPS = 20  # of the engine between two looks at the clock

PREPARE = """([bytes, labels, experts, topK]) => {
  const images = new Images(Uint8Array.from(bytes), Uint8Array.from(labels));
  const model = new MixtureOfExperts({ experts, topK, recipe: 'logits' });
  model.set(initialWeights(0, experts));
  let epoch = 0, taken = 0, order = null;
  window.train = (steps) => {
    for (let i = 0; i < steps; i++) {
      if (taken === 0) order = epochOrder(0, epoch++, images.count);
      const batch = order.subarray(128 * taken, 128 * (taken + 1));
      model.step(images, batch, { lossCoef: 1, learningRate: 0.001 });
      taken = (taken + 1) % Math.floor(images.count / 128);
    }
  };
}"""

# Epochs per second between the first change of the epoch's number and the first after some seconds
PACE = """async (seconds) => {
  const epoch = () => +document.querySelector('#epoch').dataset.value;
  const changed = async () => {
    const from = epoch();
    while (epoch() === from) await new Promise((done) => setTimeout(done, 1));
    return [performance.now(), epoch()];
  };
  const [begin, first] = await changed();
  let now, last;
  do [now, last] = await changed(); while (now - begin < 1000 * seconds);
  return 1000 * (last - first) / (now - begin);
}"""


def engine_in(page: Page) -> Way:
    """The trainer's own files, in an empty page."""

    def way(case: Case) -> Take:
        page.goto("about:blank")
        for name in TRAINER[:-1]:
            page.add_script_tag(content=(SOURCES / name).read_text(encoding="utf-8"))
        data, trial = case.data, case.trial
        images, labels = data.train_x.flatten().tolist(), data.train_y.tolist()
        page.evaluate(PREPARE, [images, labels, trial.ne, trial.k])

        def steps() -> int:
            page.evaluate("(steps) => train(steps)", STEPS)
            return STEPS

        return clocked(steps)

    return way


def pace_of_page(page: Page, trial: Trial, seconds: float) -> float:
    """Epochs per second of the playground itself, at full speed."""
    page.goto(f"{PLAYGROUND.resolve().as_uri()}#recipe=logits&ne={trial.ne}&k={trial.k}&lc=1")
    page.reload()
    page.wait_for_function("document.querySelector('#test-accuracy').dataset.value > 0")
    page.locator("#play").click()
    page.wait_for_function("+document.querySelector('#epoch').dataset.value >= 10", timeout=60_000)
    return page.evaluate(PACE, seconds)


@contextlib.contextmanager
def a_page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        path = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page(viewport={"width": 1440, "height": 900})
        browser.close()


@click.command()
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=2.0, show_default=True, help="Of a turn.")
def main(rounds: int, seconds: float) -> None:
    """Print epochs and images per second of each way, medians over rounds."""
    single_thread()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # the browser inherits it
    settings = read_params().train
    with TemporaryDirectory() as name, a_page() as page:
        folder = Path(name)
        dataset_named("mnist-5k").fetch(folder, folder)
        data = Dataset(folder)
        steps = len(data.train_x) // settings.batch_size
        for trial in TRIALS:
            ways = {
                "engine": engine_in(page),
                "kernel": ours.WAYS["kernel"],
                "torch, plain loop": rivals.WAYS["module"],
            }
            costs = side_by_side(ways, Case(trial, 1, data, settings), rounds, seconds)
            print(f"{trial}, batches of {settings.batch_size}")
            for way, cost in costs.items():
                epochs = 1000 / cost.ms / steps
                print(f"  {way}: {epochs:.1f} epochs/s, {epochs * len(data.train_x):,.0f} images/s")
            paces = [pace_of_page(page, trial, seconds) for _ in range(rounds)]
            print(f"  page: {statistics.median(paces):.1f} epochs/s")


if __name__ == "__main__":
    main()
