"""moe-mnist: the stages and related tools, as commands of an installed package."""

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import click

# In the order of use. Each command is a module in this folder, with a function of the same name.
COMMANDS = (
    *("init", "check", "repro", "download", "train", "evaluate", "analyze", "report", "track"),
    *("ui", "cache"),
)


class Commands(click.Group):
    """Imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "repro":
            return repro
        if cmd_name not in COMMANDS:
            return None
        return getattr(import_module(f"stages.{cmd_name}"), cmd_name)


@click.group(cls=Commands)
@click.version_option(package_name="moe-mnist")
def cli() -> None:
    """Train mixtures of experts on a grid of settings, and report what they learn.

    init writes a folder with a params.yaml. The other commands run there, or in a checkout.
    """
    # DVC runs `python -m stages...` and ui runs mlflow: both have to be from this environment.
    folder = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([folder, os.environ.get("PATH", os.defpath)])


@click.command()
def repro() -> None:
    """Check params.yaml, then run all stages that are out of date."""
    checked = subprocess.run([sys.executable, "-m", "stages.check"])
    if checked.returncode:
        sys.exit(checked.returncode)
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro"])


if __name__ == "__main__":
    cli()
