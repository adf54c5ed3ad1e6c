"""What a journal promises. tests/journal/contract.py can be run against any implementation."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from msgspec import Struct

from indelible.event import Kind, Lane
from indelible.leaf import Leaf

LARGEST_INDEX = 2**40 - 1
"""A project's log ends here; the millionth event a second would take twelve days to reach it."""


class Commitments(Struct, frozen=True, gc=False, array_like=True):
    """What a leaf will say of an event's content: see `indelible.leaf`.

    `salts` has that of the payload, then that of the record.
    """

    salts: bytes
    payload: bytes
    record: bytes


class Draft(Struct, frozen=True, gc=False, array_like=True):
    """An admitted event, not yet stored.

    Attributes:
        project_id: the project whose log it joins.
        kind: byte 1 of its leaf.
        received_at_ms: when the server had read it, ms since the epoch.
        payload: what was sent, to the byte: the properties value or the payload string in UTF-8.
        record: everything else, serialised once with sorted keys (JSON). Its member ``request``
            describes the request and takes no part when two events are compared, nor does
            `meta.request_id`, which clients renew for each attempt.
        lane: the name space of `client_id`.
        client_id: the client's own event id or Idempotency-Key; None is never a duplicate.
        new_entry_on_conflict: when `client_id` is known with other content, store this event all
            the same. Sending it again is then recognised by id and content together.
        monthly_limit: most events of the project in `lane` in a calendar month (UTC), or None for
            no limit. The lanes are counted apart; administration and its like are never counted.
        commitments: to payload and record, where they were made before; None leaves it to the
            journal.
    """

    project_id: int
    kind: Kind
    received_at_ms: int
    payload: bytes
    record: bytes
    lane: Lane = Lane.PRODUCT
    client_id: str | None = None
    new_entry_on_conflict: bool = False
    monthly_limit: int | None = None
    commitments: Commitments | None = None


class Stored(Struct, frozen=True, gc=False, array_like=True, tag=1):
    """The event has an index, and survives power loss.

    `conflict`: its client id was known with other content, and it was stored all the same.
    """

    index: int
    tx: bytes
    conflict: bool = False


class Duplicate(Struct, frozen=True, gc=False, array_like=True, tag=2):
    """An event with this client id is stored already; nothing was added.

    `same_content` is None when the first copy has been erased and cannot be compared any more.
    """

    index: int
    tx: bytes
    same_content: bool | None


class OverLimit(Struct, frozen=True, gc=False, array_like=True, tag=3):
    """The month of the project's lane is used up; nothing was added."""


Outcome = Stored | Duplicate | OverLimit


class Erased(Struct, frozen=True, gc=False):
    """What an erasure came to.

    Attributes:
        entries: the entries of kind erasure that were added, in order; none when all was erased
            before.
        erased: how many entries lost their content now.
        already: how many of those named had lost it before.
        swept: the bytes are in none of the journal's files any more. When False, somebody reads an
            older state of a file and so keeps it; `sweep` finishes it, as does the next start.
    """

    entries: tuple[Stored, ...]
    erased: int
    already: int
    swept: bool


class Entry(Struct, frozen=True, gc=False):
    """A stored event as the log holds it.

    `payload`, `record` and the salts are None once the event has been erased.
    """

    project_id: int
    index: int
    leaf_entry: bytes
    leaf: Leaf
    payload: bytes | None
    record: bytes | None
    payload_salt: bytes | None
    record_salt: bytes | None


class Size(Struct, frozen=True, gc=False):
    """How many bytes an entry's record and payload have; 0 once it has been erased."""

    record: int
    payload: int

    @property
    def whole(self) -> int:
        """Both together."""
        return self.record + self.payload


class Rows(Struct, frozen=True, gc=False):
    """A run of entries in bulk, for walks along many of them.

    Attributes:
        leaves: their leaf entries in order, 96 bytes each, in one piece.
        records: the record of each, None once the event has been erased.
        payloads: the payload of each in the same way; empty unless requested.
    """

    leaves: bytes
    records: list[bytes | None]
    payloads: list[bytes | None]

    @property
    def records_json(self) -> bytes:
        """The records as one list in JSON; null where the event has been erased."""
        return b"[%b]" % b",".join([record or b"null" for record in self.records])


