"""Going on with a log that was halted, since its witnesses have seen another history.

Either in the same log, for when the witnesses were wrong or were somebody else's; or, as after a
restore, in a successor with a new origin and a new key, which holds all the project's events. It is
done while no server runs, and the project's log says that it was done.
"""

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from indelible.clock import Clock
from indelible.errors import NotFound
from indelible.journal.contract import Journal
from indelible.journal.opening import open_journal
from indelible.journal.outside import open_logs
from indelible.layout import JOURNAL_FILE, LOCK_FILE
from indelible.ledger.lockstore import Halt, LockStore, read_halts
from indelible.ledger.restore import Fit, Restored, Succession, retire_keys, succeed
from indelible.registry.registry import Registry
from indelible.registry.values import LogRow

RESUMED: Final = "log.resumed"


@dataclass(frozen=True, slots=True)
class Halted:
    """A log that is not signed any further: its project, its name, and why."""

    project: str
    log: str
    halt: Halt


def halted_logs(data_dir: Path) -> list[Halted]:
    """The logs of a data folder that are halted; a server may be running on it.

    Raises:
        JournalUnreadable, LockUnwritable: a file of the folder cannot be read.
    """
    lock = data_dir / LOCK_FILE
    halts = {halt.origin: halt for halt in read_halts(lock)} if lock.exists() else {}
    if not halts:
        return []
    return [
        Halted(project, log, halts[origin])
        for project, log, origin in open_logs(data_dir / JOURNAL_FILE)
        if origin in halts
    ]


def resume_same(data_dir: Path, project: str, *, clock: Clock) -> Halted:
    """Let the halted log of this project be signed again, from where it stood.

    Raises:
        NotFound: it has none.
    """
    with ExitStack() as opened:
        halted, _, registry, row = _find(data_dir, project, clock, opened)
        facts = {
            "log": halted.halt.origin,
            "signed": halted.halt.size,
            "halted_at_ms": halted.halt.at_ms,
            "reason": halted.halt.reason,
        }
        registry.change(RESUMED, facts, log=row.id)
        # power lost here: the log is still halted, and the same command may be given again
        lock = LockStore(data_dir / LOCK_FILE, may_create=False)
        opened.callback(lock.close)
        lock.resume(halted.halt.origin)
    return halted


def resume_new(data_dir: Path, project: str, *, clock: Clock) -> Succession:
    """Freeze the halted log of this project and order its successor, which the next start makes.

    Raises:
        NotFound: it has none.
    """
    with ExitStack() as opened:
        halted, journal, registry, row = _find(data_dir, project, clock, opened)
        lock = LockStore(data_dir / LOCK_FILE, may_create=False)
        opened.callback(lock.close)
        entries = journal.next_index(row.project_id)
        fit = Fit(row, entries, lock.head(halted.halt.origin), None)
        done = succeed(registry, data_dir, fit)
    # power lost here: the frozen log's key is still there, and the journal asks for none
    retire_keys(data_dir, Restored((done,), 0, None))
    return done


def _find(
    data_dir: Path, project: str, clock: Clock, opened: ExitStack
) -> tuple[Halted, Journal, Registry, LogRow]:
    """The halted log of a project, with journal and registry, opened, and its row there."""
    halted = [one for one in halted_logs(data_dir) if one.project == project]
    if not halted:
        raise NotFound(
            f"No log of a project {project!r} is halted", hint="`indelible resume` lists those."
        )
    journal, registry = open_journal(data_dir / JOURNAL_FILE, clock=clock)
    opened.callback(journal.close)
    return halted[0], journal, registry, registry.snapshot.logs[halted[0].log]
