"""The room's own composition: every part of the ledger of one data folder, opened and running."""

import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from indelible.clock import Clock
from indelible.errors import IndelibleError, Tampered
from indelible.event import Level
from indelible.journal.contract import JournalReader
from indelible.journal.follow import Follower
from indelible.layout import LOCK_FILE
from indelible.leaf import decode
from indelible.ledger import notes
from indelible.ledger.damages import SCRUB_FILE, Damages
from indelible.ledger.files import Files
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.tile import WIDTH, TileHashes
from indelible.ledger.format.tree import prove_root
from indelible.ledger.lockstore import Halt, Head, LockStore
from indelible.ledger.logs import Log, Logs
from indelible.ledger.progress import Progress
from indelible.ledger.receipts import Receipts
from indelible.ledger.scrub import Scrub
from indelible.ledger.sealer import Sealer, mend
from indelible.ledger.seals import SEALS_FILE, Seals, Times
from indelible.ledger.soundness import Soundness
from indelible.ledger.stored import entries
from indelible.registry.registry import Registry

if TYPE_CHECKING:
    from indelible.ledger.witnessing import Witnessing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What an operator chooses of the ledger; see the settings of the same names."""

    origin: str | None
    seal_interval_ms: int
    witness_interval_ms: int
    witnesses: Policy
    scrub_bytes_per_s: int = 1024 * 1024


class Ledger:
    """The signed logs of one data folder.

    Raises on building:
        LogRefused: parts of a log do not fit together.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        journal: JournalReader,
        registry: Registry,
        choices: Choices,
        clock: Clock,
    ) -> None:
        self._journal = journal
        self._clock = clock
        # A lock for each log, since sealer and witnesses both publish; `_published` is under it.
        self._publishing: dict[str, threading.Lock] = {}
        self._published: dict[str, int] = {}
        self._settling = threading.Lock()
        self.progress = Progress()
        self._soundness = Soundness(journal)
        self.damages = Damages(data_dir / SCRUB_FILE)
        with ExitStack() as opened:
            signed = any(row.state == "open" for row in registry.logs.all())
            self._lock = LockStore(data_dir / LOCK_FILE, may_create=not signed)
            opened.callback(self._lock.close)
            self._seals = Seals(data_dir / SEALS_FILE)
            opened.callback(self._seals.close)
            self.logs = Logs(
                data_dir,
                registry,
                journal,
                self._lock,
                base=choices.origin,
                witnesses=choices.witnesses,
                mend=lambda log, head: mend(log, journal, head, self._soundness),
                root_at=self._root_at,
                sealed_to=self._seals.size,
            )
            signing = {log.origin for log in self.logs.signing()}
            halts = [halt for halt in self._lock.halts() if halt.origin in signing]
            self._halts = {halt.origin: halt for halt in halts}
            self._opened = opened.pop_all()
        self.receipts = Receipts(
            journal,
            self.logs,
            self.progress,
            self._soundness,
            damaged=lambda log, index, said: self.damages.add(log.name, index // WIDTH, said),
        )
        self.files = Files(
            self.logs,
            self._lock,
            self.progress,
            self._soundness,
            damaged=lambda log, number, said: self.damages.add(log.name, number, said),
        )
        self.sealer = Sealer(
            journal,
            self._lock,
            self._soundness,
            log_of=self.logs.of_project,
            publish=self._publish,
            published=self._note_sealed,
        )
        self._opened.callback(self.sealer.close)
        self._follower = Follower(
            journal,
            self.sealer,
            projects=self._signed_projects,
            pace_s=choices.seal_interval_ms / 1000,
        )
        self.scrub = Scrub(
            journal,
            self._soundness,
            self.damages,
            logs=self.logs.all,
            head_of=self.files.head,
            republish=self._republish,
            bytes_per_s=choices.scrub_bytes_per_s,
        )
        self._witnessing = self._ask_witnesses(choices)
        for log in self.logs.signing():
            self._resume(log)

    def start(self) -> None:
        """Seal what is stored already, and go on with what will be."""
        self._follower.start()
        self.scrub.start()
        if self._witnessing is not None:
            self._witnessing.start()

    def stop(self) -> None:
        """Seal what is stored, then end the threads."""
        self.scrub.stop()
        self._follower.stop(drain=True)
        if self._witnessing is not None:
            self._witnessing.stop()

    def close(self) -> None:
        """Close the files."""
        self._opened.close()

    def settle(self) -> None:
        """Create the logs of projects that were made since."""
        with self._settling:
            try:
                self.logs.settle()
            finally:
                for log in self.logs.signing():
                    if log.name not in self._published:
                        self._resume(log)

    def sealed_size(self, project_id: int) -> int:
        """How many events of the project a signed checkpoint covers."""
        return self.progress.size(project_id, Level.SEALED)

    def times(self, project_id: int, index: int) -> Times:
        """When an event of a project was sealed and witnessed."""
        log = self.logs.of_project(project_id)
        return Times(None, None) if log is None else self._seals.times(log.origin, index)

    @property
    def failure(self) -> str | None:
        """Why logs are not signed any further by this process; None while all are."""
        return self.sealer.failure or next(iter(self.sealer.stopped().values()), None)

    def alarms(self) -> list[str]:
        """What must never be, a sentence each: logs that are not signed any further, other
        histories that witnesses have seen, and what is damaged on disk."""
        halted = [
            f"The log {halt.origin} is not signed beyond {halt.size:,} events: so many witnesses"
            " have seen another history that its quorum is out of reach. `indelible resume` shows"
            " what they said, and goes on."
            for halt in self._halts.values()
        ]
        stopped = [
            f"The log {origin} is not signed any further: {why}"
            for origin, why in self.sealer.stopped().items()
            if origin not in self._halts
        ]
        seen = [] if self._witnessing is None else self._witnessing.alarms()
        return [*halted, *stopped, *seen, *self.damages.sentences()]

    def oldest_unsealed_ms(self) -> int | None:
        """How long the oldest event that no checkpoint covers has been stored; None: there is none.

        A clock that stepped back makes it 0, not less.
        """
        ages: list[int] = []
        for project_id, stored in self._journal.next_indexes(self.logs.projects()).items():
            size = self.progress.size(project_id, Level.SEALED)
            if size >= stored:
                continue
            waiting = self._journal.leaves(project_id, size, size + 1)
            ages += [self._clock() - decode(entry).received_at_ms for entry in waiting]
        return max(0, *ages) if ages else None

    async def wait(self, project_id: int, index: int, level: Level, *, timeout_s: float) -> bool:
        """Whether the event reaches `level` within the time.

        There is no waiting for what does not come: without a quorum of witnesses nothing is ever
        witnessed, and nothing is sealed in a log that is not signed any further.
        """
        if level is Level.WITNESSED and self._witnessing is None:
            return False
        if not self._is_signed(project_id) and index >= self.sealed_size(project_id):
            return False
        return await self.progress.wait(project_id, index, level, timeout_s=timeout_s)

    async def confirm(
        self, project_id: int, indexes: Sequence[int], level: Level, *, timeout_s: float
    ) -> list[str | None]:
        """Wait until every one of these events has reached `level`; the receipt of each that has.

        None stands for one that has not within the time.
        """
        await self.wait(project_id, max(indexes), level, timeout_s=timeout_s)
        return await anyio.to_thread.run_sync(self._receipts_of, project_id, indexes, level)

    def _ask_witnesses(self, choices: Choices) -> "Witnessing | None":
        if choices.witnesses.quorum is None:
            return None
        # Its HTTP client takes a tenth of a second to load: not for those without witnesses.
        from indelible.ledger.witnessing import Witnessing

        witnessing = Witnessing(
            choices.witnesses,
            logs=self.logs.signing,
            progress=self.progress,
            tiles=self._soundness.tiles,
            publish=self._publish_witnessed,
            forked=self._halt,
            interval_s=choices.witness_interval_ms / 1000,
            clock=self._clock,
        )
        self._opened.callback(witnessing.close)
        return witnessing

    def _receipts_of(
        self, project_id: int, indexes: Sequence[int], level: Level
    ) -> list[str | None]:
        found: list[str | None] = []
        for index in indexes:
            try:
                (entry,) = entries(self._journal, project_id, index, index + 1)
                found.append(
                    None if isinstance(entry, Tampered) else self.receipts.of(entry, level=level)
                )
            except (IndelibleError, OSError):
                found.append(None)  # it is stored, and that is what the answer is about
        return found

    def _signed_projects(self) -> list[int]:
        """The projects whose logs are signed, but for those that are not any further."""
        held_up = {*self._halts, *self.sealer.stopped()}
        return [log.project_id for log in self.logs.signing() if log.origin not in held_up]

    def _is_signed(self, project_id: int) -> bool:
        log = self.logs.of_project(project_id)
        held_up = self._halts if log is None else {*self._halts, *self.sealer.stopped()}
        return log is None or log.origin not in held_up

    def _halt(self, log: Log, said: list[str]) -> None:
        """Sign this log no further, now and after every restart.

        Raises:
            OSError, LockUnwritable: it is not signed by this process, and a restart may forget.
        """
        halt = Halt(log.origin, self._clock(), self.sealed_size(log.project_id), "\n".join(said))
        if log.origin not in self._halts:
            logger.error("%s is not signed any further: %s", log.origin, " ".join(said))
        self._halts.setdefault(log.origin, halt)
        self._lock.halt(halt)

    def _root_at(self, log: Log, head: Head, size: int) -> bytes:
        return prove_root(TileHashes(self._soundness.tiles(log, head), head.size), size)

    def _resume(self, log: Log) -> None:
        """Take up what a log had reached when the last process ended."""
        head = self._lock.head(log.origin)
        assert head is not None
        self._seals.sealed([(log.origin, head.size)], self._clock())
        self._published[log.name] = head.size
        self.progress.advance(log.project_id, Level.SEALED, head)
        witnessed = self._last_witnessed(log)
        if witnessed is not None and witnessed.size <= head.size:
            self.progress.advance(log.project_id, Level.WITNESSED, witnessed)

    def _last_witnessed(self, log: Log) -> Head | None:
        note = notes.text(log.tiles, WITNESSED)
        if note is None or not notes.is_sound(note, log.key, self.logs.policy_of(log)):
            return None  # nothing depends on it: the next answer of the witnesses replaces it
        checkpoint = notes.signed_by(note, log.key)
        return Head(log.origin, checkpoint.size, checkpoint.root, note)

    def _note_sealed(self, sealed: Sequence[tuple[Log, Head]]) -> None:
        self._seals.sealed([(log.origin, head.size) for log, head in sealed], self._clock())
        for log, head in sealed:
            self.progress.advance(log.project_id, Level.SEALED, head)
        if self._witnessing is not None:
            self._witnessing.wake()

    def _publish_witnessed(self, log: Log, head: Head) -> None:
        """What `indelible.ledger.witnessing` does with a checkpoint that met the quorum."""
        log.tiles.publish(WITNESSED, head.note)
        self._publish(log, head)
        self._seals.witnessed(log.origin, head.size, self._clock())
        self.progress.advance(log.project_id, Level.WITNESSED, head)

    def _republish(self, log: Log) -> None:
        """Publish those notes again that are not there any more, or damaged."""
        policy = self.logs.policy_of(log)
        if notes.text(log.tiles, POLICY) != policy.text:
            log.tiles.publish(POLICY, policy.text)
        for name, level in ((CHECKPOINT, Level.SEALED), (WITNESSED, Level.WITNESSED)):
            with self._publishing.setdefault(log.name, threading.Lock()):
                head = self.progress.head(log.project_id, level)
                note = notes.text(log.tiles, name)
                is_well = note is not None and notes.is_sound(note, log.key, policy)
                if head is not None and not is_well:
                    logger.error("%s: %s was damaged or missing; published again", log.origin, name)
                    log.tiles.publish(name, head.note)

    def _publish(self, log: Log, head: Head) -> None:
        """Put a checkpoint before the log's readers, unless they have a newer one."""
        with self._publishing.setdefault(log.name, threading.Lock()):
            if head.size >= self._published.get(log.name, 0):
                log.tiles.publish(CHECKPOINT, head.note)
                self._published[log.name] = head.size
