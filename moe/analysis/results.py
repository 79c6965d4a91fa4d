"""The study's tables, and the queries that figures make."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moe.analysis.recipe_comparison import at_one_lc
from moe.analysis.router_study import ROUTERS_DIR, RouterStudy, read_router_study
from moe.data.info import DatasetInfo
from moe.data.sets import DATASETS, dataset_named
from moe.engine.divergence import split, without
from moe.recipes import in_order, recipe_named
from moe.statistics import mean_with_interval, slopes
from moe.study.runs import RUN_KEYS, Run, Settings, Trial, exactly
from moe.study.tables import picture_of, read_table, swept
from moe.study.train_settings import Train, setting_of

DIGITS = range(10)  # the classes in the source's claims
READINGS = ("blog", "logits")  # the two readings of the source
MOST_COLUMNS = 2  # recipes side by side in a figure
FEWEST_SIDE_BY_SIDE = 3  # recipes
PER_CENT = 100


class MissingCellsError(LookupError):
    """A study lacks the cells of a figure; the message completes "this figure needs …"."""


class Tables(NamedTuple):
    """The tables of a study in results/. folder: where they are; hidden: width of its experts.

    settings: if the study sweeps settings of `train`, their values in these tables, so no figure
    averages over them; others: the study's tables at its other settings.
    routers: runs of three recipes or more, each recipe at one lc for a k and ne, or no rows;
    router_study: the comparison that these are from; None if they are from this study;
    benchmark: the results of `make bench`.
    confirmed: these tables with the runs of the confirmatory study, where it has their cells.
    beyond: a study of other data, to compare with.
    diverged: runs with a loss or weight that is not finite; they are in none of the tables.
    """

    folder: Path
    hidden: int
    runs: pd.DataFrame
    history: pd.DataFrame
    confusion: pd.DataFrame
    slots: pd.DataFrame
    coactivation: pd.DataFrame
    routers: pd.DataFrame
    benchmark: dict[str, Any] | None = None
    diverged: Sequence[Run] = ()
    dataset: DatasetInfo = DATASETS["mnist"]
    settings: Settings = ()
    others: Sequence["Tables"] = ()
    router_study: RouterStudy | None = None
    confirmed: "Tables | None" = None
    beyond: "Tables | None" = None

    @property
    def for_claims(self) -> "Tables":
        """The tables for figures and texts that show a claim of the source."""
        return self.confirmed or self

    @property
    def all_runs(self) -> pd.DataFrame:
        """The runs at all settings, with a column for each swept setting."""
        parts = [part.runs.assign(**dict(part.settings)) for part in (self, *self.others)]
        names = [*RUN_KEYS, *dict(self.settings)]
        table = pd.concat(parts, ignore_index=True)
        return table[[*names, *(name for name in table.columns if name not in names)]]

    def picture_of(self, trial: Trial) -> Path:
        """The path of the picture of a trial's experts."""
        return picture_of(trial._replace(settings=self.settings), self.folder)

    @property
    def pictured_seed(self) -> int:
        """The study's first seed, the one with pictures; -1 without any run."""
        return int(self.runs["seed"].min()) if len(self.runs) else -1

    @property
    def recipes(self) -> list[str]:
        """The recipes that figures show side by side: at most two, the source's readings first."""
        present = in_order(self.runs["recipe"])
        readings = [name for name in READINGS if name in present]
        others = [name for name in present if name not in readings]
        return [*readings, *others][:MOST_COLUMNS]

    @property
    def routing(self) -> list[str]:
        """Those of `recipes` whose router chooses experts. Raises MissingCellsError for none."""
        choosing = [name for name in self.recipes if recipe_named(name).chooses]
        if not choosing:
            raise MissingCellsError("a recipe whose router chooses experts")
        return choosing

    @property
    def classes(self) -> range:
        """The labels."""
        return range(len(self.dataset.class_names))

    @property
    def accuracies(self) -> list[str]:
        """The columns of runs with the accuracy of each class."""
        return [f"accuracy_{label}" for label in self.classes]


def read_tables(
    folder: Path, hidden: int, dataset: str = "mnist", train: Train | None = None
) -> Tables:
    """Read the outputs of earlier stages; dataset, train: as in params.yaml.

    If the study sweeps settings of `train`, the tables are those at `usual_settings`. Diverged runs
    are left out. If results/routers/ has no comparison, or it lacks a recipe of this study,
    `routers` is this study, provided that it has three recipes or more.
    """
    names = ("runs", "history", "confusion", "slots", "coactivation")
    runs, *others = (read_table(folder / f"{name}.csv") for name in names)
    usual = usual_settings(runs, train)
    every = [settings for settings in settings_in(runs) if settings != usual]
    runs, diverged = split(runs)
    whole = [runs, *(without(table, diverged) for table in others)]

    def part(settings: Settings) -> Tables:
        width = dict(settings).get("hidden", hidden)
        own = [at_settings(table, settings) for table in whole]
        return Tables(
            folder, width, *own, own[0].head(0), dataset=dataset_named(dataset), settings=settings
        )

    tables = part(usual)
    runs = tables.runs
    study, recipes = read_router_study(folder / ROUTERS_DIR.name), set(runs["recipe"])
    if study is not None and recipes <= set(study.main["recipe"]):
        routers, of_routers = study.main, study.diverged
    else:
        routers = at_one_lc(runs) if len(recipes) >= FEWEST_SIDE_BY_SIDE else runs.head(0)
        study, of_routers = None, []
    benchmark = folder.parent / "benchmarks/results.json"
    found = json.loads(benchmark.read_text()) if benchmark.exists() else None
    return tables._replace(
        routers=routers,
        router_study=study,
        benchmark=found,
        diverged=(*diverged, *of_routers),
        others=[part(settings) for settings in every],
    )


