"""A witness, as C2SP tlog-witness 1.0.0 has it: its rules, and the little that it remembers.

A witness cosigns a checkpoint only if it continues the last one that it cosigned for the same
origin. What it remembers is its word, so it is on disk (`store`) before the cosignature leaves.

Checks of a `request`, in this order, with the status of the answer:

    400    the body is malformed
    404    the origin is unknown
    403    no log key that is trusted for the origin has signed, or its signature is wrong
    400    old is above the checkpoint's size
    409    old is not the size last cosigned, 0 if none; the body is that size
    422    size 0 with a root other than the empty tree's; the proof fails; same size, another root
    200    it is stored, and the body is a cosignature line
"""

import hashlib
import logging
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from indelible.clock import Clock
from indelible.connections import Readers
from indelible.errors import (
    SignatureMissing,
    SignatureWrong,
    WitnessUnwritable,
)
from indelible.folder import hold
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.note import LogKey, Note, open_note
from indelible.ledger.format.tree import EMPTY_ROOT, check_consistency
from indelible.ledger.witness.request import (
    MOST_BODY_BYTES,
    Request,
    parse_request,
    request_body,
)
from indelible.ledger.witness.store import (
    DATABASE_FILE,
    Reason,
    close_database,
    compare,
    open_database,
)
from indelible.voice import tell

logger = logging.getLogger(__name__)

MOST_EVIDENCE: Final = 1_000
"""Of each origin and reason this many are kept, the first ones; the rest is counted.

LIMIT: whoever can read a log's checkpoints can send them with a wrong proof, and so use up what is
kept as `not_consistent`; never what is kept for the other reasons, which only the log can cause.
"""


class Refused(StrEnum):
    """Why a request got no cosignature: the code in the witness's log, and its sentence."""

    sentence: str

    def __new__(cls, value: str, sentence: str) -> "Refused":
        member = str.__new__(cls, value)
        member._value_ = value
        member.sentence = sentence
        return member

    TOO_LARGE = "body_too_large", f"A request has at most {MOST_BODY_BYTES:,} bytes."
    MALFORMED = "malformed_checkpoint", "This is not a request to add a checkpoint."
    UNKNOWN_ORIGIN = "unknown_origin", "This origin is not known here."
    NOT_SIGNED = "not_signed", "No key that is trusted for this origin has signed."
    OLD_ABOVE_SIZE = "old_above_size", "The old size is above the checkpoint's."
    OTHER_OLD_SIZE = "other_old_size", "The old size is not the size that was cosigned last."
    NOT_CONTINUED = "not_continued", "The checkpoint does not continue what was cosigned."
    NOT_FOUND = "not_found", "There is nothing at this path."
    METHOD_NOT_ALLOWED = "method_not_allowed", "The path does not take this method."


