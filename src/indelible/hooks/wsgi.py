"""WSGI: Flask, Bottle, and any other application of that kind.

    app = Middleware(app)                                # from outside: sees everything
    app.wsgi_app = Middleware(app.wsgi_app, client)      # where a framework keeps its application

WSGI knows no routes: a framework's own hook (`indelible.hooks.flask`, `indelible.hooks.bottle`)
leaves the template in the environ, under `ROUTE`.

Threads are used again, and the body is made after the call returned, as a rule. So the request's
context is the current one exactly while code of the application runs (the call, each step of the
body, the body's `close`), and never in between.

The duration ends when the body does: a server asks for the next part when it has sent the one
before (PEP 3333, "Buffering and Streaming"). The events leave then, or when the body breaks off.
Nothing is left for `close` alone: Werkzeug's server forgets it when the client has reset the
connection. So what `close` raises comes too late for them. A body made by `wsgi.file_wrapper`
reaches the server as it is, or `sendfile` would be lost: its duration ends at `close`, and whether
all of it was sent is not known.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, Unpack

from indelible.client import context as contexts
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observer import Header, quietly
from indelible.hooks.watch import MARK, Watch, open_watch

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

WATCH: Final = MARK
"""Where the watch on a request is, in its environ, for the hook of the framework inside."""

ROUTE: Final = "indelible.route"
"""Where that hook leaves the template, with the mount's root."""

EVENT_NAME: Final = "imtbl.eventName"
"""ImmutableLog's place for an event's name, beside `context.set_event_name`."""

P = ParamSpec("P")
R = TypeVar("R")


