"""Which lines reach the application's log: each kind once until things go well again, and few."""

import threading
from collections.abc import Callable
from typing import Final

EACH_S: Final = 60.0
MOST: Final = 10
"""Lines of one lane in `EACH_S`, whatever happens."""

_MOST_KINDS: Final = 200


class Notices:
    """Remembers what was said. A kind is said again when things went well since, once a minute."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.RLock()  # a signal handler may have a notice too
        self._said_at: dict[str, float] = {}
        self._over: set[str] = set()
        self._recent: list[float] = []
        self._unsaid = 0

    def line(self, kind: str, what: str) -> str | None:
        """`what`, if it is to be said now; with how many lines were left out since the last one."""
        with self._lock:
            now = self._monotonic()
            last = self._said_at.get(kind)
            if last is not None and (kind not in self._over or now - last < EACH_S):
                return None
            self._recent = [at for at in self._recent if now - at < EACH_S]
            if len(self._recent) >= MOST:
                self._unsaid += 1
                return None
            if len(self._said_at) >= _MOST_KINDS:
                self._said_at.clear()
            self._recent.append(now)
            self._said_at[kind] = now
            self._over.discard(kind)
            unsaid, self._unsaid = self._unsaid, 0
            return f"{what} (and {unsaid:,} lines left out)" if unsaid else what

    def all_is_well(self) -> None:
        """What was said is over: it is news again, should it happen again."""
        with self._lock:
            self._over = set(self._said_at)
