"""What an audit is handed besides the log's files, by whoever can open a journal and a lock."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from indelible.ledger.audit.memory import Memory
from indelible.ledger.format.policy import Policy


class SignedHead(NamedTuple):
    """The last signed checkpoint as the lock store of a data folder has it."""

    size: int
    root: bytes
    note: str


class Row(NamedTuple):
    """The event at an index, as the journal's file has it; what is not there is None.

    Types are not promised: whoever altered the file may have left a text where bytes were.
    """

    at: int
    leaf: bytes
    salts: bytes | None
    record: bytes | None
    payload: bytes | None


class JournalRows(Protocol):
    """The journal of one project, read only. Can be handed to another process."""

    def next_index(self) -> int:
        """How many events the journal has now, if none is missing.

        Raises:
            JournalUnreadable.
        """
        ...

    def rows(self, start: int, end: int) -> Iterator[Row]:
        """The rows that there are with start <= at < end, in order, one after the other: together
        they may be larger than memory.

        Raises as it goes:
            JournalUnreadable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a log besides its files; all of it may be left out.

    Attributes:
        policy: whom the caller believes; else whom this auditor believed before; else the policy
            that the log publishes itself.
        journal: the journal's rows of its project.
        lock: reads its last signed checkpoint in lock.db, None where none need be; or raises
            Unverifiable. It is asked after the published checkpoint was read, which a server
            that goes on sealing may only be ahead of.
        vkey: its key, as the journal has it.
        memory: what this auditor remembers.
        may_be_new: a log without a checkpoint is one that has signed nothing yet.
    """

    policy: Policy | None = None
    journal: JournalRows | None = None
    lock: Callable[[], SignedHead | None] | None = None
    vkey: str | None = None
    memory: Memory | None = None
    may_be_new: bool = False
