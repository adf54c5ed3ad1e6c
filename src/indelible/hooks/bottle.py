"""Bottle: a plugin.

    app.install(IndelibleBottle())

Installing it wraps `app.wsgi`, since a plugin's own call sees neither 404 nor 405 nor the end of a
body. The route is read from what Bottle leaves in the environ; an application mounted inside needs
no plugin of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import bottle

from indelible.client.client import Indelible
from indelible.client.hidden import Hidden
from indelible.hooks.configuration import Settings, client_of, parted
from indelible.hooks.wsgi import Middleware

if TYPE_CHECKING:
    from wsgiref.types import WSGIEnvironment


class IndelibleBottle:
    """Records the requests of one Bottle application and of those that are mounted in it.

    Args:
        client: the client to send with. Without one, it is made of those of `settings` that are
            its options; without any, it is the default client.
        settings: options of `Indelible` and fields of `indelible.hooks.observer.Recording`.

    Raises:
        TypeError: there is no such setting.
        InvalidOption: a setting means nothing.
    """

    name = "indelible"
    api = 2

    def __init__(self, client: Indelible | None = None, **settings: Unpack[Settings]) -> None:
        options, self._recording = parted(Hidden.moved(settings))
        self.client = client_of(client, options)

    def setup(self, app: bottle.Bottle) -> None:
        """Called by `app.install`."""
        # Not by assignment, which Bottle takes for a conflict when it is done a second time.
        vars(app)["wsgi"] = Middleware(
            app.wsgi,
            self.client,
            framework=f"bottle {bottle.__version__}",
            route_of=partial(_route_of, app),
            **self._recording,
        )

    def apply(self, callback: Callable[..., Any], _: bottle.Route) -> Callable[..., Any]:
        """Called by Bottle for each route: the callback is left as it is."""
        return callback


def _route_of(app: bottle.Bottle, environ: "WSGIEnvironment") -> str | None:
    """The rule of the route that took the request, below those of the mounts above it."""
    route = environ.get("bottle.route")
    if route is None or environ.get("bottle.app") is app:
        return None if route is None else str(route.rule)
    # An application mounted as plain WSGI took it, and has left its own route; or has found none,
    # and the mount's is still there.
    if "mountpoint.prefix" in route.config:
        return None
    mount, _ = app.match(environ)
    return f"{str(mount.config['mountpoint.prefix']).rstrip('/')}{route.rule}"
