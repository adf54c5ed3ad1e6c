"""Batches kept on disk until they are delivered: safe against kill -9, full disks and each other.

One folder for each process, and in it one file for each batch, named so that the order of names is
the order of capture:

    SPOOL/<process id>/lock                       held with flock(2) while the process lives
    SPOOL/<process id>/<ms since epoch>-<n>.batch
    SPOOL/refused/…                               what the server will not take, and files that
                                                  are damaged; nobody sends it

A file is an 8-byte head and then records:

    +----------------+----------------+-----------------------+
    | length  u32 be | crc32   u32 be | record, length bytes  |
    +----------------+----------------+-----------------------+

A record is one event as it will be sent, and never empty. What is damaged, or was cut short by a
crash, costs no record before it or behind it. A file whose head has another number than ours is of
another version: it is left where it is. When a process finds a folder whose lock nobody
holds, its owner is dead: it renames the files into its own folder, which only one of several can
do, and sends them first.

Everything here may raise OSError: the caller counts and goes on in memory.
"""

import contextlib
import errno
import os
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

try:
    import fcntl
except ImportError:  # no flock on this system, so no way to know that an owner is dead
    fcntl = None  # type: ignore[assignment]

HEAD: Final = b"INDSPL1\n"
MAX_RECORD_BYTES: Final = 32 << 20
FILE_BYTES: Final = 4_096
"""What a file takes on disk beyond its records, at most: a block that is not full."""
REFUSED_SHARE: Final = 4
"""`refused/` may have this part of what the rest of the spool may, beside it."""

_ANY_VERSION: Final = re.compile(rb"INDSPL\d")
_NAME: Final = re.compile(r"\d{1,15}-")
_FRAME: Final = struct.Struct(">II")
_FIRST_OF_LENGTH: Final = re.compile(rb"[\0-\2]")  # up to 32 MiB; in no JSON text
_SUFFIX: Final = ".batch"
_LOCK: Final = "lock"
REFUSED: Final = "refused"


def frame(record: bytes) -> bytes:
    """One record with its length and checksum."""
    return _FRAME.pack(len(record), zlib.crc32(record)) + record


def begun_at_ms(name: str) -> int:
    """When the first event of a file was captured, by the file's name; 0 where it does not say.

    >>> begun_at_ms("001794700000000-00000001.batch"), begun_at_ms("copy of it.batch")
    (1794700000000, 0)
    """
    return int(name.partition("-")[0]) if _NAME.match(name) else 0


class Contents(NamedTuple):
    """What a file holds: its whole records, in order, and whether that is all of it."""

    records: list[bytes]
    is_whole: bool


def contents_of(data: bytes) -> Contents:
    """Read a file, over what is damaged to the next record that is whole.

    >>> first, second = frame(b"a"), frame(b"b")
    >>> contents_of(HEAD + first + second)
    Contents(records=[b'a', b'b'], is_whole=True)
    >>> contents_of(HEAD + first[:-1] + second)
    Contents(records=[b'b'], is_whole=False)
    """
    if not data.startswith(HEAD):
        return Contents([], is_whole=False)
    records: list[bytes] = []
    start, is_whole = len(HEAD), True
    while start < len(data):
        record = _record_at(data, start)
        if record is None:
            is_whole = False
            # Its length may be what is damaged: only a checksum shows where the next one begins.
            next_one = _FIRST_OF_LENGTH.search(data, start + 1)
            start = len(data) if next_one is None else next_one.start()
        else:
            records.append(record)
            start += _FRAME.size + len(record)
    return Contents(records, is_whole)


def _record_at(data: bytes, start: int) -> bytes | None:
    body = start + _FRAME.size
    if body >= len(data):
        return None
    length, crc = _FRAME.unpack_from(data, start)
    if not 0 < length <= min(MAX_RECORD_BYTES, len(data) - body):
        return None
    record = data[body : body + length]
    return record if zlib.crc32(record) == crc else None


