"""The follower that learns the schemas of one data folder, and the room's own composition.

It takes the projects of a round together, in one transaction: at one event a second each, five
hundred transactions would cost more than the events. Contracts are read from the log like all else:
an administration event sets or drops one, and it applies to the entries behind.
"""

import logging
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import apsw
import msgspec
from msgspec import Struct

from indelible import leaf
from indelible.clock import monotonic_s
from indelible.derived import Mark, set_mark
from indelible.event import Kind
from indelible.journal.contract import JournalReader, Rows
from indelible.journal.follow import Follower, Run
from indelible.journal.pieces import pieces
from indelible.quality.book import Book, Wanted
from indelible.quality.contract import Contract
from indelible.quality.schema import Moment
from indelible.quality.schemas import SCHEMA_FILE, Schemas
from indelible.quality.shape import name_of
from indelible.record import Named, names

logger = logging.getLogger(__name__)

CONTRACT_SET: Final = "contract.set"
CONTRACT_DROPPED: Final = "contract.dropped"

_PACE_S: Final = 1.0  # one transaction a round is cheaper than many
_READ_BYTES: Final = 1024 * 1024  # in memory at a time
_FEW: Final = 8  # as many as are read without being measured: each is bounded by itself
_APART: Final = 4  # events looked into that lie no farther apart are read together
_KIND_AT: Final = 1  # in a leaf entry; see indelible.leaf
_TIME: Final = struct.Struct(">8xQ80x")
_ADMINISTRATION: Final = Kind.ADMINISTRATION.value


class ContractFact(Struct, frozen=True):
    """The facts of `CONTRACT_SET` and `CONTRACT_DROPPED`; the latter has no contract."""

    kind: str
    event: str
    contract: Contract | None = None


_FACT: Final = msgspec.json.Decoder(ContractFact)


