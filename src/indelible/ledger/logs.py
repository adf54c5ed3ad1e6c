"""The birth of logs, and what must fit together before one signs again.

A log has four parts: its row in the journal, its key, its last checkpoint in the lock store, and
its tiles. It is created only where the journal ordered it together with its project, and only when
none of the other parts is there; a part that is missing later is never made anew.
"""

import logging
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from indelible import durable
from indelible.errors import (
    IndelibleError,
    JournalShorter,
    KeyMalformed,
    LockBehind,
    LockMissing,
    LogExists,
    LogKeyMissing,
    Tampered,
    Unverifiable,
)
from indelible.event import LogId
from indelible.journal.contract import JournalReader
from indelible.layout import KEYS_FOLDER, LEDGER_FOLDER
from indelible.ledger import notes
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.note import LogKey, Signer, open_note
from indelible.ledger.format.policy import KnownLog, Policy
from indelible.ledger.format.tree import EMPTY_ROOT
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.tilestore import FolderTiles
from indelible.registry.registry import Registry
from indelible.registry.values import LogRow

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Log:
    """One signed log; `signer` is None for a frozen one, which never signs again."""

    name: str
    id: LogId
    origin: str
    key: LogKey
    signer: Signer | None
    tiles: FolderTiles

    @property
    def project_id(self) -> int:
        """The project whose events it holds."""
        return self.id.project_id


class Logs:
    """All logs of one data folder, opened; each was found sound, or this raises.

    Args:
        data_dir: the data folder.
        base: what the origin of a log made from now on begins with; None makes up a unique one.
        witnesses: the policy without logs that every log proposes to its readers.
        mend: given a log and its last checkpoint, makes what is missing of its tiles.
        root_at: given a log, its last checkpoint and a smaller size, returns the root that was
            signed there.
        sealed_to: given an origin, returns how far the log was ever seen to be sealed.

    Raises:
        LogRefused: parts of a log do not fit together. Nothing was changed.
    """

    def __init__(
        self,
        data_dir: Path,
        registry: Registry,
        journal: JournalReader,
        lock: LockStore,
        *,
        base: str | None,
        witnesses: Policy,
        mend: Callable[[Log, Head], None],
        root_at: Callable[[Log, Head, int], bytes],
        sealed_to: Callable[[str], int],
    ) -> None:
        self._data_dir = data_dir
        self._registry = registry
        self._journal = journal
        self._lock = lock
        self._base = base
        self._witnesses = witnesses
        self._mend = mend
        self._root_at = root_at
        self._sealed_to = sealed_to
        self._settling = threading.Lock()
        self._by_name: dict[str, Log] = {}
        self._signing: dict[LogId, Log] = {}
        self.settle()

    def settle(self) -> None:
        """Open every log that is not open yet; create those that were ordered.

        Called at the start, and after a project was made.
        """
        # Two requests that make projects at once must not make two keys for one of them.
        with self._settling:
            rows = self._registry.logs.all("new" if self._by_name else None)
            for row in rows:
                if row.name in self._by_name:
                    continue
                log = self._create(row) if row.state == "new" else self._open(row)
                self._by_name[log.name] = log
                if log.signer is not None:
                    self._signing[log.id] = log

    def projects(self) -> list[int]:
        """The projects whose logs sign."""
        return [log.project_id for log in self.signing()]

    def signing(self) -> list[Log]:
        """The logs that sign: one for each project."""
        return list(self._signing.values())

    def all(self) -> list[Log]:
        """All logs, frozen ones too."""
        return list(self._by_name.values())

    def of_project(self, project_id: int) -> Log | None:
        """The log that the project's events go to; None while it is being made."""
        return self._signing.get(LogId(project_id))

    def named(self, name: str) -> Log | None:
        """The log with this name, frozen or not."""
        return self._by_name.get(name)

    def is_vacant(self, name: str) -> bool:
        """Whether a log of this name can be created: nothing of an older one is left."""
        return is_vacant(self._data_dir, name)

    def policy_of(self, log: Log) -> Policy:
        """What the log proposes to its readers."""
        mine = self._witnesses
        return Policy((KnownLog(log.key),), mine.witnesses, mine.groups, mine.quorum)

    def _create(self, row: LogRow) -> Log:
        tiles = self._tiles(row)
        signer = self._new_signer(row, tiles)
        # power lost here: the journal knows the key, and has signed nothing with it
        _write_key(self._key_path(row.name), signer)
        root = Checkpoint(signer.key.name, 0, EMPTY_ROOT)
        head = Head(root.origin, 0, root.root, signer.sign(root.text))
        if self._lock.head(head.origin) is None:
            self._lock.create(head)
        self._registry.logs.open(row.name)
        # power lost here: the log is open; opening it publishes what is not there yet
        log = Log(row.name, row.id, head.origin, signer.key, signer, tiles)
        self._publish(log, head)
        return log

    def _new_signer(self, row: LogRow, tiles: FolderTiles) -> Signer:
        """The key of a log that has signed nothing; an earlier, broken-off creation's if any.

        Raises:
            LogExists: a part of an older log of this name is there.
        """
        path = self._key_path(row.name)
        was_begun = path.exists()
        if was_begun:
            signer = read_key(path)
            if signer.key.text != row.vkey:
                raise LogExists(f"{path} is the key of another log than the journal knows")
        else:
            origin = f"{self._base or _made_up_base()}/{row.name}"
            signer = Signer.generate(origin)
        head = self._lock.head(signer.key.name)
        if head is not None and (head.size > 0 or not was_begun):
            raise LogExists(f"The log {head.origin} has signed {head.size:,} events already")
        if tiles.folder.is_dir() and any(tiles.folder.iterdir()):
            raise LogExists(f"{tiles.folder} holds files of an older log")
        self._registry.logs.identify(row.name, origin=signer.key.name, vkey=signer.key.text)
        return signer

    def _open(self, row: LogRow) -> Log:
        assert row.origin is not None
        assert row.vkey is not None
        key = LogKey.parse(row.vkey)
        tiles = self._tiles(row)
        if row.state == "frozen":
            return Log(row.name, row.id, row.origin, key, None, tiles)
        path = self._key_path(row.name)
        if not path.exists():
            raise LogKeyMissing(f"{path} is not there, and {row.origin} is signed with it")
        signer = read_key(path)
        if signer.key != key:
            raise LogKeyMissing(f"{path} is not the key of {row.origin}")
        head = self._lock.head(row.origin)
        if head is None:
            raise LockMissing(f"lock.db has no checkpoint of {row.origin}, which is signed")
        notes.check_head(head, key)
        log = Log(row.name, row.id, row.origin, key, signer, tiles)
        self._compare_journal(log, head)
        held = self._published(log)
        for name, note in held.items():
            _refuse(notes.contradiction(name, note, head))
        tiles.tidy()
        self._mend(log, head)
        for name, note in held.items():
            root_at = partial(self._root_at, log, head)
            try:
                _refuse(notes.contradiction(name, note, head, root_at))
            except (Tampered, Unverifiable) as error:
                # A damaged tile says nothing of the note; the scrub names it.
                logger.warning("%s: %s was not compared: %s", log.origin, name, error.message)
        self._publish(log, head)
        return log

    def _compare_journal(self, log: Log, head: Head) -> None:
        sealed = self._sealed_to(log.origin)
        if sealed > head.size:
            raise LockBehind(
                f"{log.origin} was sealed to {sealed:,} events, lock.db has {head.size:,}"
            )
        entries = self._journal.next_index(log.project_id)
        if entries < head.size:
            raise JournalShorter(
                f"{log.origin} was signed at {head.size:,} events; the journal has {entries:,}"
            )

    def _published(self, log: Log) -> dict[str, Checkpoint]:
        """The notes that the log has published, by their names.

        Raises:
            LockBehind: its checkpoint is not signed by it. Of its witnessed one nothing depends
                on that: the next answer of the witnesses replaces it.
        """
        held: dict[str, Checkpoint] = {}
        note = log.tiles.published(CHECKPOINT)
        if note is not None:
            place = log.tiles.folder / CHECKPOINT
            try:
                held[CHECKPOINT] = notes.signed_by(note, log.key)
            except IndelibleError as error:
                raise LockBehind(
                    f"{place} is not signed by {log.origin}: {error.message}"
                ) from error
        witnessed = notes.published(log.tiles, WITNESSED, log.key)
        if witnessed is not None:
            held[WITNESSED] = witnessed
        return held

    def _publish(self, log: Log, head: Head) -> None:
        """Put in place what the readers of a log need, if it is not there."""
        policy = self.policy_of(log).text
        if log.tiles.published(POLICY) != policy:
            log.tiles.publish(POLICY, policy)
        note = log.tiles.published(CHECKPOINT)
        if note is None or Checkpoint.parse(open_note(note, [log.key]).text).size < head.size:
            log.tiles.publish(CHECKPOINT, head.note)

    def _tiles(self, row: LogRow) -> FolderTiles:
        return FolderTiles(self._data_dir / LEDGER_FOLDER / row.name)

    def _key_path(self, name: str) -> Path:
        return key_path(self._data_dir, name)


