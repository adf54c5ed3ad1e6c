"""The room's own composition: a follower that keeps the persons of one data folder."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from indelible import leaf
from indelible.clock import Clock
from indelible.derived import Derived, Mark, marks
from indelible.identity.facts import Stretch, read
from indelible.identity.keys import USE
from indelible.identity.persons import PERSONS_FILE, Persons
from indelible.identity.tables import SCHEMA, TABLES
from indelible.identity.taking import Numbers, Taking
from indelible.journal.contract import JournalReader
from indelible.journal.follow import Follower
from indelible.journal.pieces import pieces

logger = logging.getLogger(__name__)

READ_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of the log in memory at a time."""

TAKEN_BYTES: Final = 16 * 1024 * 1024
"""Most bytes of the log in one transaction, but for one piece more."""

TAKEN_ENTRIES: Final = 50_000
"""Most entries of the log in one transaction, but for one piece more."""

_VERSION: Final = 1
_CACHE_KIB: Final = 32_768
_PACE_S: Final = 1.0  # one transaction a project and round is cheaper than many


class Identity:
    """`indelible.journal.follow.Handler`, and the follower that runs it.

    `projects` has the ids of all projects.
    """

    name: Final = "identity"
    batch: Final = 100_000

    def __init__(
        self,
        data_dir: Path,
        *,
        journal: JournalReader,
        projects: Callable[[], Iterable[int]],
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._projects = projects
        self._clock = clock
        self._file = Derived(
            data_dir / PERSONS_FILE,
            schema=SCHEMA,
            version=_VERSION,
            probe="SELECT * FROM mark",
            cache_kib=_CACHE_KIB,
            secure=True,
        )
        with self._file.watched():
            self._marks = marks(self._file.reader())
        self._numbers = Numbers()
        self._subkeys: dict[int, bytes] = {}
        self._sweeping = threading.Lock()
        self._is_to_fold_in = True  # a process that ended may have left erased bytes in the WAL
        self.persons = Persons(self._file, journal, self.next_index)
        self._follower = Follower(journal, self, projects=projects, pace_s=_PACE_S)
        self._resume()

    @property
    def failure(self) -> str | None:
        """Why persons are not kept any more, or None while all is well."""
        return self._file.failure

    def start(self) -> None:
        """Take what is stored already, and go on with what will be."""
        self._follower.start()

    def stop(self) -> None:
        """End the thread; the rest waits for the next start."""
        self._follower.stop()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def catch_up(self) -> int:
        """Take all that is stored, on the calling thread; how many entries that was.

        Raises what `handle` raises.
        """
        return self._follower.catch_up()

    def next_index(self, project_id: int) -> int:
        """See `indelible.journal.follow.Handler.next_index`."""
        return self._marks[project_id].next_index if project_id in self._marks else 0

    def handle(self, project_id: int, start: int, end: int) -> None:  # noqa: ARG002 — a Handler
        """Take the project's log up to `end`; what was taken before is passed over.

        Raises:
            UnknownVersion: a later version wrote a record; the project waits.
            Unavailable: the file is damaged; the next start makes it again.
            apsw.Error: nothing of this transaction was taken; it may be tried again.
        """
        first = self.next_index(project_id)
        stretch, last, held, count = Stretch(), b"", 0, 0
        for begin, behind in pieces(self._journal, project_id, first, end, most_bytes=READ_BYTES):
            rows = self._journal.rows(project_id, begin, behind)
            read(stretch, begin, rows)
            last = rows.leaves[-leaf.SIZE :]
            held += sum(map(len, filter(None, rows.payloads)))
            count += behind - begin
            if held >= TAKEN_BYTES or count >= TAKEN_ENTRIES:
                self._take(project_id, stretch, Mark(behind, leaf.decode(last).tx))
                stretch, last, held, count = Stretch(), b"", 0, 0
        if last:
            self._take(project_id, stretch, Mark(end, leaf.decode(last).tx))
        self.sweep()

    def behind(self) -> tuple[int, int | None]:
        """How many stored entries are not taken yet, and how long the oldest has been stored.

        The second is in ms, and None if there is none; a clock that stepped back makes it 0.
        """
        waiting, ages = 0, []
        for project_id, stored in self._journal.next_indexes(self._projects()).items():
            first = self.next_index(project_id)
            if first < stored:
                waiting += stored - first
                entries = self._journal.leaves(project_id, first, first + 1)
                ages += [self._clock() - leaf.decode(entry).received_at_ms for entry in entries]
        return waiting, max(0, *ages) if ages else None

    def _take(self, project_id: int, stretch: Stretch, mark: Mark) -> None:
        if project_id not in self._subkeys:
            self._subkeys[project_id] = self._journal.subkey(project_id, USE)
        try:
            with self._file.transaction() as connection:
                self._numbers.begin(connection)
                taking = Taking(
                    connection,
                    self._journal,
                    self._numbers,
                    project_id,
                    self._subkeys[project_id],
                )
                erased = taking.take(stretch, mark)
        except BaseException:
            self._numbers.drop()
            raise
        # power lost here: the stretch may be forgotten, and its mark with it
        self._is_to_fold_in |= erased  # before the mark: who waits for that looks at this next
        self._marks[project_id] = mark

    def sweep(self) -> bool:
        """See that nothing erased is left in the WAL; whether that is so. Any thread may call it.

        Cheap if nothing was erased since the last time.

        Raises:
            Unavailable, apsw.Error: it may be tried again.
        """
        with self._sweeping:
            if self._is_to_fold_in:
                self._is_to_fold_in = False  # first: what is erased meanwhile sets it again
                is_folded_in = False
                try:
                    is_folded_in = self._file.fold_in()
                finally:
                    self._is_to_fold_in |= not is_folded_in
            return not self._is_to_fold_in

    def _resume(self) -> None:
        """Make the persons again if they are another journal's."""
        projects = list(self._projects())
        if not all(self._is_ours(*each, projects) for each in self._marks.items()):
            logger.warning("the persons are another journal's: making them again")
            self.begin_again()

    def begin_again(self) -> None:
        """Forget everything."""
        with self._file.transaction() as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 — our own names
        self._marks = {}
        self._numbers.drop()

    def _is_ours(self, project_id: int, mark: Mark, projects: Sequence[int]) -> bool:
        """Whether the journal has the entry that the mark stands after."""
        if project_id not in projects:
            return False
        leaves = self._journal.leaves(project_id, mark.next_index - 1, mark.next_index)
        return [leaf.decode(entry).tx for entry in leaves] == [mark.last_tx]
