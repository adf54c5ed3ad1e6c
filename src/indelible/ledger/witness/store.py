"""What a witness keeps in its folder.

    witness.key    its private key, in one line, mode 0600
    witness.db     the last checkpoint it cosigned for each origin, and the evidence it keeps

They are made together, once, by an explicit order, and belong together for ever. A witness that has
lost one of them is retired; one that was restored from a backup must be retired too.
LIMIT: an old copy of both, put back in place, cannot be told from the newest.
"""

from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import apsw

from indelible import durable
from indelible.connections import Readers, open_for_writing
from indelible.errors import AlreadyExists, KeyMalformed, WitnessMissing, WitnessRefused
from indelible.folder import hold, private
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.note import parse_note

KEY_FILE: Final = "witness.key"
DATABASE_FILE: Final = "witness.db"

_SCHEMA: Final = """
CREATE TABLE witness (vkey TEXT NOT NULL);
CREATE TABLE cosigned (
    origin  TEXT PRIMARY KEY,
    size    INTEGER NOT NULL,
    root    BLOB NOT NULL,
    note    TEXT NOT NULL      -- the checkpoint with its log's signatures and our cosignature
) WITHOUT ROWID;
CREATE TABLE evidence (
    id      INTEGER PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    origin  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    digest  BLOB NOT NULL UNIQUE,   -- of the reason and of what the log signed
    body    TEXT NOT NULL,          -- the request
    seen    TEXT                    -- what we had cosigned by then; NULL: nothing
);
CREATE INDEX evidence_of ON evidence (origin, reason);
CREATE TABLE left_out (
    origin  TEXT NOT NULL,
    reason  TEXT NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (origin, reason)
) WITHOUT ROWID;
"""


_DAMAGED: Final = (apsw.CorruptError, apsw.NotADBError, apsw.SQLError)
"""What SQLite says of the file itself; every other error is of the machine around it."""


class Reason(StrEnum):
    """Why a request that the log had signed was refused and kept."""

    OTHER_ROOT = "other_root"
    """The log has signed two roots for one size: with the checkpoint beside it, proof of a fork."""
    NOT_CONSISTENT = "not_consistent"
    """The proof does not lead from the last checkpoint to this one."""
    EMPTY_ROOT = "empty_root"
    """The log has signed a root for size 0 that is not the empty tree's."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A refused request; `seen` is the note that the witness had cosigned by then, if any."""

    at_ms: int
    origin: str
    reason: Reason
    body: str
    seen: str | None

    @property
    def size(self) -> int:
        """The size of the checkpoint that was refused."""
        return _size(self.body.partition("\n\n")[2])

    @property
    def seen_size(self) -> int | None:
        """The size that the witness had cosigned by then."""
        return None if self.seen is None else _size(self.seen)


def create(folder: Path, name: str) -> None:
    """Make a new witness with a new key named `name` in `folder`, which is made if need be.

    Raises:
        AlreadyExists: the folder has one, or a part of one.
        KeyMalformed: a key cannot have this name.
        OSError, apsw.Error: the disk is full, or refuses it; nothing is left of it.
    """
    cosigner = Cosigner.generate(name)
    durable.keep_folder(folder, mode=0o700)
    with hold(folder):
        for part in (KEY_FILE, DATABASE_FILE):
            if (folder / part).exists():
                raise AlreadyExists(
                    f"{folder / part} is there already",
                    hint="Start that witness without --new, or give a new one another folder.",
                )
        try:
            database = open_database(private(folder / DATABASE_FILE))
            with database:
                database.execute(_SCHEMA)
                database.execute("INSERT INTO witness (vkey) VALUES (?)", (cosigner.key.text,))
            database.close()
            # power lost here: a database without a key, which is refused and has signed nothing
            durable.write_file(folder / KEY_FILE, f"{cosigner.text}\n".encode(), mode=0o600)
            durable.sync_folder(folder)
        except BaseException:
            if not (folder / KEY_FILE).exists():  # on a full disk, say: then it can be made again
                for left in folder.glob(f"{DATABASE_FILE}*"):
                    left.unlink()
            raise


def read_key(folder: Path) -> Cosigner:
    """The key of the witness in `folder`.

    Raises:
        WitnessMissing: there is none, and no database either.
        WitnessRefused: the key is not there, or is none, though the database is.
    """
    path = folder / KEY_FILE
    try:
        return Cosigner.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        if (folder / DATABASE_FILE).exists():
            raise WitnessRefused(f"{path} is not there; its database is") from None
        raise WitnessMissing(f"{folder} holds no witness") from None
    except (KeyMalformed, UnicodeDecodeError) as error:
        raise WitnessRefused(f"{path} is not the key of a witness: {error}") from None


def read_evidence(folder: Path) -> tuple[list[Evidence], int]:
    """What the witness in `folder` has kept, oldest first, and how much it left out.

    It may be serving meanwhile.

    Raises:
        WitnessMissing: there is none.
        WitnessRefused: its database is damaged.
        apsw.Error: the disk does not let it be read.
    """
    path = folder / DATABASE_FILE
    if not path.exists():
        raise WitnessMissing(f"{folder} holds no witness")
    readers = Readers(path, vfs=None)
    try:
        connection = readers.mine()
        rows: list[Any] = connection.execute(
            "SELECT at_ms, origin, reason, body, seen FROM evidence ORDER BY id"
        ).fetchall()
        left_out: int = connection.execute("SELECT coalesce(sum(count), 0) FROM left_out").get
    except _DAMAGED as error:
        raise WitnessRefused(f"{path} cannot be read: {error}") from error
    finally:
        readers.close()
    return [Evidence(at, origin, Reason(why), *rest) for at, origin, why, *rest in rows], left_out


def compare(path: Path, cosigner: Cosigner) -> None:
    """
    Raises:
        WitnessRefused: this is not the database that was made with this key.
        apsw.Error: the disk does not let it be read, which says nothing of the database.
    """
    if not path.exists():
        raise WitnessRefused(f"{path} is not there; its key is")
    try:
        readers = Readers(path, vfs=None)
        try:
            vkey = readers.mine().execute("SELECT vkey FROM witness").get
        finally:
            readers.close()
    except _DAMAGED as error:
        raise WitnessRefused(f"{path} is not the database of a witness: {error}") from error
    if vkey != cosigner.key.text:
        raise WitnessRefused(f"{path} is the database of another witness: {vkey}")


def open_database(path: Path) -> apsw.Connection:
    connection = open_for_writing(path, vfs=None, cache_kib=1024)
    connection.execute("PRAGMA synchronous = FULL")  # an answer of 200 survives power loss
    return connection


def close_database(connection: apsw.Connection) -> None:
    with suppress(apsw.Error):
        connection.close()


def _size(note: str) -> int:
    return Checkpoint.parse(parse_note(note).text).size
