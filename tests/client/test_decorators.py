"""What a decorator says holds for every kind of function, until its body has ended."""

import asyncio
import contextvars
import functools
import gc
import inspect
import json
import threading
import types
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any, assert_type

import pytest
from hypothesis import given
from hypothesis import strategies as st

import indelible
from indelible.client import IdLike, Indelible, context
from tests.client.stub import Stub, client_of


@pytest.fixture
def client(stub: Stub) -> Iterator[Indelible]:
    with client_of(stub) as client:
        yield client


def told(client: Indelible, stub: Stub) -> list[tuple[str, dict[str, str]]]:
    """Type and the rest of what was said of each call so far, in order."""
    assert client.flush(60)
    found = []
    for event in stub.stored.values():
        meta = {k: event["meta"][k] for k in ("error_type", "aborted") if k in event["meta"]}
        found.append((event["meta"]["type"], meta))
    return found


SUCCESS: tuple[str, dict[str, str]] = ("success", {})
ABORTED = ("info", {"aborted": "true"})
FAILED = ("error", {"error_type": "LookupError"})


def numbers(end: int = 3) -> Generator[int, str, str]:
    yield from range(end)
    return "done"


async def numbers_later(end: int = 3) -> AsyncGenerator[int, str]:
    for number in range(end):
        await asyncio.sleep(0)
        yield number


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def failing() -> Iterator[int]:
    yield 1
    raise LookupError("hush")


async def failing_later() -> AsyncIterator[int]:
    yield 1
    raise LookupError("hush")


# Audited.


def test_a_generator_is_recorded_when_its_body_has_ended(client: Indelible, stub: Stub) -> None:
    audited = client.audited("numbers.read")(numbers)

    made = audited()
    assert [0, 1] == [next(made), next(made)]
    assert [] == told(client, stub)
    assert [2] == list(made)
    assert [SUCCESS] == told(client, stub)

    for number in client.audited("numbers.read")(failing)():
        assert 1 == number
        break
    gc.collect()
    with pytest.raises(LookupError):
        list(client.audited("numbers.read")(failing)())
    early = audited()
    next(early)
    early.close()
    audited()  # never asked for anything: its body never ran
    gc.collect()
    assert [SUCCESS, ABORTED, FAILED, ABORTED] == told(client, stub)


def test_an_async_generator_is_recorded_when_its_body_has_ended(
    client: Indelible, stub: Stub
) -> None:
    later = client.audited("numbers.read")(numbers_later)

    async def read() -> None:
        made = later()
        assert 0 == await anext(made)
        assert [] == told(client, stub)
        assert [1, 2] == [number async for number in made]
        assert [SUCCESS] == told(client, stub)
        with pytest.raises(LookupError):
            [number async for number in client.audited("numbers.read")(failing_later)()]
        async for _ in later():
            break  # the loop closes it when it is collected
        gc.collect()
        await asyncio.sleep(0.01)
        closed = later()
        await anext(closed)
        await closed.aclose()
        left_open = later()
        await anext(left_open)
        kept.append(left_open)  # and this one when the loop ends

    kept: list[Any] = []
    asyncio.run(read())

    assert [SUCCESS, FAILED, ABORTED, ABORTED, ABORTED] == told(client, stub)


def test_a_loop_that_ends_closes_a_decorated_generator_once(client: Indelible, stub: Stub) -> None:
    @client.audited("numbers.read")
    @client.context(distinct_id="u")
    async def slow_to_close() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            closed.append(True)

    async def leave_open() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, what: complaints.append(what))
        for _ in range(20):
            kept.append(slow_to_close())
            await anext(kept[-1])

    closed: list[bool] = []
    kept: list[Any] = []
    complaints: list[Any] = []
    asyncio.run(leave_open())

    assert ([True] * 20, []) == (closed, complaints)
    assert [ABORTED] * 20 == told(client, stub)


def test_a_coroutine_is_recorded_when_it_has_ended_and_a_cancelled_one_as_aborted(
    client: Indelible, stub: Stub
) -> None:
    @client.audited("slept")
    async def sleep() -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        assert 42 == await client.audited("answered")(answer)()
        task = asyncio.create_task(sleep())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())

    assert [SUCCESS, ABORTED] == told(client, stub)


@types.coroutine
def old_style() -> Generator[Any, Any, int]:
    yield
    return 42


class Callable_:  # noqa: N801
    async def __call__(self) -> int:
        return await answer()


@pytest.mark.parametrize(
    "call",
    [
        answer,
        functools.partial(answer),
        lambda: answer(),
        Callable_(),
        old_style,
        functools.wraps(answer)(lambda: answer()),
    ],
    ids=["function", "partial", "lambda", "callable", "types.coroutine", "wrapped"],
)
def test_whatever_is_awaited_is_recorded_when_it_has_ended(
    client: Indelible, stub: Stub, call: Any
) -> None:
    audited = client.audited("answered")(call)

    async def run() -> None:
        under_way = audited()
        assert [] == told(client, stub)
        assert 42 == await under_way

    asyncio.run(run())

    assert [SUCCESS] == told(client, stub)


