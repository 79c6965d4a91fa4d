"""report: reports/index.html, its figures one by one, explorer.html, playground.html,
and claims.json."""

from pathlib import Path

from stages.command import stage


@stage
def report() -> None:
    """Render the report's pages and figures from the tables in results/."""
    from moe.report.page import REPORTS_DIR

    runs = render(REPORTS_DIR)
    print(f"{REPORTS_DIR / 'index.html'}: {runs:,} runs")


def render(into: Path) -> int:
    """Write all pages of params.yaml and results/ into a folder; returns the number of runs."""
    from moe.analysis.confirmed import confirmed
    from moe.analysis.kept import read_kept
    from moe.analysis.results import read_tables
    from moe.claims import judged, write_claims
    from moe.claims.beyond import FASHION_DIR, compared
    from moe.claims.confirmatory import read_confirm
    from moe.claims.general import GENERAL
    from moe.claims.judge import judge
    from moe.report.explorer import write_explorer
    from moe.report.page import TEMPLATE_DIR, write_report
    from moe.report.playground import write_playground
    from moe.study.params import read_params
    from moe.study.tables import RESULTS_DIR

    params = read_params()
    tables = read_tables(RESULTS_DIR, params.train.hidden, params.data.dataset, params.train)
    confirm = read_confirm(params)
    claims = judged(confirm, tables) if confirm else judged(tables)
    write_claims(claims, into / "claims.json")
    if confirm:
        tables = tables._replace(confirmed=confirmed(tables, confirm, params.train))
    kept = read_kept(FASHION_DIR) if params.data.dataset == "mnist" else None
    rows = []
    if kept:
        tables = tables._replace(beyond=kept.tables)
        here = [*claims, *judge(GENERAL, confirm or tables)]
        rows = compared(here, [*judged(kept.tables), *judge(GENERAL, kept.tables)])
    write_report(tables, params, claims, into, rows)
    write_explorer(tables, TEMPLATE_DIR, into / "explorer.html")
    write_playground(tables.for_claims, TEMPLATE_DIR, into / "playground.html")
    return len(tables.runs)


if __name__ == "__main__":
    report()
