"""The ``indelible`` command."""

import os
from pathlib import Path
from typing import Annotated

import typer

from indelible.cli.banner import banner
from indelible.settings import Settings

app = typer.Typer(
    name="indelible",
    help="Product events and audit events in one append-only log.",
    no_args_is_help=True,
    add_completion=False,
)


@app.callback()
def root() -> None:
    """Product events and audit events in one append-only log."""


@app.command()
def serve(
    data: Annotated[Path | None, typer.Option(help="Folder of the journal and the keys.")] = None,
    listen: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
) -> None:
    """Run the server until it is told to stop."""
    from indelible.app import serve as serve_forever

    overrides = {"data_dir": data, "listen": listen, "port": port}
    settings = Settings.from_environ(os.environ, overrides)
    serve_forever(settings, announce=lambda welcome: print(banner(welcome), flush=True))


def main() -> None:
    """Run the command line."""
    app()
