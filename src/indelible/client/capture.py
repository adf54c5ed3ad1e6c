"""An event as the caller left it, and as it will be sent: what the lanes hand on. Values only."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Stamp(NamedTuple):
    """What is frozen at the moment of capture."""

    at_ns: int
    sequence: int
    random: bytes

    @property
    def uuid(self) -> str:
        """A UUIDv7 (RFC 9562 section 5.7) of this moment, from 10 random bytes."""
        bits = (self.at_ns // 1_000_000) << 80 | int.from_bytes(self.random)
        bits = bits & ~(0xF << 76) | 7 << 76
        text = f"{bits & ~(3 << 62) | 2 << 62:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class ProductCapture(NamedTuple):
    """A product event as the caller left it."""

    stamp: Stamp
    event: str
    distinct_id: object
    properties: dict[str, object]
    event_id: object = None
    timestamp: str | None = None


class AuditCapture(NamedTuple):
    """An audit event as the caller left it.

    With `clamp`, `payload` makes the payload from the event's id and its time in ms since the
    epoch, and `clamp` makes text of it that is not too long.
    """

    stamp: Stamp
    event_name: str
    payload: object
    meta: dict[str, str]
    idempotency_key: str | None = None
    clamp: Callable[[Any], bytes] | None = None


class Observed(NamedTuple):
    """An event that a hook saw; `expand` describes it, on the background thread."""

    stamp: Stamp
    expand: Callable[[Stamp], "ProductCapture | AuditCapture"]


Capture = ProductCapture | AuditCapture | Observed


class Record(NamedTuple):
    """One event as it will be sent: its id, and its JSON."""

    event_id: str
    data: bytes
