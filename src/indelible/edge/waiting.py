"""``?wait=sealed|witnessed&timeout=1s`` on ingest: an answer that brings the receipt itself.

The events are stored either way. What has not come that far within the time is answered as usual,
without a receipt; the client asks for it later.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from indelible.errors import InvalidParameter
from indelible.event import Level

MOST_RECEIPTS: Final = 100
LONGEST_WAIT_S: Final = 30.0
"""A longer `timeout` is taken for this one."""
DEFAULT_WAIT_S: Final = 1.0

_READ_WITHIN_S: Final = 2.0  # for reading the receipts, after the wait

_TIME: Final = re.compile(r"([0-9]{1,5}(?:\.[0-9]{1,3})?)(ms|s)?", re.ASCII)


class Confirm(Protocol):
    """Waits for events of a project, and brings the receipts of those that have come so far."""

    async def __call__(
        self, project_id: int, indexes: Sequence[int], level: Level, *, timeout_s: float
    ) -> list[str | None]: ...


def bounded(confirm: Confirm) -> Confirm:
    """Wrap `confirm` so that it returns no receipts, instead of waiting, if the disk hangs.

    The events are stored by then, which is what the answer has to say.
    """

    async def within(
        project_id: int, indexes: Sequence[int], level: Level, *, timeout_s: float
    ) -> list[str | None]:
        asked = asyncio.ensure_future(confirm(project_id, indexes, level, timeout_s=timeout_s))
        try:
            await asyncio.wait({asked}, timeout=timeout_s + _READ_WITHIN_S)
        except asyncio.CancelledError:
            asked.cancel()
            raise
        if asked.done():
            return asked.result()
        asked.add_done_callback(_retrieve)
        return [None] * len(indexes)

    return within


def _retrieve(asked: "asyncio.Future[list[str | None]]") -> None:
    if not asked.cancelled():
        asked.exception()  # or the loop logs it as lost


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request waits for, and for how long at most."""

    level: Level
    timeout_s: float


def wish_of(wait: str | None, timeout: str | None) -> Wish | None:
    """What the two parameters say; None when nothing is to be waited for.

    >>> wish_of("sealed", "250ms")
    Wish(level=<Level.SEALED: 'sealed'>, timeout_s=0.25)

    Raises:
        InvalidParameter: one of them cannot be read. Nothing has been stored.
    """
    timeout_s = DEFAULT_WAIT_S if timeout is None else _seconds(timeout)
    if wait is None:
        return None
    try:
        level = Level(wait)
    except ValueError:
        raise InvalidParameter("`wait` is neither sealed nor witnessed") from None
    return Wish(level, timeout_s)


def check_count(events: int) -> None:
    """
    Raises:
        InvalidParameter: so many receipts are not put into one answer. Nothing has been stored.
    """
    if events > MOST_RECEIPTS:
        raise InvalidParameter(
            f"`wait` is for at most {MOST_RECEIPTS} events in a request; this one has {events:,}",
            hint="Send smaller batches, or fetch the receipts later from /v1/receipts.",
        )


def _seconds(text: str) -> float:
    match = _TIME.fullmatch(text)
    if match is None:
        raise InvalidParameter("`timeout` is not a time such as 500ms, 1s or 2.5")
    return min(float(match[1]) / (1000 if match[2] == "ms" else 1), LONGEST_WAIT_S)
