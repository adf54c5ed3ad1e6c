"""Record the command lines of a Typer application.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/typer_commands.py

Leaves: command_run, command.shop export

The event has the option's name, ``--password``, and not its value.
"""

import typer

from indelible import Indelible
from indelible.hooks.typer import watch

client = Indelible()
app = typer.Typer()


@app.command()
def export(password: str = "") -> None:
    """Write the orders down."""
    print(f"exported, with {len(password)} characters of password")


@app.command()
def tidy() -> None:
    """Throw old orders away."""


watch(app, client)
app(["export", "--password", "wrong horse"], prog_name="shop")
