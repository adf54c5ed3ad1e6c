"""A decorator that leaves an audit event for each call of a function."""

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from indelible.client.audit import Audit
    from indelible.client.receipt import AuditType

P = ParamSpec("P")
R = TypeVar("R")


def audited(
    audit: "Callable[[], Audit]", event_name: str, payload: Callable[..., object] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: an audit event for each call, `success` or `error` by its outcome.

    Works on functions and coroutine functions; what they raise is raised again. `payload` is given
    the call's arguments; without it the payload names the function only, since arguments may hold
    anything.
    """

    def note(call: Callable[..., object], arguments: Any, named: Any, error: Any) -> None:
        try:
            body = payload(*arguments, **named) if payload else {"function": call.__qualname__}
        except Exception:
            body = {"function": call.__qualname__}
        meta = {"error_type": type(error).__name__} if error is not None else {}
        kind: AuditType = "success" if error is None else "error"
        audit().send_async(event_name, body, type=kind, meta=meta)

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(call):

            @functools.wraps(call)
            async def awaited(*arguments: P.args, **named: P.kwargs) -> Any:
                try:
                    result = await call(*arguments, **named)
                except BaseException as error:
                    note(call, arguments, named, error)
                    raise
                note(call, arguments, named, None)
                return result

            return cast("Callable[P, R]", awaited)

        @functools.wraps(call)
        def called(*arguments: P.args, **named: P.kwargs) -> R:
            try:
                result = call(*arguments, **named)
            except BaseException as error:
                note(call, arguments, named, error)
                raise
            note(call, arguments, named, None)
            return result

        return called

    return decorate
