"""Every error that leaves this package: one class and one permanent code each.

On the wire an error is one flat object, a superset that every supported client can read:

>>> body = UnknownToken().body(request_id="r1")
>>> body["ok"], body["status"], body["code"] == body["reason"] == body["error"], body["request_id"]
(False, 0, True, 'r1')
"""

from collections.abc import Iterator
from typing import ClassVar

from indelible.event import DropReason


class IndelibleError(Exception):
    """Base of every error that leaves this package.

    `code` is public: clients switch on it, docs/reference/errors.md lists it, and its meaning never
    changes. The message is for people and may be reworded in any release; `hint` says what to do.
    """

    code: str = "internal_error"
    http_status: ClassVar[int] = 500
    hint: ClassVar[str] = "Send it again later; the server's log names the cause."
    summary: ClassVar[str] = "Something broke inside the server."
    retry_after_s: int | None = None
    on_the_wire: ClassVar[bool] = True

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or self.summary)
        self.advice = hint or self.hint

    @property
    def message(self) -> str:
        return str(self)

    def body(self, *, request_id: str) -> dict[str, object]:
        """The flat error object of the wire, ready to be encoded."""
        return flat_body(self.code, self.message, hint=self.advice, request_id=request_id)


def flat_body(code: str, message: str, *, hint: str, request_id: str) -> dict[str, object]:
    """The one error shape; `code` also stands where other dialects look for it."""
    return {
        "ok": False,
        "status": 0,
        "success": False,
        "code": code,
        "reason": code,
        "error": code,
        "message": message,
        "detail": message,
        "error_description": message,
        "hint": hint,
        "request_id": request_id,
    }


def catalogue(base: type[IndelibleError] = IndelibleError) -> Iterator[type[IndelibleError]]:
    """Every error class, base first, in the order of this module."""
    yield base
    for child in base.__subclasses__():
        yield from catalogue(child)


# What is wrong with a request as a whole.


class InvalidJson(IndelibleError):
    code, http_status = "invalid_json", 400
    summary = "The body is not valid JSON."
    hint = "Send UTF-8 JSON; NaN and Infinity are not JSON."


class InvalidEncoding(IndelibleError):
    code, http_status = "invalid_encoding", 400
    summary = "The body could not be unpacked."
    hint = "Check that Content-Encoding or compression= says what the bytes are."


class UnsupportedMediaType(IndelibleError):
    code, http_status = "unsupported_media_type", 415
    summary = "This content type or encoding is not read here."
    hint = "Send application/json, plain or compressed with gzip or deflate."


class BodyTooLarge(IndelibleError):
    code, http_status = "body_too_large", 413
    summary = "The body is longer than this server accepts."
    hint = "Split the batch and send the halves."

    def __init__(self, *, limit_bytes: int, unpacked: bool) -> None:
        state = "once unpacked, " if unpacked else ""
        super().__init__(f"{state}the body is over {limit_bytes:,} bytes".capitalize())


class RequestMalformed(IndelibleError):
    code, http_status = "malformed_request", 400
    summary = "This is no well-formed HTTP/1.1 request."
    hint = "Look at the client and at every proxy before the server; nothing was stored."


class BodyIncomplete(IndelibleError):
    code, http_status = "incomplete_body", 400
    summary = "The body was cut off before its end."
    hint = "Send the whole body again; nothing of it was stored."


class RequestTimeout(IndelibleError):
    code, http_status = "request_timeout", 408
    summary = "The request came too slowly."
    hint = "Send it again on a new connection; docs/reference/limits.md has the deadlines."


class TargetTooLong(IndelibleError):
    code, http_status = "uri_too_long", 414
    summary = "The address of the request is longer than this server accepts."
    hint = "Send the events as the body of a POST."


class ExpectationFailed(IndelibleError):
    code, http_status = "expectation_failed", 417
    summary = "Expect asks for something other than 100-continue."
    hint = "Leave the Expect header out."


class HeadTooLarge(IndelibleError):
    code, http_status = "head_too_large", 431
    summary = "The header fields of the request are longer than this server accepts."
    hint = "Send fewer or shorter headers; cookies are not needed here."


class UnknownTransferCoding(IndelibleError):
    code, http_status = "unknown_transfer_coding", 501
    summary = "This transfer coding is not read here."
    hint = "Use Content-Length or Transfer-Encoding: chunked; compress with Content-Encoding."


