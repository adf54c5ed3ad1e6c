"""What a decorator needs to be true of every kind of function: to be there while its body runs.

A call of a coroutine function or of a generator function returns before a line of its body has run.
A `Run` is told when the body goes on, step by step, and when it has ended.
"""

import functools
import inspect
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

_NOTHING: Final = nullcontext()
_CANCELLATIONS: Final = ("CancelledError", "Cancelled")  # of asyncio, and of trio


class Run:
    """One call of a decorated function, which does nothing with it yet."""

    def step(self) -> AbstractContextManager[object]:
        """Entered whenever the body goes on, left when it waits for its caller or has ended."""
        return _NOTHING

    def ended(self, error: BaseException | None) -> None:
        """The body is through: what it raised, or what was thrown in to end it."""

    async def ended_on_a_loop(self, error: BaseException | None) -> None:
        """`ended` of a body that was awaited. Override it where `ended` may wait."""
        self.ended(error)


def decorated(call: Callable[P, R], begin: Callable[..., Run]) -> Callable[P, R]:
    """`call` with a `Run` for each call, which `begin` makes of the call's arguments.

    It stays what it is: a coroutine function, a generator function, an async generator function, a
    static or a class method. A coroutine or generator that a plain function returns counts as its
    body. The body of a generator that is never asked for anything never runs, and has no end.

    Raises:
        TypeError: it is a class, a property, or nothing that can be called.
    """
    _check(call)
    if isinstance(call, staticmethod | classmethod):
        return cast("Callable[P, R]", type(call)(decorated(call.__func__, begin)))
    wrapper: Callable[..., Any]
    if inspect.isasyncgenfunction(call):
        wrapper = _of_async_generator(call, begin)
    elif _is_awaited(call):
        wrapper = _of_coroutine(call, begin)
    elif inspect.isgeneratorfunction(call):
        wrapper = _of_generator(call, begin)
    else:
        wrapper = _of_function(call, begin)
    return cast("Callable[P, R]", functools.wraps(call)(wrapper))


def is_aborted(error: BaseException | None) -> bool:
    """Whether it ended a body from outside: a generator was closed, or a task cancelled."""
    if isinstance(error, GeneratorExit):
        return True
    return not isinstance(error, Exception) and type(error).__name__ in _CANCELLATIONS


def name_of(call: object) -> str:
    """What a function is called; of what has no name, what its class is."""
    while isinstance(call, functools.partial | staticmethod | classmethod):
        call = call.func if isinstance(call, functools.partial) else call.__func__
    return str(getattr(call, "__qualname__", type(call).__qualname__))


def _check(call: object) -> None:
    if isinstance(call, type):
        raise TypeError(f"{call.__qualname__} is a class: decorate a method, or what makes it")
    if isinstance(call, property | functools.cached_property):
        raise TypeError("a property: decorate its function, below @property")
    if not callable(call) and not isinstance(call, classmethod):
        raise TypeError(f"{type(call).__qualname__} cannot be called: decorate a function")


def _is_awaited(call: Callable[..., object]) -> bool:
    code = getattr(call, "__code__", None)
    is_iterable = code is not None and code.co_flags & inspect.CO_ITERABLE_COROUTINE
    return bool(inspect.iscoroutinefunction(call) or is_iterable)  # or by `types.coroutine`


def _of_function(call: Callable[..., Any], begin: Callable[..., Run]) -> Callable[..., Any]:
    def called(*arguments: Any, **named: Any) -> Any:
        run = begin(*arguments, **named)
        try:
            with run.step():
                result = call(*arguments, **named)
        except BaseException as error:
            run.ended(error)
            raise
        if inspect.iscoroutine(result):
            return _awaited(run, result)
        if inspect.isgenerator(result):
            return _generated(run, result)
        if inspect.isasyncgen(result):
            return _of_async_generator(lambda: result, lambda: run)()
        run.ended(None)
        return result

    return called


def _of_coroutine(call: Callable[..., Any], begin: Callable[..., Run]) -> Callable[..., Any]:
    async def awaited(*arguments: Any, **named: Any) -> Any:
        return await _awaited(begin(*arguments, **named), call(*arguments, **named))

    return awaited


def _of_generator(call: Callable[..., Any], begin: Callable[..., Run]) -> Callable[..., Any]:
    def generated(*arguments: Any, **named: Any) -> Any:
        return (yield from _generated(begin(*arguments, **named), call(*arguments, **named)))

    return generated


def _of_async_generator(call: Callable[..., Any], begin: Callable[..., Run]) -> Callable[..., Any]:
    async def streamed(*arguments: Any, **named: Any) -> Any:
        run, body = begin(*arguments, **named), call(*arguments, **named)
        step = _first(body)
        while True:
            try:
                with run.step():
                    value = await step
            except StopAsyncIteration:
                await run.ended_on_a_loop(None)
                return
            except BaseException as error:
                await run.ended_on_a_loop(error)
                raise
            try:
                sent = yield value
            except GeneratorExit as closing:
                await _aclose(run, body)
                await run.ended_on_a_loop(closing)
                raise
            except BaseException as error:
                step = body.athrow(error)
            else:
                step = body.asend(sent)

    return streamed


async def _awaited(run: Run, body: Awaitable[Any]) -> Any:
    try:
        with run.step():
            result = await body
    except BaseException as error:
        await run.ended_on_a_loop(error)
        raise
    await run.ended_on_a_loop(None)
    return result


def _generated(run: Run, body: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    resume: Callable[[Any], Any] = body.send
    sent: Any = None
    while True:
        try:
            with run.step():
                value = resume(sent)
        except StopIteration as end:
            run.ended(None)
            return end.value
        except BaseException as error:
            run.ended(error)
            raise
        try:
            resume, sent = body.send, (yield value)
        except GeneratorExit as closing:
            _close(run, body)
            run.ended(closing)
            raise
        except BaseException as error:
            resume, sent = body.throw, error


def _close(run: Run, body: Generator[Any, Any, Any]) -> None:
    try:
        with run.step():
            body.close()
    except BaseException as error:  # what its own end raised, or a body that will not end
        run.ended(error)
        raise


async def _aclose(run: Run, body: AsyncGenerator[Any, Any]) -> None:
    try:
        with run.step():
            await body.aclose()
    except BaseException as error:
        await run.ended_on_a_loop(error)
        raise


def _first(body: AsyncGenerator[Any, Any]) -> Awaitable[Any]:
    """The first step of an async generator that nobody but us is to close.

    An event loop closes all generators that it saw begin, in any order: it must see the outer one
    only, or it would close this one twice at a time.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.__anext__()
    finally:
        sys.set_asyncgen_hooks(*hooks)
