"""Notices on their way to another process: shown or counted, whatever the line takes."""

import asyncio
import socket
from collections import Counter
from typing import Any

from indelible.clock import now_ms
from indelible.edge.notice import MOST_UNREAD, Notice, Notices
from indelible.processes.frames import Line
from indelible.processes.messages import FROM_EDGE, TO_EDGE, Noticed
from indelible.processes.notices import MOST_UNSENT_BYTES, Passing

TOLD = 4_000


def notice(number: int) -> Notice:
    return Notice(now_ms(), "/api/e", number % 3 or None, "missing_event", 2, None, "x" * 2_000)


async def _passed_on() -> tuple[Counter[int | None], Counter[int | None], int]:
    """Tell more than a line takes whose other end does not read, and read it then: how many were
    shown, how many counted as lost, and the most that waited in the line."""
    ours, theirs = socket.socketpair()
    shown: Counter[int | None] = Counter()
    missed: Counter[int | None] = Counter()

    def heard(message: Any) -> None:
        assert isinstance(message, Noticed)
        missed.update(dict(message.missed))
        if message.notice is not None:
            shown[message.notice.project_id] += message.notice.count

    line: Line[Any] = Line(TO_EDGE, heard=lambda _: None, ended=lambda: None)
    await line.take(ours)
    notices, most = Notices(now_ms), 0
    passing = Passing(notices, line)
    passing.heed(is_heard=True)
    for number in range(TOLD):
        notices.tell(notice(number))
        if number % 50 == 0:
            await asyncio.sleep(0)
            most = max(most, line.unsent_bytes)
    other: Line[Any] = Line(FROM_EDGE, heard=heard, ended=lambda: None)
    await other.take(theirs)
    async with asyncio.timeout(30):
        while (shown + missed).total() < 2 * TOLD:
            await asyncio.sleep(0.01)
    passing.heed(is_heard=False)
    line.close()
    other.close()
    await asyncio.sleep(0)
    return shown, missed, most


def test_what_a_full_line_has_no_room_for_is_counted_by_project_and_told_in_the_end() -> None:
    shown, missed, most = asyncio.run(_passed_on())

    told = Counter({each: 2 * len(range(TOLD)[at::3]) for at, each in ((0, None), (1, 1), (2, 2))})
    assert told == shown + missed
    assert missed[1] > 0
    assert missed[None] > 0
    assert shown.total() > 2 * MOST_UNREAD
    assert most < MOST_UNSENT_BYTES + 3_000
