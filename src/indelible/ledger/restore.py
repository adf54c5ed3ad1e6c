"""Putting a backup of the journal in place, without ever signing a second history.

A backup is older than the log that was signed from its journal. Where it has fewer events than the
last checkpoint covers, or other ones, that log is frozen: its tiles and its last checkpoint stay as
they are, so receipts keep their worth, and its key is put out of use. The events of the backup, and
all that follow, go to a successor with a new origin and a new key, whose first new event names the
log that it succeeds. Erasures that the replaced journal knows of are made again, but for those of
projects that the backup has on legal hold; a hold of the replaced journal is kept.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from indelible import durable
from indelible.clock import Clock
from indelible.connections import SqliteError
from indelible.errors import (
    JournalDiffers,
    JournalShorter,
    LockMissing,
    LogKeyMissing,
    LogRefused,
)
from indelible.journal.contract import Journal
from indelible.journal.erasing import ERASABLE
from indelible.journal.opening import open_journal
from indelible.journal.outside import erasures, held
from indelible.layout import LEDGER_FOLDER, LOCK_FILE
from indelible.ledger.format.layout import CHECKPOINT
from indelible.ledger.format.tree import Frontier, leaf_hash
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.logs import is_vacant, key_path, read_key
from indelible.ledger.tilestore import FolderTiles
from indelible.registry.registry import Registry
from indelible.registry.values import LogRow

_READ_AT_ONCE: Final = 65_536


@dataclass(frozen=True, slots=True)
class Fit:
    """How one log of a backup fits the last checkpoint in the lock store.

    `head` is None when there is none. `refusal` says why it does not fit, None when it does.
    """

    row: LogRow
    entries: int
    head: Head | None
    refusal: LogRefused | None


@dataclass(frozen=True, slots=True)
class Succession:
    """A log that was frozen, the one that follows it, and what of it the backup did not have."""

    frozen: str
    successor: str
    kept: int
    signed: int | None


@dataclass(frozen=True, slots=True)
class Restored:
    """What was done.

    Attributes:
        erased: how many events were erased again.
        unread: why not all erasures of the replaced journal are known; None when they are.
    """

    successions: tuple[Succession, ...]
    erased: int
    unread: str | None


def prepare(
    draft: Path, data_dir: Path, *, new_log: bool, before: Path | None, clock: Clock
) -> Restored:
    """Make the journal at `draft`, a copy of the backup, fit to be served from `data_dir`.

    Every log that does not fit the lock store is frozen, and a successor ordered, which the next
    start creates; without `new_log` it is refused. `before` is the journal that is being replaced,
    if there is one; it may be damaged.

    Raises:
        LogRefused: a log does not fit; the message names it. Only the draft may have been changed.
    """
    with ExitStack() as opened:
        journal, registry = open_journal(draft, clock=clock)
        opened.callback(journal.close)
        lock = None
        if (data_dir / LOCK_FILE).exists():
            lock = LockStore(data_dir / LOCK_FILE, may_create=False)
            opened.callback(lock.close)
        registry.projects.make_server()  # a backup of an older version has none
        misfits: list[Fit] = []
        fits = [_fit(row, journal, lock, data_dir) for row in registry.logs.all("open")]
        fits += _fits_of_ordered(registry, journal, lock, data_dir)
        for fit in fits:
            if fit.refusal is None:
                continue
            if not new_log:
                raise fit.refusal
            misfits.append(fit)
        done = [succeed(registry, data_dir, fit) for fit in misfits]
        erased, unread = 0, None
        if before is not None:
            holds = _holds(before)
            erased, unread = _erase_again(journal, registry, before, clock)
            for name in holds & registry.snapshot.projects.keys():
                registry.projects.change(name, {"legal_hold": True})
        return Restored(tuple(done), erased, unread)


def retire_keys(data_dir: Path, done: Restored) -> None:
    """Put the keys of the frozen logs out of use, once the journal that freezes them is in place.

    Not earlier: a restore that is broken off leaves a folder that can still be served.
    """
    for one in done.successions:
        key = key_path(data_dir, one.frozen)
        with suppress(FileNotFoundError):
            key.rename(key.with_suffix(".key.frozen"))
            durable.sync_folder(key.parent)


def _fit(row: LogRow, journal: Journal, lock: LockStore | None, data_dir: Path) -> Fit:
    assert row.origin is not None
    head = None if lock is None else lock.head(row.origin)
    entries = journal.next_index(row.project_id)
    key = key_path(data_dir, row.name)
    refusal: LogRefused | None = None
    if head is None:
        refusal = LockMissing(f"{row.origin}: lock.db has no checkpoint of it")
    elif entries < head.size:
        refusal = JournalShorter(
            f"{row.origin}: signed at {head.size:,} events, and the backup has {entries:,}"
        )
    elif _root_at(journal, row.project_id, head.size) != head.root:
        refusal = JournalDiffers(
            f"{row.origin}: the backup does not give the root that was signed at {head.size:,}"
            " events",
            hint="Look for a backup of this log, or open a successor: `indelible restore "
            "--new-log`.",
        )
    elif not key.exists():
        # An earlier restore has frozen the log: its successor was announced to its readers.
        refusal = LogKeyMissing(f"{row.origin}: {key} is not there")
    return Fit(row, entries, head, refusal)


def _fits_of_ordered(
    registry: Registry, journal: Journal, lock: LockStore | None, data_dir: Path
) -> Iterator[Fit]:
    """Compare the logs that the backup ordered with those that the replaced journal made of them.

    So it is with the server's own log, if the backup is of a version that had none. A log that has
    signed nothing yet is taken over.
    """
    for row in registry.logs.all("new"):
        path = key_path(data_dir, row.name)
        if not path.exists():  # if only its folder is there, the next start refuses it
            continue
        made = read_key(path).key
        head = None if lock is None else lock.head(made.name)
        if head is not None and head.size == 0:
            registry.logs.identify(row.name, origin=made.name, vkey=made.text)
            registry.logs.open(row.name)
        elif head is not None or made.text != row.vkey:
            refusal = JournalShorter(f"{made.name}: the backup is from before this log was made")
            known = replace(row, origin=made.name, vkey=made.text)
            yield Fit(known, journal.next_index(row.project_id), head, refusal)


def _root_at(journal: Journal, project_id: int, size: int) -> bytes:
    frontier = Frontier()
    for start in range(0, size, _READ_AT_ONCE):
        entries = journal.leaves(project_id, start, min(start + _READ_AT_ONCE, size))
        frontier.append(map(leaf_hash, entries))
    return frontier.root()


def succeed(registry: Registry, data_dir: Path, fit: Fit) -> Succession:
    """Freeze a log and order its successor, which the next start makes."""
    old = fit.row
    successor = _successor_name(data_dir, old.name)
    head = fit.head
    facts = {
        "frozen": old.origin,
        "frozen_size": None if head is None else head.size,
        "frozen_root": None if head is None else head.root.hex(),
        "kept": fit.entries,
    }
    if old.state == "new":
        assert old.origin is not None
        assert old.vkey is not None
        registry.logs.identify(old.name, origin=old.origin, vkey=old.vkey)
    registry.logs.succeed(old.name, successor, facts)
    if head is not None:
        _publish_last(data_dir, old, head)
    return Succession(old.name, successor, fit.entries, None if head is None else head.size)


def _publish_last(data_dir: Path, row: LogRow, head: Head) -> None:
    """Let the frozen log's readers have the last checkpoint that was signed of it."""
    tiles = FolderTiles(data_dir / LEDGER_FOLDER / row.name)
    note = tiles.published(CHECKPOINT)
    if note is None or not note.startswith(f"{head.origin}\n{head.size}\n"):
        tiles.publish(CHECKPOINT, head.note)


