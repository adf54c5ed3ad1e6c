"""What a database owes to the registry. tests/registry/contract.py runs against any of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from indelible.event import Lane, LogId
from indelible.registry.snapshot import Snapshot
from indelible.registry.values import Row

PATIENCE_S: Final = 4.0
"""How long a change waits for an earlier one, which may be stuck in a sync."""


@dataclass(frozen=True, slots=True)
class Administration:
    """The event that tells of a change: the log that has it, its name, and its facts."""

    log: LogId
    name: str
    facts: Mapping[str, object]
    at_ms: int


class Told(NamedTuple):
    """Where an administration event was stored: its index, and its transaction id (16 bytes)."""

    at: int
    tx: bytes


class Store(Protocol):
    """Keeps the rows of a registry next to the journal, whose log tells of their changes.

    Implementations must be safe to call from any thread.
    """

    def load(self) -> Snapshot:
        """Read every row that was ever added, as last changed."""
        ...

    def apply(
        self,
        *,
        added: Sequence[Row] = (),
        changed: Sequence[Row] = (),
        events: Sequence[Administration] = (),
    ) -> list[Told]:
        """Write rows and events in one atomic and synced step; return where each event is.

        An added project gets an empty log and a random secret of its own. A changed project keeps
        its kind and name, a changed key its secret and project.

        Raises:
            AlreadyExists: an added row is there already, or another has its name, secret or origin.
            JournalUnwritable: nothing was written; as `Journal.append`, and also after
                `PATIENCE_S` of waiting for another change.
        """
        ...

    def events_used(self, project_id: int, lane: Lane, month: str) -> int:
        """Return how many events of `lane` the project stored in `month` (``2026-01``, UTC)."""
        ...
