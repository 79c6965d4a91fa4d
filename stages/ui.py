"""ui: MLflow's pages on this machine, with links to the views of the study."""

import os
import socket
import sys

import click

from stages.command import how_to

HOST = "127.0.0.1"


@click.command()
@click.option("--port", default=5000, show_default=True)
def ui(port: int) -> None:
    """Print links to the study's views, and serve MLflow."""
    from moe.errors import UserError

    if os.environ.get("MLFLOW_TRACKING_URI", "").startswith("http"):
        raise _refused("MLFLOW_TRACKING_URI is a server: open its address in a browser")
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            free.bind((HOST, port))
        except (OSError, OverflowError) as error:
            raise _refused(f"port {port}: {error}; choose another") from None
    from moe.tracking.pages import links
    from moe.tracking.store import failures_as_one_line, tracking_uri

    try:
        with failures_as_one_line("nothing to show"):
            uri, found = tracking_uri(), links()
    except UserError as error:
        raise _refused(str(error)) from None
    address = f"http://{HOST}:{port}/"
    for title, link in found.items():
        click.echo(f"{title}\n  {address}{link}")
    if not found:
        click.echo(f"no study yet: run {how_to('repro')}")
    click.echo(f"MLflow starts at {address}; press Ctrl-C to stop it", err=True)
    sys.stdout.flush()
    # By an environment variable: a command line and its error messages would show a password.
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri
    os.execvp("mlflow", ["mlflow", "ui", "--host", HOST, "--port", str(port)])


def _refused(reason: str) -> click.ClickException:
    error = click.ClickException(reason)
    error.exit_code = 2
    return error


if __name__ == "__main__":
    ui()
