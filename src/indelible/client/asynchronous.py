"""The client for a program that runs on an event loop: what waits is awaited, nothing else differs.

Capturing never waits, so it is called as it is. Delivery is the background thread's either way, and
the loop is never kept waiting: the few calls that may wait do so on threads of their own. Only when
the interpreter ends and gives no thread any more do they wait on the loop's.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar, Unpack

from indelible.client.client import Indelible
from indelible.client.crew import Crew
from indelible.client.encode import IdLike
from indelible.client.hidden import Hidden
from indelible.client.options import ClientOptions, Options
from indelible.client.receipt import AuditEvent, AuditFields, AuditType, Receipt, Wait
from indelible.errors import AuditFailed

if TYPE_CHECKING:
    from indelible.client.audit import Audit
    from indelible.client.doctor import Diagnosis
    from indelible.ledger.format.verify import Verification

R = TypeVar("R")

_AT_ONCE: Final = 8
_crew: Final = Crew(_AT_ONCE)


async def elsewhere(call: Callable[[], R]) -> R:
    """Make `call`, which may wait, on another thread and in this context."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # stepped by hand, as in a finalizer: there is no loop to keep waiting
        return call()
    done: asyncio.Future[R] = loop.create_future()
    context = contextvars.copy_context()

    def settle(result: R | None, error: BaseException | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = context.run(call)
        except BaseException as raised:
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, error)

    _crew.submit(work)
    return await done


class AsyncIndelible:
    """`Indelible`, with `flush`, `shutdown` and the durable audit calls as coroutines.

    Takes the same arguments. `client` is the client beneath, for what takes one, as a middleware
    does.
    """

    audit: "AsyncAudit"

    def __init__(self, token: str | None = None, **options: Unpack[ClientOptions]) -> None:
        given = Hidden.moved(options, token=token)
        del token
        self.client = Indelible._of(Options.found(given))
        self.options = self.client.options
        self.audit = AsyncAudit(self.client.audit)
        self.capture = self.client.capture
        self.identify = self.client.identify
        self.alias = self.client.alias
        self.set = self.client.set
        self.set_distinct_id = self.client.set_distinct_id
        self.set_anonymous_id = self.client.set_anonymous_id
        self.context = self.client.context
        self.audited = self.client.audited
        self.counts = self.client.counts
        self.install_signal_handlers = self.client.install_signal_handlers

    @property
    def is_enabled(self) -> bool:
        """`Indelible.is_enabled`."""
        return self.client.is_enabled

    @property
    def process_id(self) -> str:
        """`Indelible.process_id`."""
        return self.client.process_id

    async def flush(self, timeout_s: float | None = None) -> bool:
        """`Indelible.flush`, awaited."""
        return await elsewhere(lambda: self.client.flush(timeout_s))

    async def shutdown(self, timeout_s: float = 30.0) -> bool:
        """`Indelible.shutdown`, awaited."""
        return await elsewhere(lambda: self.client.shutdown(timeout_s))

    async def doctor(self) -> "Diagnosis":
        """`Indelible.doctor`, awaited."""
        return await elsewhere(self.client.doctor)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.shutdown()


class AsyncAudit:
    """The audit side of an `AsyncIndelible`: the same doors, awaited where they wait."""

    def __init__(self, audit: "Audit") -> None:
        self._audit = audit
        self.send_async = audit.send_async
        self.counts = audit.counts

    async def send(
        self,
        event_name: str,
        payload: object,
        *,
        type: AuditType = "info",
        meta: Mapping[str, str] | None = None,
        idempotency_key: IdLike | None = None,
        attempts: int = 1,
        wait: Wait | None = None,
        timeout_s: float | None = None,
    ) -> Receipt:
        """`Audit.send`, awaited. A call that is cancelled goes on in the background."""
        return await elsewhere(
            lambda: self._audit.send(
                event_name,
                payload,
                type=type,
                meta=meta,
                idempotency_key=idempotency_key,
                attempts=attempts,
                wait=wait,
                timeout_s=timeout_s,
            )
        )

    async def send_batch(
        self, events: Sequence[AuditEvent | AuditFields], *, timeout_s: float | None = None
    ) -> list[Receipt | AuditFailed]:
        """`Audit.send_batch`, awaited."""
        return await elsewhere(lambda: self._audit.send_batch(events, timeout_s=timeout_s))

    async def fetch_receipt(
        self, tx_id: str, *, wait: Wait | None = "sealed", timeout_s: float = 10.0
    ) -> str:
        """`Audit.fetch_receipt`, awaited."""
        return await elsewhere(
            lambda: self._audit.fetch_receipt(tx_id, wait=wait, timeout_s=timeout_s)
        )

    async def verify(self, receipt: Receipt | str, *, policy: str) -> "Verification":
        """`Audit.verify`, awaited."""
        return await elsewhere(lambda: self._audit.verify(receipt, policy=policy))
