"""What a program did to a folder, call by call: made by running it below `recorder.c`.

The program is real code in a process of its own; both Python and SQLite reach the disk through
libc, so one layer sees plain files and databases alike. The program says in the same recording what
it has promised, by `mark`: an answer was given, a backup was reported. A recording is believed only
if it gives the folder as it is on disk in the end, to the byte.
"""

import ctypes
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from tests.foreign.needs import Missing
from tests.nursery import inherited

_SOURCE: Final = Path(__file__).with_name("recorder.c")
_HEAD: Final = struct.Struct("<BHHqqI")
_ROOT: Final = Path(__file__).parents[2]
_LONGEST_S: Final = 120.0

STOPPED: Final = 77
"""The exit code of a program that ended before a sync, as it was told to."""


class Op(IntEnum):
    """What a call did; the numbers are those of recorder.c."""

    CREATE = 1
    WRITE = 2
    TRUNCATE = 3
    SYNC = 4
    SYNC_FAILED = 5
    RENAME = 6
    UNLINK = 7
    LINK = 8
    MKDIR = 9
    RMDIR = 10
    MARK = 11
    ODD = 12


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        path: of the file, relative to the folder; "" is the folder itself.
        second: the new name of a RENAME or LINK.
        inode: of the file; reused by the file system, so it means the file that had it last.
        at: the offset of a WRITE, the size of a TRUNCATE.
        data: what a WRITE wrote, what a MARK says, what is ODD.
    """

    op: Op
    path: str = ""
    second: str = ""
    inode: int = 0
    at: int = 0
    data: bytes = b""

    def __str__(self) -> str:
        match self.op:
            case Op.MARK:
                return f"promised {self.data.decode()}"
            case Op.WRITE:
                return f"write {len(self.data)} bytes to {self.path} at {self.at}"
            case Op.RENAME | Op.LINK:
                return f"{self.op.name.lower()} {self.path} to {self.second}"
            case _:
                return f"{self.op.name.lower()} {self.path or 'the folder'}"


@dataclass(frozen=True, slots=True)
class Recording:
    """The folder as it was before, all of it durable, and what was done to it since."""

    before: Mapping[str, bytes | None]
    calls: tuple[Call, ...]

    def marks(self, end: int | None = None) -> list[dict[str, Any]]:
        """What was promised in the calls before `end`, in order."""
        return [json.loads(call.data) for call in self.calls[:end] if call.op is Op.MARK]


# For the program that is recorded.


def mark(promise: str, **facts: Any) -> None:
    """Say that something is promised from now on. Nothing happens where no one records."""
    said = json.dumps({"promise": promise, **facts}).encode()
    layer = _layer()
    if layer is not None:
        layer.power_mark(said, ctypes.c_size_t(len(said)))


def fail_syncs(ending: str) -> None:
    """Let every sync of a file whose path ends so fail with EIO; "" ends that."""
    layer = _layer()
    assert layer is not None, "nothing is recorded"
    layer.power_fail(ending.encode())


def _layer() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if "POWER_LOG" in os.environ else None


# For those who record.


def built(folder: Path) -> Path:
    """The layer, compiled into `folder` unless it is there.

    Raises:
        Missing: this machine has no C compiler, or is no Linux.
    """
    source = _SOURCE.read_bytes()
    library = folder / f"recorder-{hashlib.sha256(source).hexdigest()[:16]}.so"
    if library.exists():
        return library
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        raise Missing("no C compiler on PATH, or no Linux; on Debian: apt-get install gcc")
    draft = library.with_suffix(f".{os.getpid()}")
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(draft), str(_SOURCE)]
    command += ["-ldl", "-pthread"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_LONGEST_S)
    except subprocess.CalledProcessError as error:
        raise Missing(f"recorder.c cannot be compiled: {error.stderr}") from error
    draft.replace(library)
    return library


def record(
    library: Path,
    folder: Path,
    programs: Sequence[Sequence[str | Path]],
    *,
    source: Path | None = None,
    stop_after: str | None = None,
) -> Recording:
    """Run Python `programs` one after the other, and record what they do to `folder`.

    Each is killed where its work ends: what it leaves open stays open. `source` is a folder to
    import the product from instead of the one under test. `stop_after`: the first one ends, as by
    kill -9, before the first sync after a call on a path that ends so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    before = contents_of(folder)
    with tempfile.TemporaryDirectory() as elsewhere:
        log = Path(elsewhere, "recording")
        for number, program in enumerate(programs):
            env = {**inherited(), "LD_PRELOAD": str(library)}
            env |= {"POWER_ROOT": str(folder), "POWER_LOG": str(log)}
            env["PYTHONPATH"] = os.pathsep.join([*([str(source)] if source else []), str(_ROOT)])
            if stop_after is not None and number == 0:
                env["POWER_STOP_AFTER"] = stop_after
            ran = subprocess.run(
                [sys.executable, *program],
                env=env,
                cwd=elsewhere,
                capture_output=True,
                text=True,
                check=False,
                timeout=_LONGEST_S,
            )
            if ran.returncode != (0 if "POWER_STOP_AFTER" not in env else STOPPED):
                raise AssertionError(f"the program ended with {ran.returncode}: {ran.stderr}")
        calls = tuple(_read(log.read_bytes(), str(folder)))
    return Recording(before, calls)


def contents_of(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder by its relative path, and every folder with None. The index of a
    WAL is left out: power takes it, and SQLite makes it from the WAL."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if not path.name.endswith("-shm")
    }


def _read(data: bytes, folder: str) -> Iterator[Call]:
    at = 0
    while at < len(data):
        op, *sizes, a, b, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        parts: list[bytes] = []
        for size in (*sizes, length):
            parts.append(data[at : at + size])
            at += size
        names = [os.fsdecode(part).removesuffix(" (deleted)") for part in parts[:2]]
        path, second = (name.removeprefix(folder).removeprefix("/") for name in names)
        yield Call(Op(op), path, second, inode=a, at=b, data=parts[2])
