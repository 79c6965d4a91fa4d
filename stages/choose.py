"""choose: the step between the two phases of the comparison of routers, for `make routers`.

Reads the runs of phase one in .work/routers-select. Writes them to results/routers/select.csv, the
setting chosen for each router to chosen.csv, and phase two to studies/routers.yaml.
"""

from pathlib import Path

from stages.command import command

SELECT = Path(".work/routers-select")
SECOND = Path("studies/routers.yaml")


@command
def choose() -> None:
    """Choose settings by the results of phase one, and write the params of phase two."""
    from moe.analysis import router_study
    from moe.study.params import PARAMS_FILE, read_params
    from moe.study.tables import RESULTS_DIR, read_table, write_table

    select = read_table(SELECT / RESULTS_DIR / "runs.csv")
    chosen = router_study.choose(select)
    write_table(router_study.kept(select), router_study.ROUTERS_DIR / "select.csv")
    write_table(chosen, router_study.ROUTERS_DIR / "chosen.csv")
    text = router_study.second_phase_file(chosen, read_params(SELECT / PARAMS_FILE))
    SECOND.write_text(text, encoding="utf-8")
    print(f"{SECOND}: {len(chosen)} settings, chosen by {len(select):,} runs")


if __name__ == "__main__":
    choose()
