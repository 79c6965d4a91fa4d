"""The results of the comparison of routers in sentences, for the report and docs/routers.md.

Every difference has its paired interval; if the interval includes 0, it is called a tie.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from moe.analysis import router_answers as answers
from moe.analysis.results import PER_CENT, cells
from moe.analysis.router_answers import Difference, at, difference
from moe.analysis.router_study import LIMITED, MOST_NE, RouterStudy
from moe.recipes import recipe_named
from moe.study.runs import exactly

CONTROLS = ("random", "dense-active", "dense-total")
CAPACITY = "a capacity"  # a question of router_answers.choices
PAPERS_STEP = 0.001  # Wang et al. 2024
WITHOUT_LOSS = ("loss-free", "deepseek-v3", "expert-choice", "sinkhorn")


class Answer(NamedTuple):
    """A section of the report: its figure, its question, one paragraph."""

    figure: str
    question: str
    text: str


def told(study: RouterStudy) -> list[Answer]:
    """The sections, in order."""
    return [
        Answer("router-front", "How accurate, and how even?", front(study)),
        Answer("router-weights", "Which weight?", weights(study)),
        Answer("router-gains", "Does a router learn anything, and what does it buy?", gains(study)),
        Answer("router-grains", "Few large experts or many small ones?", grains(study)),
        Answer(
            "router-choices",
            "Is a shared expert worth it, do normalised gates matter, does a capacity hurt?",
            choices(study),
        ),
    ]


def points(found: Difference | pd.Series) -> str:
    """Such as "+0.52 points [0.31, 0.73]"."""
    if isinstance(found, Difference):
        value, low, high = found.value, found.low, found.high
    else:
        value, low, high = found[["difference", "low", "high"]]
    return f"{rounded(value):+.2f} points [{rounded(low):.2f}, {rounded(high):.2f}]"


def rounded(value: float) -> float:
    """Round to two digits; 0.0 instead of -0.0."""
    return round(float(value), 2) + 0.0


def in_maxvio(found: Difference | pd.Series) -> str:
    """Such as "MaxVio -0.26 [-0.45, -0.06]"."""
    return f"MaxVio {points(found).replace(' points', '')}"


def tie(found: Difference) -> str:
    """A note for an interval that includes 0; else an empty string."""
    return " (a tie)" if found.is_tie else ""


def is_tie(row: pd.Series) -> bool:
    return not (row["low"] > 0 or row["high"] < 0)


def listed(words: Iterable[str]) -> str:
    """Such as "a, b and c"."""
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else "none"


class Ranking(NamedTuple):
    """Trainable routers at one k and the most experts, by mean accuracy, and the difference of each
    from the best."""

    rows: pd.DataFrame
    behind: dict[str, Difference]

    @property
    def best(self) -> str:
        return str(self.rows["recipe"].iloc[0])

    @property
    def ties(self) -> list[str]:
        return [name for name, found in self.behind.items() if found.is_tie]


def ranking(study: RouterStudy, k: int) -> Ranking:
    """The routers at the most experts and this k."""
    rows = cells(answers.means(study), ne=MOST_NE, k=k)
    kept = [recipe_named(r).chooses and recipe_named(r).trains_router for r in rows["recipe"]]
    rows = rows[kept].sort_values("accuracy", ascending=False, ignore_index=True)
    first, *others = rows["recipe"]
    runs = at(study.main, first, MOST_NE, k)
    behind = {name: difference(at(study.main, name, MOST_NE, k), runs) for name in others}
    return Ranking(rows, {name: found for name, found in behind.items() if found})


def share(row: pd.Series) -> str:
    """A mean accuracy with its interval."""
    mean, low, high = (PER_CENT * row[f"accuracy{end}"] for end in ("", "_low", "_high"))
    return f"{mean:.2f} % [{low:.2f}, {high:.2f}]"


def highest(found: Ranking) -> str:
    """Which router has the highest mean, and which tie with it."""
    text = f"{found.best} has the highest mean, {share(found.rows.iloc[0])}"
    ties = [f"{name} ({points(found.behind[name])})" for name in found.ties]
    if ties:
        return f"{text}; {listed(ties)} {'ties' if len(ties) == 1 else 'tie'} with it"
    second = found.rows["recipe"].iloc[1]
    return f"{text}, before {second} ({points(found.behind[second])})"


def most_even(rows: pd.DataFrame, measure: str = "max_violation_batch") -> pd.Series:
    """The row of a ranking with the lowest mean of a MaxVio."""
    return rows.loc[rows[measure].idxmin()]


def front(study: RouterStudy) -> str:
    parts = []
    for k in (1, 2):
        found = ranking(study, k)
        edge = answers.on_the_front(found.rows)
        names = [
            f"{r['recipe']} ({PER_CENT * r['accuracy']:.2f} %, MaxVio {r['max_violation']:.2f})"
            for r in edge.to_dict("records")
        ]
        even = [
            f"{most_even(found.rows, name)['recipe']} ({found.rows[name].min():.2f}) {where}"
            for name, where in (
                ("max_violation", "on the test set"),
                ("max_violation_batch", "in a training batch"),
                ("max_violation_epoch", "over an epoch"),
            )
        ]
        parts.append(
            f"With ne = {MOST_NE} and k = {k}, {highest(found)}. By their means, no router "
            f"beats {listed(names)} in both accuracy and balance on the test set. MaxVio is "
            f"lowest under {listed(even)}."
        )
    return " ".join(parts)


def weights(study: RouterStudy) -> str:
    table = cells(answers.by_weight(study), ne=MOST_NE)
    several = table[table.groupby(["recipe", "k"])["lc"].transform("nunique") > 1]
    spans, chosen = [], []
    for (recipe, k), rows in several.groupby(["recipe", "k"], sort=False):
        rows = rows.sort_values("lc")
        low, high = rows.loc[rows["accuracy"].idxmin()], rows.loc[rows["accuracy"].idxmax()]
        spans.append((high["accuracy"] - low["accuracy"], recipe, k, low, high))
        chosen.append(
            f"{recipe} {exactly(float(rows.loc[rows['chosen'], 'lc'].iloc[0]))} at k = {k}"
        )
    most, least = max(spans, key=lambda s: s[0]), min(spans, key=lambda s: s[0])

    def said(span: tuple) -> str:
        _, recipe, k, low, high = span
        return (
            f"{recipe} at k = {k}: {PER_CENT * low['accuracy']:.2f} % at lc = "
            f"{exactly(low['lc'])}, {PER_CENT * high['accuracy']:.2f} % at {exactly(high['lc'])}"
        )

    rates = study.chosen["learning_rate"].value_counts()
    counted = listed(f"{exactly(float(rate))} for {count}" for rate, count in rates.items())
    off = several[(several["lc"] == 0)]
    dead = [
        f"{row['recipe']} {row['dead_experts']:.1f} at k = {row['k']}"
        for row in off.sort_values("dead_experts", ascending=False).to_dict("records")
        if row["dead_experts"] >= 1
    ]
    without = (
        f" Without any balancing, lc = 0, experts are dead under {listed(dead)} (of {MOST_NE}, "
        "mean over three seeds)."
        if dead
        else " Without any balancing, lc = 0, at most one expert is dead on average."
    )
    return (
        f"Chosen at ne = {MOST_NE}: {listed(chosen)}. The learning rates chosen are {counted} of "
        f"the {len(study.chosen)} cells. The weight matters most under {said(most)}; "
        f"least under {said(least)} (three seeds, the best of several: no estimate).{without}"
    )


def gains(study: RouterStudy) -> str:
    table = answers.gains(study)
    parts = []
    for k in (1, 2):
        for control in CONTROLS:
            rows = cells(table, k=k, control=control).sort_values("difference", ascending=False)
            better = [_named(row) for _, row in rows.iterrows() if row["low"] > 0]
            ties = [_named(row) for _, row in rows.iterrows() if is_tie(row)]
            worse = [_named(row) for _, row in rows.iterrows() if row["high"] < 0]
            shown = [f"{len(better)} of {len(rows)} are better{_ends(better)}"]
            shown += [f"{len(ties)} tied: {listed(ties)}"] if ties else []
            shown += [f"{len(worse)} {'is' if len(worse) == 1 else 'are'} worse{_ends(worse)}"]
            parts.append(f"At k = {k} against {control}, {'; '.join(shown)}.")
    return " ".join(parts)


def _named(row: pd.Series) -> str:
    return f"{row['recipe']} {points(row)}"


def _ends(names: list[str]) -> str:
    """The first and the last of a sorted list."""
    if len(names) < 2:
        return f" ({names[0]})" if names else ""
    return f", from {names[0]} to {names[-1]}"


def grains(study: RouterStudy) -> str:
    table = answers.grains(study)
    parts = []
    for recipe, rows in table.groupby("recipe", sort=False):
        rows = rows.sort_values("ne")
        if len(rows) < 2:
            continue
        last, first = rows.iloc[-1], rows.iloc[0]
        found = Difference(last["gain_difference"], last["gain_low"], last["gain_high"], 0)
        text = (
            f"Under {recipe}, {last['ne']} experts of {last['hidden']} units differ from "
            f"{first['ne']} of {first['hidden']} by {points(found)}{tie(found)}"
        )
        against = [
            f"{points(compared)} compared with {name}{tie(compared)}"
            for name in ("dense-active", "dense-total")
            if (compared := _against_dense(study, str(recipe), int(last["ne"]), name))
        ]
        parts.append(f"{text}; they are {listed(against)}.")
    return " ".join(parts)


def _against_dense(study: RouterStudy, recipe: str, ne: int, dense: str) -> Difference | None:
    width = study.runs["hidden"]
    sized = study.runs[study.runs["ne"] * width == 160]
    sized = sized[sized["k"] * sized["hidden"] == 40]
    one = sized[(sized["recipe"] == recipe) & (sized["ne"] == ne)]
    return difference(one, sized[sized["recipe"] == dense])


def choices(study: RouterStudy) -> str:
    table = cells(answers.choices(study), ne=MOST_NE)
    parts = []
    for question, rows in table.groupby("question", sort=False):
        question, said = str(question), []
        for (one, other, k), of in rows.groupby(["one", "other", "k"], sort=False):
            by = of.set_index("measure")
            accuracy, balance = by.loc["accuracy"], by.loc["max_violation"]
            tie = ", a tie" if is_tie(accuracy) else ""
            said.append(
                f"{one} less {other} at k = {k}: {points(accuracy)}{tie}, {in_maxvio(balance)}"
                + (_revived(by.loc["dead_experts"]) if question == CAPACITY else "")
            )
        where = f" ({LIMITED}, in training)" if question == CAPACITY else ""
        parts.append(f"{question[0].upper()}{question[1:]}{where}: {'; '.join(said)}.")
    return f"With ne = {MOST_NE}. " + " ".join(parts) + " " + reason(study)


def _revived(row: pd.Series) -> str:
    return f", dead experts {points(row).replace(' points', '')}"


def reason(study: RouterStudy) -> str:
    """Whether normalised gates explain the difference of deepseek-v3 and loss-free at k = 2: at the
    chosen settings, and in phase one at the step of loss-free's paper."""
    names = ("deepseek-v3", "loss-free")
    one, other = (at(study.main, name, MOST_NE, 2) for name in names)
    chosen = study.chosen[(study.chosen["ne"] == MOST_NE) & (study.chosen["k"] == 2)]
    chosen = chosen.set_index("recipe").loc[list(names)]
    tried = study.select[study.select["lc"] == PAPERS_STEP]
    tried = tried[tried["learning_rate"] == chosen["learning_rate"].iloc[0]]
    stepped = tuple(at(tried, name, MOST_NE, 2) for name in names)
    steps = " and ".join(exactly(float(lc)) for lc in chosen["lc"])
    test, epoch = other["max_violation"].mean(), other["max_violation_epoch"].mean()
    return (
        f"deepseek-v3 and loss-free differ in one thing, the division of the gates by their sum. "
        f"With k = 2, as chosen (steps of the bias {steps}), deepseek-v3 less loss-free is "
        f"{_both(one, other)}; loss-free has a MaxVio of {test:.2f} on the test set and "
        f"{epoch:.2f} over an epoch of training. At the step {exactly(PAPERS_STEP)} of the paper "
        f"of loss-free, in phase one ({len(stepped[0])} seeds), it is {_both(*stepped)}."
    )


