"""What an auditor remembers of a log: the last head that it found sound, and whom it believed.

A log that is truncated and signed again looks whole to whoever has never seen it. An auditor that
has, keeps the head it saw: a file for each log, in a folder of the auditor's own, never in the
data folder that it audits.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from indelible.durable import keep_folder, new_file
from indelible.errors import MemoryUnreadable
from indelible.untrusted import read_file

_VERSION: Final = 1
_MOST_BYTES: Final = 16 * 1024 * 1024  # two notes and two policies, and what JSON adds to them


@dataclass(frozen=True, slots=True)
class Remembered:
    """A head that was found sound.

    Attributes:
        checkpoint: the note, as it was published.
        witnessed: the note that had met the quorum, if there was one.
        policy: the policy by which it was believed.
        published_policy: the one that the log itself published then, if it did.
        at_ms: when that was.
    """

    origin: str
    size: int
    root: bytes
    checkpoint: str
    witnessed: str | None
    policy: str
    published_policy: str | None
    at_ms: int


class Memory:
    """The heads that one auditor remembers; the folder is made when the first is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path_of(self, origin: str) -> Path:
        """Where the head of a log is kept."""
        return self._folder / hashlib.sha256(origin.encode("utf-8", "surrogatepass")).hexdigest()

    def recall(self, origin: str) -> Remembered | None:
        """The last head of this log; None when it was never seen.

        Raises:
            MemoryUnreadable: something is kept there, and it is no head.
        """
        path = self.path_of(origin)
        try:
            kept: Any = json.loads(read_file(path, most_bytes=_MOST_BYTES))
            if kept["version"] != _VERSION or kept["origin"] != origin:
                raise MemoryUnreadable(f"{path} is not what this version of Indelible keeps")
            return Remembered(
                origin=origin,
                size=_typed(kept["size"], int),
                root=base64.b64decode(kept["root"], validate=True),
                checkpoint=_typed(kept["checkpoint"], str),
                witnessed=_typed(kept["witnessed"], str | None),
                policy=_typed(kept["policy"], str),
                published_policy=_typed(kept["published_policy"], str | None),
                at_ms=_typed(kept["at_ms"], int),
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            raise MemoryUnreadable(f"{path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
            raise MemoryUnreadable(f"{path} is not a head that was kept here") from error

    def keep(self, head: Remembered) -> None:
        """Remember `head` from now on.

        Raises:
            OSError, SyncFailed: what was remembered before still is.
        """
        path = self.path_of(head.origin)
        kept = {
            "version": _VERSION,
            "origin": head.origin,
            "size": head.size,
            "root": base64.b64encode(head.root).decode(),
            "checkpoint": head.checkpoint,
            "witnessed": head.witnessed,
            "policy": head.policy,
            "published_policy": head.published_policy,
            "at_ms": head.at_ms,
        }
        keep_folder(self._folder, mode=0o700)
        with new_file(path) as file:
            file.write(f"{json.dumps(kept, indent=1)}\n".encode())


def _typed(value: Any, wanted: Any) -> Any:
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise TypeError
    return value