def test_a_plain_function_that_returns_a_generator_is_recorded_when_that_has_ended(
    client: Indelible, stub: Stub
) -> None:
    made = client.audited("numbers.read")(lambda: numbers())()
    made_later = client.audited("numbers.read")(lambda: numbers_later())()

    async def read() -> list[int]:
        return [number async for number in made_later]

    assert [] == told(client, stub)
    assert [0, 1, 2] == list(made) == asyncio.run(read())
    assert [SUCCESS, SUCCESS] == told(client, stub)


class Shop:
    def __init__(self, client: Indelible) -> None:
        self.client = client

    @indelible.audited("shop.opened")
    def open(self) -> str:
        return "open"


def test_methods_of_every_kind_are_recorded(client: Indelible, stub: Stub) -> None:
    audited = client.audited("shop.opened")

    class Made:
        @audited
        def method(self) -> "Made":
            return self

        @audited
        @staticmethod
        def fixed() -> str:
            return "fixed"

        @classmethod
        @audited
        def inner(cls) -> type:
            return cls

        @audited
        @classmethod
        def outer(cls) -> type:
            return cls

    made = Made()
    assert (made, "fixed", Made, Made) == (made.method(), Made.fixed(), Made.inner(), made.outer())
    assert [SUCCESS] * 4 == told(client, stub)


@pytest.mark.parametrize("decorator", [indelible.audited("x"), indelible.context()])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (Shop, "Shop is a class: decorate a method"),
        (property(lambda self: 1), "below @property"),
        (functools.cached_property(lambda self: 1), "below @property"),
        (5, "int cannot be called"),
    ],
    ids=["class", "property", "cached property", "number"],
)
def test_what_cannot_be_decorated_is_refused_with_a_sentence(
    decorator: Callable[[Any], Any], what: Any, said: str
) -> None:
    with pytest.raises(TypeError, match=said):
        decorator(what)


# What a generator is asked, it answers as before.

STEPS = st.lists(
    st.one_of(st.just(("next", None)), st.tuples(st.just("send"), st.integers()))
    | st.sampled_from([("throw", KeyError), ("throw", ValueError), ("close", None)]),
    max_size=6,
)


def echo() -> Generator[Any, Any, Any]:
    """Says what it is told, goes on after a KeyError, and ends with a ValueError or a 3."""
    heard: Any = "begun"
    while heard != 3:
        try:
            heard = yield heard
        except KeyError:
            heard = "caught"
        finally:
            noticed.append(heard)
    return "ended"


async def echo_later() -> AsyncGenerator[Any, Any]:
    heard: Any = "begun"
    while heard != 3:
        await asyncio.sleep(0)
        try:
            heard = yield heard
        except KeyError:
            heard = "caught"
        finally:
            noticed.append(heard)


noticed: list[Any] = []


def _asked(made: Any, steps: list[tuple[str, Any]]) -> list[Any]:
    said: list[Any] = []
    noticed.clear()
    for name, argument in steps:
        step = made.__next__ if name == "next" else getattr(made, name)
        try:
            said.append(step() if argument is None else step(argument))
        except (StopIteration, KeyError, ValueError, TypeError) as error:
            said.append((type(error), getattr(error, "value", None)))
    made.close()
    return [*said, list(noticed)]


async def _asked_later(made: Any, steps: list[tuple[str, Any]]) -> list[Any]:
    said: list[Any] = []
    noticed.clear()
    for name, argument in steps:
        step = made.__anext__ if name == "next" else getattr(made, f"a{name}")
        try:
            said.append(await (step() if argument is None else step(argument)))
        except (StopAsyncIteration, KeyError, ValueError, TypeError) as error:
            said.append(type(error))
    await made.aclose()
    return [*said, list(noticed)]


@given(steps=STEPS)
def test_a_decorated_generator_answers_as_the_bare_one_does(steps: list[tuple[str, Any]]) -> None:
    silent = Indelible(enabled=False)
    for decorate in (silent.audited("x"), silent.context(distinct_id="u")):
        assert _asked(echo(), steps) == _asked(decorate(echo)(), steps)

        async def both(decorate: Any = decorate) -> None:
            expected = await _asked_later(echo_later(), steps)
            assert expected == await _asked_later(decorate(echo_later)(), steps)

        asyncio.run(both())


def test_a_decorated_function_stays_what_it_is() -> None:
    for decorate in (indelible.audited("x"), indelible.context(distinct_id="u")):
        for function in (numbers, numbers_later, answer, told):
            made: Any = decorate(function)
            for kind in (
                inspect.isgeneratorfunction,
                inspect.isasyncgenfunction,
                inspect.iscoroutinefunction,
            ):
                assert kind(function) == kind(made)
            assert inspect.signature(function) == inspect.signature(made)
            assert function.__name__ == made.__name__


