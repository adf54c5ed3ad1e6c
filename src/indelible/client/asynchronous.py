"""The client for a program that runs on an event loop: what waits is awaited, nothing else differs.

Capturing never waits, so it is called as it is. Delivery is the background thread's either way, and
the loop is never kept waiting: the few calls that may wait do so on a thread of the loop's pool.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from indelible.client.audit import Audit, AuditEvent, Receipt
from indelible.client.client import Indelible
from indelible.client.tally import Counts
from indelible.errors import AuditFailed

if TYPE_CHECKING:
    from indelible.ledger.verify import Verification


class AsyncIndelible:
    """`Indelible`, with `flush`, `shutdown` and the durable audit calls as coroutines.

    Takes the same arguments. `client` is the client beneath, for what takes one, as a middleware
    does.
    """

    def __init__(self, token: str | None = None, **options: Any) -> None:
        self.client = Indelible(token, **options)
        self.capture = self.client.capture
        self.identify = self.client.identify
        self.alias = self.client.alias
        self.set = self.client.set
        self.context = self.client.context
        self.audited = self.client.audited
        self.counts = self.client.counts

    @property
    def audit(self) -> "AsyncAudit":
        return AsyncAudit(self.client.audit)

    async def flush(self, timeout_s: float | None = None) -> bool:
        """`Indelible.flush`, awaited."""
        return await asyncio.to_thread(self.client.flush, timeout_s)

    async def shutdown(self, timeout_s: float = 30.0) -> bool:
        """`Indelible.shutdown`, awaited."""
        return await asyncio.to_thread(self.client.shutdown, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()


class AsyncAudit:
    """The audit side of an `AsyncIndelible`: the same doors, awaited where they wait."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    async def send(self, event_name: str, payload: object, **more: Any) -> Receipt:
        """`Audit.send`, awaited."""
        return await asyncio.to_thread(self._audit.send, event_name, payload, **more)

    async def send_batch(
        self, events: Sequence[AuditEvent | Mapping[str, Any]], **more: Any
    ) -> list[Receipt | AuditFailed]:
        """`Audit.send_batch`, awaited."""
        return await asyncio.to_thread(self._audit.send_batch, events, **more)

    def send_async(self, event_name: str, payload: object, **more: Any) -> None:
        """`Audit.send_async`: nothing to await."""
        self._audit.send_async(event_name, payload, **more)

    async def fetch_receipt(self, tx_id: str, **more: Any) -> str:
        """`Audit.fetch_receipt`, awaited."""
        return await asyncio.to_thread(self._audit.fetch_receipt, tx_id, **more)

    async def verify(self, receipt: Receipt | str, *, policy: str) -> "Verification":
        """`Audit.verify`, awaited."""
        return await asyncio.to_thread(self._audit.verify, receipt, policy=policy)

    def counts(self) -> Counts:
        """`Audit.counts`."""
        return self._audit.counts()
