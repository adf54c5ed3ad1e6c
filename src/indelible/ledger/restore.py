"""Putting a backup of the journal in place, without ever signing a second history.

A backup is older than the log that was signed from its journal. Where it has fewer events than the
last checkpoint covers, or other ones, that log is frozen: its tiles and its last checkpoint stay as
they are, so receipts keep their worth, and its key is put out of use. The events of the backup, and
all that follow, go to a successor with a new origin and a new key, whose first new event names the
log that it succeeds. Erasures that the replaced journal knows of are made again.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import apsw
import msgspec

from indelible import durable
from indelible.clock import Clock
from indelible.errors import JournalShorter, LockMissing
from indelible.event import Kind
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry import LogRow, Registry
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.lockstore import LOCK_FILE, Head, LockStore
from indelible.ledger.logs import KEYS_FOLDER, LEDGER_FOLDER
from indelible.ledger.tilestore import CHECKPOINT, FolderTiles
from indelible.ledger.tree import Frontier, leaf_hash

SUCCEEDED: Final = "log.succeeded"
_READ_AT_ONCE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Fit:
    """How one log of a backup fits the last checkpoint in the lock store.

    `head` is None when there is none. `reason` says why it does not fit, None when it does.
    """

    row: LogRow
    entries: int
    head: Head | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Succession:
    """A log that was frozen, the one that follows it, and what of it the backup did not have."""

    frozen: str
    successor: str
    kept: int
    signed: int | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done; `erased` is how many events were erased again."""

    successions: tuple[Succession, ...]
    erased: int


def prepare(
    draft: Path, data_dir: Path, *, new_log: bool, before: Path | None, clock: Clock
) -> Restored:
    """Make the journal at `draft`, a copy of the backup, fit to be served from `data_dir`.

    Every log that does not fit the lock store is frozen, and a successor ordered, which the next
    start creates; without `new_log` it is refused. `before` is the journal that is being replaced,
    if there is one that can be read.

    Raises:
        JournalShorter, LockMissing: a log does not fit; the message names it. Only the draft may
            have been changed.
    """
    with ExitStack() as opened:
        journal = SqliteJournal(Database(draft), clock=clock)
        opened.callback(journal.close)
        lock = None
        if (data_dir / LOCK_FILE).exists():
            lock = LockStore(data_dir / LOCK_FILE, may_create=False)
            opened.callback(lock.close)
        rows = [row for row in Registry(journal).logs() if row.state == "open"]
        misfits = [fit for fit in (_fit(row, journal, lock) for row in rows) if fit.reason]
        if misfits and not new_log:
            wrong = LockMissing if misfits[0].head is None else JournalShorter
            raise wrong(f"{misfits[0].row.origin}: {misfits[0].reason}")
        done = [_succeed(journal, data_dir, fit, clock) for fit in misfits]
        erased = 0 if before is None else _erase_again(journal, before, clock)
        return Restored(tuple(done), erased)


def _fit(row: LogRow, journal: SqliteJournal, lock: LockStore | None) -> Fit:
    assert row.origin is not None
    head = None if lock is None else lock.head(row.origin)
    entries = journal.next_index(row.project_id)
    reason: str | None = None
    if head is None:
        reason = "lock.db has no checkpoint of it"
    elif entries < head.size:
        reason = f"signed at {head.size:,} events, and the backup has {entries:,}"
    elif _root_at(journal, row.project_id, head.size) != head.root:
        reason = f"the backup does not give the root that was signed at {head.size:,} events"
    return Fit(row, entries, head, reason)


def _root_at(journal: SqliteJournal, project_id: int, size: int) -> bytes:
    frontier = Frontier()
    for start in range(0, size, _READ_AT_ONCE):
        entries = journal.leaves(project_id, start, min(start + _READ_AT_ONCE, size))
        frontier.append(map(leaf_hash, entries))
    return frontier.root()


def _succeed(journal: SqliteJournal, data_dir: Path, fit: Fit, clock: Clock) -> Succession:
    old = fit.row
    successor = _successor_name(old.name)
    head = fit.head
    facts = {
        "frozen": old.origin,
        "frozen_size": None if head is None else head.size,
        "frozen_root": None if head is None else head.root.hex(),
        "kept": fit.entries,
    }
    with journal.database.transaction() as connection:
        connection.execute("UPDATE log SET state = 'frozen' WHERE name = ?", (old.name,))
        connection.execute(
            "INSERT INTO log (name, project_id, state) VALUES (?, ?, 'new')",
            (successor, old.project_id),
        )
        journal.log(
            connection,
            Draft(
                project_id=old.project_id,
                kind=Kind.ADMINISTRATION,
                received_at_ms=clock(),
                payload=msgspec.json.encode(facts, order="sorted"),
                record=msgspec.json.encode({"event": SUCCEEDED}),
            ),
        )
    if head is not None:
        _publish_last(data_dir, old, head)
    key = data_dir / KEYS_FOLDER / f"{old.name}.key"
    with suppress(FileNotFoundError):
        key.rename(key.with_suffix(".key.frozen"))
        durable.sync_folder(key.parent)
    return Succession(old.name, successor, fit.entries, None if head is None else head.size)


def _publish_last(data_dir: Path, row: LogRow, head: Head) -> None:
    """Let the frozen log's readers have the last checkpoint that was signed of it."""
    tiles = FolderTiles(data_dir / LEDGER_FOLDER / row.name)
    note = tiles.published(CHECKPOINT)
    if note is None or not note.startswith(f"{head.origin}\n{head.size}\n"):
        tiles.publish(CHECKPOINT, head.note)


def _successor_name(name: str) -> str:
    """
    >>> _successor_name("shop"), _successor_name("shop.2")
    ('shop.2', 'shop.3')
    """
    project, _, number = name.partition(".")
    return f"{project}.{int(number or 1) + 1}"


def _erase_again(journal: SqliteJournal, before: Path, clock: Clock) -> int:
    """Erase what the replaced journal knows to be erased and the backup still has."""
    registry = Registry(journal)
    names = {project.id for project in registry.snapshot.projects.values()}
    erased = 0
    for project_id, reason, indexes in _erasures(before):
        if project_id not in names:
            continue
        there = journal.next_index(project_id)
        wanted = [
            entry.index
            for index in indexes
            if index < there
            for entry in journal.read(project_id, index, index + 1)
            if entry.payload is not None and entry.leaf.kind in (Kind.PRODUCT, Kind.AUDIT)
        ]
        if wanted:
            done = journal.erase(project_id, wanted, reason=reason, received_at_ms=clock())
            erased += done.erased
    return erased


def _erasures(before: Path) -> Iterator[tuple[int, str, list[int]]]:
    """The erasures in a journal's log: project, reason, and the indexes."""
    connection = apsw.Connection(str(before), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        rows = connection.execute(
            "SELECT id >> 40, payload FROM event WHERE substr(leaf, 2, 1) = ? ORDER BY id",
            (bytes([Kind.ERASURE]),),
        )
        for project_id, payload in rows:
            if payload is None:
                continue
            facts = json.loads(payload)
            indexes = [i for start, end in facts["erased"] for i in range(start, end)]
            yield int(project_id), str(facts["reason"]), indexes
    finally:
        connection.close()
