"""init: creates a folder in which the installed package runs the pipeline, without a checkout."""

import hashlib
import io
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from stages.project_files import FOLDER, project_files

ROOT = Path(__file__).parent.parent
CARRIED = ROOT / FOLDER
PROJECT = CARRIED if CARRIED.is_dir() else ROOT  # in a wheel, in a checkout
CODE = Path("code.txt")
STUDIES = Path("studies")
COMMENT = f"""What depends on what. The code is an installed package: {CODE} stands for it, and
`moe-mnist check` brings it up to date.
"""


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--study",
    type=click.Choice(sorted(path.stem for path in (PROJECT / STUDIES).glob("*.yaml"))),
    help="Use the params of this study instead of the default ones.",
)
def init(folder: Path, study: str | None) -> None:
    """Write params.yaml and all files that the pipeline needs into FOLDER."""
    files = {path: (PROJECT / path).read_bytes() for path in project_files(PROJECT)}
    if study:
        files[Path("params.yaml")] = files[STUDIES / f"{study}.yaml"]
    files = {path: content for path, content in files.items() if path.parent != STUDIES}
    files[Path("dvc.yaml")] = without_code(files[Path("dvc.yaml")])
    files[CODE] = code_version().encode()
    try:
        if there := [path for path in files if (folder / path).exists()]:
            raise _refused(f"{folder / there[0]} already exists; nothing was written")
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
    except OSError as error:
        raise _refused(f"{folder}: {error.strerror}") from None
    click.echo(
        f"{folder}: {len(files)} files. Next: edit params.yaml there if you like, then run\n"
        f"  cd {shlex.quote(str(folder))} && moe-mnist repro"
    )


def without_code(pipeline: bytes) -> bytes:
    """Convert dvc.yaml: its stages depend on CODE instead of the package's files."""
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt")
    yaml.width = 100
    tree: Any = yaml.load(pipeline)
    tree.ca.comment = None
    tree.yaml_set_start_comment(COMMENT)
    for stage in tree["stages"].values():
        packages = tuple(f"{name}/" for name in ("moe", "stages"))
        others = [dep for dep in stage["deps"] if not dep.startswith(packages)]
        stage["deps"][:] = sorted([CODE.as_posix(), *others])
    written = io.BytesIO()
    yaml.dump(tree, written)
    return written.getvalue()


def code_version() -> str:
    """The version of the package, and a digest of its sources."""
    sha = hashlib.sha256()
    for package in ("moe", "stages"):
        for path in sorted((ROOT / package).rglob("*")):
            if path.suffix in (".py", ".c"):
                sha.update(path.read_bytes())
    return f"moe-mnist {version('moe-mnist')}\n{sha.hexdigest()}\n"


def _refused(reason: str) -> click.ClickException:
    error = click.ClickException(reason)
    error.exit_code = 2
    return error


if __name__ == "__main__":
    init()
