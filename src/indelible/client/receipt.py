"""What goes through the durable door, and what comes back: values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NotRequired, Self, TypedDict, get_args
from urllib.parse import quote

from indelible.client.encode import IdLike, id_of

AuditType = Literal["success", "info", "warning", "error", "debug", "audit"]
Wait = Literal["sealed", "witnessed"]
"""How far an event is to be before a call comes back."""

TYPES: Final = get_args(AuditType)
SPOOLED: Final = "spooled"
DISABLED: Final = "disabled"
_KEY: Final = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One audit event. Raises TypeError or ValueError rather than be one that no server takes.

    Attributes:
        event_name: dotted noun.verb: ``user.created``.
        payload: text is sent and proved to the byte; anything else becomes JSON first.
        type: one of `TYPES`.
        meta: more members of the event's meta, text to text.
        idempotency_key: 1 to 255 visible ASCII characters, or what has such a text, as a UUID;
            made here when there is none.
    """

    event_name: str
    payload: object
    type: AuditType = "info"
    meta: Mapping[str, str] | None = None
    idempotency_key: IdLike | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.event_name, str) or not self.event_name:
            raise TypeError("event_name must be text, such as user.created")
        if self.type not in TYPES:
            raise ValueError(f"type must be one of {', '.join(TYPES)}, not {self.type!r}")
        for name, value in (self.meta or {}).items():
            if not isinstance(name, str) or not isinstance(value, str):
                raise TypeError(f"meta must be text to text; {name!r} is not")
        key = self.idempotency_key
        if key is None or type(key) is str:
            text = key
        else:
            text = id_of(key, "idempotency_key") or ""
            object.__setattr__(self, "idempotency_key", text)
        if text is not None and not _KEY.fullmatch(text):
            raise ValueError("idempotency_key must be 1 to 255 visible ASCII characters")

    @classmethod
    def of(cls, event: "AuditEvent | AuditFields") -> Self:
        """`event` itself, or the event that a mapping of its attributes means.

        Raises:
            TypeError, ValueError: it is none.
        """
        return event if isinstance(event, cls) else cls(**event)  # type: ignore[arg-type]

    @property
    def key(self) -> str | None:
        """`idempotency_key` as text."""
        return None if self.idempotency_key is None else str(self.idempotency_key)


class AuditFields(TypedDict):
    """An `AuditEvent` as a dict, as `send_batch` takes it too."""

    event_name: str
    payload: object
    type: NotRequired[AuditType]
    meta: NotRequired[Mapping[str, str] | None]
    idempotency_key: NotRequired[IdLike | None]


def receipt_path(tx_id: str, wait: Wait | None, timeout_s: float) -> str:
    """Where a server has the portable receipt of an event, after waiting for it for so long.

    Raises:
        ValueError: nothing can be waited for by that name.
    """
    return f"/v1/events/{quote(tx_id, safe='')}/receipt{wait_query(wait, timeout_s)}"


def wait_query(wait: Wait | None, timeout_s: float) -> str:
    """The query by which a server is asked to wait; empty if it need not."""
    if wait is None:
        return ""
    if wait not in get_args(Wait):
        raise ValueError(f"wait must be sealed or witnessed, not {wait!r}")
    return f"?wait={wait}&timeout={timeout_s:.3f}s"


def is_portable(text: bytes) -> bool:
    """Whether this is a receipt, and no page of something in front."""
    return b"tlog-proof" in text.partition(b"\n")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of one durable event.

    Attributes:
        status: `accepted` (stored and synced by the server), `sealed` or `witnessed` where that
            was waited for, `spooled` (synced to disk here; it will be delivered), or `disabled`
            (let go, since the client was made with ``enabled=False``).
        idempotency_key: the event's own, for ever.
        tx_id, index, payload_hash, duplicate, request_id: as the server answered; unknown while
            the event is spooled.
        receipt: the portable receipt (`.tlog-proof`), where the call waited for it.
        block_id, block_hash, event_hash: never set; code written for ImmutableLog may read them.
    """

    status: str
    idempotency_key: str
    tx_id: str | None = None
    index: int | None = None
    payload_hash: str | None = None
    duplicate: bool = False
    request_id: str | None = None
    receipt: str | None = None
    block_id: None = field(default=None, repr=False)
    block_hash: None = field(default=None, repr=False)
    event_hash: None = field(default=None, repr=False)

    @classmethod
    def answered(cls, body: Mapping[str, Any], key: str) -> Self:
        """What a server's answer for the event with this key says."""
        return cls(
            status=str(body.get("status", "accepted")),
            idempotency_key=key,
            tx_id=body.get("tx_id"),
            index=body.get("index"),
            payload_hash=body.get("payload_hash"),
            duplicate=bool(body.get("duplicate", False)),
            request_id=body.get("request_id"),
            receipt=body.get("receipt"),
        )

    @property
    def ok(self) -> bool:
        """Whether the event is safe: always, but with a client that is switched off."""
        return self.status != DISABLED

    @property
    def is_spooled(self) -> bool:
        return self.status == SPOOLED
