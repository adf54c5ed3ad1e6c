"""Django: one middleware, for WSGI and ASGI, placed right after the security middleware.

    MIDDLEWARE = ["django.middleware.security.SecurityMiddleware",
                  "indelible.hooks.django.Middleware", …]
    INDELIBLE = {"token": "ind_pub_…", "api_key": "iml_live_…", "host": "https://…"}

`INDELIBLE` may hold options of `Indelible`, fields of `indelible.hooks.observer.Recording`, and:

    client           a client that was made already, instead of the options
    identify_user    a request belongs to the user who is signed in, by primary key. By default
                     where that is known when the request is over, whoever found out: a middleware,
                     a token's authentication, the view. True asks before each view, which reads the
                     session and the database, so that events captured in the view have the user,
                     too; False never looks

The options make the default client, so that `indelible.capture()` in a view is of the same. Without
any, the environment is asked, as always. The settings of ImmutableLog's middleware are understood:
`IMTBL_API_KEY`, `IMTBL_URL`, `IMTBL_SERVICE_NAME`, `IMTBL_ENV`, `IMTBL_HEADERS`.

An answer that is no stream is whole when it passes here: its duration ends then. That of a stream
ends with its last part, and its events leave then, or when Django closes the response. A file that
the server sends by itself (`wsgi.file_wrapper`) is left as it is, and ends when it is closed.
"""

import functools
import sys
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final, Self

import django
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django import conf
from django.core.signals import got_request_exception
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.functional import empty

from indelible.client import context as contexts
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.client.default import configured
from indelible.client.hidden import Hidden
from indelible.hooks.configuration import parted
from indelible.hooks.observer import Observer, quietly
from indelible.hooks.watch import MARK, Watch, open_watch
from indelible.hooks.wsgi import header_of

GetResponse = Callable[[HttpRequest], Any]

IMMUTABLELOG: Final = {
    "IMTBL_API_KEY": "api_key",
    "IMTBL_URL": "host",
    "IMTBL_SERVICE_NAME": "service",
    "IMTBL_ENV": "env",
    "IMTBL_HEADERS": "headers",
}
_WATCH: Final = "_indelible_watch"
_configured: Final[list[Hidden]] = []
"""What the default client was made of by the settings: each handler loads the middleware anew."""


class Middleware:
    """Records the requests of a Django site; see the module.

    A view names its event by `request.imtbl_event_name = "order.created"`, or by `set_event_name`
    of `indelible.client.context`.

    Raises:
        TypeError: `INDELIBLE` has a member that does not exist.
        InvalidOption: one that means nothing.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: GetResponse) -> None:
        self._get_response = get_response
        given = _given()
        identify_user = given.take("identify_user")
        client = given.take("client")
        options, recording = parted(given)
        if client is None and options.names and [options] != _configured:
            remembered = options.over({})
            configured(options)
            _configured[:] = [remembered]
        framework = f"django {django.get_version()}"
        self._observer = Observer(client, framework=framework, **recording)
        # View errors never reach `__call__`, and `process_exception` is told of those that are an
        # ordinary 404, too: the signal is sent for what became a 500, wherever it was raised.
        got_request_exception.connect(_raised, dispatch_uid=__name__)
        is_async = iscoroutinefunction(get_response)
        if is_async:
            markcoroutinefunction(self)
        self._sees_user = identify_user is not False
        if identify_user:
            self.process_view = self._aidentify if is_async else self._identify

    @property
    def client(self) -> Indelible:
        return self._observer.client

    def __call__(self, request: HttpRequest) -> Any:
        """The answer; something to await where Django runs this asynchronously."""
        if iscoroutinefunction(self):
            return self._acall(request)
        watch = self._open(request)
        if watch is None:
            return self._get_response(request)
        try:
            response = self._get_response(request)
        except BaseException as error:
            watch.failed(error)
            watch.close()
            raise
        watch.detach()
        self._answered(request, response, watch)
        return response

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        watch = self._open(request)
        if watch is None:
            return await self._get_response(request)
        try:
            response = await self._get_response(request)
        except BaseException as error:
            if isinstance(error, CancelledError):
                watch.left()  # Django cancels what it waits for when the client goes away
            watch.failed(error)
            watch.close()
            raise
        watch.detach()
        self._answered(request, response, watch)
        return response

    def _open(self, request: HttpRequest) -> Watch | None:
        watch = open_watch(
            self._observer,
            method=request.method or "",
            path=request.path,
            header=header_of(request.META),
            read=functools.partial(self._read, request),
            root=request.path.removesuffix(request.path_info),
            peer=request.META.get("REMOTE_ADDR"),
            mark=_mark_of(request),
        )
        if watch is not None:
            setattr(request, _WATCH, watch)
        return watch

    @quietly
    def _answered(self, request: HttpRequest, response: HttpResponseBase, watch: Watch) -> None:
        """The rest of the request is the sending of `response`."""
        if watch.context.request_id is not None:
            response.headers.setdefault("X-Request-ID", watch.context.request_id)
        watch.began(response.status_code, content_length=response.headers.get("Content-Length"))
        if not response.streaming:
            watch.sent(len(response.content))
            watch.finished()
            watch.close()
        elif _is_file(request, response):
            response.close = _closing(response.close, watch)
        elif response.is_async:
            response.streaming_content = _AsyncStream(response.streaming_content, watch)
        else:
            response.streaming_content = _Stream(response.streaming_content, watch)

    def _read(self, request: HttpRequest, here: Context) -> str | None:
        if self._sees_user and not here.distinct_id:
            _belongs_to(_known_user(request), here)
        name = getattr(request, "imtbl_event_name", None)
        if isinstance(name, str):
            here.event_name = name
        return _route_of(request)

    # `process_view`, where the settings ask for it: the first place where the user is known.

    @quietly
    def _identify(self, request: HttpRequest, *_: object) -> None:
        if (watch := getattr(request, _WATCH, None)) is not None:
            _belongs_to(getattr(request, "user", None), watch.context)

    async def _aidentify(self, request: HttpRequest, *_: object) -> None:
        try:
            if (watch := getattr(request, _WATCH, None)) is not None and hasattr(request, "auser"):
                _belongs_to(await request.auser(), watch.context)
        except Exception:
            if self.client.options.strict:
                raise
            self.client._note_failure()


def _given() -> Hidden:
    """The members of `INDELIBLE`, and ImmutableLog's settings where it has none."""
    given = {
        member: getattr(conf.settings, name)
        for name, member in IMMUTABLELOG.items()
        if getattr(conf.settings, name, None)
    }
    return Hidden(given | getattr(conf.settings, "INDELIBLE", {}))


