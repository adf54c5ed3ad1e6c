"""Quart: the middleware of `indelible.hooks.asgi`, told of the route by Quart's signals.

    app = Quart(__name__)
    install(app, client)

Quart keeps the rule that matched, and what a handler raised, to itself: neither is in the scope.
"""

from importlib.metadata import version
from typing import Any, Unpack

from quart import (
    Quart,
    got_request_exception,
    got_websocket_exception,
    has_websocket_context,
    request,
    request_started,
    websocket,
    websocket_started,
)

from indelible.client.client import Indelible
from indelible.client.hidden import Hidden
from indelible.hooks.asgi import Middleware
from indelible.hooks.configuration import Settings, client_of, parted
from indelible.hooks.scope import ERROR, ROUTE


def install(app: Quart, client: Indelible | None = None, **settings: Unpack[Settings]) -> None:
    """Record the requests and websockets of `app` from now on.

    Args:
        app: the application.
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`.
    """
    options, recording = parted(Hidden.moved(settings))
    client = client_of(client, options)
    framework = f"quart {version('quart')}"
    middleware: Any = Middleware(app.asgi_app, client, framework=framework, **recording)
    app.asgi_app = middleware  # type: ignore[method-assign]  # as Quart says it is to be done
    request_started.connect(_tell_route, app)
    websocket_started.connect(_tell_route, app)
    got_request_exception.connect(_tell_error, app)
    got_websocket_exception.connect(_tell_error, app)


async def _tell_route(_: Quart, **__: object) -> None:
    rule = (websocket if has_websocket_context() else request).url_rule
    if rule is not None:
        _scope()[ROUTE] = rule.rule


async def _tell_error(_: Quart, exception: Exception, **__: object) -> None:
    _scope()[ERROR] = exception


def _scope() -> Any:
    """That of the request or websocket that runs here; its type knows no member of ours."""
    return websocket.scope if has_websocket_context() else request.scope
