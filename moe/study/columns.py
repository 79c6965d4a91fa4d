"""Descriptions of columns, including those that several tables share."""

import re
from dataclasses import fields
from typing import Literal, NamedTuple

from moe.study.train_settings import Train

# Types of a table's cells; JSON also has lists and objects, and weights are float32 arrays.
Type = Literal["text", "whole", "number", "flag", "list", "object", "float32", "float64"]
# The range of values of a unit; unbounded units are not listed.
RANGES = {
    "share": (0.0, 1.0),
    "images": (0.0, float("inf")),
    "experts": (0.0, float("inf")),
    "classes": (0.0, float("inf")),
    "nats": (0.0, float("inf")),
}


class Column(NamedTuple):
    """A column, or a family of columns with a number in their names, such as accuracy_{class}.

    unit: "" if there is none; for an array, its shape. optional: not in every file of this kind.
    """

    name: str
    type: Type
    unit: str
    meaning: str
    optional: bool = False

    def is_named(self, name: str) -> bool:
        """Whether a column of a file has this description."""
        family = re.sub(r"\\{\w+\\}", r"\\d+", re.escape(self.name))
        return re.fullmatch(family, name) is not None


class Table(NamedTuple):
    """A kind of file: name is its path, in which * matches any text; holds describes its content.

    The columns of a JSON file are its keys; those of a weights file are its arrays.
    """

    name: str
    stage: str
    holds: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column | None:
        """The description of a column; None for a column that is not declared."""
        return next((column for column in self.columns if column.is_named(name)), None)


# Training settings. If a study sweeps one of these, its tables have a column for it.
SETTINGS = {
    "epochs": ("whole", "", "passes over the training set"),
    "batch_size": ("whole", "images", "images of a training step"),
    "learning_rate": ("number", "", "step size of Adam"),
    "hidden": ("whole", "", "width of an expert's hidden layer"),
    "capacity_factor": (
        "number",
        "",
        "an expert takes at most ⌈capacity_factor · k · batch_size / ne⌉ images of a batch; inf is "
        "no limit",
    ),
    "z_loss": ("number", "", "weight of the router's z-loss"),
    "precision": ("text", "", "what the factors of large products are rounded to"),
}


def _setting(name: str) -> Column:
    """The column of a training setting; SETTINGS may lack its description."""
    kind, unit, meaning = SETTINGS.get(name, ("text", "", f"train.{name} of params.yaml"))
    return Column(name, kind, unit, f"{meaning}; only where the study sweeps it", optional=True)


KEYS = (
    Column(
        "recipe", "text", "", "the router with its losses: a name in docs/routers.md, or a file"
    ),
    Column("ne", "whole", "experts", "number of experts"),
    Column("k", "whole", "experts", "experts chosen per image"),
    Column("lc", "number", "", "weight of the gate loss, written exactly"),
    Column("seed", "whole", "", "of the initial weights and of the order of batches"),
    *(_setting(field.name) for field in fields(Train)),
)
LOSSES = (
    Column("network_loss", "number", "nats", "cross entropy"),
    Column("gate_loss", "number", "", "the recipe's balancing loss, before it is weighted by lc"),
)
EVALUATION = (
    Column("accuracy", "number", "share", "test images classified right"),
    *LOSSES,
    Column("accuracy_{class}", "number", "share", "test images of one class classified right"),
)
MAX_VIOLATION = (
    "images of the busiest expert over the mean of all experts, minus 1; 0 is an even load "
    "(Wang et al. 2024)"
)
ROUTER_GRAD_NORM = "Euclidean norm of the gradient that the router's weights get"
RUNS = (
    *EVALUATION,
    Column("train_accuracy", "number", "share", "training images classified right, last epoch"),
    Column("dropped", "number", "share", "slots beyond an expert's capacity, last epoch"),
    Column("router_grad_norm", "number", "", f"{ROUTER_GRAD_NORM}: mean over all steps"),
    Column("router_grad_norm_max", "number", "", f"{ROUTER_GRAD_NORM}: the largest of any step"),
    Column(
        "experts_per_image",
        "number",
        "experts",
        "mean over test images: k, unless the recipe lets their number vary",
        optional=True,
    ),
    Column(
        "gate_entropy",
        "number",
        "nats",
        "entropy of an image's gates, scaled to sum to 1: mean over test images; 0: one expert "
        "decides, ln k: all k weigh the same",
    ),
    Column("max_violation", "number", "", f"{MAX_VIOLATION}; test set"),
    Column("dead_experts", "whole", "experts", "experts that no test image chooses"),
    Column(
        "nmi",
        "number",
        "share",
        "normalised mutual information of expert and class over the test set, "
        "2 I(E; C) / (H(E) + H(C))",
    ),
    Column(
        "nmi_null",
        "number",
        "share",
        "mean nmi of analyze.null_tables random tables with the same margins: what chance gives",
    ),
    Column(
        "experts_per_class",
        "number",
        "experts",
        "exp of the entropy of a class's slots over the experts, mean over classes",
    ),
    Column(
        "classes_per_expert",
        "number",
        "classes",
        "exp of the entropy of an expert's slots over the classes, each class with the same "
        "weight; mean over the experts that get any image",
    ),
    Column(
        "diverged",
        "flag",
        "",
        "1 where a loss or a weight is not finite: left out of every mean, figure and claim",
        optional=True,
    ),
)

ROUTER_MEASURES = (
    *("accuracy", "network_loss", "train_accuracy", "dropped", "router_grad_norm"),
    *("experts_per_image", "gate_entropy", "max_violation", "dead_experts", "nmi", "diverged"),
)
ROUTER_RUNS = tuple(column for column in RUNS if column.name in ROUTER_MEASURES)
INTERVAL = (
    Column("unit", "text", "", "of the numbers; points are hundredths of an accuracy"),
    Column("estimate", "number", "its unit", "mean over seeds; of several parts, the first"),
    Column("low", "number", "its unit", "lower end of the 95 % interval"),
    Column("high", "number", "its unit", "upper end"),
    Column("seeds", "whole", "", "how many seeds or pairs of seeds it is the mean of"),
)
