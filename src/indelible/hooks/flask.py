"""Flask: one object, given the application or, in a factory, later.

    IndelibleFlask(app)                                  # the default client

    indelible = IndelibleFlask(api_key=…, host=…)        # a client of its own
    indelible.init_app(app)

Flask's signals tell the route and what was raised; the rest is seen from `app.wsgi_app`, so that
the last byte of a streamed body counts and an error of another layer is not missed.
"""

from importlib.metadata import version
from typing import Unpack

from flask import Flask, g, got_request_exception, request, request_finished, request_started

from indelible.client.client import Indelible
from indelible.client.hidden import Hidden
from indelible.hooks.configuration import Settings, client_of, parted
from indelible.hooks.wsgi import EVENT_NAME, ROUTE, WATCH, Middleware

EXTENSION = "indelible"


class IndelibleFlask:
    """Records the requests of Flask applications, those of blueprints too.

    Args:
        app: the application; or call `init_app`, for any number of them.
        client: the client to send with. Without one, it is made of those of `settings` that are
            its options; without any, it is the default client.
        settings: options of `Indelible` and fields of `indelible.hooks.observer.Recording`.
            `app.config["INDELIBLE"]` may hold more; what is given here outweighs them.

    A view names its event by `g.imtbl_event_name = "order.created"`, or by `set_event_name` of
    `indelible.client.context`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        client: Indelible | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.client = client
        self._settings = Hidden.moved(settings)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Record the requests of `app` from now on; done again with the same client, once.

        Raises:
            TypeError: there is no such setting.
            InvalidOption: a setting means nothing.
        """
        options, recording = parted(self._settings.over(app.config.get("INDELIBLE", {})))
        self.client = client_of(self.client, options)
        app.extensions.setdefault(EXTENSION, self)
        app.wsgi_app = Middleware(  # type: ignore[method-assign]
            app.wsgi_app, self.client, framework=f"flask {version('flask')}", **recording
        )
        request_started.connect(_started, app)
        request_finished.connect(_finished, app)
        got_request_exception.connect(_raised, app)


def _started(_: Flask, **__: object) -> None:
    if request.url_rule is not None:
        root = request.environ.get("SCRIPT_NAME", "")
        request.environ[ROUTE] = f"{root}{request.url_rule.rule}"


def _finished(_: Flask, **__: object) -> None:
    _take_event_name()


def _raised(_: Flask, exception: BaseException, **__: object) -> None:
    watch = request.environ.get(WATCH)
    if watch is not None:
        watch.failed(exception)
    _take_event_name()


def _take_event_name() -> None:
    # Taken here and not at the body's end: by then `g` is another's.
    name = g.get("imtbl_event_name")
    if isinstance(name, str):
        request.environ[EVENT_NAME] = name
