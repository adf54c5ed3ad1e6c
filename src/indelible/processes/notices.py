"""What the edge refuses or drops, passed on to another process of the server."""

import asyncio
from typing import Any, Final

from indelible.edge.notice import Listening, Notices
from indelible.processes.frames import Line
from indelible.processes.messages import Noticed

MOST_UNSENT_BYTES: Final = 1024 * 1024


class Passing:
    """Passes notices on over a line while somebody listens at its other end.

    While the line is full they wait in their queue, where the oldest give way and are counted by
    project: a notice is only shown, and never stored. The other end is told how many.
    """

    def __init__(self, notices: Notices, line: Line[Any]) -> None:
        self._notices = notices
        self._line = line
        self._listening: Listening | None = None
        self._task: asyncio.Task[None] | None = None

    def heed(self, *, is_heard: bool) -> None:
        """Begin, or end; call it on the event loop of the notices and of the line."""
        if is_heard and self._listening is None:
            self._listening = self._notices.listen()
            self._task = asyncio.get_running_loop().create_task(self._pass_on(self._listening))
        elif not is_heard and self._listening is not None:
            self._listening.leave()
            self._listening = None

    async def _pass_on(self, listening: Listening) -> None:
        while (heard := await listening.hear()) is not None:
            missed = list(heard.missed.items())
            for notice in heard.notices:
                if self._line.unsent_bytes >= MOST_UNSENT_BYTES:
                    await self._line.drained()
                self._line.say(Noticed(notice, missed))
                missed = []
            if missed:
                self._line.say(Noticed(None, missed))
