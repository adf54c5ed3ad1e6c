"""`unique.db` as it is read: by the process that keeps it, and by others.

The file lags behind the journal. Its mark says, for each project, up to which row it knows every
key; whoever looks a key up scans the rows past the mark. Read the mark first: keys are only ever
added, so everything up to a mark that was read earlier is still there.
"""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw

from indelible.connections import Readers, identity_of
from indelible.journal.moments import BLOCK_BITS, Block
from indelible.journal.tables import INDEX_BITS

KEYS_FILE: Final = "unique.db"

HEAD_BYTES: Final = 16
"""So much of a key the file has. The whole key stands in the event's row; of an HMAC, 128 bits tell
as many events apart as there will ever be, and the file is a third smaller."""

_ASKED_AT_ONCE: Final = 256


class Mark(NamedTuple):
    """How far the keys of a project reach: the last row's id, and its transaction id."""

    last_id: int
    last_tx: bytes


class KeysFile:
    """The file, read through a connection for each thread."""

    def __init__(self, path: Path, *, vfs: str | None) -> None:
        self._readers = Readers(path, vfs=vfs)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """The row ids of those `keys` that are in the file."""
        reader = self._readers.mine()
        found: dict[bytes, int] = {}
        for start in range(0, len(keys), _ASKED_AT_ONCE):
            run = keys[start : start + _ASKED_AT_ONCE]
            heads = [key[:HEAD_BYTES] for key in run]
            # A statement costs more than a key: one for all, its last key repeated, so that few
            # statements are kept prepared.
            size = 1 << (len(heads) - 1).bit_length()
            heads += heads[-1:] * (size - len(heads))
            rows: list[Any] = reader.execute(_select(size), heads).fetchall()
            if rows:
                ids = dict(rows)
                found.update((key, ids[key[:HEAD_BYTES]]) for key in run if key[:HEAD_BYTES] in ids)
        return found

    def mark(self, project_id: int) -> Mark | None:
        """How far the file reaches in the project's log, or None if it has nothing of it."""
        rows: list[Any] = (
            self._readers.mine()
            .execute("SELECT last_id, last_tx FROM mark WHERE project_id = ?", (project_id,))
            .fetchall()
        )
        return Mark(*rows[0]) if rows else None

    def blocks(self, project_id: int, first: int) -> list[Block]:
        """The project's blocks from this number on, without a gap, as far as they are kept."""
        begin = project_id << (INDEX_BITS - BLOCK_BITS)
        try:
            rows = (
                self._readers.mine()
                .execute(
                    "SELECT id - ?, earliest, latest FROM block WHERE id >= ? AND id < ?"
                    " ORDER BY id",
                    (begin, begin + first, begin + (1 << (INDEX_BITS - BLOCK_BITS))),
                )
                .fetchall()
            )
        except apsw.Error:
            return []  # the rows have it all
        kept: list[Block] = []
        for number, earliest, latest in rows:
            if number != first + len(kept):
                break
            assert isinstance(earliest, bytes)
            assert isinstance(latest, bytes)
            kept.append(Block(earliest, latest))
        return kept

    def renew(self) -> None:
        """Open the file again: another one is in its place."""
        self._readers.renew()

    def close(self) -> None:
        """Close every connection."""
        self._readers.close()


class KeysElsewhere:
    """The keys that another process keeps, as far as its file has them.

    That process may make the file again when it starts, or the file may still be that of a journal
    that was replaced. So a mark counts only if the journal has the row that it names.

    `tx_of` returns the transaction id of a row, or None if the journal has no such row.
    """

    def __init__(
        self, path: Path, tx_of: Callable[[int], bytes | None], *, vfs: str | None
    ) -> None:
        self._path = str(path)
        self._tx_of = tx_of
        self._file = KeysFile(path, vfs=vfs)
        self._identity = identity_of(self._path)

    def find(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """See `KeysFile.find`; call it only for a project that has a mark."""
        return self._file.find(keys)

    def mark(self, project_id: int) -> Mark | None:
        """See `KeysFile.mark`."""
        identity = identity_of(self._path)
        if identity != self._identity:
            self._identity = identity
            self._file.renew()
        if identity is None:
            return None
        try:
            mark = self._file.mark(project_id)
        except (apsw.SQLError, apsw.CantOpenError):
            return None  # it is being made
        if mark is None or self._tx_of(mark.last_id) != mark.last_tx:
            return None
        return mark

    def blocks(self, project_id: int, first: int) -> list[Block]:
        """See `KeysFile.blocks`."""
        return [] if self.mark(project_id) is None else self._file.blocks(project_id, first)

    def close(self) -> None:
        """Close every connection."""
        self._file.close()


@cache
def _select(keys: int) -> str:
    return f"SELECT key, id FROM unique_key WHERE key IN ({', '.join('?' * keys)})"  # noqa: S608
