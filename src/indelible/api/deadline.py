"""Deadlines for the routes that read or change the data folder.

Litestar runs on the event loop and calls each such route in a worker thread. If the disk hangs,
that thread cannot be interrupted. When the time is up we abandon it and answer 503; it ends by
itself once the disk responds. When all worker threads are abandoned, new requests get the 503 at
once. Health and metrics read only memory, so they bypass all of this.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from litestar.concurrency import set_asyncio_executor

from indelible.edge.asgi import Framework
from indelible.edge.http import Message, Receive, Request, Scope, Send, refuse
from indelible.errors import DataUnreadable
from indelible.refusals import Refusals

READ_WITHIN_S: Final = 10.0
"""A read must begin to answer within this time, plus the wait that the request asks for."""
CHANGE_WITHIN_S: Final = 600.0
"""A change must begin to answer within this time. An erasure may walk a whole log."""

_THREADS: Final = 32
_LONGEST_WISH_S: Final = 30.0  # of ?timeout=
_FROM_MEMORY: Final = frozenset({"/healthz", "/metrics"})


def use_own_threads() -> None:
    """Run the framework's worker calls in a pool that nothing else shares."""
    set_asyncio_executor(ThreadPoolExecutor(_THREADS, "reading"))


class Deadline:
    """Wraps the framework and enforces the deadline of each request."""

    def __init__(self, framework: Framework, refusals: Refusals) -> None:
        self._framework = framework
        self._refusals = refusals
        self._abandoned: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") in _FROM_MEMORY:
            await self._framework(scope, receive, send)
            return
        if len(self._abandoned) >= _THREADS:
            await self._refuse(scope, receive, send)
            return
        has_begun = is_late = False

        async def sent(message: Message) -> None:
            nonlocal has_begun
            if not is_late:
                has_begun = True
                await send(message)

        answering = asyncio.ensure_future(self._answer(scope, receive, sent))
        try:
            await asyncio.wait({answering}, timeout=self._time_for(scope))
            if has_begun or answering.done():
                await answering
                return
        except asyncio.CancelledError:
            answering.cancel()
            raise
        is_late = True
        # Do not cancel it: the task would end at once, and its thread would no longer be counted.
        self._abandoned.add(answering)
        answering.add_done_callback(self._forget)
        await self._refuse(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._framework(scope, receive, send)

    def _forget(self, answering: "asyncio.Task[None]") -> None:
        self._abandoned.discard(answering)
        if not answering.cancelled():
            answering.exception()  # retrieve it, or the loop logs it as lost

    def _time_for(self, scope: Scope) -> float:
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            return CHANGE_WITHIN_S
        return READ_WITHIN_S + (_LONGEST_WISH_S if b"wait=" in scope["query_string"] else 0.0)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = DataUnreadable(f"The disk has not answered this read within {READ_WITHIN_S:g} s")
        self._refusals.refused(error, scope.get("path_template"))
        await refuse(error, Request(scope, receive)).send(send)