PLAIN_TEXT: Final = "text/plain; charset=utf-8"
SIZE_TEXT: Final = "text/x.tlog.size"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back over HTTP."""

    status: int
    body: str
    content_type: str = PLAIN_TEXT
    refused: Refused | None = None


class _Last(NamedTuple):
    """What was cosigned last for an origin; `note` is None when nothing ever was."""

    size: int
    root: bytes
    note: str | None


_NOTHING: Final = _Last(0, EMPTY_ROOT, None)


class Witness:
    """A witness over its folder, which it holds for itself until `close`.

    Args:
        folder: where `create` made it.
        logs: the keys of the logs that it cosigns; a key's name is its log's origin.
        cosigner: its key, as `read_key` finds it.
        clock: gives the time in cosignatures.
        most_evidence: how much is kept of each origin and reason.

    Raises:
        DataFolderInUse: another process has the folder.
        WitnessRefused: the database is not there, is damaged, or is another witness's.
    """

    def __init__(
        self,
        folder: Path,
        logs: Sequence[LogKey],
        cosigner: Cosigner,
        clock: Clock,
        *,
        most_evidence: int = MOST_EVIDENCE,
    ) -> None:
        self._most_evidence = most_evidence
        self._cosigner = cosigner
        self._clock = clock
        self._logs: dict[str, list[LogKey]] = {}
        for key in logs:
            self._logs.setdefault(key.name, []).append(key)
        self._writing = threading.Lock()
        self._failure: str | None = None
        path = folder / DATABASE_FILE
        with ExitStack() as opened:
            opened.enter_context(hold(folder))
            compare(path, cosigner)
            self._writer = open_database(path)
            opened.callback(close_database, self._writer)
            self._readers = Readers(path, vfs=None)
            opened.callback(self._readers.close)
            self._opened = opened.pop_all()

    @property
    def name(self) -> str:
        """The name of its key."""
        return self._cosigner.key.name

    @property
    def failure(self) -> str | None:
        """Why nothing is cosigned any more, or None while all is well."""
        return self._failure

    def close(self) -> None:
        """Close the database and let go of the folder."""
        self._opened.close()

    def add_checkpoint(self, body: bytes) -> Answer:
        """Take a request as the table above has it; an answer of 200 survives power loss.

        Raises:
            WitnessUnwritable: nothing was cosigned.
        """
        request = parse_request(body)
        if request is None:
            return refusal(400, Refused.MALFORMED)
        keys = self._logs.get(request.checkpoint.origin)
        if keys is None:
            return refusal(404, Refused.UNKNOWN_ORIGIN)
        try:
            signed = open_note(str(request.note), keys)
        except (SignatureMissing, SignatureWrong):
            return refusal(403, Refused.NOT_SIGNED)
        if request.old > request.checkpoint.size:
            return refusal(400, Refused.OLD_ABOVE_SIZE)
        with self._writing:
            if self._failure is not None:
                raise WitnessUnwritable(self._failure)
            try:
                return self._settle(request, signed)
            except apsw.Error as error:
                self._poison(error)
                raise WitnessUnwritable(f"{type(error).__name__}: {error}") from error

    def latest(self, origin_hash: str) -> str | None:
        """The newest cosigned note of the origin with this SHA-256, in hex; None: there is none."""
        rows = self._readers.mine().execute("SELECT origin, note FROM cosigned")
        return next((str(note) for origin, note in rows if hash_of(origin) == origin_hash), None)

    def _settle(self, request: Request, signed: Note) -> Answer:
        """The checks that need what was cosigned last, and the new last."""
        checkpoint = request.checkpoint
        last = self._last(checkpoint.origin)
        reason = _contradiction(request, last)
        if reason is not None:
            self._keep(request, signed, reason, last)
        if request.old != last.size:
            return _other_size(last.size)
        if reason is not None:
            sentence = f"{reason}: this does not continue what was cosigned"
            return Answer(422, f"{sentence}\n", refused=Refused.NOT_CONTINUED)
        cosignature = self._cosigner.cosign(signed.text, self._clock() // 1000)
        cosigned = str(Note(signed.text, (*signed.signatures, cosignature)))
        # Nobody sees the cosignature before this has returned.
        if not self._advance(checkpoint, last, cosigned):
            return _other_size(self._last(checkpoint.origin).size)
        return Answer(200, cosignature.line)

    def _last(self, origin: str) -> _Last:
        rows = self._writer.execute(
            "SELECT size, root, note FROM cosigned WHERE origin = ?", (origin,)
        )
        return next((_Last(*row) for row in rows), _NOTHING)

    def _advance(self, new: Checkpoint, last: _Last, note: str) -> bool:
        """Store `new` if `last` still is the last; on return it survives power loss."""
        with self._writer:
            self._writer.execute(
                "INSERT INTO cosigned (origin, size, root, note) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (origin) DO UPDATE"
                " SET size = excluded.size, root = excluded.root, note = excluded.note"
                " WHERE size = ? AND root = ?",
                (new.origin, new.size, new.root, note, last.size, last.root),
            )
            changed = self._writer.changes()
        return changed == 1

    def _keep(self, request: Request, signed: Note, reason: Reason, last: _Last) -> None:
        """Keep a refused request, once.

        Once by what its log signed: the rest of a body anybody may vary, and fill the table.
        """
        origin = request.checkpoint.origin
        digest = hashlib.sha256(f"{reason}\n{signed.text}".encode()).digest()
        found = self._writer.execute("SELECT 1 FROM evidence WHERE digest = ?", (digest,)).get
        if found is not None:
            return
        body = request_body(request.old, request.proof, str(signed))
        with self._writer:
            kept = self._writer.execute(
                "SELECT count(*) FROM evidence WHERE origin = ? AND reason = ?", (origin, reason)
            ).get
            if kept < self._most_evidence:
                tell(
                    logging.ERROR,
                    f"{origin}: refused and kept as evidence: {reason}",
                    event="evidence",
                    origin=origin,
                    reason=reason,
                )
                self._writer.execute(
                    "INSERT INTO evidence (at_ms, origin, reason, digest, body, seen)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (self._clock(), origin, reason, digest, body, last.note),
                )
            else:
                self._writer.execute(
                    "INSERT INTO left_out (origin, reason, count) VALUES (?, ?, 1)"
                    " ON CONFLICT DO UPDATE SET count = count + 1",
                    (origin, reason),
                )

    def _poison(self, error: apsw.Error) -> None:
        """After a sync that failed nobody knows what the disk holds: never again in this process.

        A full disk is no such case: SQLite has undone the whole transaction.
        """
        if not isinstance(error, (apsw.FullError, apsw.BusyError)):
            self._failure = f"{type(error).__name__}: {error}"
            logger.error("the witness has stopped: %s", self._failure)


def hash_of(origin: str) -> str:
    """What stands for an origin in a witness's paths.

    >>> hash_of("log.example/indelible")
    '40afa5574e20287116a2acb7914d66edf3734240a5cf038be6f2d134b92fa328'
    """
    return hashlib.sha256(origin.encode()).hexdigest()


def _contradiction(request: Request, last: _Last) -> Reason | None:
    """Why this checkpoint can never be cosigned after `last`; None when nothing speaks against it.

    With an old size that is not the last one there is no proof to look at, only sizes and roots.
    """
    new = request.checkpoint
    if new.size == 0 and new.root != EMPTY_ROOT:
        return Reason.EMPTY_ROOT
    if new.size == last.size and new.root != last.root:
        return Reason.OTHER_ROOT
    if request.old != last.size:
        return None
    proven = check_consistency(request.old, new.size, request.proof, last.root, new.root)
    return None if proven else Reason.NOT_CONSISTENT


def refusal(status: int, why: Refused) -> Answer:
    """The answer to a request that is refused for this reason."""
    first, rest = why.sentence[0].lower(), why.sentence[1:].removesuffix(".")
    return Answer(status, f"{first}{rest}\n", refused=why)


def _other_size(size: int) -> Answer:
    return Answer(409, f"{size}\n", SIZE_TEXT, Refused.OTHER_OLD_SIZE)
