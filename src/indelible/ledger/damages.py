"""What is known to be damaged, and how far the scrub has come: `DATA/scrub.json`.

For health, which must not turn green because the server was restarted. Nothing else depends on the
file: it is written without a sync, and one that cannot be read is begun again.
"""

import json
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from indelible.metrics import DAMAGED_PLACES

logger = logging.getLogger(__name__)

SCRUB_FILE: Final = "scrub.json"
NOTES: Final = -1
"""Stands where the number of a tile does, for a log's notes."""

_MOST_KEPT: Final = 1_000
_MOST_SHOWN: Final = 20


class Damages:
    """Damaged places by log and by number of the tile that they belong to; safe from any thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int], tuple[str, ...]] = {}
        self._positions: dict[str, int] = {}
        with suppress(FileNotFoundError):
            try:
                held = json.loads(path.read_bytes())
                self._found = {
                    (str(log), int(number)): tuple(map(str, sentences))
                    for log, number, sentences in held["damages"]
                }
                self._positions = {str(log): int(at) for log, at in held["positions"].items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                logger.warning("%s is damaged (%s): begun again", path, type(error).__name__)
        DAMAGED_PLACES.set(self._count())

    def add(self, log: str, number: int, sentence: str) -> None:
        """Report one place, once."""
        with self._lock:
            before = self._found.get((log, number), ())
            if sentence not in before:
                self._settle(log, number, (*before, sentence))

    def settle(self, log: str, number: int, sentences: Sequence[str]) -> None:
        """Say all that is damaged around this tile, which was looked at as a whole."""
        with self._lock:
            if self._found.get((log, number), ()) != tuple(sentences):
                self._settle(log, number, tuple(sentences))

    def numbers(self, log: str) -> list[int]:
        """The tiles of a log around which something is damaged, but for its notes."""
        with self._lock:
            return sorted(number for name, number in self._found if name == log and number >= 0)

    def sentences(self) -> list[str]:
        """What is damaged, a sentence each; of a great many the first."""
        with self._lock:
            found = [sentence for said in self._found.values() for sentence in said]
        shown = found[:_MOST_SHOWN]
        more = len(found) - len(shown)
        return [*shown, f"and {more:,} more damaged places: see the log"] if more else shown

    def position(self, log: str) -> int:
        """The tile that the scrub looks at next."""
        return self._positions.get(log, 0)

    def move(self, log: str, position: int) -> None:
        """Remember the next tile; `save` writes it."""
        with self._lock:
            self._positions[log] = position

    def save(self) -> None:
        """Write the file; what keeps it from being written is no reason to stop."""
        with self._lock:
            self._save()

    def _settle(self, log: str, number: int, sentences: tuple[str, ...]) -> None:
        before = self._found.pop((log, number), ())
        for sentence in sentences:
            if sentence not in before:
                logger.error("damaged: %s", sentence)
        if sentences and len(self._found) < _MOST_KEPT:
            self._found[log, number] = sentences
        if before and not sentences:
            logger.warning("%s: what was damaged around tile %d is sound again", log, number)
        DAMAGED_PLACES.set(self._count())
        self._save()

    def _count(self) -> int:
        return sum(map(len, self._found.values()))

    def _save(self) -> None:
        content = json.dumps(
            {
                "positions": self._positions,
                "damages": [[*place, said] for place, said in self._found.items()],
            }
        )
        draft = self._path.with_suffix(".tmp")
        try:
            draft.touch(mode=0o600)
            draft.write_text(content)
            draft.replace(self._path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._path, error)