class Middleware:
    """Records the requests of one WSGI application.

    A request that passes several of them, as in a mounted application, leaves one record for each
    client; see `indelible.hooks.watch`.

    Args:
        app: the application.
        client: the client to send with; without one, that of `settings`, else the default one.
        framework: its name and version.
        route_of: told the environ when the application returned; the template, below SCRIPT_NAME.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        client: Indelible | None = None,
        *,
        framework: str = "wsgi 1.0",
        route_of: "Callable[[WSGIEnvironment], str | None] | None" = None,
        **settings: Unpack[Settings],
    ) -> None:
        self.app = app
        self._observer = observer_of(client, settings, framework=framework)
        self._route_of = route_of

    @property
    def client(self) -> Indelible:
        return self._observer.client

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        watch = open_watch(
            self._observer,
            method=environ["REQUEST_METHOD"],
            path=_path_of(environ),
            header=header_of(environ),
            read=functools.partial(_read, environ),
            root=environ.get("SCRIPT_NAME", ""),
            peer=environ.get("REMOTE_ADDR"),
            mark=environ.get(WATCH),
        )
        if watch is None:
            return self.app(environ, start_response)
        environ[WATCH] = watch
        answer = _Answer(environ, watch, start_response)
        try:
            body = self.app(environ, answer.start)
        except BaseException as error:
            watch.failed(error)
            self._take_route(environ)
            answer.close()
            raise
        watch.detach()
        self._take_route(environ)
        return answer.watched(body)

    @quietly
    def _take_route(self, environ: "WSGIEnvironment") -> None:
        # Now, and not at the body's end: a mount above moves SCRIPT_NAME back when this returns.
        route = None if self._route_of is None else self._route_of(environ)
        if route is not None:
            environ[ROUTE] = environ.get("SCRIPT_NAME", "").rstrip("/") + route


class _Answer:
    """The answer to one request, from what the application says first to the body's last byte."""

    def __init__(
        self, environ: "WSGIEnvironment", watch: Watch, start_response: "StartResponse"
    ) -> None:
        self.watch = watch
        self._environ = environ
        self._start_response = start_response
        self._status: int | None = None
        self._length: str | None = None
        self._has_begun = False
        self._has_finished = False

    def start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """`start_response`, as the application is given it; may be called again on an error."""
        named = {name.lower(): value for name, value in headers}
        request_id = self.watch.context.request_id
        if request_id is not None and "x-request-id" not in named:
            headers = [*headers, ("X-Request-ID", request_id)]
        if exc_info is not None and exc_info[1] is not None:
            self.watch.failed(exc_info[1])
        # Raises what the application raised when the answer is on its way already.
        write = self._start_response(status, headers, exc_info)
        self._status = int(status[:3]) if status[:3].isdigit() else None
        self._length = named.get("content-length")

        def watched(data: bytes) -> object:
            self.sent(data)
            try:
                return write(data)
            except BaseException:
                # The server's own fault, and not the application's, through which it passes.
                self.watch.left()
                raise

        return watched

    def begin(self) -> None:
        """The head leaves with the first part of the body: until then the answer may become 500."""
        if not self._has_begun and self._status is not None:
            self._has_begun = True
            self.watch.began(self._status, content_length=self._length)

    def sent(self, part: bytes) -> None:
        self.begin()
        self.watch.sent(len(part))

    def finished(self) -> None:
        self._has_finished = True
        self.begin()
        self.watch.finished()

    def watched(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The body as the server is given it."""
        if _is_file(body, self._environ):
            return self._handed_over(body)
        return _SizedBody(self, body) if isinstance(body, Sized) else _Body(self, body)

    def _handed_over(self, body: Any) -> Iterable[bytes]:
        self.begin()
        close = getattr(body, "close", None)

        def watched_close() -> None:
            try:
                if close is not None:
                    close()
            finally:
                self.finished()
                self.close()

        try:
            body.close = watched_close
        except AttributeError:
            # A file of C, as uWSGI takes it: nothing tells of its end.
            self.finished()
            self.close()
        return body  # type: ignore[no-any-return]

    def close(self) -> None:
        """Nothing of the request runs any more; its events leave."""
        if not self._has_finished and self.watch.is_whole:
            self.finished()  # a server need not ask for more than the Content-Length (PEP 3333)
        if self._environ.get(WATCH) is self.watch:
            self._environ[WATCH] = self.watch.outer
        self.watch.close()


class _Body:
    """The body of an answer: made in the request's context, counted, and closed once."""

    def __init__(self, answer: _Answer, parts: Iterable[bytes]) -> None:
        self._answer = answer
        self._parts = parts

    def __iter__(self) -> Iterator[bytes]:
        end: Any = object()
        try:
            steps = self._inside(iter, self._parts)
            while (part := self._inside(next, steps, end)) is not end:
                self._answer.sent(part)
                yield part
            self._answer.finished()
        finally:
            self._answer.close()

    def close(self) -> None:
        try:
            close = getattr(self._parts, "close", None)
            if close is not None:
                self._inside(close)
        finally:
            self._answer.close()

    def _inside(self, step: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
        token = contexts.enter(self._answer.watch.context)
        try:
            return step(*arguments, **named)
        except BaseException as error:
            self._answer.watch.failed(error)
            raise
        finally:
            contexts.leave(token)


class _SizedBody(_Body):
    """A list says how long it is: a server makes a Content-Length of it where it is of one part."""

    def __len__(self) -> int:
        return len(self._parts)  # type: ignore[arg-type]


def _is_file(body: object, environ: "WSGIEnvironment") -> bool:
    """Whether the server may send the body by itself, without iterating over it."""
    wrapper = environ.get("wsgi.file_wrapper")
    if isinstance(wrapper, type):
        return isinstance(body, wrapper)
    # uWSGI's is a function that hands back the file that it was given.
    return wrapper is not None and hasattr(body, "fileno")


def _read(environ: "WSGIEnvironment", here: Context) -> str | None:
    name = environ.get(EVENT_NAME)
    if isinstance(name, str):
        here.event_name = name
    return environ.get(ROUTE)


def _path_of(environ: "WSGIEnvironment") -> str:
    """The path as it was asked for: WSGI holds the bytes of UTF-8 as if they were Latin-1."""
    path: str = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return path.encode("latin1", "replace").decode("utf-8", "replace")


def header_of(environ: "WSGIEnvironment") -> Header:
    """Looks up a header of a request in the environ."""

    def header(name: str) -> str | None:
        variable = name.upper().replace("-", "_")
        if variable not in ("CONTENT_LENGTH", "CONTENT_TYPE"):
            variable = f"HTTP_{variable}"
        value = environ.get(variable)
        return value if isinstance(value, str) else None

    return header
