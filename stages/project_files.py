"""The files, besides the package, that a folder needs to run the pipeline. The wheel includes them.

setup.py imports this module at build time, so it may import only the standard library.
"""

from pathlib import Path

FOLDER = Path("stages/project")  # where they are in the wheel
PATTERNS = (
    *("params.yaml", "dvc.yaml", ".dvcignore", ".gitignore", ".dvc/config", ".dvc/plots/*"),
    *("benchmarks/results.json", "extensions/README.md", "reports/template/**/*"),
    *(f"results/{kept}/README.md" for kept in ("routers", "confirm", "fashion")),
    "studies/*.yaml",
)


def project_files(root: Path) -> list[Path]:
    """The files in a checkout, or in a wheel's FOLDER, relative to it."""
    found = {path for pattern in PATTERNS for path in root.glob(pattern) if path.is_file()}
    return sorted(path.relative_to(root) for path in found)
