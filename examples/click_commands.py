"""Record the command lines of a Click program.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/click_commands.py

Leaves: command_run, command.shop export

The event has the option's name, ``--password``, and not its value.
"""

import click

from indelible import Indelible
from indelible.hooks.click import watch

client = Indelible()


@click.group()
def shop() -> None:
    """A shop."""


@shop.command()
@click.option("--password")
def export(password: str) -> None:
    """Write the orders down."""
    click.echo(f"exported, with {len(password)} characters of password")


watch(shop, client)
shop(["export", "--password", "wrong horse"], prog_name="shop")
