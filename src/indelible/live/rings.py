"""The rings of all projects, and what they may hold together.

Written by the follower's thread, which brings what was stored, and by the event loop, which brings
what was refused; read by the loop. A lock is held for as long as an entry or two takes.
"""

import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from indelible.clock import Clock, rfc3339
from indelible.edge.notice import Notice
from indelible.live.ring import LONGEST_MS, Item, Ring, Told

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of the rings of all projects together; the largest is shortened."""

_ENCODE: Final = msgspec.json.Encoder().encode


class Held(NamedTuple):
    """How much all rings hold."""

    entries: int
    size_bytes: int


class Slice(NamedTuple):
    """A part of a ring: from where on it reaches now, its end, and the items asked for."""

    first: int
    end: int
    next_index: int
    items: list[Item]


class _Named(msgspec.Struct):
    event: str | None = None
    distinct_id: str | None = None


_NAMED: Final = msgspec.json.Decoder(_Named)


class Rings:
    """A ring for each project. `on_news` is called, on any thread, with the id of a project that
    has a new message."""

    def __init__(self, clock: Clock, *, most_bytes: int = MOST_BYTES) -> None:
        self._clock = clock
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._rings: dict[int, Ring] = {}
        self._held_bytes = 0
        self.on_news: Callable[[int], None] = lambda _: None

    def held(self) -> Held:
        """How much there is."""
        with self._lock:
            return Held(sum(ring.entries for ring in self._rings.values()), self._held_bytes)

    def add_events(self, project_id: int, start: int, end: int, at_ms: int) -> None:
        """Take the stored events [start, end) of a project, received about then."""
        with self._lock:
            ring = self._ring(project_id)
            before = ring.size_bytes
            ring.add_events(start, end, at_ms)
            self._settle(ring, before)
        self.on_news(project_id)

    def reject(self, project_id: int, notice: Notice) -> None:
        """Take what the edge refused or dropped."""
        result = "drop" if notice.count else "refused"
        body = {
            "kind": "reject",
            "at": rfc3339(notice.at_ms),
            "result": result,
            "reason": notice.reason,
            "count": notice.count,
            "path": _text(notice.path),
            "uuid": None if notice.event_id is None else _text(notice.event_id),
            "excerpt": _text(notice.excerpt),
        }
        named = _named(notice.excerpt)
        self._tell(
            project_id,
            Told(
                seq=0,
                count=max(1, notice.count),
                at_ms=notice.at_ms,
                index=-1,
                body=_ENCODE(body),
                kind="reject",
                result=result,
                event=named.event,
                distinct_id=named.distinct_id,
            ),
        )

    def missed(self, project_id: int, count: int) -> None:
        """Tell that what was refused or dropped of this project, so many, is not known here."""
        body = gap(count, "notices")
        at_ms = self._clock()
        self._tell(project_id, Told(0, count, at_ms, -1, body, kind="gap"))

    def forwarded(self, project_id: int, index: int, facts: dict[str, object]) -> None:
        """Take a state of the delivery of a stored event; `facts` name it, the destination, and the
        state. It is shown to whoever is shown that event."""
        at_ms = self._clock()
        body = {"kind": "forwarding", "at": rfc3339(at_ms), "index": index, **facts}
        state = str(facts.get("state", ""))
        told = Told(0, 1, at_ms, index, _ENCODE(body), kind="forwarding", result=state)
        self._tell(project_id, told)

    def since(self, project_id: int, seq: int) -> Slice:
        """What a project's ring has from this sequence number on."""
        with self._lock:
            ring = self._ring(project_id)
            before = ring.size_bytes
            ring.expire(self._clock() - LONGEST_MS)
            self._settle(ring, before)
            return Slice(ring.first, ring.end, ring.next_index, list(ring.since(seq)))

    def seq_of(self, project_id: int, index: int) -> int:
        """See `Ring.seq_of`."""
        with self._lock:
            return self._ring(project_id).seq_of(index)

    def seq_back(self, project_id: int, entries: int) -> int:
        """See `Ring.seq_back`."""
        with self._lock:
            return self._ring(project_id).seq_back(entries)

    def expire(self) -> None:
        """Forget what is too old, in every ring."""
        before_ms = self._clock() - LONGEST_MS
        with self._lock:
            for ring in self._rings.values():
                before = ring.size_bytes
                ring.expire(before_ms)
                self._held_bytes += ring.size_bytes - before

    def _tell(self, project_id: int, told: Told) -> None:
        with self._lock:
            ring = self._ring(project_id)
            before = ring.size_bytes
            ring.tell(told)
            self._settle(ring, before)
        self.on_news(project_id)

    def _ring(self, project_id: int) -> Ring:
        ring = self._rings.get(project_id)
        if ring is None:
            ring = self._rings[project_id] = Ring()
        return ring

    def _settle(self, ring: Ring, before: int) -> None:
        self._held_bytes += ring.size_bytes - before
        while self._held_bytes > self._most_bytes:
            largest = max(self._rings.values(), key=lambda each: each.size_bytes)
            before = largest.size_bytes
            largest.forget_oldest()
            self._held_bytes += largest.size_bytes - before


def gap(missed: int | None, reason: str) -> bytes:
    """The message that some were left out: how many, None if nobody knows."""
    return _ENCODE({"kind": "gap", "missed": missed, "reason": reason})


def _named(excerpt: str) -> _Named:
    """Event and distinct id of what was refused, if its excerpt is whole and says so."""
    try:
        return _NAMED.decode(excerpt.encode("utf-8", "replace"))
    except msgspec.DecodeError:
        return _Named()


def _text(text: str) -> str:
    """`text` as it can be written in JSON."""
    return text.encode("utf-8", "replace").decode()