def _raised(request: HttpRequest | None = None, **_: object) -> None:
    watch = getattr(request, _WATCH, None)
    error = sys.exc_info()[1]
    if watch is not None and error is not None:
        watch.failed(error)  # a hook further outside is told of it when this one is over


def _mark_of(request: HttpRequest) -> object:
    """What a hook further outside has left, in the request, its scope or its environ."""
    carrier = getattr(request, "scope", request.META)
    return getattr(request, _WATCH, None) or carrier.get(MARK)


def _belongs_to(user: Any, here: Context) -> None:
    if not getattr(user, "is_authenticated", False):
        return
    key = getattr(user, "pk", None)
    if key is not None and not here.distinct_id:
        here.distinct_id = str(key)


def _known_user(request: HttpRequest) -> Any:
    """The user of the request as far as somebody has asked already: this asks no database."""
    user = request.__dict__.get("user")
    if user is None or getattr(user, "_wrapped", None) is empty:
        # Nobody touched `request.user`; `auser` keeps what it found in a place of its own.
        return request.__dict__.get("_acached_user") or request.__dict__.get("_cached_user")
    return user


def _route_of(request: HttpRequest) -> str | None:
    """The template of the URL, with the script's name before it; None when no pattern matched."""
    match = getattr(request, "resolver_match", None)
    if match is None:
        return None
    root = request.path.removesuffix(request.path_info)
    # The anchors of `re_path` say nothing here; Django itself drops the inner ones.
    return f"{root}/{match.route.removeprefix('^').removesuffix('$')}"


def _is_file(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Whether the server sends the body by itself."""
    file = getattr(response, "file_to_stream", None)
    return file is not None and "wsgi.file_wrapper" in request.META


def _closing(close: Callable[[], None], watch: Watch) -> Callable[[], None]:
    def closing() -> None:
        try:
            close()
        finally:
            watch.finished()
            watch.close()

    return closing


class _Stream:
    """The parts of a stream: each made in the request's context, and counted.

    Django closes it with the response; but not over ASGI when a part raised, nor under Werkzeug's
    server when the client reset the connection. So its events leave with its last part, or when a
    part raises; at the latest when it is let go of, as where a server cancels what sends it.
    """

    def __init__(self, parts: Iterator[bytes], watch: Watch) -> None:
        self._parts = parts
        self._watch = watch

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        token = contexts.enter(self._watch.context)
        try:
            part = next(self._parts)
        except StopIteration:
            self._watch.finished()
            self.close()
            raise
        except BaseException as error:
            self._watch.failed(error)
            self.close()
            raise
        finally:
            contexts.leave(token)
        self._watch.sent(len(part))
        return part

    def close(self) -> None:
        self._watch.close()

    def __del__(self) -> None:
        self.close()


class _AsyncStream:
    """The same, of an asynchronous one."""

    def __init__(self, parts: AsyncIterator[bytes], watch: Watch) -> None:
        self._parts = parts
        self._watch = watch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        token = contexts.enter(self._watch.context)
        try:
            part = await anext(self._parts)
        except StopAsyncIteration:
            self._watch.finished()
            self.close()
            raise
        except BaseException as error:
            if isinstance(error, CancelledError):
                self._watch.left()
            self._watch.failed(error)
            self.close()
            raise
        finally:
            contexts.leave(token)
        self._watch.sent(len(part))
        return part

    def close(self) -> None:
        self._watch.close()

    def __del__(self) -> None:
        self.close()
