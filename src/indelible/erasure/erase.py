"""Erasure on request: what was sent is destroyed, and that it was is itself an event of the log.

Payload, record and salts go; the leaf stays, and with it every root, proof and cosignature. Events
are named by transaction id, or by `distinct_id`: then every product event of the log that carries
this id as its own. Ids that an event only mentions are not followed (`$anon_distinct_id` of an
`$identify`, `alias` of a `$create_alias`). Audit events have no distinct id, and their payloads are
never searched for one. Whose ids belong to one person is for `indelible.query.erasures`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from indelible.clock import Clock
from indelible.errors import NotErasable, NotFound
from indelible.event import Kind, tx_bytes
from indelible.journal.contract import ErasableJournal, Rows, Stored
from indelible.journal.erasing import ERASABLE
from indelible.journal.pieces import MEASURED_AT_ONCE, pieces
from indelible.leaf import SIZE
from indelible.record import member_reader

DEFAULT_REASON: Final = "request"

_READ_BYTES: Final = 4 * 1024 * 1024  # of records, in memory at a time
_KIND_AT: Final = 1  # of a leaf entry
_NAMED: Final = 5

Test = Callable[[Rows], Iterable[bool]]
"""Which of a run of entries are meant."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is meant, found and not touched yet.

    `due` are indexes of one log, ascending: events that have their content; `audit` of them are
    audit events. `already` counts those that have lost their content before; `unknown` are the
    transaction ids that the log does not have.
    """

    project_id: int
    due: tuple[int, ...]
    audit: int = 0
    already: int = 0
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was erased, and the entries that say so; each has a receipt like any other event.

    `swept` False: somebody reads an older state of the journal's files and so keeps erased bytes in
    them. The server goes on trying; the same erasure, asked for again, says how it stands.
    """

    at_ms: int
    reason: str
    erased: int
    already: int
    entries: tuple[Stored, ...]
    swept: bool


class Eraser:
    """Finds what is meant, and erases it."""

    def __init__(self, journal: ErasableJournal, *, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock

    def with_tx_ids(self, project_id: int, tx_ids: Sequence[str]) -> Selection:
        """The events with these transaction ids.

        Raises:
            NotErasable: one of them is an entry of the log's own.
        """
        due: dict[int, Kind] = {}
        already: set[int] = set()
        unknown: dict[str, None] = {}
        for tx_id in tx_ids:
            tx = tx_bytes(tx_id)
            entry = self._journal.find_tx(project_id, tx) if tx else None
            if entry is None:
                unknown[tx_id] = None
            elif entry.leaf.kind not in ERASABLE:
                raise NotErasable(f"{tx_id} is of kind {entry.leaf.kind.word}")
            elif entry.record is None:
                already.add(entry.index)
            else:
                due[entry.index] = entry.leaf.kind
        audit = list(due.values()).count(Kind.AUDIT)
        return Selection(project_id, tuple(sorted(due)), audit, len(already), tuple(unknown))

    def with_distinct_id(self, project_id: int, distinct_id: str, *, until: int) -> Selection:
        """Every product event of this distinct id below the index `until`.

        Reads the whole log, some 100,000 events a second. An event that was erased before has no
        distinct id any more and is not found.
        """
        test = of_ids(frozenset({distinct_id}))
        return Selection(project_id, tuple(self._meant(project_id, 0, until, test)))

    def among(
        self, project_id: int, indexes: Iterable[int], test: Test, *, with_payloads: bool = False
    ) -> Iterator[int]:
        """Those of `indexes`, which ascend, whose entries are meant: the journal has the last word.

        `with_payloads`: the test looks at them.
        """
        for run in _close(indexes):
            wanted = frozenset(run)
            start, end = run[0], run[-1] + 1
            found = self._meant(project_id, start, end, test, with_payloads=with_payloads)
            yield from (index for index in found if index in wanted)

    def erase(self, selection: Selection, *, reason: str) -> Certificate:
        """Erase what was selected.

        Raises:
            NotFound: a transaction id is unknown; nothing was erased.
            LegalHold: the project is on hold.
            JournalUnwritable: a part may be erased; ask again.
        """
        if selection.unknown:
            raise NotFound(
                f"{len(selection.unknown):,} of the transaction ids are unknown: "
                + ", ".join(selection.unknown[:_NAMED])
                + (", …" if len(selection.unknown) > _NAMED else ""),
                hint="Nothing was erased. Leave them out, or name their project; a dry run lists "
                "them all.",
            )
        at_ms = self._clock()
        done = self._journal.erase(
            selection.project_id, selection.due, reason=reason, received_at_ms=at_ms
        )
        already = selection.already + done.already
        return Certificate(at_ms, reason, done.erased, already, done.entries, done.swept)

    def _meant(
        self, project_id: int, start: int, end: int, test: Test, *, with_payloads: bool = False
    ) -> Iterator[int]:
        runs = pieces(
            self._journal,
            project_id,
            start,
            end,
            most_bytes=_READ_BYTES,
            with_payloads=with_payloads,
        )
        for first, behind in runs:
            rows = self._journal.rows(project_id, first, behind, with_payloads=with_payloads)
            for index, is_meant in enumerate(test(rows), start=first):
                if is_meant:
                    yield index


def of_ids(distinct_ids: frozenset[str]) -> Test:
    """The product events that have one of these distinct ids as their own."""
    read = member_reader(frozenset({"distinct_id"}))

    def test(rows: Rows) -> Iterator[bool]:
        kinds = rows.leaves[_KIND_AT::SIZE]
        for kind, record in zip(kinds, read(rows.records), strict=True):
            yield (
                kind == Kind.PRODUCT
                and record is not None
                and record["distinct_id"] in distinct_ids
            )

    return test


def of_payloads(is_meant: Callable[[bytes], bool]) -> Test:
    """The audit events of whose payload this is true."""

    def test(rows: Rows) -> Iterator[bool]:
        kinds = rows.leaves[_KIND_AT::SIZE]
        for kind, payload in zip(kinds, rows.payloads, strict=True):
            yield kind == Kind.AUDIT and payload is not None and is_meant(payload)

    return test


def _close(indexes: Iterable[int]) -> Iterator[list[int]]:
    """Cut ascending indexes into runs that lie close together: what is read at once."""
    run: list[int] = []
    for index in indexes:
        if run and index - run[0] >= MEASURED_AT_ONCE:
            yield run
            run = []
        run.append(index)
    if run:
        yield run