# In a context.


def who() -> IdLike | None:
    here = context.current()
    return here.distinct_id if here is not None else None


def test_a_context_covers_the_body_of_every_step_and_nothing_between(client: Indelible) -> None:
    @client.context(distinct_id="inner")
    def steps() -> Generator[Any, Any, None]:
        try:
            yield who()
            yield who()
        except KeyError:
            yield who()
        finally:
            seen.append(who())

    seen: list[Any] = []
    with client.context(distinct_id="outer"):
        made = steps()
        assert ("inner", "outer") == (next(made), who())
        assert ("inner", "outer") == (made.throw(KeyError), who())
        made.close()
        assert "outer" == who()
    assert ["inner"] == seen


def test_a_context_covers_coroutines_and_async_generators(client: Indelible) -> None:
    @client.context(distinct_id="inner")
    async def later() -> IdLike | None:
        await asyncio.sleep(0)
        return who()

    @client.context(distinct_id="inner")
    async def steps() -> AsyncGenerator[Any, None]:
        try:
            await asyncio.sleep(0)
            yield who()
            await asyncio.sleep(0)
            yield who()
        finally:
            await asyncio.sleep(0)
            seen.append(who())

    async def run() -> None:
        with client.context(distinct_id="outer"):
            assert ("inner", "outer") == (await later(), who())
            made = steps()
            assert ("inner", "outer") == (await anext(made), who())
            in_a_task = asyncio.create_task(anext(made))
            assert ("inner", "outer") == (await in_a_task, who())
            await made.aclose()
            assert "outer" == who()

    seen: list[Any] = []
    asyncio.run(run())
    assert ["inner"] == seen


def test_each_call_has_a_context_of_its_own_which_lasts_from_step_to_step(
    client: Indelible,
) -> None:
    @client.context(properties={"n": 0})
    def count() -> Iterator[Any]:
        while (here := context.current()) is not None:
            here.properties["n"] = int(str(here.properties["n"])) + 1
            yield here.properties["n"]

    one, other = count(), count()

    assert [1, 2, 1, 3] == [next(one), next(one), next(other), next(one)]
    # Another thread, in a context of its own, may go on with it.
    on_a_thread: list[Any] = []
    thread = threading.Thread(target=lambda: on_a_thread.append(next(one)))
    thread.start()
    thread.join()
    assert [4] == on_a_thread
    assert 5 == contextvars.copy_context().run(next, one)
    assert context.current() is None


def test_one_block_may_be_entered_by_many_at_a_time(client: Indelible) -> None:
    block = client.context(distinct_id="inner")

    async def one(delay: int) -> None:
        with block as here:
            for _ in range(delay):
                await asyncio.sleep(0)
            assert here is context.current()
            with block as deeper:
                assert deeper is context.current() is not here
            assert here is context.current()
        assert context.current() is None

    async def many() -> None:
        await asyncio.gather(*(one(delay) for delay in (3, 1, 4, 1, 5, 9, 2, 6)))

    asyncio.run(many())


def test_a_module_may_decorate_before_there_is_a_default_client(
    stub: Stub, fresh_default: None
) -> None:
    @indelible.context(distinct_id="user_42")
    def work() -> None:
        indelible.capture("worked")

    @indelible.audited("order.read", payload=lambda end: {"end": end})
    def read(end: int) -> Iterator[int]:
        yield from range(end)

    indelible.configure("ind_pub_stub", api_key="iml_test_0123456789", host=stub.url)
    work()
    assert [0, 1] == list(read(2))
    assert indelible.flush(60)

    product, audit = sorted(stub.stored.values(), key=lambda one: "payload" in one)
    assert "user_42" == product["distinct_id"]
    assert ("success", {"end": 2}) == (audit["meta"]["type"], json.loads(audit["payload"]))


def test_types_pass_through_a_decorator() -> None:
    """Read by mypy: the assertions do nothing when they run."""
    client = Indelible(enabled=False)

    @client.audited("order.created")
    def create(order_id: str, *, paid: bool = False) -> int:
        return len(order_id)

    @indelible.context(distinct_id="u")
    async def wait(seconds: float) -> str:
        return str(seconds)

    @indelible.audited("read")
    def read(end: int) -> Iterator[int]:
        yield end

    assert_type(create("x", paid=True), int)
    assert_type(next(iter(read(3))), int)
    coroutine = wait(1.0)
    coroutine.close()

    def wrong() -> None:
        create(5)  # type: ignore[arg-type]
        read("x")  # type: ignore[arg-type]

    assert callable(wrong)
    with client.context(distinct_id="u") as here:
        assert_type(here, context.Context)
