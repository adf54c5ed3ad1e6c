"""Finding and reading events: by id, by search, and as a whole log.

A search walks the journal, newest first or oldest first, a bounded number of entries a call: a page
may therefore be short, or empty, and still have a `next`.
"""

import base64
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import msgspec

from indelible.clock import parse_time_ms, rfc3339
from indelible.errors import InvalidCursor, InvalidParameter, NotFound
from indelible.event import Kind, Lane, Level, clean_trail, tx_bytes, tx_text, tx_time_ms, tx_uuid
from indelible.journal.contract import LARGEST_INDEX, Entry, Journal
from indelible.journal.registry import Project
from indelible.leaf import Leaf
from indelible.ledger.ledger import Ledger

Order = Literal["newest", "oldest"]
View = dict[str, Any]
"""An event as JSON members; see `view`."""

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
SCANNED_PER_PAGE: Final = 5_000
_LONGEST_STORING_MS: Final = 60_000
_READ_AT_ONCE: Final = 100  # events of 1 MiB each are what may be in memory at a time

_ENCODE: Final = msgspec.json.Encoder().encode
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?", re.ASCII)


class Step(msgspec.Struct):
    """One step in the life of an event: its word, and when it was reached (RFC 3339, UTC)."""

    step: str
    at: str


class Page(msgspec.Struct):
    """One page of a search.

    `next` is the cursor of the following page, null at the end of the log. `position` is the first
    index, in the direction of the search, that has not been looked at.
    """

    events: list[View]
    next: str | None
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What to look for. Every condition that is not None must hold.

    The conditions on `meta` apply to audit events; `event_name` also finds product events by name.
    `received_from` and `received_to` bound the time of receipt, half-open, RFC 3339 or a number.
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


@dataclass(frozen=True, slots=True)
class _Cursor:
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
    def read(cls, text: str, project_id: int, search: Search, order: Order) -> "_Cursor":
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


class Events:
    """The events of every project, for reading."""

    def __init__(self, journal: Journal, ledger: Ledger) -> None:
        self._journal = journal
        self._ledger = ledger

    def one(self, project: Project, tx_id: str) -> View:
        """The event with this transaction id, with its life.

        Raises:
            NotFound: this project has no such event.
        """
        return self._with_life(self.entry(project, tx_id))

    def entry(self, project: Project, tx_id: str) -> Entry:
        """The event with this transaction id, as the log holds it.

        Raises:
            NotFound: this project has no such event.
        """
        tx = tx_bytes(tx_id)
        entry = self._journal.find_tx(project.id, tx) if tx else None
        if entry is None:
            raise NotFound("This project has no event with that transaction id")
        return entry

    def where(self, project: Project, any_id: str) -> list[View]:
        """The events that go by this id: a transaction id, a client event id or Idempotency-Key.

        At most three, since the lanes never collide; none when the id is unknown.
        """
        found = [self._journal.find(project.id, lane, any_id) for lane in Lane]
        if (tx := _as_tx(any_id)) is not None:
            found.append(self._journal.find_tx(project.id, tx))
        entries = {entry.index: entry for entry in found if entry is not None}
        return [self._with_life(entry) for entry in entries.values()]

    def search(
        self,
        project: Project,
        search: Search,
        *,
        order: Order = "newest",
        limit: int = DEFAULT_LIMIT,
        cursor: str | None = None,
        after: int = -1,
    ) -> Page:
        """One page of at most `limit` matching events.

        Only events behind the index `after` are looked at. `cursor` continues an earlier search of
        the same shape.

        Raises:
            InvalidCursor, InvalidParameter.
        """
        times = _times(search)
        runs = self._runs(project.id, times, max(after + 1, 0))
        start, end = (runs[0][0], runs[-1][1]) if runs else (max(after + 1, 0),) * 2
        if cursor is not None:
            position = _Cursor.read(cursor, project.id, search, order).position
            if not start <= position <= end:
                raise InvalidCursor
        else:
            position = start if order == "oldest" else end
        matches = _matcher(search)
        walk = self._forward if order == "oldest" else self._backward
        events: list[View] = []
        for scanned, entry in enumerate(walk(project.id, runs, position), start=1):
            position = entry.index + 1 if order == "oldest" else entry.index
            if times.hold(entry.leaf.received_at_ms):
                shown = view(entry)
                if matches(shown):
                    events.append(self._with_status(entry, shown))
            if len(events) == limit or scanned == SCANNED_PER_PAGE:
                break
        more = position < end if order == "oldest" else position > start
        following = _Cursor(position, project.id, search, order).text() if more else None
        return Page(events, following, position)

    def export(
        self, project: Project, *, start: int = 0, end: int = LARGEST_INDEX
    ) -> Iterator[bytes]:
        """The log from `start` to `end` as NDJSON, in pieces of some hundred lines.

        Ends with the last entry that was there when it began.
        """
        end = min(end, self._journal.next_index(project.id))
        while start < end:
            entries = self._journal.read(project.id, start, min(start + _READ_AT_ONCE, end))
            yield b"".join(_line(entry) for entry in entries)
            start += len(entries)

    def _runs(self, project_id: int, times: "_Times", start: int) -> list[tuple[int, int]]:
        """Where the search has to look, from `start` on: see `Journal.received_between`."""
        if times == _ANY_TIME:
            stored = self._journal.next_index(project_id)
            return [(start, stored)] if start < stored else []
        return self._journal.received_between(project_id, times.from_ms, times.to_ms, start=start)

    def _forward(
        self, project_id: int, runs: Sequence[tuple[int, int]], position: int
    ) -> Iterator[Entry]:
        for begin, end in runs:
            for first in range(max(begin, position), end, _READ_AT_ONCE):
                yield from self._journal.read(project_id, first, min(first + _READ_AT_ONCE, end))

    def _backward(
        self, project_id: int, runs: Sequence[tuple[int, int]], position: int
    ) -> Iterator[Entry]:
        for begin, end in reversed(runs):
            for behind in range(min(end, position), begin, -_READ_AT_ONCE):
                first = max(behind - _READ_AT_ONCE, begin)
                yield from reversed(self._journal.read(project_id, first, behind))

    def _with_status(self, entry: Entry, shown: View) -> View:
        stored = "accepted" if entry.leaf.kind is Kind.AUDIT else "stored"
        status = self._ledger.progress.reached(entry.project_id, entry.index) or stored
        stored_at = rfc3339(_stored_ms(entry.leaf))
        return {**shown, "status": status, "stored_at": stored_at}

    def _with_life(self, entry: Entry) -> View:
        shown = self._with_status(entry, view(entry))
        times = self._ledger.times(entry.project_id, entry.index)
        steps = (
            ("received", entry.leaf.received_at_ms),
            ("stored", _stored_ms(entry.leaf)),
            (Level.SEALED, times.sealed_at_ms),
            (Level.WITNESSED, times.witnessed_at_ms),
        )
        shown["life"] = [Step(str(word), rfc3339(at)) for word, at in steps if at is not None]
        return shown