class JournalReader(Protocol):
    """The logs, to be read and waited for. Nothing here needs the writer's lock.

    Implementations must be safe to call from any thread. A reader may live in another process than
    the writer; then everything that was acknowledged before a call is seen by it.
    """

    @property
    def failure(self) -> str | None:
        """Why the journal cannot be relied on any more, or None while all is well."""
        ...

    def projects(self) -> list[int]:
        """The ids of all projects, ascending."""
        ...

    def subkey(self, project_id: int, use: str) -> bytes:
        """32 secret bytes of the project for one use: always the same, in every process.

        Made from the project's secret, which never leaves the journal.

        Raises:
            NotFound: there is no such project.
        """
        ...

    def next_index(self, project_id: int) -> int:
        """How many entries the project's log has: the index that the next event will get."""
        ...

    def next_indexes(self, project_ids: Iterable[int]) -> dict[int, int]:
        """`next_index` of each of these projects, at the cost of one look."""
        ...

    def read(self, project_id: int, start: int, end: int) -> list[Entry]:
        """The entries with start <= index < end, in order; fewer when the log ends before."""
        ...

    def leaves(self, project_id: int, start: int, end: int) -> list[bytes]:
        """The leaf entries (96 bytes each) of what `read` would return, without the rest."""
        ...

    def leaf_run(self, project_id: int, start: int, end: int) -> bytes:
        """The leaf entries of what `read` would return, 96 bytes each, in one piece.

        Raises:
            Tampered: a leaf is not as long as it was stored.
        """
        ...

    def rows(self, project_id: int, start: int, end: int, *, with_payloads: bool = True) -> Rows:
        """Leaf entries, records and payloads of what `read` would return, at a fifth of its cost.

        All of it is in memory at once: cut the range with `indelible.journal.pieces`.

        Raises:
            Tampered: a row has other types than it was stored with.
        """
        ...

    def sizes(self, project_id: int, start: int, end: int) -> list[Size]:
        """The sizes of what `read` would return, without reading their content."""
        ...

    def find(self, project_id: int, lane: Lane, client_id: str) -> Entry | None:
        """The entry that holds this client id, even if it has been erased since."""
        ...

    def find_tx(self, project_id: int, tx: bytes) -> Entry | None:
        """The entry with this transaction id (16 bytes)."""
        ...

    def received_between(
        self, project_id: int, from_ms: int, to_ms: int | None, *, start: int = 0
    ) -> list[tuple[int, int]]:
        """Locate the entries received at `from_ms` or later and before `to_ms` (None: no end).

        Returns runs [first, behind) of indexes from `start` on, ascending and disjoint. Together
        they contain every such entry. Each run begins and ends with one; in between there may be
        entries received at other times, since the clock may step.
        """
        ...

    def wait(self, seen: int, *, timeout_s: float) -> int:
        """Block until something was committed since `seen`, for at most `timeout_s` seconds.

        Returns a number to pass as `seen` the next time; 0 is before the first commit. It may
        return early.
        """
        ...

    def wake(self) -> None:
        """Let every `wait` that is under way return, though nothing was committed."""
        ...

    def close(self) -> None:
        """Release the files. Nothing may be called afterwards."""
        ...


class ErasableJournal(JournalReader, Protocol):
    """The logs, to be read and to be erased from: all that what follows them may do to them."""

    def erase(
        self, project_id: int, indexes: Iterable[int], *, reason: str, received_at_ms: int
    ) -> Erased:
        """Destroy payload, record and salts of these product and audit entries, for good.

        Leaf, transaction id and the knowledge that a client id was used stay. Up to 2,000 entries
        are erased in one atomic and synced step, which also adds an entry of kind erasure:
        ``{"at": RFC 3339, "erased": [[start, end), ...], "reason": ...}``. What was erased before
        is passed over, so the call may be repeated.

        Raises:
            NotFound: the log has no such index; nothing was erased.
            NotErasable: an entry is neither product nor audit; nothing was erased.
            LegalHold: the project is on hold; the steps before it was set stand.
            JournalUnwritable: the steps before the one that failed stand.
        """
        ...

    def sweep(self) -> bool:
        """Make sure that nothing erased is left in the journal's files; whether that is so now.

        Cheap when it was so already. Waits a few seconds at most for whoever reads an older state.

        Raises:
            JournalUnwritable: a file could not be written or synced.
        """
        ...


class Journal(ErasableJournal, Protocol):
    """A durable log for each project, with exact and permanent de-duplication.

    Implementations must be safe to call from any thread.
    """

    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        """Store `drafts`, in order, in one atomic and synced step; one outcome for each.

        On return every `Stored` survives power loss, and every project's indexes are contiguous
        from 0. A draft whose (project, lane, client id) is known, or stands earlier in `drafts`,
        adds nothing.

        Raises:
            JournalUnwritable: none of them may be taken as stored. After a failed sync every
                later append raises too, until the process is restarted.
        """
        ...

    def probe(self) -> None:
        """Check that events can be stored, by writing and syncing a page that changes nothing.

        Raises:
            JournalUnwritable: they cannot.
        """
        ...
