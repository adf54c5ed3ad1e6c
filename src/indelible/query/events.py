"""Finding and reading events: by id, by search, and as a whole log.

A search walks the journal, newest first or oldest first, and looks at a bounded number of entries a
call, for a bounded time. It reads the records of those alone, and payloads only if a filter tests
them (see `filtering`); then it reads whole the events that match, which fill a page up to a number
of events and of bytes. A page may therefore be short, or empty, and still have a `next`. An export
goes by pieces that are bounded in the same way. So memory does not depend on how large the events
are, but for the largest single one.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress
from typing import Final

import msgspec

from indelible.clock import monotonic_s, rfc3339
from indelible.errors import InvalidCursor, NotFound
from indelible.event import Kind, Lane, Level, tx_bytes, tx_time_ms
from indelible.journal.contract import LARGEST_INDEX, Entry, JournalReader, Size
from indelible.journal.erasing import runs_of
from indelible.journal.pieces import cut, pieces
from indelible.leaf import SIZE, Leaf, decode
from indelible.ledger.ledger import Ledger
from indelible.query.facts import View, view
from indelible.query.search import ANY_TIME, Cursor, Order, Search, Times, Wish
from indelible.registry.values import Project

DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 200
PAGE_BYTES: Final = 4 * 1024 * 1024
"""Most stored bytes of a page's events; one that alone is larger is a page by itself."""
PIECE_BYTES: Final = 512 * 1024
"""The same of a piece of an export, of which one is in memory for each export under way."""
SCANNED_PER_PAGE: Final = 5_000
SCANNED_BYTES_PER_PAGE: Final = 32 * 1024 * 1024
"""Most bytes of records looked at for a page; payloads count too where a filter tests them."""
SCANNING_S: Final = 1.0
"""A page ends after this time, once it has looked at one event: a filter may be costly."""
_WALKED_AT_ONCE: Final = 100
_LONGEST_STORING_MS: Final = 60_000

_ENCODE: Final = msgspec.json.Encoder().encode


class Step(msgspec.Struct, omit_defaults=True):
    """One step in the life of an event: its word, and when it was reached (RFC 3339, UTC).

    `resolved` is no moment: it names the `person` whose event it is now, by the merges so far.
    """

    step: str
    at: str | None
    person: str | None = None


class Page(msgspec.Struct):
    """One page of a search.

    `next` is the cursor of the following page, null at the end of the log. `position` is the first
    index, in the direction of the search, that has not been looked at.
    """

    events: list[View]
    next: str | None
    position: int

    def encode(self) -> bytes:
        """The page as JSON. Event by event: a single step would keep the interpreter's lock, and
        with it the event loop, for as long as the whole page takes."""
        rest = _ENCODE({"next": self.next, "position": self.position})
        return b'{"events":[' + b",".join(map(_ENCODE, self.events)) + b"]," + rest[1:]


