"""The room's own composition: a follower that keeps the accounts of one data folder."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from indelible import leaf
from indelible.accounting.accounts import ACCOUNTS_FILE, Accounts
from indelible.accounting.facts import Facts, facts_of
from indelible.clock import Clock
from indelible.derived import Mark
from indelible.journal.contract import JournalReader
from indelible.journal.follow import Follower
from indelible.journal.pieces import pieces

logger = logging.getLogger(__name__)

KEPT_DAYS: Final = 30

_KEPT_MS: Final = KEPT_DAYS * 24 * 60 * 60 * 1000
_FOLD_EVERY_MS: Final = 60 * 60 * 1000
_READ_BYTES: Final = 1024 * 1024  # of records, in memory at a time
_FEW: Final = 8  # as many as are read without being measured: each is bounded by itself
_PACE_S: Final = 1.0  # one transaction a project and round is cheaper than many


class Accounting:
    """`indelible.journal.follow.Handler`, and the follower that runs it.

    `projects` has the ids of all projects. `in_doubt` says why the clock is not to be trusted now:
    accounts that were folded away come back only when all are made anew.
    """

    name: Final = "accounting"
    batch: Final = 10_000

    def __init__(
        self,
        data_dir: Path,
        *,
        journal: JournalReader,
        projects: Callable[[], Iterable[int]],
        clock: Clock,
        in_doubt: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._journal = journal
        self._projects = projects
        self._clock = clock
        self._in_doubt = in_doubt
        self._next_folding_ms: dict[int, int] = {}
        self.accounts = Accounts(data_dir / ACCOUNTS_FILE)
        self._follower = Follower(
            journal,
            self,
            projects=projects,
            pace_s=_PACE_S,
        )
        self._resume()

    def start(self) -> None:
        """Count what is stored already, and go on with what will be."""
        self._follower.start()

    def stop(self) -> None:
        """Count what is stored, then end the thread."""
        self._follower.stop(drain=True)

    def close(self) -> None:
        """Close the file."""
        self.accounts.close()

    def next_index(self, project_id: int) -> int:
        """See `indelible.journal.follow.Handler.next_index`."""
        return self.accounts.next_index(project_id)

    def handle(self, project_id: int, start: int, end: int) -> None:  # noqa: ARG002 — a Handler
        """Take the project's log up to `end` into the accounts; what they have is passed over.

        Raises:
            Unavailable, apsw.Error: see `Accounts.take`.
        """
        first = self.accounts.next_index(project_id)
        for behind in range(first + self.batch, end + self.batch, self.batch):
            self._take(project_id, behind - self.batch, min(behind, end))
        self._fold_away(project_id, end)

    def oldest_uncounted_ms(self) -> int | None:
        """How long the oldest event that is in no account has been stored; None: there is none.

        A clock that stepped back makes it 0, not less.
        """
        ages: list[int] = []
        for project_id, stored in self._journal.next_indexes(self._projects()).items():
            first = self.accounts.next_index(project_id)
            if first >= stored:
                continue
            waiting = self._journal.leaves(project_id, first, first + 1)
            ages += [self._clock() - leaf.decode(entry).received_at_ms for entry in waiting]
        return max(0, *ages) if ages else None

    def _take(self, project_id: int, start: int, end: int) -> None:
        facts = Facts()
        last = b""
        for first, behind in self._runs(project_id, start, end):
            rows = self._journal.rows(project_id, first, behind, with_payloads=False)
            facts.add(facts_of(rows, partial(self._report, project_id, first)))
            last = rows.leaves[-leaf.SIZE :]
        self.accounts.take(project_id, facts, Mark(end, leaf.decode(last).tx))

    def _runs(self, project_id: int, start: int, end: int) -> Iterable[tuple[int, int]]:
        """What of a stretch is in memory at a time."""
        if end - start <= _FEW:  # as of each of hundreds of projects, once a second
            return [(start, end)]
        return pieces(
            self._journal, project_id, start, end, most_bytes=_READ_BYTES, with_payloads=False
        )

    def _report(self, project_id: int, first: int, at: int) -> bytes:
        (entry,) = self._journal.read(project_id, first + at, first + at + 1)
        assert entry.payload is not None, "an entry of kind loss is never erased"
        return entry.payload

    def _fold_away(self, project_id: int, end: int) -> None:
        now_ms = self._clock()
        if now_ms < self._next_folding_ms.get(project_id, 0) or self._in_doubt() is not None:
            return
        # Not while old events are read: the rest of a process would begin a second account.
        if end == self._journal.next_index(project_id):
            self.accounts.fold_away(project_id, before_ms=now_ms - _KEPT_MS)
            self._next_folding_ms[project_id] = now_ms + _FOLD_EVERY_MS

    def _resume(self) -> None:
        """Make the accounts again if they are another journal's."""
        projects = list(self._projects())
        if not all(self._is_ours(*each, projects) for each in self.accounts.marks.items()):
            logger.warning("the accounts are another journal's: making them anew")
            self.accounts.begin_anew()

    def _is_ours(self, project_id: int, mark: Mark, projects: Sequence[int]) -> bool:
        """Whether the journal has the entry that the mark stands behind."""
        if project_id not in projects:
            return False
        leaves = self._journal.leaves(project_id, mark.next_index - 1, mark.next_index)
        return [leaf.decode(entry).tx for entry in leaves] == [mark.last_tx]
