"""Typer: one event for each command line that is run; what it says is as for Click.

    watch(app, client)          # after the last command was added

    if __name__ == "__main__":
        app()

Typer brings its own copy of Click, so nothing done to Click reaches it. It makes its commands anew
at each call, of the classes that `Typer(cls=…)` and `command(cls=…)` name: those are given a
subclass here that watches itself.
"""

from importlib.metadata import version
from typing import Any, Unpack

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import DefaultPlaceholder

from indelible.client.client import Indelible
from indelible.hooks.commands import follow, observer_for
from indelible.hooks.configuration import Settings
from indelible.hooks.observer import Observer


def watch(
    app: typer.Typer, client: Indelible | None = None, **settings: Unpack[Settings]
) -> typer.Typer:
    """Record the command lines that are run through `app`; returns it.

    Args:
        app: the outermost application; call this after its last command was added.
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`;
            `skip` takes names of commands.
    """
    observer = observer_for(client, f"typer {version('typer')}", settings)
    app.info.cls = _followed(_named(app.info) or TyperGroup, observer)
    # The class that the callback names comes before the application's.
    if app.registered_callback is not None and (group := _named(app.registered_callback)):
        app.registered_callback.cls = _followed(group, observer)
    for command in app.registered_commands:
        command.cls = _followed(_named(command) or TyperCommand, observer)
    return app


def _named(place: Any) -> type[Any] | None:
    """The class that was asked for there, if any was."""
    return None if isinstance(place.cls, DefaultPlaceholder) else place.cls


def _followed(cls: type[Any], observer: Observer) -> type[Any]:
    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807
        cls.__init__(self, *arguments, **named)
        follow(self, observer)

    return type(cls.__name__, (cls,), {"__init__": __init__})