class Events:
    """The events of every project, for reading."""

    def __init__(self, journal: JournalReader, ledger: Ledger) -> None:
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
        """One page of at most `limit` matching events, and of `PAGE_BYTES`.

        Only events behind the index `after` are looked at. `cursor` continues an earlier search of
        the same shape.

        Raises:
            InvalidCondition, InvalidCursor, InvalidParameter.
        """
        wish = Wish.of(search)
        runs = self._runs(project.id, wish.times, max(after + 1, 0))
        start, end = (runs[0][0], runs[-1][1]) if runs else (max(after + 1, 0),) * 2
        if cursor is not None:
            position = Cursor.read(cursor, project.id, search, order).position
            if not start <= position <= end:
                raise InvalidCursor
        else:
            position = start if order == "oldest" else end
        wanted: list[int] = []
        page_bytes = scanned_bytes = 0
        until_s = monotonic_s() + SCANNING_S
        walk = self._walk(project.id, _from(position, runs, order), wish, order)
        for scanned, (index, size, matches) in enumerate(walk, start=1):
            if matches:
                if wanted and page_bytes + size.whole > PAGE_BYTES:
                    break
                wanted.append(index)
                page_bytes += size.whole
            position = index + 1 if order == "oldest" else index
            scanned_bytes += wish.looks_at(size)
            if (
                len(wanted) == limit
                or scanned == SCANNED_PER_PAGE
                or scanned_bytes >= SCANNED_BYTES_PER_PAGE
                or monotonic_s() >= until_s
            ):
                break
        entries = self._entries(project.id, sorted(wanted))
        events = [self._with_status(entry, view(entry)) for entry in entries]
        if order == "newest":
            events.reverse()
        more = position < end if order == "oldest" else position > start
        following = Cursor(position, project.id, search, order).text() if more else None
        return Page(events, following, position)

    def export(
        self,
        project: Project,
        search: Search,
        *,
        start: int = 0,
        end: int = LARGEST_INDEX,
        only: Sequence[int] | None = None,
    ) -> Iterator[bytes]:
        """The matching events from `start` to `end` as NDJSON, in pieces of whole lines.

        `only`: of the events at these indexes, which ascend. Ends with the last entry
        that was there when it began. A piece is made of a bounded part of the log, and is empty if
        nothing there matches.

        Raises:
            InvalidCondition, InvalidParameter: at once, before the first piece.
        """
        return self._exported(project.id, Wish.of(search), start, end, only)

    def listed(self, project: Project, indexes: Sequence[int]) -> list[View]:
        """The events at these indexes, in this order, as a search shows them.

        Fewer, but one at least, if they have more than `PAGE_BYTES`.
        """
        shown: list[View] = []
        page_bytes = 0
        for index in indexes:
            (size,) = self._journal.sizes(project.id, index, index + 1)
            page_bytes += size.whole
            if shown and page_bytes > PAGE_BYTES:
                break
            (entry,) = self._journal.read(project.id, index, index + 1)
            shown.append(self._with_status(entry, view(entry)))
        return shown

    def _exported(
        self, project_id: int, wish: Wish, start: int, end: int, only: Sequence[int] | None
    ) -> Iterator[bytes]:
        end = min(end, self._journal.next_index(project_id))
        runs: Iterable[tuple[int, int]] = self._runs(project_id, wish.times, start)
        if only is not None:
            runs = _common(runs, runs_of(only))
        for first, behind in runs:
            bounds = first, min(behind, end)
            for piece in pieces(self._journal, project_id, *bounds, most_bytes=PIECE_BYTES):
                run = range(*piece)
                found = self._found(project_id, run, wish)
                entries = self._entries(project_id, list(compress(run, found)))
                yield b"".join(map(_line, entries))

    def _runs(self, project_id: int, times: Times, start: int) -> list[tuple[int, int]]:
        """Where the search has to look, from `start` on: see `Journal.received_between`."""
        if times == ANY_TIME:
            stored = self._journal.next_index(project_id)
            return [(start, stored)] if start < stored else []
        return self._journal.received_between(project_id, times.from_ms, times.to_ms, start=start)

    def _walk(
        self, project_id: int, runs: Iterable[tuple[int, int]], wish: Wish, order: Order
    ) -> Iterator[tuple[int, Size, bool]]:
        """Each index of `runs` in this order, its size, and whether the search finds it."""
        for first, behind in runs:
            indexes = list(range(first, behind))
            sizes = self._journal.sizes(project_id, first, behind)
            if order == "newest":
                indexes.reverse()
                sizes.reverse()
            at = 0
            for count in cut(list(map(wish.looks_at, sizes)), PAGE_BYTES):
                run = indexes[at : at + count]
                found = self._found(project_id, run, wish)
                yield from zip(run, sizes[at : at + count], found, strict=True)
                at += count

    def _found(self, project_id: int, run: Sequence[int], wish: Wish) -> Iterable[bool]:
        """Whether each of `run`, neighbours in either order, is found.

        Payloads are tested one by one as the answer is read, since a page may end in between.
        """
        possible = self._possible(project_id, run, wish)
        filter_ = wish.filter
        if filter_ is None or not filter_.reads_payloads:
            return possible
        entries = self._entries(project_id, sorted(compress(run, possible)))
        whole = {entry.index: entry for entry in entries}
        return (index in whole and filter_.finds(whole[index]) for index in run)

    def _possible(self, project_id: int, run: Sequence[int], wish: Wish) -> list[bool]:
        """Whether each of `run` may be found, as far as leaf and record tell."""
        if wish.is_open:
            return [True] * len(run)
        start, end = min(run), max(run) + 1
        records: list[bytes | None] = []
        if wish.filter is not None and wish.filter.reads_records:
            rows = self._journal.rows(project_id, start, end, with_payloads=False)
            leaves = [rows.leaves[at : at + SIZE] for at in range(0, len(rows.leaves), SIZE)]
            records = rows.records
        else:
            leaves = self._journal.leaves(project_id, start, end)
        found = [True] * len(run)
        if wish.times != ANY_TIME:
            found = [wish.times.hold(decode(leaf).received_at_ms) for leaf in leaves]
        if wish.filter is not None:
            found = wish.filter.narrow(found, start, leaves, records)
        return found if run[0] == start else found[::-1]

    def _entries(self, project_id: int, indexes: Sequence[int]) -> Iterator[Entry]:
        """The entries at these indexes, which ascend; neighbours are read together."""
        for first, behind in runs_of(indexes):
            yield from self._journal.read(project_id, first, behind)

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


def _common(
    runs: Iterable[tuple[int, int]], others: Sequence[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """What both have, runs that ascend."""
    for start, end in runs:
        at = bisect_right(others, start, key=lambda other: other[1])
        while at < len(others) and others[at][0] < end:
            yield max(start, others[at][0]), min(end, others[at][1])
            at += 1


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


def _from(
    position: int, runs: Sequence[tuple[int, int]], order: Order
) -> Iterator[tuple[int, int]]:
    """Cut `runs` into pieces of at most `_WALKED_AT_ONCE`, from `position` on, in this order."""
    if order == "oldest":
        for begin, end in runs:
            for first in range(max(begin, position), end, _WALKED_AT_ONCE):
                yield first, min(first + _WALKED_AT_ONCE, end)
    else:
        for begin, end in reversed(runs):
            for behind in range(min(end, position), begin, -_WALKED_AT_ONCE):
                yield max(behind - _WALKED_AT_ONCE, begin), behind
