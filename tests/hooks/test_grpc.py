"""gRPC servers with threads and on an event loop, called over real sockets.

Handlers are generic ones that take and give bytes: no code needs to be generated.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest

from indelible.client import context
from indelible.hooks.grpc import AioInterceptor, Interceptor
from indelible.testing import Received, Recorder
from tests.hooks.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


class Shop:
    """The service, with threads."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.left = threading.Event()

    def get(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        match request:
            case b"raise":
                raise LookupError("no such order")
            case b"abort":
                context.abort(grpc.StatusCode.NOT_FOUND, "secret details")
            case b"code":
                context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            case b"late":
                context.add_callback(self.left.set)
                self.left.wait(60)
        return b"order"

    def whoami(self, request: bytes, _: grpc.ServicerContext) -> bytes:
        here = context.current()
        assert here is not None
        here.distinct_id = request.decode()
        self.recorder.client.capture("seen")
        return f"{here.request_id} {here.trace_id}".encode()

    def list(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"1"
        match request:
            case b"raise":
                raise LookupError("no such order")
            case b"abort":
                context.abort(grpc.StatusCode.OUT_OF_RANGE, "no more")
            case b"endless":
                context.add_callback(self.left.set)
                while not self.left.wait(0.01):
                    yield b"more"
        yield b"2"

    def add(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        said = next(requests)
        if said == b"break off":
            # At the very moment at which the caller leaves, its messages may seem to be at their
            # end; a little later they break off.
            context.add_callback(self.left.set)
            self.left.wait(60)
        return said + b"".join(requests)

    def chat(self, requests: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[bytes]:
        yield from requests


class AioShop:
    """The same service on an event loop."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    async def get(self, request: bytes, context: Any) -> bytes:
        match request:
            case b"raise":
                raise LookupError("no such order")
            case b"abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "secret details")
            case b"code":
                context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
            case b"late":
                await asyncio.sleep(60)
        return b"order"

    async def whoami(self, request: bytes, _: Any) -> bytes:
        here = context.current()
        assert here is not None
        here.distinct_id = request.decode()
        await asyncio.sleep(0)
        self.recorder.client.capture("seen")
        return f"{here.request_id} {here.trace_id}".encode()

    async def list(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield b"1"
        match request:
            case b"raise":
                raise LookupError("no such order")
            case b"abort":
                await context.abort(grpc.StatusCode.OUT_OF_RANGE, "no more")
            case b"endless":
                while True:
                    await asyncio.sleep(0.01)
                    yield b"more"
        yield b"2"

    async def add(self, requests: AsyncIterator[bytes], _: Any) -> bytes:
        return b"".join([request async for request in requests])

    async def chat(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


def handlers(shop: Shop | AioShop) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        "shop.Orders",
        {
            "Get": grpc.unary_unary_rpc_method_handler(shop.get),
            "WhoAmI": grpc.unary_unary_rpc_method_handler(shop.whoami),
            "List": grpc.unary_stream_rpc_method_handler(shop.list),
            "Add": grpc.stream_unary_rpc_method_handler(shop.add),
            "Chat": grpc.stream_stream_rpc_method_handler(shop.chat),
        },
    )


@pytest.fixture(params=["threads", "asyncio"])
def channel(request: pytest.FixtureRequest, events: Recorder) -> Iterator[grpc.Channel]:
    """A channel to a server of each kind."""
    serve = served_by_threads if request.param == "threads" else served_by_a_loop
    for address in serve(events):
        with grpc.insecure_channel(address) as channel:
            yield channel


def served_by_threads(events: Recorder) -> Iterator[str]:
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, interceptors=[Interceptor(events.client, audit=True)])
        server.add_generic_rpc_handlers([handlers(Shop(events))])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait(60)


def served_by_a_loop(events: Recorder) -> Iterator[str]:
    ports: list[int] = []
    started, loops = threading.Event(), []
    stop = asyncio.Event()

    async def main() -> None:
        server = grpc.aio.server(interceptors=[AioInterceptor(events.client, audit=True)])
        server.add_generic_rpc_handlers([handlers(AioShop(events))])
        ports.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        loops.append(asyncio.get_running_loop())
        started.set()
        await stop.wait()
        await server.stop(None)

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert started.wait(60)
    yield f"127.0.0.1:{ports[0]}"
    loops[0].call_soon_threadsafe(stop.set)
    thread.join(10)


def has_calls(events: Recorder, count: int) -> bool:
    return len(events.captured) >= count


def call(events: Recorder) -> Received:
    """The one call's event; the caller may have its answer before it is there."""
    until(lambda: [one for one in events.captured if one.name == "rpc_call"])
    return events.assert_captured("rpc_call", times=1)


def code_of(ask: Callable[[], object]) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        ask()
    return str(raised.value.code().name)


def test_a_call_leaves_an_event_named_by_its_method(
    channel: grpc.Channel, events: Recorder
) -> None:
    assert b"order" == channel.unary_unary("/shop.Orders/Get")(b"secret request", timeout=60)

    event = call(events)
    assert "/shop.Orders/Get" == event.properties["name"]
    assert ("success", "OK") == (event.properties["outcome"], event.properties["status"])
    assert event.properties["duration_ms"] >= 0
    assert event.properties["framework"].startswith("grpc 1.")
    until(lambda: events.audited)
    events.assert_audited("rpc./shop.Orders/Get", type="success", times=1)
    assert "secret" not in repr([one.body for one in events.server.received])


@pytest.mark.parametrize(
    ("asked", "code", "error"),
    [
        (b"raise", "UNKNOWN", "LookupError"),
        (b"abort", "NOT_FOUND", None),
        (b"code", "INVALID_ARGUMENT", None),
    ],
)
def test_a_call_that_fails_says_what_its_caller_is_told(
    channel: grpc.Channel, events: Recorder, asked: bytes, code: str, error: str | None
) -> None:
    get = channel.unary_unary("/shop.Orders/Get")
    assert code == code_of(lambda: get(asked, timeout=60))

    event = call(events)
    assert ("error", code) == (event.properties["outcome"], event.properties["status"])
    assert error == event.properties.get("error_type")
    assert "no such order" not in repr(event.body)
    assert "secret" not in repr([one.body for one in events.server.received])


def test_a_stream_ends_with_its_last_message(channel: grpc.Channel, events: Recorder) -> None:
    answers = channel.unary_stream("/shop.Orders/List")(b"all", timeout=60)

    assert [b"1", b"2"] == list(answers)
    assert ("/shop.Orders/List", "OK") == named(call(events))


@pytest.mark.parametrize(("asked", "code"), [(b"raise", "UNKNOWN"), (b"abort", "OUT_OF_RANGE")])
def test_a_stream_that_breaks_off_says_so(
    channel: grpc.Channel, events: Recorder, asked: bytes, code: str
) -> None:
    answers = channel.unary_stream("/shop.Orders/List")(asked, timeout=60)
    assert code == code_of(lambda: list(answers))

    assert ("/shop.Orders/List", code) == named(call(events))


def test_a_caller_who_leaves_a_stream_cancels_it(channel: grpc.Channel, events: Recorder) -> None:
    answers = channel.unary_stream("/shop.Orders/List")(b"endless", timeout=60)
    assert b"1" == next(answers)
    answers.cancel()

    assert ("/shop.Orders/List", "CANCELLED") == named(call(events))


def test_a_caller_whose_deadline_passes_cancels_the_call(
    channel: grpc.Channel, events: Recorder
) -> None:
    get = channel.unary_unary("/shop.Orders/Get")
    assert "DEADLINE_EXCEEDED" == code_of(lambda: get(b"late", timeout=0.2))

    event = call(events)
    assert ("/shop.Orders/Get", "CANCELLED") == named(event)
    assert "error" == event.properties["outcome"]
    assert "error_type" not in event.properties


def test_messages_that_break_off_are_no_fault_of_the_handlers(events: Recorder) -> None:
    over = threading.Event()

    def messages() -> Iterator[bytes]:
        yield b"break off"
        over.wait(60)

    for address in served_by_threads(events):
        with grpc.insecure_channel(address) as channel:
            add = channel.stream_unary("/shop.Orders/Add")
            assert "DEADLINE_EXCEEDED" == code_of(partial(add, messages(), timeout=0.2))
            over.set()
            event = call(events)
    assert ("/shop.Orders/Add", "CANCELLED") == named(event)
    assert "error_type" not in event.properties


def test_calls_that_take_a_stream_are_recorded_too(channel: grpc.Channel, events: Recorder) -> None:
    add = channel.stream_unary("/shop.Orders/Add")
    chat = channel.stream_stream("/shop.Orders/Chat")
    assert b"ab" == add(iter([b"a", b"b"]), timeout=60)
    assert [b"a", b"b"] == list(chat(iter([b"a", b"b"]), timeout=60))

    until(lambda: len(events.captured) == 2)
    assert [("/shop.Orders/Add", "OK"), ("/shop.Orders/Chat", "OK")] == sorted(
        named(one) for one in events.captured
    )


def test_a_method_that_is_not_there_is_unmatched(channel: grpc.Channel, events: Recorder) -> None:
    nothing = channel.unary_unary("/shop.Orders/secret-method")
    assert "UNIMPLEMENTED" == code_of(lambda: nothing(b"", timeout=60))

    assert ("<unmatched>", "UNIMPLEMENTED") == named(call(events))
    assert "secret-method" not in repr([one.body for one in events.server.received])


def test_interceptors_of_one_client_record_a_call_once_and_those_of_two_twice(
    events: Recorder,
) -> None:
    with Recorder() as others:
        clients = (events.client, others.client, events.client)
        fixed: Any = {"install_signal_handlers": False}
        server = grpc.server(
            ThreadPoolExecutor(4),
            handlers=[handlers(Shop(events))],
            interceptors=[Interceptor(client, audit=True, **fixed) for client in clients],
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            channel.unary_unary("/shop.Orders/Get")(b"", timeout=60)
            assert [b"1", b"2"] == list(channel.unary_stream("/shop.Orders/List")(b"", timeout=60))
            nothing = channel.unary_unary("/shop.Orders/Nothing")
            assert "UNIMPLEMENTED" == code_of(lambda: nothing(b"", timeout=60))
            for one in (events, others):
                until(partial(has_calls, one, 3))
        server.stop(None).wait()
        for one in (events, others):
            names = ["/shop.Orders/Get", "/shop.Orders/List", "<unmatched>"]
            assert names == sorted(call.properties["name"] for call in one.captured)
            # What anybody may call is no audit event.
            assert 2 == len(one.audited)


def test_request_id_and_trace_come_from_the_metadata(
    channel: grpc.Channel, events: Recorder
) -> None:
    metadata = [("x-request-id", "req-1"), ("traceparent", TRACEPARENT), ("blob-bin", b"\xff")]
    answer = channel.unary_unary("/shop.Orders/WhoAmI")(b"user_42", metadata=metadata, timeout=60)

    assert f"req-1 {TRACE}".encode() == answer
    event = call(events)
    assert ("req-1", TRACE) == (event.properties["request_id"], event.properties["trace_id"])
    assert "user_42" == event.distinct_id


def test_calls_at_the_same_time_do_not_share_an_identity(
    channel: grpc.Channel, events: Recorder
) -> None:
    who = channel.unary_unary("/shop.Orders/WhoAmI")
    people = [f"user_{number}" for number in range(50)]
    calls = [
        who.future(one.encode(), metadata=[("x-request-id", one)], timeout=60) for one in people
    ]

    assert people == [one.result().decode().split()[0] for one in calls]
    until(lambda: len(events.captured) == 100)
    for name in ("seen", "rpc_call"):
        there = [one for one in events.captured if one.name == name]
        assert sorted(people) == sorted(str(one.distinct_id) for one in there)
    pairs = [
        (one.distinct_id, one.properties["request_id"])
        for one in events.captured
        if one.name == "rpc_call"
    ]
    assert all(person == request for person, request in pairs)


def test_a_context_without_a_code_costs_the_status_and_not_the_answer() -> None:
    class Bare(grpc.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
        """Another's interceptor, before ours, that passes a context of its own."""

        def intercept_service(self, continuation: Callable[[Any], Any], details: Any) -> Any:
            inner = continuation(details).unary_unary
            return grpc.unary_unary_rpc_method_handler(lambda request, _: inner(request, object()))

    with Recorder(strict=False) as events, ThreadPoolExecutor(1) as pool:
        server = grpc.server(pool, interceptors=[Bare(), Interceptor(events.client)])
        server.add_generic_rpc_handlers([handlers(Shop(events))])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            assert b"order" == channel.unary_unary("/shop.Orders/Get")(b"one", timeout=60)
        server.stop(None).wait(60)

        assert "status" not in call(events).properties
        assert 1 == events.client.counts().failures


def named(event: Received) -> tuple[str, str]:
    return event.properties["name"], event.properties["status"]