def _successor_name(data_dir: Path, name: str) -> str:
    """The next name that no log of this folder ever had: `shop`, `shop.2`, `shop.3`.

    The same backup may be restored again, and then an earlier successor has left its files.
    """
    project, _, number = name.partition(".")
    names = (f"{project}.{n}" for n in itertools.count(int(number or 1) + 1))
    return next(one for one in names if is_vacant(data_dir, one))


def _holds(before: Path) -> set[str]:
    """The names of the projects that the replaced journal has on legal hold.

    Empty if it cannot be read: then its erasures cannot be either, which is told.
    """
    try:
        return set(held(before))
    except SqliteError:
        return set()


def _erase_again(
    journal: Journal, registry: Registry, before: Path, clock: Clock
) -> tuple[int, str | None]:
    """Erase what the replaced journal knows to be erased and the backup still has.

    How many events that were, and why the replaced journal could not be read to its end, if so.
    """
    projects = registry.snapshot.projects.values()
    names = {project.id for project in projects if not project.legal_hold}
    erased = 0
    try:
        for project_id, reason, leaves in erasures(before):
            if project_id not in names:
                continue
            wanted = [
                entry.index
                for index, leaf in leaves.items()
                for entry in journal.read(project_id, index, index + 1)
                # The two journals may have parted: at one index stands another event in each.
                if entry.leaf_entry == leaf and entry.leaf.kind in ERASABLE
            ]
            if wanted:
                done = journal.erase(project_id, wanted, reason=reason, received_at_ms=clock())
                erased += done.erased
    except (SqliteError, ValueError, KeyError, TypeError) as error:
        return erased, f"{type(error).__name__}: {error}"
    return erased, None
