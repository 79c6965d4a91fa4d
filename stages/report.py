"""report: reports/index.html, its figures one by one, explorer.html, and claims.json."""

from stages.command import stage


@stage
def report() -> None:
    """Render the report from the tables in results/."""
    from moe.claims import judged, write_claims
    from moe.explorer import write_explorer
    from moe.params import read_params
    from moe.report import NAMES, REPORTS_DIR, TEMPLATE_DIR, write_report
    from moe.results import read_tables
    from moe.tables import RESULTS_DIR

    params = read_params()
    tables = read_tables(RESULTS_DIR, params.train.hidden)
    claims = judged(tables)
    write_claims(claims, REPORTS_DIR / "claims.json")
    write_report(tables, params, claims, REPORTS_DIR)
    name = NAMES[params.data.dataset]
    write_explorer(tables, name, TEMPLATE_DIR, REPORTS_DIR / "explorer.html")
    print(f"{REPORTS_DIR / 'index.html'}: {len(tables.runs):,} runs")


if __name__ == "__main__":
    report()
