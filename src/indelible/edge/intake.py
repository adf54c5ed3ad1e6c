"""What the pipeline needs of the rest of the house."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from indelible.clock import Clock
from indelible.edge.gate import Gate
from indelible.edge.large import LargeBodies
from indelible.edge.notice import Notices
from indelible.edge.rates import Rates
from indelible.edge.waiting import Confirm
from indelible.errors import Overloaded
from indelible.journal.contract import Draft, Outcome
from indelible.journal.disk import DiskState

Submit = Callable[[Sequence[Draft]], "asyncio.Future[list[Outcome]]"]

# This much of a large request goes into one group of the journal, so that the events of others do
# not wait for all of it: some 20 ms.
_RUN_DRAFTS: Final = 500
_RUN_BYTES: Final = 1 << 20
_PAUSE_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring; see the settings of the same names."""

    max_body_bytes: int
    max_event_bytes: int
    max_batch: int
    max_payload_bytes: int


@dataclass(frozen=True, slots=True)
class Intake:
    """The one place where the edge meets the rest of the house.

    Attributes:
        gate: finds the project and what its key may do.
        rates: how many events each key may still send.
        disk: refuses events of a lane while the disk is too full for them.
        store: makes drafts durable and says what became of each: `Committer.put`, or what brings
            drafts to it from another process.
        limits: how much one request may bring.
        large: the turns of large bodies.
        confirm: waits for receipts.
        notices: told what is refused or dropped.
        clock: tells when a request was received.
    """

    gate: Gate
    rates: Rates
    disk: DiskState
    store: Submit
    limits: Limits
    large: LargeBodies
    confirm: Confirm
    notices: Notices
    clock: Clock

    async def submit_in_runs(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Store the drafts of a large request, in order and in several groups of the journal.

        Raises:
            Overloaded, Unavailable, JournalUnwritable: as `store` does. The groups
                before the one that failed are stored.
        """
        outcomes: list[Outcome] = []
        for run in _runs(drafts):
            while True:
                try:
                    outcomes += await self.store(run)
                    break
                except Overloaded:
                    if not outcomes:
                        raise
                    await asyncio.sleep(_PAUSE_S)  # a request that was begun is finished
        return outcomes


def _runs(drafts: Sequence[Draft]) -> Iterator[Sequence[Draft]]:
    start = size = 0
    for end, draft in enumerate(drafts):
        weight = len(draft.payload) + len(draft.record)
        if end > start and (end - start == _RUN_DRAFTS or size + weight > _RUN_BYTES):
            yield drafts[start:end]
            start, size = end, 0
        size += weight
    yield drafts[start:]
