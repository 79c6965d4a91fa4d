"""Generates the parts of README.md and docs/ that show results: `make docs`.

README.md: the findings and the speed; docs/routers.md: the table of recipes and what the comparison
found; docs/results.md: every table and column; docs/claims.md: a card and a picture for each claim.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from moe.claims.judge import SYMBOLS
from moe.study.columns import Column
from stages.command import command

README = Path("README.md")
ROUTERS = Path("docs/routers.md")
INTERNALS = Path("docs/internals.md")
CLAIMS = Path("docs/claims.md")
RESULTS = Path("docs/results.md")


@command
def docs() -> None:
    """Fill the marked parts of README.md and docs/, and write docs/claims.md."""
    claims, benchmark, equivalence = (
        json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))
        for name in ("reports/claims", "benchmarks/results", "benchmarks/equivalence")
    )
    write(README, {"result": result(claims), "speed": speed_in_brief(benchmark)})
    write(INTERNALS, {"speed": speed(benchmark) + "\n" + equal(equivalence["found"])})
    write(ROUTERS, {"recipes": recipes(), "comparison": routers()})
    write(RESULTS, {"files": files()})
    write_claims_page(claims)


def write(page: Path, parts: dict[str, str]) -> None:
    """Replace the text between the markers of each name in a page."""
    text = page.read_text(encoding="utf-8")
    for name, content in parts.items():
        marked = re.compile(rf"(<!-- {name}: begin[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
        text, count = marked.subn(lambda found, new=content: f"{found[1]}{new}{found[2]}", text)
        assert count == 1, f"{page} has {count} parts called {name}"
    page.write_text(text, encoding="utf-8")


def write_claims_page(claims: dict[str, Any]) -> None:
    """Write docs/claims.md, keeping its hand-written text, and its pictures."""
    from moe.claims.page import IMAGES, claims_page
    from moe.claims.pictures import picture

    before = CLAIMS.read_text(encoding="utf-8") if CLAIMS.exists() else ""
    folder = CLAIMS.parent / IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for name, of_claim in claims.items():
        drawn = picture(of_claim)
        if drawn:
            (folder / f"{name}.svg").write_text(drawn, encoding="utf-8")
    CLAIMS.write_text(claims_page(claims, before), encoding="utf-8")


def result(claims: dict[str, Any]) -> str:
    """The three main findings."""
    from moe.analysis.results import cells
    from moe.study.tables import RESULTS_DIR, read_table, trial_columns

    runs = read_table(RESULTS_DIR / "runs.csv")
    at_1 = cells(runs, recipe=["blog", "logits"], k=1)
    largest = at_1.loc[at_1["ne"] > 1, "router_grad_norm_max"].max()
    gradient = "exactly 0" if largest == 0 else f"at most {largest:.2g}"
    switch = claims["C6"]["switch"]
    dropped = {
        recipe: claims["C7"][recipe]["beside"]["base models with a digit below 50 %"]
        for recipe in ("blog", "logits")
    }
    shown = {
        recipe: f"{share['share']:.0%} of {share['models']} base models "
        f"[{share['low']:.0%}, {share['high']:.0%}]"
        for recipe, share in dropped.items()
    }
    curve = claims["C2"]["logits"]["beside"]["accuracy, mean over ne, %"]
    values = ", ".join(f"{at['estimate']:.2f} at {lc}" for lc, at in curve.items())
    findings = (
        "**With k = 1 the router never trains.** With the recipes `blog` and `logits` the gradient "
        f"that reaches it is {gradient}, in every run and at every step: a softmax over one kept "
        "logit is 1. Weighting with the plain probability, as Switch Transformers does, gives "
        f"{switch['estimate']:+.2f} points [{switch['low']:.2f}, {switch['high']:.2f}] over "
        "`logits`.",
        "**A double softmax loses whole digits.** As reconstructed from the code that the source "
        "names, its experts end in a softmax before a cross entropy that takes logits. With it, "
        f"some digit is below 50% in {shown['blog']}; without it, in {shown['logits']}. The "
        "source's weak digits are consistent with it.",
        "**The gate loss helps, up to a point.** Test accuracy at k = 2 under `logits`, mean over "
        f"ne, in per cent: {values}.",
    )
    wrapped = "\n".join(fill(f"- {text}", 98, subsequent_indent="  ") for text in findings)
    trials = len(runs[trial_columns(runs)].drop_duplicates())
    intro = (
        'A blog, "Tutorial on Mixture of experts", trained mixtures of small experts on MNIST, one '
        "run of each, and described what the experts learn. Its formulas, tested values and "
        "figures are lost. This is the study again, reconstructed from its sentences: "
        f"{len(runs):,} runs of {trials} trials with seeds and intervals, every figure "
        f"regenerated, every claim tested ({verdicts(claims)})."
    )
    picture = "![Test accuracy over the number of experts](reports/figures/effect-of-k.svg)"
    return f"{fill(intro, 98)}\n\n{picture}\n\n{wrapped}\n"


def verdicts(claims: dict[str, Any]) -> str:
    """The number of each verdict, such as "16 reproduced, 4 contradicted"."""
    all_of = [claim for of_claim in claims.values() for claim in of_claim.values()]
    found = [claim["verdict"] for claim in all_of]
    counted = ", ".join(f"{found.count(name)} {name}" for name in SYMBOLS if name in found)
    confirmed = all(claim["confirmatory"] for claim in all_of)
    study = "on fresh seeds" if confirmed else "exploratory seeds"
    return f"{counted}; {study}, [docs/claims.md](docs/claims.md)"


def recipes() -> str:
    """A row for each recipe, from its declaration."""
    from moe.recipes import RECIPES

    columns = {
        "recipe": "name",
        "source": "source",
        "gates": "gates",
        "gate loss": "gate_loss",
        "lc": "lc",
        "k": "k",
        "random in training": "random",
    }
    titles = [*columns, "depends on the rest of the batch", "use it"]
    rows = [f"| {' | '.join(titles)} |", "| --- " * len(titles) + "|"]
    for recipe in RECIPES.values():
        cells = [str(getattr(recipe, field)) for field in columns.values()]
        cells[0] = f"`{recipe.name}`"
        cells += [recipe.depends_on_batch]
        rows.append(f"| {' | '.join([*cells, recipe.use_it])} |")
    return "\n".join(rows) + "\n"


def files() -> str:
    """A section for each results file, with a table of its columns."""
    from moe.study.columns import KEYS
    from moe.study.schema import FILES

    parts = ["## The columns of every table of runs\n", _columns(KEYS)]
    known: dict[tuple[Column, ...], str] = {}
    for file in FILES:
        holds = f"{file.holds[0].upper()}{file.holds[1:]}. Written by {file.stage}."
        parts += [f"## {file.name}\n", f"{fill(holds, 98)}\n"]
        if same := known.get(file.columns):
            parts.append(f"The columns are those of {same}.\n")
        elif file.columns[: len(KEYS)] == KEYS:
            parts += ["The columns above, and:\n", _columns(file.columns[len(KEYS) :])]
        else:
            parts.append(_columns(file.columns))
        known.setdefault(file.columns, file.name)
    return "\n".join(parts)


def _columns(columns: Sequence[Column]) -> str:
    rows = ["| name | type | unit | meaning |", "| --- | --- | --- | --- |"]
    for column in columns:
        optional = ", optional" if column.optional else ""
        meaning = column.meaning.replace("|", "\\|")
        rows.append(f"| `{column.name}` | {column.type}{optional} | {column.unit} | {meaning} |")
    return "\n".join(rows) + "\n"


def speed_in_brief(found: dict[str, Any]) -> str:
    """The results of `make bench`, in one sentence."""
    module, dataloader = (found[f"kernel_vs_{name}_per_core"] for name in ("module", "dataloader"))
    text = (
        f"A training step in the C kernel takes {module:.0f} times less time than in the usual "
        f"sparse-dispatch module on one core, {dataloader:.0f} times less than with a DataLoader "
        "([docs/internals.md](docs/internals.md#speed), `make bench`)."
    )
    return fill(text, 98, break_on_hyphens=False) + "\n"


def speed(found: dict[str, Any]) -> str:
    """The results of `make bench`, in a few sentences."""
    kernel_us = 1000 * found["mix"]["median_ms"]["kernel"]
    times = {name: f"{value:.0f} times" for name, value in found.items() if "_per_core" in name}
    cuda = found["cuda"]
    text = (
        f"On one core of {found['machine']['cpu']} ({found['date']}), over "
        f"{len(found['mix']['cells'])} cells in the study's proportions, a step of a run (a batch "
        f"of {found['batch_size']}, forward, backward and Adam) takes {kernel_us:.0f} µs in the C "
        f"kernel: {times['kernel_vs_module_per_core']} less than in the usual sparse-dispatch "
        f"module with its data resident in memory, {times['kernel_vs_dataloader_per_core']} less "
        f"than with a DataLoader (with AVX2 alone, {times['kernel_vs_module_per_core_avx2']} and "
        f"{times['kernel_vs_dataloader_per_core_avx2']}). From 8 to 64 experts at k = 2 its "
        f"products take {found['products_ratio_ne64_over_ne8']:.1f} times as long. The torch "
        f"engine takes {found['fused_over_roofline']:.2f} times its two large products and Adam "
        f"alone. A GPU: {cuda if isinstance(cuda, str) else 'see benchmarks/results.json'}."
    )
    return fill(text, 98) + "\n"


def equal(found: list[dict[str, Any]]) -> str:
    """The results of `python -m benchmarks.equivalence`."""
    shown = sum(row["equivalent"] for row in found)
    seeds, most = found[0]["seeds"], max(abs(row["mean"]) for row in found)
    text = (
        f"Their test accuracy, less that of the layer trained alone: over {seeds} full trainings "
        f"of each of {len(found) // 2} recipes, paired, {most:.3f} points in the mean at most, and "
        f"{shown} of {len(found)} differences are shown to be 0 within ±0.1 points, by two "
        "one-sided tests (`python -m benchmarks.equivalence`)."
    )
    return fill(text, 98, break_on_hyphens=False) + "\n"


def routers() -> str:
    """Which router suits which purpose, by the comparison of routers."""
    from moe.analysis.router_study import read_router_study
    from moe.report.router_told import held_equal, purposes, reason

    study = read_router_study()
    if study is None:
        return "The comparison has not been run: `make routers`.\n"
    lines = [*purposes(study), f"**`loss-free` and `deepseek-v3`**: {reason(study)}"]
    form = {"subsequent_indent": "  ", "break_on_hyphens": False}
    wrapped = (fill(f"- {line}", 98, **form) for line in lines)
    return "\n".join([fill(held_equal(study), 98), "", *wrapped, ""])


if __name__ == "__main__":
    docs()
