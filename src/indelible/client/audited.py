"""A decorator that leaves an audit event for each call of a function."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from indelible.client.decorate import Run, decorated, is_aborted, name_of

if TYPE_CHECKING:
    from indelible.client.audit import Audit
    from indelible.client.receipt import AuditType

P = ParamSpec("P")
R = TypeVar("R")


def audited(
    audit: "Callable[[], Audit]", event_name: str, payload: Callable[..., object] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: an audit event when the body of each call has ended, `success` or `error`.

    Works on functions, coroutine functions, generators and async generators; what they raise is
    raised again. A body that was ended from outside, as a generator that is closed or a task that
    is cancelled, leaves an event of type `info` whose meta has ``aborted``: ``true``. One that
    never began leaves none.

    `payload` is given the call's arguments; without it the payload names the function only, since
    arguments may hold anything.

    The decorator raises TypeError for a class, a property, and what cannot be called.
    """

    def decorate(call: Callable[P, R]) -> Callable[P, R]:
        function = name_of(call)

        class AuditedRun(Run):
            def __init__(self, *arguments: Any, **named: Any) -> None:
                self._arguments, self._named = arguments, named

            def ended(self, error: BaseException | None) -> None:
                body: object = {"function": function}
                if payload is not None:
                    try:
                        body = payload(*self._arguments, **self._named)
                    except Exception:  # a payload that fails must not fail the call
                        body = {"function": function}
                kind: AuditType = "success" if error is None else "error"
                meta = {} if error is None else {"error_type": type(error).__name__}
                if is_aborted(error):
                    kind, meta = "info", {"aborted": "true"}
                audit().send_async(event_name, body, type=kind, meta=meta)

        return decorated(call, AuditedRun)

    return decorate
