"""SIGKILL at random moments of every stage: started again, the pipeline ends with the same bits.

A small but real study, of both engines. On each copy of the project every stage is killed once,
with all its workers and DVC itself, at a random moment between its own beginning and the next
stage's, so that DVC's bookkeeping is hit as well; then it is started again, and the digest of each
of its outputs is compared with that of an undisturbed run. At the end of a copy, so is MLflow.

`make test-faults SEED=…` repeats the moments of a run that printed that seed.
"""

import contextlib
import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from moe.train.run_store import STORE_DIR, Store
from tests.test_pipeline import STAGES, Copy

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
COPIES = int(os.environ.get("COPIES") or 5)  # of six kills each
OUTPUTS = {
    "download": ("data",),
    "train": ("weights",),
    "evaluate": ("results/evaluation.csv", "results/confusion.csv"),
    "analyze": (
        *("results/history.csv", "results/runs.csv", "results/plots"),
        *("results/slots.csv", "results/coactivation.csv", "results/digits.csv"),
        *("results/pictures", "reports/metrics.json"),
    ),
    "report": (
        *("reports/index.html", "reports/explorer.html", "reports/playground.html"),
        "reports/figures",
    ),
    "track": ("results/tracked.json",),
}


def study(folder: Path, source: Path) -> Copy:
    """Of 20 runs in a dozen shards: blog goes to the kernel, shazeer to the fused engine."""
    copy = Copy(folder, root=source)
    axes = {"ne": [1, 2, 4], "k": [1, 2], "lc": [0, 1], "seeds": 1}
    sweeps = [{"name": "small", "recipe": ["blog", "shazeer"], **axes}]
    copy.params(
        data={"dataset": "mnist-5k"},
        sweeps=sweeps,
        train={"epochs": 10},
        runtime={"experts_per_shard": 5, "workers": 2},
    )
    return copy


def start(copy: Copy, *targets: str) -> subprocess.Popen:
    return subprocess.Popen(
        ["dvc", "repro", *targets],
        cwd=copy.folder,
        env=copy.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def running_stage(process: subprocess.Popen) -> str:
    """The stage that a `dvc repro` is running; empty between stages."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                _, _, module = " ".join(child.cmdline()).partition("python -m stages.")
                if module in STAGES:
                    return module
    return ""


def stages_as_they_begin(process: subprocess.Popen) -> Iterator[str]:
    last = ""
    while process.poll() is None:
        now = running_stage(process)
        if now and now != last:
            last = now
            yield now
        time.sleep(0.01)


def kill(process: subprocess.Popen) -> None:
    """The whole tree at once, so that no process can clean up."""
    tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    os.killpg(process.pid, signal.SIGKILL)
    for member in tree:
        if member.is_running() and member.pid != process.pid:
            member.kill()
    process.communicate()
    _, alive = psutil.wait_procs(tree, timeout=10)
    assert not alive, "a survivor would go on with the work, and nothing would be proven"


def killed_after(seconds: float, process: subprocess.Popen, stage: str) -> str:
    """Kill it this long after a stage began; what it was doing, or "" if that stage was over."""
    for begun in stages_as_they_begin(process):
        if begun == stage:
            break
    time.sleep(seconds)
    at_work = running_stage(process) or "between stages"
    if process.poll() is not None:
        process.communicate()
        return ""
    kill(process)
    return at_work if at_work in (stage, "between stages") else ""


def digests(copy: Copy, stage: str) -> dict[str, str]:
    """Of every file that a stage writes."""
    found = {}
    for name in OUTPUTS[stage]:
        path = copy.folder / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                key = str(file.relative_to(copy.folder))
                found[key] = hashlib.sha256(file.read_bytes()).hexdigest()
    return found


def in_mlflow(copy: Copy) -> dict[str, tuple]:
    """Every run by name, with its status, parameters and metrics."""
    frame = copy.tracked()
    shown = [
        name
        for name in frame
        if name.startswith(("params.", "metrics.")) and not name.startswith("metrics.live/")
    ]
    assert frame["tags.mlflow.runName"].is_unique
    return {
        row["tags.mlflow.runName"]: (row["status"], *(repr(row[name]) for name in sorted(shown)))
        for row in frame.to_dict("records")
    }


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, source: Path
) -> tuple[Copy, dict[str, float]]:
    """A copy where nothing went wrong, and for how many seconds each stage had the stage."""
    copy = study(tmp_path_factory.mktemp("undisturbed"), source)
    process = start(copy)
    begins = [(stage, time.monotonic()) for stage in stages_as_they_begin(process)]
    said, _ = process.communicate()
    assert process.returncode == 0, said
    assert [stage for stage, _ in begins] == list(STAGES)
    ends = [begin for _, begin in begins[1:]] + [time.monotonic()]
    return copy, {stage: end - at for (stage, at), end in zip(begins, ends, strict=True)}


@pytest.mark.parametrize("number", range(COPIES))
def test_killed_in_every_stage_it_ends_with_the_same_bits(
    number: int, undisturbed: tuple[Copy, dict[str, float]], source: Path, tmp_path: Path
) -> None:
    whole, seconds = undisturbed
    copy, moments = study(tmp_path, source), random.Random(f"{SEED}/{number}")
    print(f"\nSEED={SEED}, copy {number + 1} of {COPIES}")
    for stage in STAGES:
        after = moments.random() * seconds[stage]
        at_work = killed_after(after, start(copy), stage)
        while not at_work:  # the stage took less time than undisturbed: again, and sooner
            after /= 2
            at_work = killed_after(after, start(copy, "--single-item", "--force", stage), stage)
        entries = Store(copy.folder / STORE_DIR).entries()
        kept = len({key for entry in entries for key in entry.runs})
        copy.run(sys.executable, "-m", "stages.check")  # as make does first
        again = copy.run("dvc", "repro", stage, check=False)
        assert again.returncode == 0, again.stdout + again.stderr
        if "Running stage 'train'" in again.stdout:
            assert f"{kept} of 20 runs are in the store" in again.stdout
        expected = digests(whole, stage)
        assert expected
        assert digests(copy, stage) == expected
        when = f"{after:5.2f} of {seconds[stage]:.2f} s"
        print(f"{stage:9} killed {when} after its begin ({at_work}): its outputs are equal")
    copy.repro()
    assert in_mlflow(copy) == in_mlflow(whole)
    assert set(copy.tracked()["status"]) == {"FINISHED"}
