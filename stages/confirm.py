"""confirm: results/confirm/, from the finished study in .work/confirm; for `make confirm`."""

from pathlib import Path

from stages.command import command

STUDY = Path(".work/confirm")


@command
def confirm() -> None:
    """Copy the tables that the claims need."""
    from moe.claims.confirmatory import CONFIRM_DIR, write_confirm

    write_confirm(STUDY)
    size = sum(path.stat().st_size for path in CONFIRM_DIR.iterdir())
    print(f"{CONFIRM_DIR}: {size / 1e6:.1f} MB; make report shows its verdicts")


if __name__ == "__main__":
    confirm()
