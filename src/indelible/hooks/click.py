"""Click: one event for each command line that is run.

    watch(cli, client)

    if __name__ == "__main__":
        cli()

The event is named by the path of the command that was reached, ``shop orders export``, and has the
*names* of the options that were given, the exit code and the duration. No value of an argument or
option is ever in it, nor Click's messages about them. `--help`, `--version` and the completion of a
shell leave no event; nor do commands that serve until they are stopped, see `SERVERS`.
"""

from importlib.metadata import version
from typing import TypeVar, Unpack

import click

from indelible.client.client import Indelible
from indelible.hooks.commands import SERVERS, follow, observer_for
from indelible.hooks.configuration import Settings

__all__ = ["SERVERS", "watch"]

C = TypeVar("C", bound=click.Command)


def watch(command: C, client: Indelible | None = None, **settings: Unpack[Settings]) -> C:
    """Record the command lines that are run through `command`; returns it.

    Args:
        command: the outermost command or group.
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`;
            `skip` takes names of commands.
    """
    follow(command, observer_for(client, f"click {version('click')}", settings))
    return command
