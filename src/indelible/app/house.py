"""A server: all of it in one process, or the writer's and the reader's half of one that is several.

Each holds the whole list of parts, in the order in which an event passes them: so they start and
stop, and so `/healthz` shows them. A part that runs in another process is in the list for its
health alone. To move a part from one process to another is to move its line.
"""

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

import msgspec

from indelible import __version__, metrics
from indelible.accounting.part import AccountingHealth
from indelible.app.admitting import make_edge
from indelible.app.following import Following
from indelible.app.storing import Storing, compare_clock
from indelible.clock import Clock, Steadiness, now_ms
from indelible.edge.large import LargeBodies
from indelible.edge.rates import Rates
from indelible.identity.part import IdentityHealth
from indelible.journal.part import ClockHealth, JournalHealth
from indelible.journal.reader import open_erasable
from indelible.journal.registry_tables import RegistryRows
from indelible.layout import JOURNAL_FILE
from indelible.ledger.part import LedgerHealth
from indelible.live.part import LiveHealth
from indelible.parts import Part
from indelible.processes.family import Family, ProcessesHealth, processes_part, reader_part
from indelible.processes.following import Truth
from indelible.processes.reader import ErasingElsewhere, StoreElsewhere, Writer
from indelible.processes.writing import Services
from indelible.processes.zygote import Forks
from indelible.quality.part import QualityHealth
from indelible.query.health import DiskHealth, Lookout, lookout_part
from indelible.refusals import Refusals
from indelible.registry.registry import Registry
from indelible.serving import Patience
from indelible.settings import Settings

_EDGE_ENDS_S: Final = 5.0  # after its requests are answered


class _Running:
    """What runs a list of parts, in its order, and closes what they have open."""

    parts: Sequence[Part]
    refusals: Refusals
    _opened: ExitStack

    def start(self) -> None:
        """Start the parts; call it on the event loop that serves."""
        for part in self.parts:
            part.start()

    async def stop(self) -> None:
        """Finish what is under way, in the order in which an event passes the parts."""
        self.refusals.close()
        for part in self.parts:
            await part.stop()

    def close(self) -> None:
        """Close the parts, and what was opened for them."""
        for part in reversed(self.parts):
            part.close()
        self._opened.close()


class House(_Running):
    """All parts of one server, over one data folder, in this process.

    Raises on building: what `Storing` and `Following` raise.
    """

    def __init__(
        self, settings: Settings, *, vfs: str | None = None, clock: Clock = now_ms
    ) -> None:
        self.settings = settings
        self.storing = storing = Storing(settings, vfs=vfs, clock=clock)
        self.refusals, self.notices = storing.refusals, storing.notices
        with ExitStack() as opened:  # what was opened is closed again should the rest fail
            opened.callback(storing.close)
            self.following = following = Following(
                settings,
                storing.journal,
                storing.store,
                refusals=self.refusals,
                notices=self.notices,
                steadiness=storing.steadiness,
                drops_of=storing.dropping.of,
                clock=clock,
            )
            opened.callback(following.close)
            self.large = LargeBodies(max_waiting_bytes=settings.max_waiting_bytes)
            lookout = Lookout(pulse=storing.committer.pulse)
            self.parts = self._list_parts(lookout)
            lookout.watch(self.parts)
            following.answer_with(lookout)
            self.edge = make_edge(
                settings,
                gate=following.gate,
                rates=Rates(),
                disk=storing.disk,
                store=storing.committer.put,
                large=self.large,
                confirm=following.ledger.confirm,
                framework=following.answers,
                refusals=self.refusals,
                notices=self.notices,
                clock=clock,
            )
            self._opened = opened.pop_all()

    def _list_parts(self, lookout: Lookout) -> list[Part]:
        return [
            Part(name="bodies", stop=self.large.stop),
            self.storing.journal_part(),
            lookout_part(lookout),
            self.storing.disk_part(lookout),
            self.following.retention_part,
            self.following.ledger_part,
            self.following.accounting_part,
            self.following.quality_part,
            self.following.live_part,
            self.following.identity_part,
            self.storing.clock_part(),
            self.following.reading_part,
        ]

    async def metrics_page(self) -> bytes:
        """What the server has counted."""
        return metrics.exposition()


