"""Every file with results, and every column in it: its type, unit and meaning.

write_table checks its columns against this list, and docs/results.md is generated from it, so every
column has a description.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from moe.study.columns import (
    EVALUATION,
    INTERVAL,
    KEYS,
    MAX_VIOLATION,
    ROUTER_GRAD_NORM,
    ROUTER_RUNS,
    RUNS,
    Column,
    Table,
)

TABLES = (
    Table(
        "results/runs.csv",
        "analyze",
        "a row for each run: everything that is one number",
        (*KEYS, *RUNS),
    ),
    Table(
        "results/routers/select.csv",
        "`make routers`",
        "a row for each run of phase one, studies/routers-select.yaml; its test set is 10,000 "
        "training images",
        (*KEYS, *ROUTER_RUNS),
    ),
    Table(
        "results/routers/chosen.csv",
        "`make routers`",
        "a row for each router, ne and k: the setting that phase one chose",
        (
            *KEYS[:4],
            Column("learning_rate", "number", "", "step size of Adam, written exactly"),
            Column("accuracy", "number", "share", "of phase one: mean over its seeds"),
            Column("seeds", "whole", "", "of phase one"),
        ),
    ),
    Table(
        "results/routers/runs.csv",
        "`make routers`",
        "a row for each run of phase two, studies/routers.yaml",
        (
            *KEYS,
            *ROUTER_RUNS,
            Column(
                "max_violation_batch",
                "number",
                "",
                "as max_violation, of the training batches of an epoch: mean over batches",
            ),
            Column("max_violation_epoch", "number", "", "the same, of their sum"),
        ),
    ),
    Table(
        "results/history.csv",
        "train; analyze copies it to results/",
        "a row for each run and epoch",
        (
            *KEYS,
            Column("epoch", "whole", "", "1 is the first"),
            Column("network_loss", "number", "nats", "mean over the epoch's training batches"),
            Column("gate_loss", "number", "", "the same, before it is weighted by lc"),
            Column("train_accuracy", "number", "share", "over the epoch's training batches"),
            Column("test_accuracy", "number", "share", "on the test set, after the epoch"),
            Column("router_grad_norm", "number", "", f"{ROUTER_GRAD_NORM}: mean over steps"),
            Column("router_grad_norm_max", "number", "", f"{ROUTER_GRAD_NORM}: largest"),
            Column("max_violation", "number", "", f"{MAX_VIOLATION}; test set, after the epoch"),
            Column("dead_experts", "whole", "experts", "no test image chooses them"),
            Column("dropped", "number", "share", "slots beyond an expert's capacity"),
        ),
    ),
    Table(
        "results/evaluation.csv",
        "evaluate",
        "a row for each run, on the test set",
        (*KEYS, *EVALUATION),
    ),
    Table(
        "results/confusion.csv",
        "evaluate",
        "a row for each run and true class",
        (
            *KEYS,
            Column("digit", "whole", "", "the true class"),
            Column("predicted_{class}", "whole", "images", "test images taken for this class"),
        ),
    ),
    Table(
        "results/slots.csv",
        "analyze",
        "a row for each run and expert",
        (
            *KEYS,
            Column("expert", "whole", "", "0 is the first"),
            Column("digit_{class}", "whole", "images", "test images of a class that choose it"),
        ),
    ),
    Table(
        "results/coactivation.csv",
        "analyze",
        "a row for each run with k > 1 and pair of experts",
        (
            *KEYS,
            Column("expert", "whole", "", "the first of the pair"),
            Column("other", "whole", "", "the second, with the larger number"),
            Column("images", "whole", "images", "test images that choose both"),
        ),
    ),
    Table(
        "results/digits.csv",
        "analyze",
        "a row for each run of the first seed and pictured test image",
        (
            *KEYS,
            Column("image", "whole", "", "its row in the test set, 0 is the first"),
            Column("digit", "whole", "", "its true class"),
            Column("predicted", "whole", "", "the class that the model gives it"),
            Column("gate_{expert}", "number", "", "weight of an expert in the output"),
        ),
    ),
    Table(
        "results/plots/accuracy_over_ne.csv",
        "analyze",
        "a row for each recipe, k and ne, for `dvc plots`",
        (
            Column("series", "text", "", "recipe, k and the lc with the most ne"),
            Column("ne", "whole", "experts", "number of experts"),
            Column("accuracy", "number", "share", "on the test set, mean over seeds"),
        ),
    ),
    Table(
        "results/plots/accuracy_over_lc.csv",
        "analyze",
        "a row for each recipe, k and lc, for `dvc plots`",
        (
            Column("series", "text", "", "recipe and k"),
            Column("lc", "number", "", "weight of the gate loss"),
            Column("accuracy", "number", "share", "on the test set, mean over ne and seeds"),
        ),
    ),
    Table(
        "results/plots/training/*.csv",
        "analyze",
        "a row for each epoch of a recipe's best trial, for `dvc plots`",
        (
            Column("epoch", "whole", "", "1 is the first"),
            Column("train_accuracy", "number", "share", "mean over seeds"),
            Column("test_accuracy", "number", "share", "mean over seeds"),
        ),
    ),
    Table(
        "results/plots/confusion/*.csv",
        "analyze",
        "a row for each test image, for the first seed of a recipe's best trial, for `dvc plots`",
        (
            Column("actual", "whole", "", "the true class"),
            Column("predicted", "whole", "", "the class that the model gives it"),
        ),
    ),
)

JSON = (
    Table(
        "reports/metrics.json",
        "analyze",
        "headline numbers of the study, for `dvc metrics`",
        (
            Column("runs", "whole", "", "how many there are, without diverged ones"),
            Column("base", "object", "share", "by recipe: mean test accuracy with one expert"),
            Column("best", "object", "share", "by recipe: mean test accuracy of its best trial"),
        ),
    ),
    Table(
        "reports/claims.json",
        "report",
        "by id of a claim, then by recipe: what was found; only words and a verdict where a claim "
        "cannot be measured",
        (
            Column("claim", "text", "", "what is said"),
            Column("quote", "text", "", "the source's words"),
            Column("measured", "text", "", "what is compared"),
            Column("reproduced_if", "text", "", "the margin in words"),
            Column("verdict", "text", "", "as docs/claims.md explains it"),
            Column("shown", "text", "", "the numbers as the report shows them"),
            Column("note", "text", "", "what is missing, or what holds of a claim that fails"),
            *(column._replace(optional=True) for column in INTERVAL),
            Column("margin", "object", "its unit", "a number, or the two ends of a range", True),
            Column("parts", "list", "", "each number of the claim, with `what` it is", True),
            Column("remark", "text", "", "a sentence to read with the numbers", True),
            Column("beside", "object", "", "further numbers, without a verdict", True),
            Column("p", "number", "", "of the two one-sided tests against the margin", True),
            Column("p_holm", "number", "", "p after Holm's correction over the recipe", True),
            Column("confirmatory", "flag", "", "whether all seeds are fresh: docs/protocol.md"),
            Column("exploratory", "object", "", "the same numbers of the exploratory study"),
        ),
    ),
    Table(
        "results/tracked.json",
        "track",
        "the study that MLflow got last",
        (
            Column("experiment", "text", "", "name of the experiment with the trials"),
            Column("study", "text", "", "digest of its runs, their training and data"),
            Column("trials", "whole", "", "how many MLflow has of the study"),
            Column("runs", "whole", "", "how many MLflow has of the study"),
        ),
    ),
)
ARRAYS = (
    Table(
        "weights/seed-*.safetensors",
        "train",
        "all runs of a seed; the name of an array is RUN/NAME, such as "
        "`logits/ne=4/k=2/lc=1/seed=0/experts.w1`",
        (
            Column("router.weight", "float32", "(ne, inputs)", "the router, without a bias"),
            Column("experts.w1", "float32", "(ne, inputs, hidden)", "first layers of the experts"),
            Column("experts.b1", "float32", "(ne, hidden)", "their biases"),
            Column("experts.w2", "float32", "(ne, hidden, classes)", "second layers"),
            Column("experts.b2", "float32", "(ne, classes)", "their biases"),
            Column("noise.weight", "float32", "(ne, inputs)", "spread of shazeer's noise", True),
            Column("selection_bias", "float32", "(ne,)", "of routers without a gate loss", True),
            Column("history", "float64", "(epochs, 9)", "history.csv, from network_loss on"),
        ),
    ),
)
FILES = (*TABLES, *JSON, *ARRAYS)


def table_at(path: Path) -> Table:
    """The description of a file, by the longest matching end of its path: results/confirm/runs.csv
    has that of results/runs.csv. Raises ValueError for a file that is not declared."""
    found = []
    for table in FILES:
        _, _, name = table.name.partition("/")
        pattern = ".*".join(re.escape(part) for part in name.split("*"))
        if re.search(rf"(^|/){pattern}$", path.as_posix()):
            found.append(table)
    if not found:
        raise ValueError(f"{path}: moe/study/schema.py declares no file of this name")
    return max(found, key=lambda table: len(table.name))


def check_columns(path: Path, columns: Iterable[str]) -> None:
    """Raise ValueError for a column that is not in the file's description."""
    table = table_at(path)
    for name in columns:
        if table.column(name) is None:
            raise ValueError(f"{path}: moe/study/schema.py declares no column {name!r} of it")
