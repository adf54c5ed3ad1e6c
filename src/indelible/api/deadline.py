"""No read waits for ever: the disk may hang, and so does whoever reads from it.

The framework runs on the event loop and sends reads to threads of their own. A thread that the disk
holds cannot be ended, only left behind; so its request is answered 503 once the time is up, and
when every thread is left behind like this, further requests are answered at once. What comes from
memory alone, health and metrics, never passes here.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from litestar.concurrency import set_asyncio_executor

from indelible.edge.asgi import Framework
from indelible.edge.http import Message, Receive, Request, Scope, Send, refuse
from indelible.errors import DataUnreadable

READ_WITHIN_S: Final = 10.0
"""An answer to a read begins within so long, beside what the request itself waits for."""
CHANGE_WITHIN_S: Final = 600.0
"""An answer to a change begins within so long: an erasure may have a whole log to go through."""

_THREADS: Final = 32
_LONGEST_WISH_S: Final = 30.0  # of ?timeout=
_FROM_MEMORY: Final = frozenset({"/healthz", "/metrics"})


def give_threads() -> None:
    """Have the framework's reads run in threads that nothing else uses."""
    set_asyncio_executor(ThreadPoolExecutor(_THREADS, "reading"))


class Deadline:
    """The framework, with a time by which each of its answers has begun."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._left_behind: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") in _FROM_MEMORY:
            await self._framework(scope, receive, send)
            return
        if len(self._left_behind) >= _THREADS:
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
        self._left_behind.add(answering)
        answering.add_done_callback(self._come_back)
        await self._refuse(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._framework(scope, receive, send)

    def _come_back(self, answering: "asyncio.Task[None]") -> None:
        self._left_behind.discard(answering)
        if not answering.cancelled():
            answering.exception()  # looked at, so that the loop does not complain of it

    def _time_for(self, scope: Scope) -> float:
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            return CHANGE_WITHIN_S
        return READ_WITHIN_S + (_LONGEST_WISH_S if b"wait=" in scope["query_string"] else 0.0)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = DataUnreadable(f"The disk has not answered this read within {READ_WITHIN_S:g} s")
        await refuse(error, Request(scope, receive)).send(send)