class HttpVersionUnsupported(IndelibleError):
    code, http_status = "unsupported_http_version", 505
    summary = "This server speaks HTTP/1.1."
    hint = "Let the client or the proxy in front use HTTP/1.1 towards the server."


class EmptyBatch(IndelibleError):
    code, http_status = "empty_batch", 400
    summary = "The batch has no events."
    hint = "Send at least one event."


class BatchTooLarge(IndelibleError):
    code, http_status = "batch_too_large", 413
    summary = "The batch has more events than this route takes."
    hint = "Split the batch and send the halves."

    def __init__(self, *, size: int | None, limit: int) -> None:
        known = f"more than {limit:,}" if size is None else f"{size:,}"
        super().__init__(f"The batch has {known} events; this route takes {limit:,}")


class MissingToken(IndelibleError):
    code, http_status = "missing_token", 401
    summary = "The request carries no project token."
    hint = "Put the project token into the body as api_key."


class UnknownToken(IndelibleError):
    code, http_status = "unknown_token", 401
    summary = "No project has this token."
    hint = "Compare it with `indelible keys list`; it may have been revoked."


class MixedTokens(IndelibleError):
    code, http_status = "mixed_tokens", 401
    summary = "The request carries two different project tokens."
    hint = "Send the events of each project in a request of their own."


class EventRefused(IndelibleError):
    """No event of the request could be taken.

    On the wire the code is the reason of the first event (`indelible.event.DropReason`), and
    `events` has the result of each.
    """

    code, http_status = "event_refused", 400
    summary = "No event of the request could be taken."
    hint = "Mend the events and send them again; docs/reference/errors.md explains each reason."

    def __init__(self, reason: DropReason) -> None:
        super().__init__(f"No event of the request could be taken. {reason.meaning}")
        self.code = reason.value


# What is wrong with an audit request.


class InvalidPayload(IndelibleError):
    code, http_status = "invalid_payload", 400
    summary = "payload must be a string that holds the serialised document."
    hint = 'Serialise it first: {"payload": json.dumps(document), "meta": {...}}.'


class InvalidMeta(IndelibleError):
    code, http_status = "invalid_meta", 400
    summary = "meta must be a flat object of strings."
    hint = 'Write numbers as strings: "http_status": "201".'


class InvalidType(IndelibleError):
    code, http_status = "invalid_type", 400
    summary = "meta.type is not one of the known types."
    hint = "Use success, info, warning, error, debug or audit."


class InvalidIdempotencyKey(IndelibleError):
    code, http_status = "invalid_idempotency_key", 400
    summary = "An Idempotency-Key has 1 to 255 visible ASCII characters."
    hint = "Use a UUID, one for each event, and resend it unchanged."


class InvalidEvent(IndelibleError):
    code, http_status = "invalid_event", 400
    summary = "The event is not an object, or one of its fields has the wrong type."
    hint = "Compare it with the schema at /docs."


class InvalidApiKey(IndelibleError):
    code, http_status = "invalid_api_key", 401
    summary = "The request carries no valid API key."
    hint = "Send Authorization: Bearer iml_live_…; a project token does not open this route."


class Forbidden(IndelibleError):
    code, http_status = "forbidden", 403
    summary = "This key may not do that."
    hint = "Use a key with the scope that the route names at /docs."


class WriteScopeMissing(Forbidden):
    code = "write_scope_missing"
    summary = "This key lacks the scope `write`."
    hint = "Use a key that has it: `indelible keys list` shows each key's scopes."


class ReadScopeMissing(Forbidden):
    code = "read_scope_missing"
    summary = "This key lacks the scope `read`."
    hint = "Use a key that has it: `indelible keys list` shows each key's scopes."


class QueryScopeMissing(Forbidden):
    code = "query_scope_missing"
    summary = "This key lacks the scope `query`."
    hint = "Use a key that has it: `indelible keys list` shows each key's scopes."


class ManageScopeMissing(Forbidden):
    code = "manage_scope_missing"
    summary = "This key lacks the scope `manage`, which only admin keys have."
    hint = "Use an admin key, `ind_adm_…`."


class IpNotAllowed(IndelibleError):
    code, http_status = "ip_not_allowed", 403
    summary = "This key is not valid from this address."
    hint = "Add the address to the key's list, or set INDELIBLE_TRUSTED_PROXIES behind a proxy."


class IdempotencyConflict(IndelibleError):
    code, http_status = "idempotency_conflict", 409
    summary = "This Idempotency-Key already stands for an event with other content."
    hint = "Use a new key for a new event; the first event was kept."


