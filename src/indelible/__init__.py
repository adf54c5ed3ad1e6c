"""Indelible: product events and audit events in one append-only log.

    import indelible

    indelible.capture("purchase_completed", distinct_id="user_42", properties={"amount": 99.99})
    receipt = indelible.audit.send("order.created", {"order_id": "ord_1"}, type="success")

The client needs only the standard library. It is made when it is first used, from
`INDELIBLE_TOKEN`, `INDELIBLE_API_KEY` and `INDELIBLE_HOST`; importing this package costs nothing.
The server lives in the rooms below and is installed with ``pip install "indelible[server]"``.
"""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from indelible.client import AsyncIndelible as AsyncIndelible
    from indelible.client import AuditEvent as AuditEvent
    from indelible.client import AuditFields as AuditFields
    from indelible.client import ClientOptions as ClientOptions
    from indelible.client import IdLike as IdLike
    from indelible.client import Indelible as Indelible
    from indelible.client import InvalidOption as InvalidOption
    from indelible.client import Receipt as Receipt
    from indelible.client import pseudonym as pseudonym
    from indelible.client import sha256_hex as sha256_hex
    from indelible.client.default import alias as alias
    from indelible.client.default import audit as audit
    from indelible.client.default import audited as audited
    from indelible.client.default import capture as capture
    from indelible.client.default import configure as configure
    from indelible.client.default import context as context
    from indelible.client.default import default_client as default_client
    from indelible.client.default import flush as flush
    from indelible.client.default import identify as identify
    from indelible.client.default import send_event as send_event
    from indelible.client.default import set as set
    from indelible.client.default import set_anonymous_id as set_anonymous_id
    from indelible.client.default import set_distinct_id as set_distinct_id
    from indelible.client.default import shutdown as shutdown

_CLIENT = frozenset(
    "AsyncIndelible AuditEvent AuditFields ClientOptions IdLike Indelible InvalidOption "  # noqa: SIM905
    "Receipt pseudonym sha256_hex".split()
)
_DEFAULT = frozenset(
    {
        "alias",
        "audit",
        "audited",
        "capture",
        "configure",
        "context",
        "default_client",
        "flush",
        "identify",
        "send_event",
        "set",
        "set_anonymous_id",
        "set_distinct_id",
        "shutdown",
    }
)


def __getattr__(name: str) -> object:
    # Looked up once: the name then stands in this module like any other.
    if name in _CLIENT:
        found: object = getattr(importlib.import_module("indelible.client"), name)
    elif name in _DEFAULT:
        found = getattr(importlib.import_module("indelible.client.default"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(_CLIENT | _DEFAULT | {"__doc__", "__name__", "__version__"})