def view(entry: Entry) -> View:
    """An event as it was sent, with what the log knows of it.

    Always: `index`, `tx_id`, `kind`, `received_at`. A product event has `event`, `distinct_id`,
    `uuid` and `properties`; an audit event `payload`, `meta` and `idempotency_key`; an
    administration event `event` and `facts`. An erased one has `erased` and nothing of its content.
    """
    leaf = entry.leaf
    shown: View = {
        "index": entry.index,
        "tx_id": tx_text(leaf.tx),
        "kind": leaf.kind.word,
        "received_at": rfc3339(leaf.received_at_ms),
    }
    if entry.record is None or entry.payload is None:
        return {**shown, "erased": True}
    record = msgspec.json.decode(entry.record)
    match leaf.kind:
        case Kind.PRODUCT:
            shown["uuid"] = record.pop("uuid", None)
            if shown["uuid"] is None:
                shown["uuid"] = tx_uuid(leaf.tx)
            shown.update(record)
            sent = entry.payload != b"null"
            shown["properties"] = msgspec.Raw(entry.payload) if sent else {}
        case Kind.AUDIT:
            shown["idempotency_key"] = record.pop("idempotency_key", None)
            shown.update(record)
            shown["payload"] = entry.payload.decode()
        case Kind.ADMINISTRATION | Kind.ERASURE | Kind.LOSS:
            shown.update(record)
            shown["facts"] = msgspec.Raw(entry.payload)
    return shown


def _stored_ms(leaf: Leaf) -> int:
    """When an entry was stored.

    That is the time in its transaction id, but where ids run ahead of the clock. Nothing waits for
    its sync as long as `_LONGEST_STORING_MS`; then the time of receipt is nearer.
    """
    stored_ms = tx_time_ms(leaf.tx)
    is_ahead = stored_ms - leaf.received_at_ms > _LONGEST_STORING_MS
    return leaf.received_at_ms if is_ahead else stored_ms


def _line(entry: Entry) -> bytes:
    # Payloads keep the white space they were sent with. A line break can stand only between tokens
    # of JSON, never inside a string, so a space says the same.
    return _ENCODE(view(entry)).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


def _as_tx(text: str) -> bytes | None:
    """A transaction id in either of its forms: `tx_…`, or as the UUID of an event that had none."""
    plain = text.replace("-", "")
    return tx_bytes(text) or (tx_bytes("tx_" + plain.lower()) if len(text) == 36 else None)


def _matcher(search: Search) -> Callable[[View], bool]:
    in_meta = {
        name: wanted
        for name in ("type", "service", "request_id", "trace_id", "immutable_trail")
        if (wanted := getattr(search, name)) is not None
    }
    if "immutable_trail" in in_meta:
        in_meta["immutable_trail"] = clean_trail(in_meta["immutable_trail"])  # as it was stored

    def matches(shown: View) -> bool:
        if search.kind is not None and shown["kind"] != search.kind:
            return False
        if search.distinct_id is not None and shown.get("distinct_id") != search.distinct_id:
            return False
        meta: Mapping[str, str] = shown.get("meta", {})
        if search.event_name is not None and search.event_name not in (
            shown.get("event"),
            meta.get("event_name"),
        ):
            return False
        if search.env is not None and search.env not in (meta.get("env"), meta.get("environment")):
            return False
        return all(meta.get(name) == wanted for name, wanted in in_meta.items())

    return matches


class _Times(NamedTuple):
    """The times of receipt that a search looks for; `to_ms` None is no end."""

    from_ms: int
    to_ms: int | None

    def hold(self, at_ms: int) -> bool:
        return self.from_ms <= at_ms and (self.to_ms is None or at_ms < self.to_ms)


_ANY_TIME: Final = _Times(0, None)


def _times(search: Search) -> _Times:
    """
    Raises:
        InvalidParameter.
    """
    start, end = search.received_from, search.received_to
    return _Times(
        0 if start is None else _time(start, "from"), None if end is None else _time(end, "to")
    )


def _time(text: str, name: str) -> int:
    at_ms = parse_time_ms(float(text) if _NUMBER.fullmatch(text) else text)
    if at_ms is None:
        raise InvalidParameter(f"`{name}` is neither RFC 3339 text nor a number")
    return at_ms