class PayloadTooLarge(IndelibleError):
    code, http_status = "payload_too_large", 413
    summary = "The payload is longer than this server accepts."
    hint = "Shorten it, or store the document elsewhere and send its digest."

    def __init__(self, *, size_bytes: int | None, limit_bytes: int) -> None:
        known = f"more than {limit_bytes:,}" if size_bytes is None else f"{size_bytes:,}"
        super().__init__(f"The payload has {known} bytes; this server takes {limit_bytes:,}")


class MonthlyLimitExceeded(IndelibleError):
    code, http_status = "monthly_limit_exceeded", 429
    summary = "The project's audit events for this calendar month (UTC) are used up."
    hint = "Do not retry; raise it with `indelible project set NAME --audit-monthly-limit N`."


class OriginNotAllowed(IndelibleError):
    code, http_status = "origin_not_allowed", 403
    summary = "This project token may not be used by pages of this origin."
    hint = "Add the page's origin: `indelible keys set KEY_ID --origin https://…`."


class RateLimited(IndelibleError):
    """Nothing of the request may pass now. Only for senders that survive a 429."""

    code, http_status, retry_after_s = "rate_limited", 429, 1
    summary = "The token or key has sent as many events as its rate allows."
    hint = "Send it again after Retry-After; nothing of this request was stored."

    def __init__(self, *, retry_after_s: int = 1) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class AuditRateLimited(RateLimited):
    """The same for clients that take every 429 for final, and would lose an audit event."""

    http_status = 503


# What is wrong with a question or a management call.


class InvalidParameter(IndelibleError):
    code, http_status = "invalid_parameter", 400
    summary = "A parameter is missing or cannot be read."
    hint = "Compare it with the parameters at /docs."


class UnknownParameter(IndelibleError):
    code, http_status = "unknown_parameter", 400
    summary = "The route has no parameter, or the body no member, of that name."
    hint = "Compare it with the route at /docs; the answer names those that there are."


class InvalidCursor(IndelibleError):
    code, http_status = "invalid_cursor", 400
    summary = "The cursor is not one that this server gave out for this search."
    hint = "Start again without a cursor."


class InvalidCondition(IndelibleError):
    """A filter cannot be read.

    Attributes:
        position: the character at fault, from 0; None where the fault has no one place.
        part: which part of a test is at fault, `path`, `op` or `value`, until the reader of the
            text has found its place.
    """

    code, http_status = "invalid_condition", 400
    summary = "The filter cannot be read."
    hint = "docs/reference/conditions.md has the grammar, the facts and the limits."

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str | None = None,
        position: int | None = None,
        part: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.position = position
        self.part = part

    def body(self, *, request_id: str) -> dict[str, object]:
        return {**super().body(request_id=request_id), "position": self.position}


class NotFound(IndelibleError):
    code, http_status = "not_found", 404
    summary = "There is nothing here by that name."
    hint = "See /docs for the routes; ids are looked up within one project."


class MethodNotAllowed(IndelibleError):
    code, http_status = "method_not_allowed", 405
    summary = "This route does not take that method."
    hint = "The Allow header names the methods it takes."


class AlreadyExists(IndelibleError):
    code, http_status = "already_exists", 409
    summary = "That name is taken."
    hint = "Choose another name."


class NotErasable(IndelibleError):
    code, http_status = "not_erasable", 409
    summary = "This entry is the log's own and is never erased."
    hint = "Only product and audit events hold what somebody sent; leave the others out."


class ConfirmMissing(IndelibleError):
    code, http_status = "confirm_missing", 400
    summary = "An erasure by person or actor must be confirmed by the hash of its preview."
    hint = "Send the same with dry_run true; then send it with its `preview` as `confirm`."


class PreviewChanged(IndelibleError):
    code, http_status = "preview_changed", 409
    summary = "What would be erased is not what this preview showed; nothing was erased."
    hint = "Ask for a preview again, look at it, and confirm that one."


class LegalHold(IndelibleError):
    """The project is on legal hold. Erasures of more than 2,000 events are made in steps: those
    before the hold was set stand."""

    code, http_status = "legal_hold", 409
    summary = "The project is on legal hold: nothing of it is erased."
    hint = "Lift it with `indelible project set NAME --legal-hold off` once the law allows it."

    @classmethod
    def of(cls, project: str, erased: int = 0) -> "LegalHold":
        """The refusal for this project, of which `erased` events were erased before it came."""
        before = f"; {erased:,} events were erased before it was set" if erased else ""
        return cls(f"Project {project!r} is on legal hold: nothing of it is erased{before}")