class SpoolFile:
    """The file of one batch, while it is filled."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size_bytes = 0
        self._entered = False
        # Unbuffered: what `append` returned from is the kernel's, and survives a kill -9.
        self._file: BinaryIO | None = path.open("xb", buffering=0)
        try:
            self._write(HEAD)
        except OSError:
            self.seal()
            path.unlink()
            raise

    def append(self, records: Sequence[bytes], *, sync: bool) -> None:
        """Add records; with `sync`, they survive power loss on return.

        Raises:
            OSError: none of them may be taken as kept. What was written in part is cut off again.
        """
        before = self.size_bytes
        if any(len(record) > MAX_RECORD_BYTES for record in records):
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))  # no reader would take it
        try:
            self._write(b"".join(map(frame, records)))
            if sync and self._file is not None:
                os.fsync(self._file.fileno())
                self._enter()
        except OSError:
            self._cut(before)
            raise

    def _enter(self) -> None:
        """Make the name durable too, once: a synced file without a name is lost."""
        if not self._entered:
            _sync_folder(self.path.parent)
            self._entered = True

    def seal(self) -> None:
        """Nothing more will be added."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise OSError(errno.EBADF, "the batch is closed")
        written = self._file.write(data)
        if written != len(data):  # a full disk takes a part
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size_bytes += written

    def _cut(self, size: int) -> None:
        if self._file is None:
            return
        try:
            os.ftruncate(self._file.fileno(), size)
            self._file.seek(size)
            self.size_bytes = size
        except OSError:  # the reader stops at the damaged record by itself
            self.seal()