def _refuse(complaint: str | None) -> None:
    """
    Raises:
        LockBehind: there is a complaint.
    """
    if complaint is not None:
        raise LockBehind(complaint)


def key_path(data_dir: Path, name: str) -> Path:
    """Where the private key of a log lies."""
    return data_dir / KEYS_FOLDER / f"{name}.key"


def is_vacant(data_dir: Path, name: str) -> bool:
    """Whether a log of this name can be created: nothing of an older one is left."""
    folder = data_dir / LEDGER_FOLDER / name
    left = folder.is_dir() and any(folder.iterdir())
    return not left and not key_path(data_dir, name).exists()


def read_key(path: Path) -> Signer:
    """Read the private key of a log.

    Raises:
        LogKeyMissing: there is no key in the file.
    """
    try:
        return Signer.parse(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, KeyMalformed) as error:
        raise LogKeyMissing(f"{path} holds no key: {error}") from error


def _write_key(path: Path, signer: Signer) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if not path.exists():
        durable.write_file(path, f"{signer.text}\n".encode(), mode=0o600)
    # Also when they are there: the process that made them may have been killed before this.
    durable.sync_folder(path.parent)
    durable.sync_folder(path.parent.parent)


def _made_up_base() -> str:
    """An origin that nobody else has, for servers whose address nobody chose."""
    return f"indelible.localhost/{secrets.token_hex(8)}"
