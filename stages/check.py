"""Says what is wrong with params.yaml, if anything; the make targets ask before they start DVC."""

from stages.command import command


@command
def check() -> None:
    """Read params.yaml and print what it asks for."""
    from moe.grid import runs_of
    from moe.params import read_params

    params = read_params()
    runs = runs_of(params.sweeps)
    trials, experts = {run.trial for run in runs}, sum(run.ne for run in runs)
    print(
        f"params.yaml: {len(runs):,} runs of {len(trials):,} trials, {experts:,} experts, "
        f"on {params.data.dataset} for {params.train.epochs} epochs"
    )


if __name__ == "__main__":
    check()