class NotMergeable(IndelibleError):
    code, http_status = "not_mergeable", 409
    summary = "These persons cannot become one."
    hint = "Name two or more persons that are not one already; GET /v1/persons/{id} has the ids."


class NotUnmergeable(IndelibleError):
    code, http_status = "not_unmergeable", 409
    summary = "This person cannot be taken apart so."
    hint = "Name some of its ids, but not all; or a merge that is in force."


# What is wrong with the server or the machine under it.


class Overloaded(IndelibleError):
    code, http_status, retry_after_s = "overloaded", 503, 1
    summary = "More events are waiting to be synced than the server will hold."
    hint = "Send it again after Retry-After; nothing of this request was stored."


class TooManyStreams(IndelibleError):
    code, http_status, retry_after_s = "too_many_streams", 503, 10
    summary = "As many live streams are open as may be."
    hint = "Close one that nobody looks at, or connect again after Retry-After."


class Unavailable(IndelibleError):
    code, http_status, retry_after_s = "unavailable", 503, 30
    summary = "The server cannot store events now."
    hint = "Send it again after Retry-After; /healthz names the cause."


class Stopping(Unavailable):
    """The request arrived while the server was being stopped."""

    retry_after_s = 2
    summary = "The server is being stopped."


class DiskLow(Unavailable):
    """Too little of the disk is free for this lane; the other lane may still be taken."""

    def __init__(self, *, free_percent: float, floor_percent: float) -> None:
        super().__init__(
            f"{free_percent:.1f} % of the disk is free; this lane stops at {floor_percent:g} %"
        )


class JournalUnwritable(Unavailable):
    """A write or a sync failed.

    After a failed sync nothing is acknowledged until the server is restarted: the kernel may have
    dropped the unwritten pages and called them clean, so a second sync would prove nothing.
    """

    summary = "The journal could not be written."


class JournalStuck(Unavailable):
    """A sync has been under way for too long, so no further request is queued behind it."""

    retry_after_s = 5

    def __init__(self, *, under_way_s: float) -> None:
        super().__init__(
            f"The disk has been busy with one sync for {under_way_s:.0f} s; nothing of this request"
            " was stored"
        )


class DataUnreadable(Unavailable):
    """A read failed or does not return. Acknowledged events are stored all the same."""

    retry_after_s = 5
    summary = "The data folder cannot be read now."


class StoringSlow(Unavailable):
    """The events were handed to the disk, which has not confirmed them yet."""

    code, retry_after_s = "storing_slow", 5
    summary = "The events were not synced in time; they may be stored all the same."
    hint = (
        "Send them again unchanged after Retry-After: what was stored is recognised by its uuid or "
        "Idempotency-Key. Without one it may be there twice. /healthz names the cause."
    )


class NotSealed(IndelibleError):
    code, http_status = "not_sealed", 409
    summary = "The event is stored, and no signed checkpoint covers it yet."
    hint = "Ask again in a second, or with ?wait=sealed&timeout=5s."


class NotWitnessed(NotSealed):
    code = "not_witnessed"
    summary = "The event is sealed, and its checkpoint has not met the quorum of witnesses yet."
    hint = "Ask again, or with ?wait=witnessed&timeout=5s; /healthz names the witnesses."


# What stops the sealer. Events are stored all the same; /healthz is red until the restart.


class SealingStopped(Unavailable):
    code = "sealing_stopped"
    on_the_wire = False
    summary = "No further checkpoint is signed."
    hint = "Restart the server; what it says at its start tells whether the log is sound."


class SyncFailed(SealingStopped):
    """What was written may be lost though the kernel calls it clean: never tried again."""

    code = "sync_failed"
    summary = "A file could not be synced."
    hint = "Look at the disk, then restart the server: it recovers from what the disk holds."


class RootMismatch(SealingStopped):
    code = "root_mismatch"
    summary = "What lies on disk does not give the root that was to be signed; it was not signed."
    hint = "Keep the data folder as it is, run `indelible audit` on it, and test the memory."


class TileConflict(SealingStopped):
    code = "tile_conflict"
    summary = "A tile is in place already, with other bytes."
    hint = "Keep the data folder as it is and run `indelible audit` on it."


class LockMoved(SealingStopped):
    code = "lock_moved"
    summary = "Somebody else has signed a checkpoint of this log."
    hint = "Find the other writer: two servers must never have one log's key."


