"""fashion: results/fashion/, from the finished study in .work/fashion; for `make fashion`."""

from pathlib import Path

from stages.command import command

STUDY = Path(".work/fashion")


@command
def fashion() -> None:
    """Copy the tables that the report's section "Beyond MNIST" needs."""
    from moe.analysis.kept import write_kept
    from moe.claims.beyond import FASHION_DIR, PICTURED

    write_kept(STUDY, FASHION_DIR, PICTURED)
    size = sum(path.stat().st_size for path in FASHION_DIR.rglob("*") if path.is_file())
    print(f"{FASHION_DIR}: {size / 1e6:.1f} MB; make report shows it")


if __name__ == "__main__":
    fashion()
