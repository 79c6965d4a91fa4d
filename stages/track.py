"""track: logs every trial and run of the study to MLflow; results/tracked.json records it.

tracked.json is git-ignored, so in a fresh clone the stage is out of date and fills an empty MLflow.
"""

import json
from pathlib import Path

from stages.command import how_to, stage

RECEIPT = Path("results/tracked.json")
ARTIFACTS = (
    *("params.yaml", "results/runs.csv", "reports/metrics.json", "reports/claims.json"),
    *("reports/index.html", "reports/explorer.html", "reports/playground.html", "reports/figures"),
)


@stage
def track() -> None:
    """Sync the results to MLflow; a second sync adds nothing."""
    from moe.data.dataset import Dataset
    from moe.study.grid import study_digest
    from moe.study.params import read_params
    from moe.study.schema import check_columns
    from moe.study.tables import RESULTS_DIR, read_table

    params, data = read_params(), Dataset()

    from moe.tracking.study import Results
    from moe.tracking.sync import sync  # takes seconds, so only after the checks above

    counts = sync(
        params,
        Results(
            runs=read_table(RESULTS_DIR / "runs.csv"),
            history=read_table(RESULTS_DIR / "history.csv"),
            artifacts=[Path(name) for name in ARTIFACTS],
            data=data,
        ),
    )
    receipt = {
        "experiment": params.track.experiment,
        "study": study_digest(params),
        **counts._asdict(),
    }
    check_columns(RECEIPT, receipt)
    RECEIPT.write_text(json.dumps(receipt, indent=2) + "\n")
    has = f"{counts.trials:,} trials and {counts.runs:,} runs"
    print(f"MLflow has {has} of the study: {how_to('ui')}")


if __name__ == "__main__":
    track()