class LogForked(SealingStopped):
    code = "log_forked"
    summary = "Too many witnesses have seen another history of a log to meet its quorum."
    hint = "Keep the data folder as it is; `indelible resume` shows what they said, and goes on."


class LockUnwritable(SealingStopped):
    code = "lock_unwritable"
    summary = "The last signed checkpoint could not be stored; the signature was thrown away."
    hint = "Look at the disk and at lock.db, then restart the server."


class WitnessUnwritable(Unavailable):
    """A witness could not store what it was about to say, so it has said nothing."""

    code = "witness_unwritable"
    on_the_wire = False
    summary = "The witness could not store the checkpoint; nothing was cosigned."
    hint = "Look at the disk, then restart the witness."


# What a checker says of a receipt, a policy, or the files of a log. Two things are never confused:
# what is wrong (`Tampered`), and what cannot be read and so says nothing (`Unverifiable`).


class Tampered(IndelibleError):
    """A check was made, and it failed.

    On the wire it takes the place of a receipt or a file of a log that would not verify.
    """

    code = "tampered"
    summary = "A check failed: this is not what was signed."
    hint = "Keep everything as it is; run `indelible audit` on the log."


class SignatureWrong(Tampered):
    code = "signature_wrong"
    on_the_wire = False
    summary = "A signature by a known key does not fit what it signs."
    hint = "Fetch it again; if it stays so, it was altered, or signed by somebody else."


class Unverifiable(IndelibleError):
    """The check cannot be made: something is missing, unreadable, or of an unknown version."""

    code = "unverifiable"
    on_the_wire = False
    summary = "This cannot be checked."
    hint = "Fetch it again, whole; a later version of Indelible may read it."


class UnknownVersion(Unverifiable):
    code = "unknown_version"
    summary = "This is of a version that is not known here."
    hint = "Check it with a later version of Indelible."


class SignatureMissing(Unverifiable):
    code = "signature_missing"
    summary = "There is no signature by a key that the policy names."
    hint = "Use the policy of the log that this is from; its origin is the first line."


class NoteMalformed(Unverifiable):
    code = "note_malformed"
    summary = "These lines are not a signed note."
    hint = "Fetch the checkpoint again, whole and unchanged; its lines end in a line feed alone."


class KeyMalformed(Unverifiable):
    code = "key_malformed"
    summary = "This is not a key."
    hint = "A key is one line: name, key id and base64, with a plus between them."


class ProofMalformed(Unverifiable):
    code = "proof_malformed"
    summary = "These lines are not a proof."
    hint = "Fetch the receipt again, whole and unchanged; its lines end in a line feed alone."


class LeafMalformed(Unverifiable):
    code = "leaf_malformed"
    on_the_wire = True  # a server may find one in its own journal
    summary = "These bytes are not a leaf entry."
    hint = "Run `indelible doctor` on the data folder."


class TileMalformed(Unverifiable):
    code = "tile_malformed"
    summary = "This file is not the tile that its name says."
    hint = "Rebuild it from the journal: take the file away and restart the server."


class TileMissing(Unverifiable):
    code = "tile_missing"
    summary = "A tile of the log is not there."
    hint = "Restart the server: it makes tiles that are missing from its journal."


class LogUnreadable(Unverifiable):
    code = "log_unreadable"
    summary = "A file of the log cannot be read."
    hint = "Check the path or the address, and the key if the log is not public."


class JournalUnreadable(Unverifiable):
    code = "journal_unreadable"
    summary = "The journal cannot be read."
    hint = "Run `indelible doctor` on the data folder."


class MemoryUnreadable(Unverifiable):
    code = "memory_unreadable"
    summary = "What this auditor remembers of the log cannot be read."
    hint = "Bring the file back; without it nobody can tell a log that was rolled back."


class NotAttackable(Unverifiable):
    code = "not_attackable"
    summary = "There is nothing here that could be forged."
    hint = "Send some events first, and wait a second until they are sealed."


class PolicyMalformed(Unverifiable):
    code = "policy_malformed"
    summary = "The policy cannot be read."
    hint = "A policy has lines `log`, `witness`, `group` and exactly one `quorum`."

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line


class LeafOutOfRange(Unverifiable):
    code = "leaf_out_of_range"
    summary = "The tree has no such leaf."
    hint = "Ask again after the next checkpoint."


# What keeps the server or a command from starting: never an answer to a request.


