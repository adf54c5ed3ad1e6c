"""Whether the server is well, and which part is not.

`/healthz` is answered on the event loop, so it must not touch a disk that may hang. A thread, the
lookout, reads the disk and keeps the figures in memory; the answer is built from those and from
the state that other parts hold in memory. If the lookout does not return from a read, the disk
hangs, and health says so.
"""

import asyncio
import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import msgspec

from indelible.connections import SqliteError
from indelible.event import Lane
from indelible.journal.disk import DiskGuard, Reserve
from indelible.parts import Look, Part, PartHealth, Word, form_of_health, off_the_loop
from indelible.pulse import Pulse

logger = logging.getLogger(__name__)

HANGS_S: Final = 1.5
"""Report that the disk hangs if a read by the lookout takes longer than this."""

_PERIOD_S: Final = 0.4
_FRESH_WITHIN_S: Final = 0.25  # how long an answer waits for fresh figures

_WORDS: Final[list[Word]] = ["ok", "degraded", "failing"]


class DiskHealth(PartHealth):
    """Each lane stops below its floor; `degraded` when one has stopped, `failing` when both.
    `failure` says why the data folder cannot be read, or is null."""

    failure: str | None
    free_percent: float
    product_min_free_percent: float
    audit_min_free_percent: float
    takes_product: bool
    takes_audit: bool


class Lookout:
    """Makes the parts' looks at the disk on its own thread, and reports the health of each part."""

    def __init__(self, *, pulse: Pulse) -> None:
        self.parts: Sequence[Part] = ()
        self.form: type[msgspec.Struct] = form_of_health(())
        """The type that `health` returns."""
        self._pulse = pulse
        self._failures: dict[str, str] = {}
        self._at: tuple[str, float] | None = None  # the read under way, and since when
        self._asked: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="lookout", daemon=True)

    def watch(self, parts: Sequence[Part]) -> None:
        """Take these for the parts of the server, and look at each of them once."""
        self.parts = parts
        self.form = form_of_health(parts)
        self.look_around(everything=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread, or abandon it if the disk hangs."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(HANGS_S)

    def look_around(self, *, everything: bool) -> None:
        """Read the disk. Blocks while the disk hangs."""
        for look in [look for part in self.parts for look in part.looks]:
            if look.is_dear and not everything:
                continue
            self._at = (look.what, self._pulse.s)
            try:
                look.act()
            except Exception as error:  # reported in health, whatever it is
                text = f"{look.what}: {_describe(error)}"
                if look.what not in self._failures:
                    logger.error("cannot look at %s", text)  # noqa: TRY400 — see `_describe`
                self._failures[look.what] = text
            else:
                self._failures.pop(look.what, None)
        self._at = None

    async def fresh(self) -> None:
        """Ask the lookout for fresh figures, and wait for them briefly."""
        loop = asyncio.get_running_loop()
        seen: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._asked.append((loop, seen))
        self._wake.set()
        with suppress(TimeoutError):
            await asyncio.wait_for(seen, _FRESH_WITHIN_S)

    @property
    def failure(self) -> str | None:
        """Which read the disk has not answered, or why one failed; None if all is well."""
        return self._describe_hang() or next(iter(list(self._failures.values())), None)

    def states(self) -> dict[str, PartHealth]:
        """Return how each part of this process is, by name."""
        return {part.name: part.health() for part in self.parts if part.health is not None}

    def health(self, *, version: str) -> Any:
        """Return the state of every part, as `form` has it."""
        states = self.states()
        worst = max((state.status for state in states.values()), key=_WORDS.index)
        return self.form(status=worst, version=version, **states)

    def _describe_hang(self) -> str | None:
        at = self._at
        if at is None:
            return None
        what, since_s = at
        waited_s = self._pulse.s - since_s
        return f"no answer for {waited_s:.1f} s: {what}" if waited_s > HANGS_S else None

    # On the thread

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(_PERIOD_S)
            with self._lock:
                asked, self._asked = self._asked, []
                self._wake.clear()
            self.look_around(everything=bool(asked))
            for loop, seen in asked:
                with suppress(RuntimeError):  # the loop was closed
                    loop.call_soon_threadsafe(_resolve, seen)


def lookout_part(lookout: Lookout) -> Part:
    """The thread that looks at the disk for all parts of its process."""
    return Part(
        name="lookout",
        start=lookout.start,
        stop=off_the_loop(lookout.stop),
        gives={"lookout": lookout},
    )


def disk_part(disk: DiskGuard, reserve: Reserve, lookout: Lookout) -> Part:
    """The disk under the data folder, as `lookout` finds it."""
    return Part(
        name="disk",
        health=partial(_health_of_disk, disk, lookout),
        form=DiskHealth,
        looks=[Look("the data folder", disk.refresh), Look("the reserve", reserve.restore)],
    )


def _health_of_disk(disk: DiskGuard, lookout: Lookout) -> DiskHealth:
    takes_product, takes_audit = disk.takes(Lane.PRODUCT), disk.takes(Lane.AUDIT)
    failure = lookout.failure
    word: Word = "ok"
    if failure is not None or not (takes_product or takes_audit):
        word = "failing"
    elif not (takes_product and takes_audit):
        word = "degraded"
    return DiskHealth(
        status=word,
        failure=failure,
        free_percent=round(disk.free_percent, 2),
        product_min_free_percent=disk.floors[Lane.PRODUCT],
        audit_min_free_percent=disk.floors[Lane.AUDIT],
        takes_product=takes_product,
        takes_audit=takes_audit,
    )


def _describe(error: Exception) -> str:
    """Name the error, with its message only if it comes from the system and not from an event."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, (OSError, SqliteError)) else name


def _resolve(seen: "asyncio.Future[None]") -> None:
    if not seen.done():
        seen.set_result(None)
