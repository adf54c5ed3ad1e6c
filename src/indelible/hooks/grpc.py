"""gRPC: one event for each call that a server takes.

    grpc.server(pool, interceptors=[Interceptor(client), …])          # first: it sees the most
    grpc.aio.server(interceptors=[AioInterceptor(client), …])

The event is named by the method, ``/pkg.Service/Method``, or `<unmatched>` where the server has no
such method; its `status` is the code that the caller gets: ``OK``, ``NOT_FOUND``, ``CANCELLED``
where the caller left or its deadline passed, as far as the server knew when the handler ended.
Every status but OK counts as an error. A call that streams ends with its last message. Messages and
metadata stay out of it; request id and trace come from the metadata.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Unpack

import grpc
import grpc.aio

from indelible.client.client import Indelible
from indelible.hooks.configuration import Settings, observer_of
from indelible.hooks.observation import UNMATCHED
from indelible.hooks.observer import Observer, quietly
from indelible.hooks.run import Run, context_of
from indelible.hooks.watch import is_same

SKIPPED: Final = (
    "/grpc.health.v1.Health",
    "/grpc.reflection.v1.ServerReflection",
    "/grpc.reflection.v1alpha.ServerReflection",
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_HANDLERS: Final = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
Behavior = Callable[[Any, Any], Any]


def _observer(client: Indelible | None, settings: Any) -> Observer:
    framework = f"grpc {grpc.__version__}"
    return observer_of(client, settings, framework=framework, skip=SKIPPED)


class Interceptor(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Records the calls of a server with threads.

    Args:
        client: the client to send with; without one, that of `settings`, else the default one.
        settings: options of `Indelible`, and fields of `indelible.hooks.observer.Recording`;
            `skip` takes ``/pkg.Service`` or ``/pkg.Service/Method``.
    """

    def __init__(self, client: Indelible | None = None, **settings: Unpack[Settings]) -> None:
        self._observer = _observer(client, settings)

    def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
        return _watched(continuation(details), details, self._observer)


class AioInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Records the calls of a server on an event loop. Arguments as for `Interceptor`."""

    def __init__(self, client: Indelible | None = None, **settings: Unpack[Settings]) -> None:
        self._observer = _observer(client, settings)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: Any
    ) -> Any:
        return _watched(await continuation(details), details, self._observer)


def _watched(handler: Any, details: Any, observer: Observer) -> Any:
    """The handler with its behavior watched; the same object where there is none."""
    call = _Call(observer, details)
    if handler is None:
        told = _unmatched.get()
        around = told.clients if told is not None and told.details is details else ()
        if not _include(around, observer.client):
            run = call.begin(UNMATCHED)
            run.details["status"] = grpc.StatusCode.UNIMPLEMENTED.name
            run.end("error")
            _unmatched.set(_Unmatched(details, (*around, observer.client)))
        return None
    kind, rebuilt = _HANDLERS[bool(handler.request_streaming), bool(handler.response_streaming)]
    behavior = getattr(handler, kind)
    inside: tuple[Indelible, ...] = getattr(behavior, _CLIENTS, ())
    if _include(inside, observer.client):
        return handler
    watched = call.watched(behavior, streams=bool(handler.response_streaming))
    setattr(watched, _CLIENTS, (*inside, observer.client))
    return rebuilt(
        watched,
        handler.request_deserializer,
        handler.response_serializer,
    )


_CLIENTS: Final = "_indelible_clients"
"""On a behavior: with which clients it is recorded already, by interceptors further inside."""


@dataclass(frozen=True, slots=True)
class _Unmatched:
    """The last call that no handler took, where no behavior can tell who has recorded it."""

    details: Any
    clients: tuple[Indelible, ...]


_unmatched: Final[ContextVar[_Unmatched | None]] = ContextVar("indelible_unmatched", default=None)


def _include(clients: tuple[Indelible, ...], client: Indelible) -> bool:
    return any(is_same(one, client) for one in clients)


class _Call:
    """One call: where its context and name come from, and a behavior that tells its run."""

    def __init__(self, observer: Observer, details: Any) -> None:
        self.client = observer.client
        self._observer = observer
        self._method = details.method
        self._metadata: dict[str, Any] = dict(details.invocation_metadata or ())

    def begin(self, name: str | None = None) -> Run:
        context = context_of(self._metadata.get)
        return Run(self._observer, kind="rpc", name=name or self._method, context=context)

    def end(self, run: Run, context: Any, error: BaseException | None) -> None:
        """The call is over, and `error` came out of its handler."""
        status = self._status(context, error)
        if status is not None:
            run.details["status"] = status.name
        if error is not None and not _is_ending(error, status):
            run.failed(error)
        is_fine = error is None and status in (None, grpc.StatusCode.OK)
        run.end("success" if is_fine else "error")

    @quietly
    def _status(self, context: Any, error: BaseException | None) -> grpc.StatusCode:
        return _status(context, error)

    def watched(self, behavior: Behavior, *, streams: bool) -> Behavior:
        """`behavior`, of the same colour, since the server asks which it is."""
        if inspect.isasyncgenfunction(behavior):
            return self._async_stream(behavior)
        if inspect.iscoroutinefunction(behavior):
            return self._coroutine(behavior)
        return self._stream(behavior) if streams else self._function(behavior)

    def _function(self, behavior: Behavior) -> Behavior:
        def watched(request: Any, context: Any) -> Any:
            run, error = self.begin(), None
            try:
                return behavior(request, context)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.end(run, context, error)

        return watched

    def _stream(self, behavior: Behavior) -> Behavior:
        def watched(request: Any, context: Any) -> Iterator[Any]:
            run, error = self.begin(), None
            try:
                yield from behavior(request, context)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.end(run, context, error)

        return watched

    def _coroutine(self, behavior: Behavior) -> Behavior:
        async def watched(request: Any, context: Any) -> Any:
            run, error = self.begin(), None
            try:
                return await behavior(request, context)
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.end(run, context, error)

        return watched

    def _async_stream(self, behavior: Behavior) -> Behavior:
        async def watched(request: Any, context: Any) -> AsyncIterator[Any]:
            run, error = self.begin(), None
            try:
                async for response in behavior(request, context):
                    yield response
            except BaseException as raised:
                error = raised
                raise
            finally:
                self.end(run, context, error)

        return watched


def _status(context: Any, error: BaseException | None) -> grpc.StatusCode:
    """What the caller is told. The code is None, a number or a `StatusCode`, by the server."""
    code = context.code()
    if isinstance(code, int):
        code = _CODES.get(code, grpc.StatusCode.UNKNOWN)
    if isinstance(error, GeneratorExit | asyncio.CancelledError) or _has_left(context):
        return grpc.StatusCode.CANCELLED
    if error is None:
        return code or grpc.StatusCode.OK
    return code if code not in (None, grpc.StatusCode.OK) else grpc.StatusCode.UNKNOWN


def _has_left(context: Any) -> bool:
    """Whether the caller cancelled the call, or its deadline passed: it gets no answer of ours."""
    is_active = getattr(context, "is_active", None)  # of a server with threads
    return not is_active() if is_active is not None else bool(context.cancelled())


def _is_ending(error: BaseException, status: grpc.StatusCode | None) -> bool:
    """Whether what was raised is only gRPC's way to end a call: `abort`, or the caller left.

    On a server with threads `abort` raises a bare Exception, after it set the code.
    """
    if isinstance(error, grpc.aio.AbortError | GeneratorExit | asyncio.CancelledError):
        return True
    if isinstance(error, grpc.RpcError) and status is grpc.StatusCode.CANCELLED:
        return True  # the caller's messages break off so
    return type(error) is Exception and not error.args and status is not grpc.StatusCode.UNKNOWN