class NotStarted(IndelibleError):
    """Base of what stops the server or a command before its work begins."""

    code = "not_started"
    on_the_wire = False
    summary = "The server or the command could not start."
    hint = "Run `indelible doctor` on the data folder."


class SettingInvalid(NotStarted):
    code = "setting_invalid"
    summary = "A setting cannot be read."
    hint = "See `indelible serve --help` or docs/reference/settings.md."


class DataFolderInUse(NotStarted):
    code = "data_folder_in_use"
    summary = "Another server is using this data folder."
    hint = "Stop that server first, or give this one another folder with --data."


class AddressInUse(NotStarted):
    code = "address_in_use"
    summary = "Something else listens on this address."
    hint = "Choose another port with --port."


class ProcessLost(NotStarted):
    """It stopped in order; what was acknowledged is stored."""

    code = "process_lost"
    summary = "A process that the server cannot do without was ended from outside, so it stopped."
    hint = "Start it again; find out who ended it, such as a limit of memory."


class JournalNewer(NotStarted):
    code = "journal_newer"
    summary = "The journal was written by a newer version of Indelible."
    hint = "Install that version or a later one."


class LogRefused(NotStarted):
    """The parts of a log do not belong together, so nothing more of it may be signed."""

    code = "log_refused"
    summary = "The journal, the lock, the key and the published checkpoint do not fit together."
    hint = "Bring back the parts that belong together; nothing was changed."


class JournalShorter(LogRefused):
    code = "journal_shorter"
    summary = "The journal has fewer events than its last signed checkpoint covers."
    hint = "Bring back the newest journal, or open a successor: `indelible restore --new-log`."


class JournalDiffers(LogRefused):
    code = "journal_differs"
    summary = "The journal does not give the root of its last signed checkpoint."
    hint = "Run `indelible audit` on the data folder: it names the record that differs."


class LockMissing(LogRefused):
    code = "lock_missing"
    summary = "The last signed checkpoint of a log is not there."
    hint = "Bring back lock.db, or open a successor: `indelible restore --new-log`."


class LockBehind(LogRefused):
    code = "lock_behind"
    summary = "A checkpoint is published that is newer than the lock, or contradicts it."
    hint = "lock.db is from a backup, or another server signs this log: stop it, keep both."


class LogKeyMissing(LogRefused):
    code = "log_key_missing"
    summary = "The private key of a log is not there, or is another log's."
    hint = "Bring back the file in keys/, or open a successor: `indelible restore --new-log`."


class LogExists(LogRefused):
    code = "log_exists"
    summary = "Parts of an older log of this name are here already."
    hint = "The journal was replaced: bring it back, or take keys/, ledger/ and lock.db away too."


class WitnessMissing(NotStarted):
    code = "witness_missing"
    summary = "There is no witness in this folder."
    hint = "Make one: `indelible witness serve --data FOLDER --new NAME`."


class WitnessRefused(NotStarted):
    """Going on could cosign what contradicts an earlier cosignature of the same key."""

    code = "witness_refused"
    summary = "The key and the database of this witness do not belong together."
    hint = "Retire this witness for good: make another in a new folder with --new."


class ServerUnreachable(NotStarted):
    code = "server_unreachable"
    summary = "No server answers at this address."
    hint = "Start one with `indelible serve`, or set INDELIBLE_HOST."


# What the client's durable door raises. Everything else of the client only counts.


class AuditFailed(IndelibleError):
    """An audit event that was to be durable is not."""

    on_the_wire = False
    code = "audit_failed"
    summary = "The audit event was not stored."
    hint = "Send it again with the same idempotency key."


class AuditRefused(AuditFailed):
    """The server will never take this event.

    `reason` is the server's own code, `status` that of its answer.
    """

    code = "audit_refused"
    summary = "The server refused the audit event."
    hint = "The reason is the server's code: see its page in the reference of errors."

    def __init__(self, reason: str, *, status: int, hint: str | None = None) -> None:
        super().__init__(f"The server refused the audit event: {reason} ({status})", hint=hint)
        self.reason = reason
        self.status = status


class AuditNotKept(AuditFailed):
    code = "audit_not_kept"
    summary = "Neither the server nor the spool on disk could take the audit event."
    hint = "Bring the server back or make room on disk, then send it again with the same key."


class ClientDisabled(AuditFailed):
    code = "client_disabled"
    summary = "The client sends no audit events."
    hint = "Give it a key and a host: INDELIBLE_API_KEY and INDELIBLE_HOST."
