"""What a spool put aside because no server took it: to look at, to send again, or to delete.

It is used by the command line, beside processes that use the same spool.
"""

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from indelible.client.options import ENVIRONMENT, Options
from indelible.client.spool import (
    FILE_BYTES,
    REFUSED,
    Spool,
    batches_in,
    begun_at_ms,
    contents_of,
    names_in,
)

_DAMAGED: Final = "-damaged.batch"


@dataclass(frozen=True, slots=True)
class Refused:
    """One file that was put aside.

    Attributes:
        at_ms: when its first event was captured.
        names: how many events of each name there are.
        damaged: it could not be read whole; its other events were delivered.
    """

    path: Path
    at_ms: int
    size_bytes: int
    names: Counter[str]
    damaged: bool

    @property
    def name(self) -> str:
        """Its spool and its file: two spools of one process may have files of one name."""
        return f"{self.path.parent.parent.name}/{self.path.name}"

    @property
    def events(self) -> int:
        return self.names.total()


@dataclass(frozen=True, slots=True)
class State:
    """One spool: what waits in it, and what was refused."""

    folder: Path
    waiting_files: int
    waiting_bytes: int
    refused: list[Refused]


def default_folder() -> Path:
    """The folder of all spools of this user, or the one that the environment names.

    Raises:
        RuntimeError: the user has no home.
    """
    given = os.environ.get(ENVIRONMENT["spool_dir"][0], "").strip()
    return Path(given) if given else Options().spool_folder("audit", "", "").parent


def spools_in(folder: Path) -> list[State]:
    """The spools in a folder, by name.

    Raises:
        OSError: it may not be read.
    """
    return [_state(path) for path in names_in(folder) if path.is_dir() and not path.is_symlink()]


def _state(folder: Path) -> State:
    owners = [path for path in names_in(folder) if path.name != REFUSED]
    waiting = [path for owner in owners for path in batches_in(owner)]
    aside = [path for path in batches_in(folder / REFUSED) if not path.is_symlink()]
    return State(
        folder,
        waiting_files=len(waiting),
        waiting_bytes=sum(map(_length, waiting)),
        refused=[_refused(path) for path in aside],
    )


def _refused(path: Path) -> Refused:
    records, is_whole = contents_of(path.read_bytes())
    return Refused(
        path,
        begun_at_ms(path.name),
        _length(path),
        Counter(map(_name_of, records)),
        damaged=not is_whole or path.name.endswith(_DAMAGED),
    )


def _name_of(record: bytes) -> str:
    with contextlib.suppress(ValueError, AttributeError):
        event = json.loads(record)
        name = event.get("event") or event.get("meta", {}).get("event_name")
        if isinstance(name, str):
            return name
    return "?"


def resend(state: State, files: Sequence[Refused]) -> int:
    """Give files back to the spool, for whichever process looks next; how many events they hold.

    They count as captured now, so that none expires for having been refused long ago.

    Raises:
        OSError: some of them may still be where they were; none is lost.
    """
    # Its folder is locked while it is filled: nobody takes half of it, and a crash leaves all.
    spool = Spool(state.folder, f"resent-{os.urandom(8).hex()}", max_bytes=FILE_BYTES)
    try:
        now_ms = time.time_ns() // 1_000_000
        for file in files:
            spool.bring_back(file.path, now_ms)
    finally:
        spool.abandon()
    return sum(file.events for file in files)


def drop(files: Sequence[Refused]) -> None:
    """Delete files for good."""
    for file in files:
        file.path.unlink(missing_ok=True)


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
