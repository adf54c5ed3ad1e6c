"""A data folder that may be forged: one log of it, copied, with its journal, its lock and its key.

What an operator could do to a log is done here with the means of an operator: rows changed behind
the server's back, tiles written anew, and whatever head one likes, signed with the log's own key.
"""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Final

from indelible.errors import NotAttackable
from indelible.folder import private
from indelible.journal.copying import copy_file
from indelible.journal.forgeable import ForgeableRows
from indelible.layout import JOURNAL_FILE, KEYS_FOLDER, LEDGER_FOLDER, LOCK_FILE
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.note import Signer
from indelible.ledger.format.tile import TileHashes, tiles_between
from indelible.ledger.format.tree import prove_root
from indelible.ledger.growth import MOST_ENTRIES, integrate
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.tilestore import FolderTiles
from indelible.untrusted import read_below

_MOST_KEY_BYTES: Final = 4_096


class Copy:
    """The copy; `log` is the log of the project `project_id`."""

    def __init__(self, folder: Path, log: str, project_id: int) -> None:
        self.folder = folder
        self.log = log
        self.project_id = project_id
        self.rows = ForgeableRows(folder / JOURNAL_FILE, project_id)

    @classmethod
    def of(cls, source: Path, folder: Path, *, log: str, project_id: int) -> "Copy":
        """Copy what matters of a data folder, also beside a server that writes to it.

        Raises:
            NotAttackable: a part of it is missing.
        """
        parts = [source / JOURNAL_FILE, source / LOCK_FILE, source / KEYS_FOLDER / f"{log}.key"]
        for path in (*parts, source / LEDGER_FOLDER / log):
            if not path.exists():
                raise NotAttackable(f"{path} is not there")
        (folder / KEYS_FOLDER).mkdir(parents=True, mode=0o700)
        copy = cls(folder, log, project_id)
        _copy_log(FolderTiles(source / LEDGER_FOLDER / log), copy)
        # After the files: lock and journal may be ahead of them, never behind.
        for path in parts[:2]:
            copy_file(path, folder / path.name)
        key = read_below(source, f"{KEYS_FOLDER}/{parts[2].name}", most_bytes=_MOST_KEY_BYTES)
        private(folder / KEYS_FOLDER / parts[2].name).write_bytes(key)
        return copy

    def again(self, folder: Path) -> "Copy":
        """A copy of the copy."""
        shutil.copytree(self.folder, folder)
        return Copy(folder, self.log, self.project_id)

    @property
    def files(self) -> Path:
        """The log's folder."""
        return self.folder / LEDGER_FOLDER / self.log

    @property
    def tiles(self) -> FolderTiles:
        return FolderTiles(self.files)

    @property
    def signer(self) -> Signer:
        """The log's own key."""
        return Signer.parse((self.folder / KEYS_FOLDER / f"{self.log}.key").read_text("utf-8"))

    @property
    def checkpoint(self) -> Checkpoint:
        """What is published; whether it is signed does not matter here."""
        return Checkpoint.parse(self.note.rpartition("\n\n")[0] + "\n")

    @property
    def note(self) -> str:
        note = self.tiles.published(CHECKPOINT)
        assert note is not None
        return note

    def root(self, size: int) -> bytes:
        """The root of the first `size` events, by the tiles that lie there."""
        return prove_root(TileHashes(self.tiles.read, self.checkpoint.size), size)

    def sign(self, size: int, root: bytes) -> str:
        """What a log says at this size, signed with its own key."""
        signer = self.signer
        return signer.sign(Checkpoint(signer.key.name, size, root).text)

    def sign_anew(self, size: int) -> None:
        """Make every tile again from the journal, sign, and have lock and checkpoint agree."""
        shutil.rmtree(self.files / "tile", ignore_errors=True)
        self.write_tiles(size)
        self.show(size, prove_root(TileHashes(self.tiles.read, size), size))

    def write_tiles(self, size: int) -> None:
        """The tiles and bundles of the first `size` events of the journal, where they are not."""
        entries = self.rows.leaves(size)
        for start in range(0, len(entries), MOST_ENTRIES):
            integrate(self.tiles, start, entries[start : start + MOST_ENTRIES])

    def show(self, size: int, root: bytes) -> None:
        """Sign and publish this head; the lock is a new one, and knows of no other."""
        note = self.sign(size, root)
        lock = self.folder / LOCK_FILE
        lock.unlink()
        with closing(LockStore(lock, may_create=True)) as store:
            store.create(Head(self.signer.key.name, size, root, note))
        (self.files / CHECKPOINT).write_text(note, "utf-8")
        (self.files / WITNESSED).unlink(missing_ok=True)


def _copy_log(source: FolderTiles, copy: Copy) -> None:
    """The notes, and the tiles that the checkpoint demands: no others are there to stay.

    Raises:
        NotAttackable: there is no checkpoint.
        NoteMalformed, TileMissing.
    """
    # Before the checkpoint: so it is the older of the two whatever a server does meanwhile.
    witnessed = source.published(WITNESSED)
    notes = {
        WITNESSED: witnessed,
        **{name: source.published(name) for name in (CHECKPOINT, POLICY)},
    }
    if notes[CHECKPOINT] is None:
        raise NotAttackable(f"{source.folder / CHECKPOINT} is not there")
    for name, note in notes.items():
        if note is not None:
            copy.tiles.publish(name, note)
    for tile in tiles_between(0, copy.checkpoint.size):
        path = copy.files / tile.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(*source.read([tile]))
