"""What every ingest handler works with."""

from dataclasses import dataclass

from indelible.clock import Clock
from indelible.edge.gate import Gate
from indelible.edge.rates import Rates
from indelible.edge.waiting import Confirm
from indelible.journal.commit import Committer
from indelible.journal.disk import DiskGuard


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may bring; see the settings of the same names."""

    max_body_bytes: int
    max_event_bytes: int
    max_batch: int
    max_payload_bytes: int


@dataclass(frozen=True, slots=True)
class Intake:
    """The parts that a request passes on its way into the journal."""

    gate: Gate
    rates: Rates
    disk: DiskGuard
    committer: Committer
    limits: Limits
    confirm: Confirm
    clock: Clock
