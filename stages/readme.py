"""Writes what README.md says of the results, from the results: `make readme`, never by hand."""

import json
import re
from pathlib import Path
from textwrap import fill
from typing import Any

from stages.command import command

README = Path("README.md")
ROUTERS_PAGE = Path("docs/routers.md")


@command
def readme() -> None:
    """Fill the marked parts of README.md."""
    claims, metrics, benchmark, equivalence = (
        json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))
        for name in (
            *("reports/claims", "reports/metrics"),
            *("benchmarks/results", "benchmarks/equivalence"),
        )
    )
    text = README.read_text(encoding="utf-8")
    contents = {
        "result": result(claims, metrics),
        "routers": routers(),
        "speed": speed(benchmark) + "\n" + equal(equivalence["found"]),
    }
    for name, content in contents.items():
        text = filled(text, name, content)
    README.write_text(text, encoding="utf-8")
    routers_page = ROUTERS_PAGE.read_text(encoding="utf-8")
    ROUTERS_PAGE.write_text(filled(routers_page, "recipes", recipes()), encoding="utf-8")


def filled(text: str, name: str, content: str) -> str:
    """Text with what stands between the markers of a name replaced."""
    parts = re.compile(rf"(<!-- {name}: begin[^>]*-->\n).*?(<!-- {name}: end -->)", re.DOTALL)
    return parts.sub(lambda found: f"{found[1]}{content}{found[2]}", text)


def result(claims: dict[str, Any], metrics: dict[str, Any]) -> str:
    """What one sees first."""
    from moe.analysis.dvc_metrics import best_trials
    from moe.study.runs import TRIAL_KEYS
    from moe.study.tables import RESULTS_DIR, read_table

    runs = read_table(RESULTS_DIR / "runs.csv")
    trials = len(runs[TRIAL_KEYS].drop_duplicates())
    dropped = {
        recipe: claims["C7"][recipe]["beside"]["base models with a digit below 50 %"]
        for recipe in ("blog", "logits")
    }
    c6, curve = (
        claims["C6"]["switch"],
        claims["C2"]["logits"]["beside"]["accuracy, mean over ne, %"],
    )
    shown = {
        recipe: f"{share['share']:.0%} of {share['models']} (95 % interval {share['low']:.0%} to "
        f"{share['high']:.0%})"
        for recipe, share in dropped.items()
    }
    best = max(metrics["best"], key=metrics["best"].get)
    curve_shown = ", ".join(f"{at['estimate']:.2f} at {lc}" for lc, at in curve.items())
    return f"""
A blog, "Tutorial on Mixture of experts", once trained mixtures of small experts on MNIST, a single
run of each, and told what the experts learn. Its formulas, tested values and figures are lost. This
is the study again, reconstructed from its sentences: {metrics["runs"]:,} runs of
{trials} trials, with seeds and intervals, every figure regenerated, every claim tested.

![Test accuracy over the number of experts, a line for each k](reports/figures/effect-of-k.svg)

- **With k = 1 the router never trains.** Under the recipes `blog` and `logits` the gradient that
  reaches it is exactly 0, in every run and at every step: a softmax over one kept logit is 1.
  Weighting with the plain probability, as Switch Transformers does, gives
  {c6["estimate"]:+.2f} points [{c6["low"]:.2f}, {c6["high"]:.2f}] over `logits` there.
- **A softmax too many makes base models miss whole digits.** In the code that the source names as
  its inspiration, each expert ends in a softmax, before a cross entropy that takes logits. We
  reconstruct that the source did the same (`blog`). With it, some digit is below 50 % in
  {shown["blog"]}; without it (`logits`), in {shown["logits"]}.
- **The weight of the gate loss helps, up to a point.** Mean accuracy over ne at k = 2 under
  `logits`, in per cent: {curve_shown}.
- The best trial, `{best_trials(runs)[best]}`, reaches {metrics["best"][best]:.2%}.

"""


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
        cells += ["in training, with a capacity factor" if recipe.depends_on_batch else "no"]
        rows.append(f"| {' | '.join([*cells, recipe.use_it])} |")
    return "\n".join(rows) + "\n"


def speed(found: dict[str, Any]) -> str:
    """What `make bench` measured, in a few sentences."""
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
    """What `python -m benchmarks.equivalence` found."""
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
    """Which router for which purpose, from the study of all recipes."""
    from moe.analysis.recipe_comparison import at_most_experts
    from moe.study.tables import RESULTS_DIR, read_table

    runs = read_table(RESULTS_DIR / "routers.csv")
    rows = at_most_experts(runs).to_dict("records")
    by_name = {(row["recipe"], row["k"]): row for row in rows}
    # "random" routes too, but for nobody's purpose.
    chosen = [row for row in rows if row["nmi"] == row["nmi"] and row["recipe"] != "random"]
    of_k = {k: [row for row in chosen if row["k"] == k] for k in (1, 2)}
    even, special = (
        min(chosen, key=lambda row: row["max_violation"]),
        max(chosen, key=lambda row: row["nmi"]),
    )
    free, widest = by_name["loss-free", 2], by_name["dense-total", 1]

    def shown(row: dict[str, Any]) -> str:
        low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
        return f"{100 * row['accuracy']:.1f} % [{low:.1f}, {high:.1f}]"

    def with_controls(k: int) -> str:
        best = of_k[k][0]
        controls = " and ".join(
            f"{shown(by_name[name, k])} for `{name}`" for name in ("random", "dense-active")
        )
        return f"`{best['recipe']}`, {shown(best)}, against {controls}"

    seeds, ne = rows[0]["seeds"], rows[0]["ne"]
    answers = (
        f"**The best accuracy from two experts an image**: {with_controls(2)}.",
        f"**One expert an image**, the cheapest: {with_controls(1)}. The softmax over one kept "
        "logit leaves the router of `blog` and `logits` untrained.",
        f"**An even load**, so that no device waits: `{even['recipe']}` at k = {even['k']}, whose "
        f"busiest expert gets {even['max_violation']:.0%} more than the mean.",
        f"**Experts that differ**: `{special['recipe']}` at k = {special['k']}, with "
        f"{special['nmi']:.2f} of normalised mutual information between expert and digit.",
        f"**No gate loss to weigh**: `loss-free`, at a price here: {shown(free)} at k = 2, and a "
        f"busiest expert with {free['max_violation']:.0%} more than the mean. Its sigmoid gates "
        "saturate on a task this small.",
        f"**Accuracy at any cost**: one wide network, `dense-total`, {shown(widest)}, with {ne} "
        "experts' multiplications for each image.",
    )
    wrapped = (fill(f"- {answer}", 98, subsequent_indent="  ") for answer in answers)
    return "\n".join(
        [f"At ne = {ne}, {seeds} seeds, 95 % intervals (`make routers`):\n", *wrapped, ""]
    )


if __name__ == "__main__":
    readme()
