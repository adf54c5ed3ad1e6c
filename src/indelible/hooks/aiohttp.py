"""aiohttp's server: a middleware for the request, a signal for the beginning of its answer.

    app = web.Application()
    install(app, client)           # its sub-applications are included

The middleware sends the answer itself, as a handler may: aiohttp would send it after every
middleware has returned, and the last byte, which ends the duration, would not be seen. So headers
cannot be changed by a middleware that stands outside this one, of which there should be none.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Unpack

from aiohttp import __version__, web
from aiohttp.typedefs import Handler, Middleware

from indelible.client.client import Indelible
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observation import UNMATCHED, Work
from indelible.hooks.observer import Observer
from indelible.hooks.watch import Watch, open_watch


@dataclass(slots=True)
class _Sight:
    """One request: its watch, and the websocket that it became; and what a hook around it sees."""

    watch: Watch
    start: float
    around: "_Sight | None"
    socket: web.WebSocketResponse | None = None


# aiohttp before 3.14 knows no keys but text, and later ones warn of it.
_SIGHT: Final[Any] = getattr(web, "RequestKey", lambda name, _: name)("indelible.sight", _Sight)


def install(
    app: web.Application, client: Indelible | None = None, **settings: Unpack[Settings]
) -> None:
    """Record the requests and websockets of `app` and of its sub-applications.

    Args:
        app: the outermost application, which does not run yet; further inside, done again with the
            same client, it adds nothing.
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`.
    """
    observer = observer_of(client, settings, framework=f"aiohttp {__version__}")
    app.middlewares.insert(0, _middleware(observer))
    app.on_response_prepare.append(_begin)


def _middleware(observer: Observer) -> Middleware:
    @web.middleware
    async def recorded(request: web.Request, handler: Handler) -> web.StreamResponse:
        around = request.get(_SIGHT)
        watch = open_watch(
            observer,
            method=request.method,
            path=request.path,
            header=request.headers.get,
            read=lambda _: _route_of(request),
            peer=request.remote,
            mark=None if around is None else around.watch,
        )
        if watch is None:
            return await handler(request)
        sight = request[_SIGHT] = _Sight(watch, time.perf_counter(), around)
        failure: BaseException | None = None
        try:
            response = await handler(request)
            await _send(request, response, watch)
        except web.HTTPException as answer:
            await _send(request, answer, watch)
            raise
        except asyncio.CancelledError:
            watch.left()
            raise
        except BaseException as error:
            failure = error
            if request.transport is None or request.transport.is_closing():
                watch.left()  # writing to a client that left raises, too
            watch.failed(error)
            raise
        else:
            return response
        finally:
            if sight.socket is None:
                watch.close()
            elif watch.dismiss():
                seen = _session(observer, request, sight, failure)
                observer.saw(seen, product=watch.product, audit=watch.audit)

    return recorded


async def _begin(request: web.Request, response: web.StreamResponse) -> None:
    """The answer begins; also the 500 that aiohttp makes of what was raised."""
    for sight in _sights(request.get(_SIGHT)):
        if isinstance(response, web.WebSocketResponse):
            sight.socket = response
        sight.watch.began(response.status, content_length=response.headers.get("Content-Length"))
        if sight.watch.context.request_id is not None:
            response.headers.setdefault("X-Request-ID", sight.watch.context.request_id)


def _sights(innermost: _Sight | None) -> Iterator[_Sight]:
    """Those of the hooks that a request has passed, the innermost first."""
    while innermost is not None:
        yield innermost
        innermost = innermost.around


async def _send(request: web.Request, response: object, watch: Watch) -> None:
    """Send the answer to its last byte; what a handler has sent already is not sent again."""
    if isinstance(response, web.WebSocketResponse):
        return
    if not isinstance(response, web.StreamResponse):
        watch.began(500)  # as aiohttp will answer for a handler that returned no response
        watch.finished()
        return
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        watch.left()  # aiohttp finds out again by itself
        return
    watch.finished()


def _route_of(request: web.Request) -> str | None:
    """The template, with the prefixes of sub-applications; None for aiohttp's own 404 and 405."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _session(
    observer: Observer, request: web.Request, sight: _Sight, failure: BaseException | None
) -> Work:
    code = None if sight.socket is None else sight.socket.close_code
    return Work(
        kind="websocket",
        name=_route_of(request) or UNMATCHED,
        # 1011 is a fault of the server's (RFC 6455, section 7.4.1).
        outcome="success" if failure is None and code != 1011 else "error",
        framework=observer.framework,
        context=sight.watch.context,
        duration_s=time.perf_counter() - sight.start,
        failure=None if failure is None else observer.failure_of(failure),
        details={} if code is None else {"close_code": code},
    )