def settings_in(table: pd.DataFrame) -> list[Settings]:
    """Every combination of the settings of `train` that a study sweeps; one, (), if none."""
    names = swept(table)
    if not names:
        return [()]
    rows = table[names].drop_duplicates().sort_values(names).itertuples(index=False)
    return [tuple(zip(names, row, strict=True)) for row in rows]


def usual_settings(runs: pd.DataFrame, train: Train | None = None) -> Settings:
    """The combination of settings that the report shows: the one with most runs; ties go to the
    values of `train`, then to the smallest."""
    counts = {settings: len(at_settings(runs, settings)) for settings in settings_in(runs)}

    def worth(settings: Settings) -> tuple[int, bool]:
        is_usual = train is not None and all(setting_of(train, n) == v for n, v in settings)
        return counts[settings], is_usual

    return max(counts, key=worth) if counts else ()


def at_settings(table: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows with these settings, without the settings' columns."""
    rows = cells(table, **dict(settings)) if settings else table
    return rows.drop(columns=swept(table)).reset_index(drop=True) if settings else rows


def settings_text(settings: Settings) -> str:
    """Such as "learning_rate = 0.001, hidden = 10"."""
    return ", ".join(f"{name} = {value_text(value)}" for name, value in settings)


def value_text(value: Any) -> str:
    """A setting's value in words; inf, no capacity_factor, is "none"."""
    return "none" if value == np.inf else exactly(value)


def cells(table: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """The rows with these values; a list allows each of its values."""
    keep = np.ones(len(table), bool)
    for name, value in wanted.items():
        keep &= table[name].isin(value if isinstance(value, list | set) else [value])
    return table[keep]


class At(NamedTuple):
    """The k and lc at which a recipe is shown over ne."""

    k: int
    lc: float

    def __str__(self) -> str:
        return f"k = {self.k}, lc = {exactly(self.lc)}"


def usual(runs: pd.DataFrame, recipe: str) -> At | None:
    """The source's k = 2 and lc = 1, if the recipe has them; else the pair with most ne and runs,
    preferring k > 1. None for a recipe without ne > 1."""
    many = cells(runs, recipe=recipe)
    many = many[many["ne"] > 1]
    if many.empty:
        return None

    def worth(pair: tuple[At, pd.DataFrame]) -> tuple:
        at, rows = pair
        is_source = at == At(2, 1.0)
        return (is_source, at.k > 1, rows["ne"].nunique(), at.lc == 1, len(rows), -at.k, at.lc)

    pairs = ((At(int(k), float(lc)), rows) for (k, lc), rows in many.groupby(["k", "lc"]))
    return max(pairs, key=worth)[0]


def usual_of(tables: Tables, recipes: Sequence[str]) -> dict[str, At]:
    """`usual` of each recipe that has one. Raises MissingCellsError for none."""
    found = {name: at for name in recipes if (at := usual(tables.runs, name))}
    if not found:
        raise MissingCellsError("more than one expert, ne > 1")
    return found


def at_usual(table: pd.DataFrame, at: dict[str, At]) -> pd.DataFrame:
    """The rows of each recipe at its k and lc; models with fewer experts than k have k = ne."""
    parts = [
        of[of["k"] == of["ne"].clip(upper=k)]
        for name, (k, lc) in at.items()
        for of in [cells(table, recipe=name, lc=lc)]
    ]
    return pd.concat(parts) if parts else table.head(0)


def where(at: dict[str, At]) -> str:
    """Such as "k = 2, lc = 1", or by recipe if they differ."""
    if len(set(at.values())) == 1:
        return str(next(iter(at.values())))
    return "; ".join(f"{name} at {cell}" for name, cell in at.items())


def base(table: pd.DataFrame, recipe: str) -> pd.DataFrame:
    """A recipe's models with one expert, one per seed: at lc = 1, or the lc with most seeds."""
    of_base = cells(table, recipe=recipe, ne=1)
    if of_base.empty:
        return of_base
    seeds = of_base.groupby("lc")["seed"].nunique()
    lc = max(seeds.index, key=lambda lc: (seeds[lc], lc == 1, -lc))
    return cells(of_base, lc=lc)


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Columns by, mean, low, high, seeds: the mean over seeds with its 95 % interval; NaNs are left
    out."""
    rows = []
    for key, group in table.dropna(subset=[value]).groupby(list(by)):
        mean, low, high = mean_with_interval(group[value].to_numpy(float))
        named = dict(zip(by, key, strict=True))
        rows.append({**named, "mean": mean, "low": low, "high": high, "seeds": len(group)})
    frame = pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])
    return frame.astype({"mean": float, "low": float, "high": float})


def mean_over_ne(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Each seed's mean over the ne that all values of `by` share, within a recipe.

    by: recipe first. Seeds that lack one of these ne are left out; no common ne gives no rows.
    """
    parts = []
    for _, of_recipe in table.groupby(by[0]):
        sizes = [set(group["ne"]) for _, group in of_recipe.groupby(list(by))]
        common = cells(of_recipe, ne=set.intersection(*sizes))
        counts = common.groupby([*by, "seed"])["ne"].transform("nunique")
        parts.append(common[counts == common["ne"].nunique()])
    rows = pd.concat(parts) if parts else table.head(0)
    return rows.groupby([*by, "seed"])[value].mean().reset_index()


def lc_sweep(table: pd.DataFrame, recipes: Sequence[str]) -> pd.DataFrame:
    """Each recipe's cells at k = 2, or else at the k with most lc, if it has more than one lc.

    Only seeds that all lc share, if there are any, so that lines compare the same seeds.
    Raises MissingCellsError if no recipe has two lc.
    """
    parts = []
    for recipe in recipes:
        many = cells(table, recipe=recipe)
        many = many[many["ne"] > 1]
        swept = many.groupby("k")["lc"].nunique()
        if swept.max() > 1 if len(swept) else False:
            k = max(swept.index, key=lambda k: (swept[k] > 1 and k == 2, swept[k], -k))
            rows = cells(many, k=k)
            paired_seeds = set.intersection(*(set(g["seed"]) for _, g in rows.groupby("lc")))
            parts.append(cells(rows, seed=paired_seeds) if paired_seeds else rows)
    if not parts:
        raise MissingCellsError("two values of lc at one k, with more than one expert")
    return pd.concat(parts)


def slopes_on_ne(runs: pd.DataFrame, recipe: str, k: int, lc: float = 1.0) -> pd.Series | None:
    """Each seed's slope of accuracy, in points, on log2 ne, from ne = 2 (or k, if larger); None
    with fewer than three ne or two seeds."""
    of_k = cells(runs, recipe=recipe, k=k, lc=lc)
    wide = of_k[of_k["ne"] >= max(2, k)].pivot_table("accuracy", "seed", "ne").dropna()
    if wide.shape[1] < 3 or len(wide) < 2:
        return None
    x = np.log2(wide.columns.to_numpy(float))
    return pd.Series(slopes(x, PER_CENT * wide.to_numpy()), index=wide.index)


def accuracy_slopes(runs: pd.DataFrame, at_lc: dict[str, float]) -> pd.DataFrame:
    """Columns recipe, k, mean, low, high, seeds: of slopes_on_ne, where it is defined."""
    rows = []
    for recipe, lc in at_lc.items():
        for k in sorted(set(cells(runs, recipe=recipe)["k"])):
            found = slopes_on_ne(runs, recipe, k, lc)
            if found is not None:
                rows += [{"recipe": recipe, "k": k, "slope": value} for value in found]
    frame = pd.DataFrame(rows, columns=["recipe", "k", "slope"])
    return over_seeds(frame, ["recipe", "k"], "slope")


class Change(NamedTuple):
    """How accuracy changes, in points within each seed, from the fewest to the most experts."""

    fewest: int
    most: int
    seeds: int
    value: float
    low: float
    high: float


def change_over_ne(runs: pd.DataFrame, recipe: str, k: int, lc: float) -> Change | None:
    """The change over seeds that both ends share; None without such a seed, or with only one ne."""
    wide = cells(runs, recipe=recipe, k=k, lc=lc).pivot_table("accuracy", "seed", "ne")
    if wide.shape[1] < 2:
        return None
    fewest, most = wide.columns.min(), wide.columns.max()
    gain = PER_CENT * (wide[most] - wide[fewest]).dropna().to_numpy()
    if len(gain) == 0:
        return None
    return Change(int(fewest), int(most), len(gain), *map(float, mean_with_interval(gain)))


def first_seed(table: pd.DataFrame, trial: Trial) -> pd.DataFrame:
    """The rows of a trial's first model."""
    of_trial = cells(table, **trial.columns)
    return cells(of_trial, seed=of_trial["seed"].min())


def counts_of(table: pd.DataFrame, prefix: str) -> np.ndarray:
    """The columns prefix_0, prefix_1, … as an array."""
    names = [name for name in table.columns if name.startswith(f"{prefix}_")]
    return table[sorted(names, key=lambda name: int(name.rpartition("_")[2]))].to_numpy()


def interval_text(value: float, low: float, high: float, form: str = "{:.2f}") -> str:
    """Such as "0.25 [0.20, 0.30]", or the value without an interval for one seed."""
    shown = form.format(value)
    if not np.isfinite([low, high]).all():
        return shown
    plain = form.replace("+", "")
    return f"{shown} [{plain.format(low)}, {plain.format(high)}]"