class Learning:
    """`indelible.journal.follow.GroupHandler`, and the follower that runs it.

    `projects` has the ids of all projects.
    """

    name: Final = "quality"
    batch: Final = 10_000
    together: Final = 100

    def __init__(
        self, data_dir: Path, *, journal: JournalReader, projects: Callable[[], Iterable[int]]
    ) -> None:
        self._journal = journal
        self._projects = projects
        self._moved = threading.Condition()
        self.schemas = Schemas(data_dir / SCHEMA_FILE)
        self._follower = Follower(journal, self, projects=projects, pace_s=_PACE_S)
        self._resume()

    def start(self) -> None:
        """Learn what is stored already, and go on with what will be."""
        self._follower.start()

    def stop(self) -> None:
        """Learn what is stored, then end the thread."""
        self._follower.stop(drain=True)

    def close(self) -> None:
        """Close the file."""
        self.schemas.close()

    def lag(self) -> int:
        """How many stored entries are not learned yet."""
        return self._follower.lag()

    def wait_for(self, project_id: int, index: int, *, timeout_s: float) -> bool:
        """Wait until the project's log is learned up to `index`; whether it is."""
        deadline_s = monotonic_s() + timeout_s
        with self._moved:
            while self.schemas.next_index(project_id) < index:
                left_s = deadline_s - monotonic_s()
                if left_s <= 0:
                    return False
                self._moved.wait(left_s)
        return True

    def next_index(self, project_id: int) -> int:
        """See `indelible.journal.follow.GroupHandler`."""
        return self.schemas.next_index(project_id)

    def handle_group(self, runs: Sequence[Run]) -> Mapping[int, Exception]:
        """Learn the runs of several projects in one transaction; what is learned is passed over.

        Raises what `Schemas.changing` raises.
        """
        failures: dict[int, Exception] = {}
        reached: dict[int, Mark] = {}
        with self.schemas.changing() as connection:
            for run in runs:
                start = max(run.start, self.next_index(run.project_id))
                if start >= run.end:
                    continue
                try:
                    with connection:  # nested: this project's part alone is undone
                        mark = self._learn(connection, run.project_id, start, run.end)
                except apsw.Error:
                    raise  # of the file
                except Exception as error:  # the project's: the others go on
                    failures[run.project_id] = error
                else:
                    reached[run.project_id] = mark
        # power lost here: the stretches may be forgotten, and their marks with them
        self.schemas.moved(reached)
        with self._moved:
            self._moved.notify_all()
        return failures

    def _learn(self, connection: apsw.Connection, project_id: int, start: int, end: int) -> Mark:
        book = Book(connection, project_id)
        last = b""
        for first, behind in self._runs(project_id, start, end):
            rows = self._journal.rows(project_id, first, behind, with_payloads=False)
            self._learn_rows(book, project_id, first, rows)
            last = rows.leaves[-leaf.SIZE :]
        book.save()
        mark = Mark(end, leaf.decode(last).tx)
        set_mark(connection, project_id, mark)
        return mark

    def _runs(self, project_id: int, start: int, end: int) -> Iterable[tuple[int, int]]:
        if end - start <= _FEW:  # as of each of hundreds of projects, once a second
            return [(start, end)]
        return pieces(
            self._journal, project_id, start, end, most_bytes=_READ_BYTES, with_payloads=False
        )

    def _learn_rows(self, book: Book, project_id: int, first: int, rows: Rows) -> None:
        """Learn a run, in pieces that end with each change of a contract."""
        kinds = rows.leaves[_KIND_AT :: leaf.SIZE]
        times = [at_ms for (at_ms,) in _TIME.iter_unpack(rows.leaves)]
        called = names(rows.records_json)
        start = 0
        for at in (*_changes(kinds, called), len(kinds)):
            wanted = book.count(first + start, kinds[start:at], times[start:at], called[start:at])
            for group in _together(wanted):
                self._look(book, project_id, group, first + start)
            if at < len(kinds):
                self._change(book, project_id, Moment(first + at, times[at]))
            start = at + 1

    def _look(self, book: Book, project_id: int, group: Sequence[Wanted], first: int) -> None:
        """Look into events, which are near each other, in pieces that fit into memory."""
        start, end = first + group[0].at, first + group[-1].at + 1
        for low, high in pieces(self._journal, project_id, start, end, most_bytes=_READ_BYTES):
            rows = self._journal.rows(project_id, low, high)
            for wanted in group:
                at = first + wanted.at - low
                if not 0 <= at < high - low:
                    continue
                payload, record = rows.payloads[at], rows.records[at]
                if payload is None or record is None:
                    continue  # erased a moment ago
                entry = leaf.decode(rows.leaves[at * leaf.SIZE : (at + 1) * leaf.SIZE])
                when = Moment(low + at, entry.received_at_ms)
                book.look(wanted, when, entry.tx, payload, record)

    def _change(self, book: Book, project_id: int, at: Moment) -> None:
        (entry,) = self._journal.read(project_id, at.index, at.index + 1)
        assert entry.payload is not None, "an administration event is never erased"
        fact = _FACT.decode(entry.payload)
        book.set_contract(Kind[fact.kind.upper()], name_of(fact.event), fact.contract, at)

    def _resume(self) -> None:
        """Learn everything again if what is learned is another journal's."""
        projects = list(self._projects())
        if not all(self._is_ours(*each, projects) for each in self.schemas.marks.items()):
            logger.warning("the schemas are another journal's: learning them anew")
            self.schemas.begin_anew()

    def _is_ours(self, project_id: int, mark: Mark, projects: Sequence[int]) -> bool:
        """Whether the journal has the entry that the mark stands behind."""
        if project_id not in projects:
            return False
        leaves = self._journal.leaves(project_id, mark.next_index - 1, mark.next_index)
        return [leaf.decode(entry).tx for entry in leaves] == [mark.last_tx]


def _changes(kinds: bytes, called: Sequence[Named | None]) -> Iterator[int]:
    """Where contracts are set or dropped."""
    at = kinds.find(_ADMINISTRATION)
    while at >= 0:
        named = called[at]
        if named is not None and named.event in (CONTRACT_SET, CONTRACT_DROPPED):
            yield at
        at = kinds.find(_ADMINISTRATION, at + 1)


def _together(wanted: Sequence[Wanted]) -> Iterator[Sequence[Wanted]]:
    """Cut into groups of events that lie near each other, in order."""
    group: list[Wanted] = []
    for one in wanted:
        if group and one.at - group[-1].at > _APART:
            yield group
            group = []
        group.append(one)
    if group:
        yield group