class WritingHouse(_Running):
    """The writer's half of a server that is several processes: what stores, and the family.

    Raises on building: what `Storing` raises.
    """

    def __init__(
        self,
        settings: Settings,
        zygote: Forks,
        listening: socket.socket,
        *,
        vfs: str | None = None,
        clock: Clock = now_ms,
    ) -> None:
        self.settings = settings
        self.storing = storing = Storing(settings, vfs=vfs, clock=clock)
        self.refusals, self.notices = storing.refusals, storing.notices
        with ExitStack() as opened:
            opened.callback(storing.close)
            registry = Registry(storing.store, clock=clock)
            self.family = Family(
                zygote,
                listening,
                Services(
                    committer=storing.committer,
                    answers={"/healthz": self._health, "/metrics": self._page},
                    notices=self.notices,
                ),
                Truth(
                    registry=registry,
                    journal=storing.journal,
                    notices=self.notices,
                    dropping=storing.dropping,
                ),
                edges=settings.edges or 1,
                disk=storing.disk,
                pulse=storing.committer.pulse,
                stop_within_s=Patience().stop_s + _EDGE_ENDS_S,
            )
            self.lookout = lookout = Lookout(pulse=storing.committer.pulse)
            self.parts = self._list_parts(lookout)
            lookout.watch(self.parts)
            self._opened = opened.pop_all()

    def _list_parts(self, lookout: Lookout) -> list[Part]:
        return [
            processes_part(self.family),
            self.storing.journal_part(),
            lookout_part(lookout),
            self.storing.disk_part(lookout),
            self.family.part_of_reader("ledger", LedgerHealth),
            self.family.part_of_reader("accounting", AccountingHealth),
            self.family.part_of_reader("quality", QualityHealth),
            self.family.part_of_reader("live", LiveHealth),
            self.family.part_of_reader("identity", IdentityHealth),
            self.storing.clock_part(),
            reader_part(self.family),
        ]

    async def metrics_page(self) -> bytes:
        """What all processes of the server have counted."""
        await self.family.count()
        return metrics.exposition()

    async def _page(self) -> tuple[int, bytes]:
        return 200, await self.metrics_page()

    async def _health(self) -> tuple[int, bytes]:
        await self.family.look()
        await self.lookout.fresh()
        body = self.lookout.health(version=__version__)
        return 503 if body.status == "failing" else 200, msgspec.json.encode(body)


class ReadingHouse(_Running):
    """The reader's half: what follows the journal's files and answers, and has `writer` change
    them. Build it off the event loop, which hears the writer's answers.

    Raises on building:
        DataUnreadable: the journal cannot be opened.
        what `Following` raises.
    """

    def __init__(
        self, settings: Settings, writer: Writer, *, refusals: Refusals, clock: Clock, url: str
    ) -> None:
        self.refusals = refusals
        steadiness = Steadiness(clock)
        with ExitStack() as opened:
            journal = open_erasable(settings.data_dir / JOURNAL_FILE, ErasingElsewhere(writer))
            opened.callback(journal.close)
            compare_clock(steadiness, journal, clock)
            writer.pulse.on_beat(steadiness.look)
            self.following = following = Following(
                settings,
                journal,
                StoreElsewhere(writer, RegistryRows(journal).events_used),
                refusals=refusals,
                notices=writer.notices,
                steadiness=steadiness,
                drops_of=writer.drops_of,
                clock=clock,
            )
            opened.callback(following.close)
            self.lookout = lookout = Lookout(pulse=writer.pulse)
            self.parts = self._list_parts(lookout)
            lookout.watch(self.parts)
            following.answer_with(lookout)
            following.write_cli_file(url)
            self._opened = opened.pop_all()

    def _list_parts(self, lookout: Lookout) -> list[Part]:
        return [
            Part(name="processes", form=ProcessesHealth),
            Part(name="journal", form=JournalHealth),
            lookout_part(lookout),
            Part(name="disk", form=DiskHealth),
            self.following.retention_part,
            self.following.ledger_part,
            self.following.accounting_part,
            self.following.quality_part,
            self.following.live_part,
            self.following.identity_part,
            Part(name="clock", form=ClockHealth),
            self.following.reading_part,
        ]
