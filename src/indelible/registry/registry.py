"""The one door for changes of projects, keys and logs.

A change is one step: the rows and the `administration` event that tells of it are written and
synced in one transaction, then the snapshot is replaced, and only then the call returns. The event
is in the log of the project that changes, or in the server's own log if it belongs to no project.
Only the birth of a project or of the server, with its first keys, is in no log: a new log is empty,
so that the first event of a project has index 0. Nor are the steps in which a signed log is made.

`_turn` is held by the thread that looks at the snapshot in order to change it. Readers need no
lock: they take the snapshot, which never changes.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from indelible.clock import Clock, month_of, now_ms
from indelible.errors import JournalUnwritable
from indelible.event import Lane, LogId
from indelible.registry.keys import Keys
from indelible.registry.logs import SignedLogs
from indelible.registry.projects import Projects
from indelible.registry.snapshot import Snapshot
from indelible.registry.store import PATIENCE_S, Administration, Store, Told
from indelible.registry.values import Project, Row

Listener = Callable[[Snapshot, Sequence[Row]], None]
"""Is told a new snapshot, and the rows that make it differ from the one before."""


class Registry:
    """Projects, keys and logs. Read `snapshot`; change through `projects`, `keys` and `logs`."""

    def __init__(self, store: Store, *, clock: Clock = now_ms) -> None:
        self._store = store
        self._turn = threading.RLock()
        self._listeners: list[Listener] = []
        self.clock = clock
        self.snapshot = store.load()
        self.projects = Projects(self)
        self.keys = Keys(self)
        self.logs = SignedLogs(self)

    def on_change(self, listener: Listener) -> None:
        """Call `listener` after each change, on its thread and before it is acknowledged. What the
        listener raises, the caller of the change gets."""
        self._listeners.append(listener)

    def change(
        self,
        name: str,
        facts: Mapping[str, object],
        *,
        log: LogId,
        added: Sequence[Row] = (),
        changed: Sequence[Row] = (),
    ) -> None:
        """Write rows, and the event `name` with `facts` into a log.

        Raises:
            AlreadyExists, JournalUnwritable: as `Store.apply`; the snapshot is as it was.
        """
        event = Administration(log, name, facts, self.clock())
        self.apply(added=added, changed=changed, events=[event])

    def apply(
        self,
        *,
        added: Sequence[Row] = (),
        changed: Sequence[Row] = (),
        events: Sequence[Administration] = (),
    ) -> list[Told]:
        """Make a change that was decided by `change`, here or by the registry of another process.

        Returns where each of the events is.

        Raises:
            AlreadyExists, JournalUnwritable: as `Store.apply`; the snapshot is as it was.
        """
        with self.turn():
            told = self._store.apply(added=added, changed=changed, events=events)
            # power lost here: the change is made, though nobody was told so
            rows = [*added, *changed]
            if rows:
                self.snapshot = self.snapshot.after(rows)
                for listener in self._listeners:
                    listener(self.snapshot, rows)
        return told

    def tell(self, name: str, facts: Sequence[Mapping[str, object]], *, log: LogId) -> list[Told]:
        """Write events `name` into a log, one for each of `facts`, that change no row.

        Raises:
            JournalUnwritable: as `Store.apply`; none was written.
        """
        at_ms = self.clock()
        return self.apply(events=[Administration(log, name, each, at_ms) for each in facts])

    def change_untold(self, *, added: Sequence[Row] = (), changed: Sequence[Row] = ()) -> None:
        """Write rows that no log tells of; otherwise as `change`."""
        self.apply(added=added, changed=changed)

    @contextmanager
    def turn(self) -> Iterator[Snapshot]:
        """Keep all others from changing anything, for a change that depends on the snapshot.

        Raises:
            JournalUnwritable: another change has been under way for `PATIENCE_S`.
        """
        if not self._turn.acquire(timeout=PATIENCE_S):
            raise JournalUnwritable(
                f"another change has been under way for {PATIENCE_S:g} s; this one was not begun"
            )
        try:
            yield self.snapshot
        finally:
            self._turn.release()

    def events_this_month(self, project: Project, lane: Lane) -> int:
        """Return how many events of `lane` were stored in the running calendar month (UTC)."""
        return self._store.events_used(project.id, lane, month_of(self.clock()))