def _both(one: pd.DataFrame, other: pd.DataFrame) -> str:
    """The differences in accuracy and in balance, each with its conclusion."""
    accuracy, balance = difference(one, other), difference(one, other, "max_violation")
    if accuracy is None or balance is None:
        return "unknown, for lack of seeds"
    return (
        f"{points(accuracy)} ({_shows(accuracy, 'more', 'less')} accurate), with "
        f"{in_maxvio(balance)} ({_shows(balance, 'less', 'more')} even)"
    )


def _shows(found: Difference, above: str, below: str) -> str:
    if found.is_tie:
        return "not shown to be more or less"
    return above if found.low > 0 else below


def purposes(study: RouterStudy) -> list[str]:
    """Which router suits which purpose, in Markdown, one line each."""
    lines = []
    for k, title in ((2, "Two experts an input"), (1, "One expert an input")):
        lines.append(f"**{title}, the most accurate**: {highest(ranking(study, k))}.")
    found = ranking(study, 2)
    level = found.rows[found.rows["recipe"].isin([found.best, *found.ties])]
    even = level.loc[level["max_violation_batch"].idxmin()]
    lines.append(
        f"**Accurate and even** (k = 2): of {listed(level['recipe'])}, which tie in accuracy, "
        f"{even['recipe']} has the lowest MaxVio in a training batch, "
        f"{even['max_violation_batch']:.2f}."
        if len(level) > 1
        else f"**Accurate and even** (k = 2): {found.best} ties with no other; its MaxVio in a "
        f"training batch is {even['max_violation_batch']:.2f}."
    )
    alone = level[[_is_per_image(str(name)) for name in level["recipe"]]]
    if len(alone) and not _is_per_image(str(even["recipe"])):
        other = alone.loc[alone["max_violation_batch"].idxmin()]
        lines[-1] += (
            f" It compares the images of a batch in the test, too; of the others "
            f"{other['recipe']} is the most even, {other['max_violation_batch']:.2f} in a "
            f"training batch and {other['max_violation']:.2f} on the test set."
        )
    flat = most_even(ranking(study, 2).rows)
    cost = found.behind.get(str(flat["recipe"]))
    price = f"it is {points(cost)} compared with {found.best}" if cost else "and the most accurate"
    is_level = ", a tie" if cost and cost.is_tie else ""
    batch = recipe_named(str(flat["recipe"])).depends_on_batch
    looks = f"; the experts of an image depend on its batch, {batch}" if batch != "no" else ""
    lines.append(
        f"**The most even load** (k = 2): {flat['recipe']}, with a MaxVio of "
        f"{flat['max_violation_batch']:.2f} in a training batch and {flat['max_violation']:.2f} on "
        f"the test set; {price}{is_level}{looks}."
    )
    free = found.rows[found.rows["recipe"].isin(WITHOUT_LOSS)]
    if len(free):
        best = str(free["recipe"].iloc[0])
        gap = found.behind.get(best)
        lines.append(
            f"**Without a gate loss** (k = 2): {best}, {share(free.iloc[0])}"
            + (
                f", {points(gap)} compared with {found.best}{', a tie' if gap.is_tie else ''}."
                if gap
                else "."
            )
        )
    table = cells(answers.gains(study), recipe=found.best, k=2).set_index("control")
    lines.append(
        f"**Is a mixture worth it?** {found.best} at k = 2 is "
        + listed(
            f"{points(table.loc[name])} compared with {name}"
            for name in CONTROLS
            if name in table.index
        )
        + f"; dense-total does the multiplications of all {MOST_NE} experts for each input."
    )
    return lines


