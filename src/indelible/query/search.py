"""What to look for, and where to go on.

A `Search` is what a caller asks for, by name. It is one `Condition` on the facts of an event, but
for the times of receipt, by which the journal finds out where to look at all.
"""

import base64
import hashlib
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from indelible.condition import All, Any, Condition, Op, Test
from indelible.errors import InvalidCursor, InvalidParameter
from indelible.event import clean_trail
from indelible.journal.contract import Size
from indelible.moment import parse_time_ms
from indelible.query.filtering import Filter

Order = Literal["newest", "oldest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What to look for. Every condition that is not None must hold.

    The conditions on `meta` apply to audit events; `event_name` also finds product events by name.
    `received_from` and `received_to` bound the time of receipt, half-open, RFC 3339 or a number.
    `filter` is a condition on the facts of an event.
    """

    kind: str | None = None
    type: str | None = None
    event_name: str | None = None
    service: str | None = None
    env: str | None = None
    request_id: str | None = None
    trace_id: str | None = None
    immutable_trail: str | None = None
    distinct_id: str | None = None
    received_from: str | None = None
    received_to: str | None = None
    filter: Condition | None = None

    def condition(self) -> Condition | None:
        """All that must hold but the times, as one condition; None if that is nothing."""
        trail = self.immutable_trail
        by_fact = (
            (("kind",), self.kind),
            (("distinct_id",), self.distinct_id),
            (("event",), self.event_name),
            (("meta", "type"), self.type),
            (("meta", "service"), self.service),
            (("meta", "request_id"), self.request_id),
            (("meta", "trace_id"), self.trace_id),
            # as it was stored
            (("meta", "immutable_trail"), None if trail is None else clean_trail(trail)),
        )
        terms: list[Condition] = [
            Test(path, Op.EQUAL, value) for path, value in by_fact if value is not None
        ]
        if self.env is not None:
            either = (Test(("meta", name), Op.EQUAL, self.env) for name in ("env", "environment"))
            terms.append(Any(tuple(either)))
        if self.filter is not None:
            terms.append(self.filter)
        if len(terms) < 2:
            return terms[0] if terms else None
        return All(tuple(terms))


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a search of one project goes on: `position` is the first index not looked at, or,
    newest first, the one before which it goes on."""

    position: int
    project_id: int
    search: Search
    order: Order

    def text(self) -> str:
        """Opaque to callers. It ends in a digest of the search, so that a cursor of one search is
        not taken for a place in another."""
        shape = repr((self.project_id, self.search, self.order))
        digest = hashlib.sha256(shape.encode("utf-8", "replace")).hexdigest()[:16]
        return base64.urlsafe_b64encode(f"{self.position}.{digest}".encode()).decode().rstrip("=")

    @classmethod
    def read(cls, text: str, project_id: int, search: Search, order: Order) -> "Cursor":
        """
        Raises:
            InvalidCursor: it is not to the letter what `text` wrote for this search.
        """
        try:
            decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            cursor = cls(int(decoded.partition(".")[0]), project_id, search, order)
        except ValueError:
            raise InvalidCursor from None
        if cursor.text() != text:
            raise InvalidCursor
        return cursor


class Times(NamedTuple):
    """The times of receipt that a search looks for; `to_ms` None is no end."""

    from_ms: int
    to_ms: int | None

    def hold(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms and (self.to_ms is None or at_ms < self.to_ms)


ANY_TIME: Final = Times(0, None)


class Wish(NamedTuple):
    """A search, ready to be tested; `filter` None is no condition but the times."""

    times: Times
    filter: Filter | None

    @classmethod
    def of(cls, search: Search) -> "Wish":
        """
        Raises:
            InvalidCondition, InvalidParameter.
        """
        condition = search.condition()
        return cls(_times(search), None if condition is None else Filter(condition))

    @property
    def is_open(self) -> bool:
        """Whether it finds everything."""
        return self.times == ANY_TIME and self.filter is None

    def looks_at(self, size: Size) -> int:
        """How many bytes of an event it may have to look at."""
        reads_payloads = self.filter is not None and self.filter.reads_payloads
        return size.whole if reads_payloads else size.record


def _times(search: Search) -> Times:
    """
    Raises:
        InvalidParameter.
    """
    start, end = search.received_from, search.received_to
    from_ms = 0 if start is None else _time(start, "from")
    to_ms = None if end is None else _time(end, "to")
    return Times(from_ms, to_ms)


def _time(text: str, name: str) -> int:
    at_ms = parse_time_ms(text)
    # An event may be older than 1970; what was stored here is not, and a minus is a slip.
    if at_ms is None or (at_ms < 0 and text.lstrip().startswith("-")):
        raise InvalidParameter(
            f"`{name}` is no moment that can be read",
            hint="Send RFC 3339 text, or seconds or milliseconds since 1970; write + as %2B.",
        )
    return at_ms
