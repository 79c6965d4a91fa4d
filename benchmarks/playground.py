"""python -m benchmarks.playground: the playground in Chromium, against the kernel and torch.

All on one core, browser included, on mnist-5k. `engine` is the trainer in an empty page;
`page` is the complete playground, with its tests, drawings and frames. Rates are per second of CPU
time of the process and its browser, so that other programs hardly matter.
"""

import contextlib
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import psutil
from playwright.sync_api import Page, sync_playwright

from benchmarks import ours, rivals
from benchmarks.timing import Case, Take, Way, clocked
from moe.data.dataset import Dataset
from moe.data.sets import dataset_named
from moe.report.playground import TRAINER
from moe.study.params import read_params
from moe.study.runs import Trial
from moe.study.workers import single_thread

TRIALS = (Trial("logits", ne=8, k=2, lc=1.0), Trial("logits", ne=16, k=4, lc=1.0))
SOURCES = Path("reports/template/playground")
PLAYGROUND = Path("reports/playground.html")
STEPS = 20  # of the engine between two readings of the clock

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
    """Epochs of the playground itself, at full speed, per second of CPU time."""
    page.goto(f"{PLAYGROUND.resolve().as_uri()}#recipe=logits&ne={trial.ne}&k={trial.k}&lc=1")
    page.reload()
    page.wait_for_function("document.querySelector('#test-accuracy').dataset.value > 0")
    page.locator("#play").click()
    page.wait_for_function("+document.querySelector('#epoch').dataset.value >= 10", timeout=60_000)
    pace, share = share_of_core(lambda: page.evaluate(PACE, seconds))
    return pace / share


def share_of_core(work: Callable[[], float]) -> tuple[float, float]:
    """The result of the work, and the share of a core's time that it used."""
    begin, cpu = time.perf_counter(), cpu_seconds()
    result = work()
    return result, (cpu_seconds() - cpu) / (time.perf_counter() - begin)


def cpu_seconds() -> float:
    """CPU time of this process and its running descendants."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(time.user + time.system for time in times)


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
@click.option("--seconds", default=2.0, show_default=True, help="Seconds per turn.")
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
            case = Case(trial, 1, data, settings)
            takes = {name: way(case) for name, way in ways.items()}
            rates: dict[str, list[float]] = {name: [] for name in takes}
            for turn in range(rounds + 1):  # the first warms up
                for name, take in takes.items():
                    ms, share = share_of_core(lambda take=take: take(seconds).ms)
                    if turn:
                        rates[name].append(1000 / ms / share / steps)
            rates["page"] = [pace_of_page(page, trial, seconds) for _ in range(rounds)]
            print(f"{trial}, batches of {settings.batch_size}")
            for name, measured in rates.items():
                rate = statistics.median(measured)
                images = rate * len(data.train_x)
                print(f"  {name}: {rate:.1f} epochs/s, {images:,.0f} images/s")


if __name__ == "__main__":
    main()
