"""Erasure on request: what was sent is destroyed, and that it was is itself an event of the log.

Payload, record and salts go; the leaf stays, and with it every root, proof and cosignature. Events
are named by transaction id, or by `distinct_id`: then every product event of the log that carries
this id as its own. Ids that an event only mentions are not followed (`$anon_distinct_id` of an
`$identify`, `alias` of a `$create_alias`): name those too where they are the same person's. Audit
events have no distinct id, and their payloads are never searched for one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from indelible.clock import Clock
from indelible.errors import NotErasable, NotFound
from indelible.event import Kind, tx_bytes
from indelible.journal.contract import LARGEST_INDEX, ErasableJournal, Stored
from indelible.journal.erasing import ERASABLE
from indelible.journal.pieces import pieces
from indelible.leaf import SIZE
from indelible.record import member_reader

DEFAULT_REASON: Final = "request"

_READ_BYTES: Final = 4 * 1024 * 1024  # of records, in memory at a time
_KIND_AT: Final = 1  # of a leaf entry
_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Selection:
    """What is meant, found and not touched yet: indexes of one log.

    `already` counts those that have lost their content before; `unknown` are the transaction ids
    that the log does not have.
    """

    project_id: int
    indexes: tuple[int, ...]
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
        erased: dict[int, bool] = {}
        unknown: dict[str, None] = {}
        for tx_id in tx_ids:
            tx = tx_bytes(tx_id)
            entry = self._journal.find_tx(project_id, tx) if tx else None
            if entry is None:
                unknown[tx_id] = None
            elif entry.leaf.kind not in ERASABLE:
                raise NotErasable(f"{tx_id} is of kind {entry.leaf.kind.word}")
            else:
                erased[entry.index] = entry.record is None
        return Selection(project_id, tuple(erased), sum(erased.values()), tuple(unknown))

    def with_distinct_id(self, project_id: int, distinct_id: str) -> Selection:
        """Every product event of this distinct id, up to where the log ends when the walk is there.

        Reads the whole log, some 100,000 events a second. An event that was erased before has no
        distinct id any more and is not found.
        """
        return Selection(project_id, tuple(self._walk(project_id, distinct_id)))

    def erase(self, selection: Selection, *, reason: str) -> Certificate:
        """Erase what was selected.

        Raises:
            NotFound: a transaction id is unknown; nothing was erased.
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
            selection.project_id, selection.indexes, reason=reason, received_at_ms=at_ms
        )
        return Certificate(at_ms, reason, done.erased, done.already, done.entries, done.swept)

    def _walk(self, project_id: int, distinct_id: str) -> Iterator[int]:
        read = member_reader(frozenset({"distinct_id"}))
        runs = pieces(
            self._journal,
            project_id,
            0,
            LARGEST_INDEX,
            most_bytes=_READ_BYTES,
            with_payloads=False,
        )
        for start, end in runs:
            rows = self._journal.rows(project_id, start, end, with_payloads=False)
            kinds = rows.leaves[_KIND_AT::SIZE]
            for index, (kind, record) in enumerate(
                zip(kinds, read(rows.records), strict=True), start=start
            ):
                if kind == Kind.PRODUCT and record and record["distinct_id"] == distinct_id:
                    yield index
