"""What a server refuses, told in its log at most once a minute for each code.

A refusal is told by the sentence of its class and the template of its route, since its message may
quote what was sent; only errors that are the server's own fault are told by their message.
"""

import asyncio
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal

from indelible.errors import EventRefused, IndelibleError, Overloaded, Unavailable
from indelible.fault import place_of
from indelible.voice import many, tell

EVERY_S: Final = 60.0
"""A kind of refusal is told at once, and then at most once in this time, with a count."""


@dataclass(slots=True)
class _Kind:
    """One kind of refusal, and how many came since it was told."""

    level: int
    event: Literal["refused", "closed"]
    code: str
    sentence: str
    count: int = 0
    routes: Counter[str] = field(default_factory=Counter)
    timer: asyncio.TimerHandle | None = None

    def tell(self) -> None:
        """Write the line, and count from 0 again."""
        most = max(self.routes, key=self.routes.__getitem__, default=None)
        noun = "request" if self.event == "refused" else "connection"
        where = "" if most is None else f" {'mostly ' if len(self.routes) > 1 else ''}to {most}"
        tell(
            self.level,
            f"{self.event} {many(self.count, noun)}{where}: {self.code}: {self.sentence}",
            event=self.event,
            code=self.code,
            route=most,
            count=self.count,
        )
        self.count = 0
        self.routes.clear()


class Refusals:
    """Tells what was refused: the first of a kind at once, the others as a count a minute later.

    Refusing costs an attacker nothing, so a line for each would let anyone fill the disk. Codes and
    routes are from closed lists, so what is kept is bounded. All of it belongs to the thread of one
    event loop; call `close` before that loop ends.
    """

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        self._every_s = every_s
        self._kinds: dict[str, _Kind] = {}

    def refused(self, error: IndelibleError, route: str | None) -> None:
        """Count a request that was answered with `error`; `route` is a template, or None."""
        level = logging.WARNING if error.http_status >= 500 else logging.INFO
        match error:
            case Unavailable() | Overloaded() | EventRefused():  # they quote nothing that was sent
                sentence = error.message
            case _:
                sentence = error.summary
        self._add(error.code, _Kind(level, "refused", error.code, sentence), route)

    def refused_as(self, code: str, sentence: str, route: str | None) -> None:
        """Count a request that was refused in a protocol with codes of its own."""
        self._add(code, _Kind(logging.INFO, "refused", code, sentence), route)

    def failed(self, error: BaseException, route: str | None) -> None:
        """Count a request that a fault of ours ended; each place in the code is told by itself."""
        code, sentence = IndelibleError.code, f"{type(error).__name__} in {place_of(error)}"
        kind = _Kind(logging.ERROR, "refused", code, sentence)
        self._add(f"{code} {sentence}", kind, route)

    def closed(self, reason: str, sentence: str) -> None:
        """Count a connection that was closed without an answer."""
        self._add(reason, _Kind(logging.INFO, "closed", reason, sentence), None)

    def close(self) -> None:
        """Tell what has been counted, and forget it."""
        for kind in self._kinds.values():
            if kind.timer is not None:
                kind.timer.cancel()
            if kind.count:
                kind.tell()
        self._kinds.clear()

    def _add(self, key: str, new: _Kind, route: str | None) -> None:
        kind = self._kinds.setdefault(key, new)
        kind.sentence = new.sentence  # of the latest, as the state of a disk
        kind.count += 1
        if route is not None:
            kind.routes[route] += 1
        if kind is new:
            self._tell(key)

    def _tell(self, key: str) -> None:
        kind = self._kinds[key]
        if kind.count == 0:
            del self._kinds[key]
            return
        kind.tell()
        kind.timer = asyncio.get_running_loop().call_later(self._every_s, self._tell, key)
