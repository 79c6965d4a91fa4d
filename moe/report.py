"""The report: one HTML file that needs nothing else, and its figures one by one."""

import base64
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from moe.figures import Figure, Tables, all_figures
from moe.figures.classes import dropped_digits
from moe.grid import TRIAL_KEYS
from moe.params import Params
from moe.results import cells, mean_over_ne, over_seeds
from moe.routers import at_most_experts

REPORTS_DIR = Path("reports")
TEMPLATE_DIR = REPORTS_DIR / "template"
LONGEST_TABLE = 400  # rows


def write_report(tables: Tables, params: Params, claims: list[dict[str, Any]], into: Path) -> None:
    """Write index.html and figures/ into a folder; the same tables always give the same bytes."""
    folder = into / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figures = {}
    for figure in all_figures(tables):
        content = figure.to_bytes()
        (folder / figure.file_name).write_bytes(content)
        figures[figure.number] = _for_template(figure, content)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATE_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = Markup((TEMPLATE_DIR / "report.css").read_text(encoding="utf-8"))
    html = environment.get_template("index.html").render(
        figures=figures, claims=claims, facts=facts(tables, params), style=style
    )
    (into / "index.html").write_text(html, encoding="utf-8")


def _for_template(figure: Figure, content: bytes) -> dict[str, Any]:
    kind = "png" if figure.dense else "svg+xml"
    table = figure.table.head(LONGEST_TABLE)
    return {
        "number": figure.number,
        "title": figure.title,
        "caption": figure.caption,
        "alt": figure.alt,
        "source": f"data:image/{kind};base64,{base64.b64encode(content).decode()}",
        "file": f"figures/{figure.file_name}",
        "table": _as_html(table),
        "left_out": len(figure.table) - len(table),
    }


def _as_html(table: pd.DataFrame) -> Markup:
    """pandas escapes what stands in the cells."""
    return Markup(table.to_html(index=False, border=0, float_format="{:.4g}".format, na_rep=""))


def facts(tables: Tables, params: Params) -> dict[str, Any]:
    """The numbers that the texts of the report speak of; None where the study has no such cells."""
    runs = tables.runs
    trials = runs.groupby(TRIAL_KEYS)["accuracy"].mean()
    best = trials.idxmax()
    return {
        "dataset": params.data.dataset,
        "epochs": params.train.epochs,
        "batch_size": params.train.batch_size,
        "learning_rate": params.train.learning_rate,
        "hidden": params.train.hidden,
        "runs": len(runs),
        "trials": len(trials),
        "experts": int(runs["ne"].sum()),
        "most_seeds": int(runs["seed"].max()) + 1,
        "recipes": tables.recipes,
        "best": {"accuracy": float(trials.max()), **dict(zip(TRIAL_KEYS, best, strict=True))},
        "base": {recipe: _base(runs, recipe) for recipe in tables.recipes},
        "lc": _lc(tables),
        "k_1": _k_1(runs),
        "dropped": dropped_digits(tables)[1].to_dict("records"),
        "routers": _routers(tables.routers),
    }


def _base(runs: pd.DataFrame, recipe: str) -> dict[str, float] | None:
    base = cells(runs, recipe=recipe, ne=1)
    if base.empty:
        return None
    return {
        "accuracy": float(base["accuracy"].mean()),
        "sd": float(base["accuracy"].std()),
        "seeds": base["seed"].nunique(),
    }


def _lc(tables: Tables) -> list[dict[str, Any]]:
    """For each recipe, accuracy and gate loss as means over ne: at no, the best and the most lc."""
    runs = cells(tables.runs, recipe=tables.recipes, k=2)
    if runs["lc"].nunique() < 2:
        return []
    told = []
    for recipe in tables.recipes:
        keys = ["recipe", "lc"]
        of_recipe = cells(runs, recipe=recipe)
        accuracy = over_seeds(mean_over_ne(of_recipe, keys, "accuracy"), keys, "accuracy")
        gate_loss = over_seeds(mean_over_ne(of_recipe, keys, "gate_loss"), keys, "gate_loss")
        best = accuracy.loc[accuracy["mean"].idxmax()]
        first, last = accuracy.iloc[0], accuracy.iloc[-1]
        told.append(
            {
                "recipe": recipe,
                "first": float(first["lc"]),
                "at_first": float(first["mean"]),
                "best": float(best["lc"]),
                "at_best": float(best["mean"]),
                "last": float(last["lc"]),
                "at_last": float(last["mean"]),
                "gate_at_first": float(gate_loss["mean"].iloc[0]),
                "gate_at_last": float(gate_loss["mean"].iloc[-1]),
                "turns": float(best["lc"]) != float(last["lc"]),
            }
        )
    return told


def _k_1(runs: pd.DataFrame) -> dict[str, Any]:
    """At k = 1: the largest gradient of any router, accuracy at the fewest and most experts."""
    at_1 = runs[(runs["k"] == 1) & (runs["lc"] == 1)]
    told = {}
    for recipe, of_recipe in at_1.groupby("recipe"):
        means = of_recipe.groupby("ne")["accuracy"].mean()
        many = of_recipe[of_recipe["ne"] > 1]
        if many.empty:
            continue
        told[recipe] = {
            "gradient": float(many["router_grad_norm_max"].max()),
            "fewest": int(means.index[0]),
            "most": int(means.index[-1]),
            "gain": 100 * float(means.iloc[-1] - means.iloc[0]),
        }
    return told


def _routers(runs: pd.DataFrame) -> dict[str, Any] | None:
    """Of the study of all recipes, with the most experts; None without it."""
    if runs.empty:
        return None
    return {
        "runs": len(runs),
        "seeds": runs["seed"].nunique(),
        "fewest": int(runs["ne"].min()),
        "most": int(runs["ne"].max()),
        "rows": at_most_experts(runs).to_dict("records"),
    }