class Spool:
    """The spool of one process.

    Not for two threads at once, except `used_bytes`.

    Args:
        folder: shared by all processes that send for the same project.
        process_id: names this process's folder; unique.
        max_bytes: most that all folders together may hold, and a quarter of it beside that in
            `refused/`. A file counts in whole blocks of 4 KiB. What other processes write is looked
            up now and then, so they may exceed it by what they write meanwhile.

    Attributes:
        passed_over: a folder with files of another version, if the last look found one.
        is_full_of_refused: whether `refuse` found no room the last time.

    Raises:
        OSError: the folder cannot be made or locked, or the system has no flock.
    """

    def __init__(self, folder: Path, process_id: str, *, max_bytes: int) -> None:
        if fcntl is None:
            raise OSError(errno.ENOSYS, "no flock on this system")
        self.folder = folder
        self._own = folder / process_id
        self._max_bytes = max_bytes
        self._number = 0
        self._used: int | None = None
        self._refused: int | None = None
        self.passed_over: Path | None = None
        self.is_full_of_refused = False
        _keep_folder(folder)
        # Made under another name first: a folder without a held lock would be taken for a dead
        # process's, and emptied.
        making = folder / f".{process_id}"
        making.mkdir(mode=0o700)
        self._lock = os.open(making / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        making.rename(self._own)
        _sync_folder(folder)

    def create(self, at_ms: int) -> SpoolFile:
        """Begin the file of a batch whose first event was captured at `at_ms`."""
        self._number += 1
        return SpoolFile(self._own / f"{at_ms:015d}-{self._number:08d}{_SUFFIX}")

    def has_room(self, size_bytes: int) -> bool:
        """Whether so many bytes more are within the limit, over all processes."""
        if self._used is None:
            folders = [path for path in names_in(self.folder) if path.name != REFUSED]
            self._used = sum(_size(path) for folder in folders for path in batches_in(folder))
        return self._used + size_bytes <= self._max_bytes

    def grew(self, size_bytes: int) -> None:
        """Note what was written since; other processes' share is looked up now and then."""
        if self._used is not None:
            self._used += size_bytes

    def look_again(self) -> None:
        """Forget how much is used: the next question walks the folders."""
        self._used = self._refused = None

    def read(self, path: Path) -> Contents:
        """What a batch's file holds."""
        return contents_of(path.read_bytes())

    def remove(self, path: Path) -> None:
        """Let go of a batch that was delivered."""
        size = _size(path)
        path.unlink(missing_ok=True)
        if self._used is not None:
            self._used = max(0, self._used - size)

    def refuse(self, records: Sequence[bytes], at_ms: int) -> Path | None:
        """Put aside what the server will not take, for a person to look at; nobody sends it.

        None when as much as may be is there. `indelible spool` shows it, and sends it again.
        """
        size = sum(map(len, records)) + _FRAME.size * len(records) + FILE_BYTES
        self.is_full_of_refused = not self._has_room_aside(size)
        if self.is_full_of_refused:
            return None
        aside = self._aside()
        self._number += 1
        file = SpoolFile(aside / f"{at_ms:015d}-{self._named_aside}-{self._number:08d}{_SUFFIX}")
        try:
            # Synced: the batch that it comes from is removed next.
            file.append(records, sync=True)
        finally:
            file.seal()
        return file.path

    def _has_room_aside(self, size_bytes: int) -> bool:
        """Whether so many bytes more may be put aside; if so, they are taken to be there."""
        if self._refused is None:
            self._refused = sum(map(_size, batches_in(self.folder / REFUSED)))
        if self._refused + size_bytes > self._max_bytes // REFUSED_SHARE:
            return False
        self._refused += size_bytes
        return True

    def bring_back(self, path: Path, at_ms: int) -> None:
        """Take a file that was put aside among those to be sent, as one begun at `at_ms`.

        After a power cut it may be where it was before.
        """
        self._number += 1
        path.rename(self._own / f"{at_ms:015d}-{self._number:08d}{_SUFFIX}")

    def put_aside(self, path: Path) -> Path | None:
        """Keep a batch's file, which cannot be read whole, with what the server will not take.

        None when as much as may be is there: the file, whose other records are delivered, is gone.
        """
        if not self._has_room_aside(_size(path)):
            self.remove(path)
            return None
        aside = self._aside()
        stem = path.name.removesuffix(_SUFFIX)
        return path.rename(aside / f"{stem}-{self._named_aside}-damaged{_SUFFIX}")

    @property
    def _named_aside(self) -> str:
        """Tells a file apart from those of the process's other spools, wherever it is moved."""
        return f"{self.folder.name}-{self._own.name}"

    def _aside(self) -> Path:
        """The folder for what nobody sends, made durably."""
        aside = self.folder / REFUSED
        aside.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(self.folder)
        return aside

    def adopt(self) -> list[Path]:
        """Take over what dead processes left, oldest first."""
        self.passed_over = None
        adopted = [
            path
            for folder in sorted(self.folder.iterdir())
            if folder.name not in (self._own.name, REFUSED) and not folder.name.startswith(".")
            for path in self._take_over(folder)
        ]
        return sorted(adopted, key=lambda path: path.name)

    def _take_over(self, folder: Path) -> Iterator[Path]:
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # somebody else was faster and removed it, or it is no folder
            return
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # its owner lives
                return
            for path in batches_in(folder):
                if _is_of_another_version(path):
                    self.passed_over = folder
                    continue
                self._number += 1
                began = begun_at_ms(path.name)
                mine = self._own / f"{began:015d}-{self._number:08d}{_SUFFIX}"
                try:
                    path.rename(mine)
                except FileNotFoundError:
                    continue
                yield mine
            _remove_folder(folder)
        finally:
            os.close(lock)

    def close(self) -> None:
        """Give up the lock; what is still here may be adopted by others."""
        try:
            if not batches_in(self._own):
                _remove_folder(self._own)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go of the lock's descriptor only: a forked child must not keep its parent's lock."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _keep_folder(folder: Path) -> None:
    """Make the folder if it is missing, and every name on the way to it durable.

    Also where they are there: another process may have made them a moment ago, or have been killed
    before it could sync.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in (folder, *folder.parents):
        if one.is_mount():
            break
        with contextlib.suppress(PermissionError):  # not readable, so not this user's own
            _sync_folder(one.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_folder(folder: Path) -> None:
    try:
        (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()
    except OSError:
        # Not empty, or another process looks at it at this moment; the next one will remove it.
        return


def batches_in(folder: Path) -> list[Path]:
    """The files of batches in a folder, by name."""
    return [path for path in names_in(folder) if path.name.endswith(_SUFFIX)]


def names_in(folder: Path) -> list[Path]:
    """What is in a folder, by name; nothing if it is gone, as those of others may be any time."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_of_another_version(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(len(HEAD))
    except OSError:
        return False
    return head != HEAD and _ANY_VERSION.match(head) is not None


def _size(path: Path) -> int:
    """What a file takes on disk, in whole blocks."""
    try:
        return -(-path.stat().st_size // FILE_BYTES) * FILE_BYTES
    except OSError:
        return 0