def _is_per_image(recipe: str) -> bool:
    """Whether the routing of a test image depends on that image alone."""
    return "evaluation" not in recipe_named(recipe).depends_on_batch


def held_equal(study: RouterStudy) -> str:
    """The introduction above the answers."""
    seeds = study.main.groupby(["recipe", "ne", "k"])["seed"].nunique()
    apart = "" if not study.diverged else f" {len(study.diverged)} runs diverged and are left out."
    return (
        f"At ne = {MOST_NE}, {seeds.max()} seeds that phase one did not have, one look at the test "
        f"set. Held equal: epochs, batches, the width of an expert, first weights and batches of a "
        f"seed, the number of settings tried for each kind of lc; no capacity. Each router has the "
        f"learning rate and lc that phase one chose for it. Differences are within a seed, with "
        f"95 % intervals, unadjusted for their number ({np.sum(seeds):,} runs, {len(seeds)} cells)."
        f"{apart}{_at_an_end(study)}"
    )


def _at_an_end(study: RouterStudy) -> str:
    found = [
        f"{name.replace('_', ' ')} {' and '.join(map(exactly, values))} of {recipe}"
        for name, by_recipe in answers.at_an_end(study).items()
        for recipe, values in by_recipe.items()
    ]
    if not found:
        return ""
    return f" Chosen at an end of what was tried, where a wider grid might differ: {listed(found)}."
