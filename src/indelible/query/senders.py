"""Who sends to a project, and whether all that they captured has arrived.

Accounts are listed newest first: by when the server last heard of the process. One that is heard of
while its list is walked moves to the front, before the place where the walk began.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from indelible.accounting.account import Account
from indelible.accounting.accounts import Accounts, Key, Rest
from indelible.clock import rfc3339
from indelible.errors import InvalidCursor
from indelible.event import Lane
from indelible.journal.pieces import cut
from indelible.registry.values import Project

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
GAPS_PER_PAGE: Final = 10_000
"""Most gaps of a page's accounts together: an account has 1,000 at most, and few have any."""


class Sender(msgspec.Struct):
    """What one process captured in one lane, and what became of it.

    `captured` = `stored` + the sum of `lost` + `missing`. `missing` events are under way, or gone.
    `gaps` are the runs of numbers, [start, end), that no stored event has: of what is missing, and
    of what was lost. `gaps_cut`: there were more than 1,000, and the oldest are not known any more.
    """

    process_id: str
    lane: str
    first_seen: str
    last_seen: str
    captured: int
    stored: int
    lost: dict[str, int]
    missing: int
    gaps: list[tuple[int, int]]
    gaps_cut: bool


class Unlisted(msgspec.Struct):
    """What stands in no account of a lane.

    The sums of the processes not heard of for 30 days; and how many events had been erased before
    they were counted, so that nobody knows whose they were: they may be what others miss.
    """

    lane: str
    processes: int
    captured: int
    stored: int
    lost: dict[str, int]
    missing: int
    erased: int


class SenderPage(msgspec.Struct):
    """One page of accounts; `next` is the cursor of the following one, null at the end."""

    senders: list[Sender]
    next: str | None
    unlisted: list[Unlisted]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which accounts: of one process, and only those that miss events."""

    process_id: str | None = None
    missing: bool = False


class Senders:
    """The accounts of every project, for reading."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts

    def page(
        self,
        project: Project,
        which: Filter,
        *,
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
    ) -> SenderPage:
        """One page of at most `limit` accounts, and of `GAPS_PER_PAGE`, newest first.

        Raises:
            InvalidCursor: it is of another list.
            Unavailable: the accounts are damaged.
        """
        before = None if cursor is None else _read_cursor(cursor, project.id, which)
        found = self._accounts.page(
            project.id,
            process_id=which.process_id,
            missing=which.missing,
            before=before,
            limit=limit + 1,
        )
        senders = [_sender(key, account) for key, account in found[:limit]]
        count = next(cut([len(sender.gaps) for sender in senders], GAPS_PER_PAGE), 0)
        return SenderPage(
            senders[:count],
            _cursor(found[count - 1][0], project.id, which) if len(found) > count else None,
            [_unlisted(lane, rest) for lane, rest in self._accounts.rest(project.id).items()],
        )


def _sender(key: Key, account: Account) -> Sender:
    return Sender(
        process_id=key.process_id,
        lane=key.lane.value,
        first_seen=rfc3339(account.first_seen_ms),
        last_seen=rfc3339(account.last_seen_ms),
        captured=account.captured,
        stored=account.stored,
        lost=dict(account.lost),
        missing=account.missing,
        gaps=account.gaps(),
        gaps_cut=account.floor > 0,
    )


def _unlisted(lane: Lane, rest: Rest) -> Unlisted:
    return Unlisted(
        lane=lane.value,
        processes=rest.processes,
        captured=rest.captured,
        stored=rest.stored,
        lost=dict(rest.lost),
        missing=rest.missing,
        erased=rest.erased,
    )


def _cursor(key: Key, project_id: int, which: Filter) -> str:
    """Opaque to callers. It ends in a digest of the list, so that a cursor of one is not taken for
    a place in another."""
    digest = hashlib.sha256(repr((project_id, which)).encode()).hexdigest()[:16]
    text = f"{key.last_seen_ms}.{key.process_id}.{key.lane}.{digest}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(text: str, project_id: int, which: Filter) -> Key:
    """
    Raises:
        InvalidCursor: it is not to the letter what `_cursor` wrote for this list.
    """
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        at_ms, process_id, lane, _ = decoded.split(".")
        key = Key(int(at_ms), process_id, Lane(lane))
    except ValueError:
        raise InvalidCursor from None
    if _cursor(key, project_id, which) != text or key.last_seen_ms >= 1 << 63:
        raise InvalidCursor
    return key
