"""Mutation tests: `python -m tests.mutations` plants one fault after another into a copy of the
project, runs the tests that should detect it, and prints a table.

A fault counts as caught only if its tests pass without it. With arguments, only the faults whose
names contain one of them.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Mutation(NamedTuple):
    """Replaces the first `old` in a file by `new`. tests: files for pytest; only: its -k option."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    only: str


DRAWN, TEXTS = "tests/test_drawn.py", "tests/test_texts.py"
SWEEPS, CLASSES = "moe/figures/sweeps.py", "moe/figures/classes.py"
EXPERTS, STYLE = "moe/figures/experts.py", "moe/figures/style.py"
MUTATIONS = (
    Mutation(
        "sweep lines at the interval's lower end",
        *(STYLE, 'scale * points["mean"],', 'scale * points["low"],', DRAWN, "lines_over_lc"),
    ),
    Mutation(
        "a confusion matrix transposed",
        *(CLASSES, "np.where(right, np.nan, shares)", "np.where(right, np.nan, shares.T)"),
        *(DRAWN, "confusion"),
    ),
    Mutation(
        "who gets what inverted",
        *(EXPERTS, "heatmap(ax, shares.T, (0, 1))", "heatmap(ax, 1 - shares.T, (0, 1))"),
        *(DRAWN, "who_gets_what"),
    ),
    Mutation(
        "router pictures flipped",
        *(EXPERTS, "above.imshow(pictures[0, expert],", "above.imshow(pictures[0, expert][::-1],"),
        *(DRAWN, "router_pictures"),
    ),
    Mutation(
        "the first epoch's train_accuracy for the last",
        *("moe/analysis/run_row.py", '("train_accuracy", "last")', '("train_accuracy", "first")'),
        *(TEXTS, "runs_csv"),
    ),
    Mutation(
        "the last epoch's largest gradient for that of all",
        *("moe/analysis/run_row.py", '("router_grad_norm_max", "max")'),
        *('("router_grad_norm_max", "last")', TEXTS, "runs_csv"),
    ),
    Mutation(
        "the gain at k = 1 with its sign turned",
        *("moe/analysis/results.py", "wide[most] - wide[fewest]", "wide[fewest] - wide[most]"),
        *(TEXTS, "bring_at_k_1"),
    ),
    Mutation(
        "a wrong number in the text on the double softmax",
        *("moe/report/facts.py", '"right": math.log(math.e + others) - 1'),
        *('"right": math.log(math.e + others)', TEXTS, "double_softmax"),
    ),
    Mutation(
        "bands that end at the mean",
        *(STYLE, "ax.fill_between(xs, low, high,", 'ax.fill_between(xs, low, points["mean"],'),
        *(DRAWN, "lines_over_lc"),
    ),
    Mutation(
        "bars of the base drawn in place of the experts'",
        *(CLASSES, "bars = cells(means, recipe=recipe, ne=size)"),
        *("bars = cells(means, recipe=recipe, ne=1)", DRAWN, "bars_of_classes"),
    ),
    Mutation(
        "the change against the base with its sign turned",
        *(CLASSES, "less = counts[ne] - of_base", "less = of_base - counts[ne]"),
        *(DRAWN, "confusion_of_experts"),
    ),
    Mutation(
        "operations per image counted with k experts where there is one",
        *("moe/figures/experts_chosen.py", "min(ne, at[recipe].k)", "at[recipe].k"),
        *(DRAWN, "capacity"),
    ),
    Mutation(
        "the explorer's seeds in the reverse order of its lists",
        *("moe/report/explorer.py", '"seeds": runs["seed"].tolist()'),
        *('"seeds": runs["seed"].tolist()[::-1]', TEXTS, "explorer"),
    ),
    Mutation(
        "the explorer's gradient as a mean",
        *("moe/report/explorer.py", '_short(runs["router_grad_norm_max"])'),
        *('_short(runs["router_grad_norm"])', TEXTS, "explorer"),
    ),
    Mutation(
        "a curve that rises is said to turn",
        *("moe/report/facts.py", 'row["turns"] = _is_above_0(row["rise"]) and'),
        *('row["turns"] = _is_above_0(row["rise"]) or', TEXTS, "rises_and_turns"),
    ),
    Mutation(
        "a number of README.md changed by hand",
        *("README.md", "1,375 runs", "1,357 runs", "tests/test_readme.py", "its_numbers"),
    ),
)


def copy_of_project(folder: Path) -> None:
    """Copy the working tree's files, with the built kernel."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    built = [str(path.relative_to(ROOT)) for path in (ROOT / "moe").rglob("*.so")]
    for name in {*filter(None, files.split("\0")), *built}:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def passes(folder: Path, tests: str, only: str) -> bool:
    """Whether these tests of the copy pass. Raises if pytest itself fails."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        tests,
        "-k",
        only,
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout + done.stderr)
    return done.returncode == 0


def main(wanted: list[str]) -> int:
    chosen = [m for m in MUTATIONS if not wanted or any(word in m.name for word in wanted)]
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_of_project(folder)
        sound: dict[tuple[str, str], bool] = {}
        print("| fault | tests | seen |\n| --- | --- | --- |", flush=True)
        for mutation in chosen:
            which = mutation.tests, mutation.only
            if which not in sound:
                sound[which] = passes(folder, *which)
            file = folder / mutation.file
            before = file.read_text(encoding="utf-8")
            if mutation.old not in before:
                raise ValueError(f"{mutation.file} has no {mutation.old!r}: mend {mutation.name!r}")
            file.write_text(before.replace(mutation.old, mutation.new, 1), encoding="utf-8")
            seen = not passes(folder, *which)
            file.write_text(before, encoding="utf-8")
            said = ("caught" if seen else "missed") if sound[which] else "the tests fail without it"
            missed += said != "caught"
            print(f"| {mutation.name} | {which[0]} -k {which[1]} | {said} |", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
