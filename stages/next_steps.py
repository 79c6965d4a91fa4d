"""Prints where the results of this folder are, as links to click or copy."""

from pathlib import Path

from stages.command import command, how_to

PAGES = ("index", "explorer", "playground")


@command
def next_steps() -> None:
    """Print the addresses of the report's pages, and how to open MLflow."""
    print("\nOpen next:")
    for name in PAGES:
        page = Path("reports", f"{name}.html").resolve()
        if page.exists():
            print(f"  {'report' if name == 'index' else name:10}  {page.as_uri()}")
    print(f"  {'MLflow':10}  {how_to('ui')}")


if __name__ == "__main__":
    next_steps()
