"""A process that stores events and seals them, in rounds, to be traced, failed and killed.

`python -m tests.ledger.sealing FOLDER` writes a line as soon as each thing is so:

    stored <how many events of the log are durable>
    signed <the published checkpoint, in base64>
    stopped <the code of what keeps it from signing more>
    done
"""

import base64
import sys
from pathlib import Path

from indelible.clock import now_ms
from indelible.errors import IndelibleError, SealingStopped
from indelible.event import Kind
from indelible.journal.contract import Draft, Stored
from indelible.journal.database import Database
from indelible.journal.follow import Follower
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.format.layout import CHECKPOINT
from indelible.ledger.format.policy import Policy
from indelible.ledger.ledger import Choices, Ledger
from indelible.ledger.logs import Log
from indelible.registry.registry import Registry

PROJECT = "shop"
ROUNDS = (3, 250, 10)
"""Events a round: a partial tile, a wider one, and a full one that takes their place."""
_TRIES = 3


class Parts:
    """Journal and ledger of a data folder, opened, without threads."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.journal = SqliteJournal(Database(folder / "journal.db"))
        self.registry = Registry(RegistryTables(self.journal))
        if PROJECT not in self.registry.snapshot.projects:
            self.registry.projects.create(PROJECT)
        self.project_id = self.registry.snapshot.project(PROJECT).id
        self.ledger = Ledger(
            folder,
            journal=self.journal,
            registry=self.registry,
            choices=Choices(
                origin="log.example/ledger",
                seal_interval_ms=0,
                witness_interval_ms=0,
                witnesses=Policy(),
            ),
            clock=now_ms,
        )
        self._follower = Follower(
            self.journal,
            self.ledger.sealer,
            projects=self.ledger.logs.projects,
        )

    @property
    def log(self) -> Log:
        log = self.ledger.logs.named(PROJECT)
        assert log is not None
        return log

    def store(self, count: int) -> int:
        """Store events; how many the log has then."""
        first = self.journal.next_index(self.project_id)
        outcomes = self.journal.append(
            [
                Draft(
                    self.project_id,
                    Kind.PRODUCT,
                    received_at_ms=n,
                    payload=b"%d" % n,
                    record=b'{"event":"x"}',
                )
                for n in range(first, first + count)
            ]
        )
        assert all(isinstance(outcome, Stored) for outcome in outcomes)
        return first + count

    def seal(self) -> None:
        """Seal all that is stored; what may be tried again is."""
        for left in reversed(range(_TRIES)):
            try:
                self._follower.catch_up()
            except OSError:
                if not left:
                    raise
            else:
                return

    def note(self) -> str:
        """The checkpoint that readers see."""
        return self.log.tiles.published(CHECKPOINT) or ""

    def close(self) -> None:
        self.ledger.close()
        self.journal.close()


def main(folder: Path) -> None:
    parts = Parts(folder)
    for count in ROUNDS:
        say(f"stored {parts.store(count)}")
        try:
            parts.seal()
        except SealingStopped as error:
            say(f"stopped {error.code}")
            return
        say(f"signed {base64.b64encode(parts.note().encode()).decode()}")
    parts.close()
    say("done")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except IndelibleError as error:
        say(f"stopped {error.code}")
