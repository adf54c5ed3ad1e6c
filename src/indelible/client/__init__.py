"""The client: never blocks, never raises, never loses without counting.

Needs nothing but the standard library. ``indelible.capture(…)`` is the shortest way in; an
`Indelible` of one's own is the same with its own options.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indelible.client.asynchronous import AsyncIndelible
    from indelible.client.audit import Audit
    from indelible.client.client import Indelible
    from indelible.client.context import Context
    from indelible.client.encode import IdLike
    from indelible.client.options import ClientOptions, InvalidOption, Options
    from indelible.client.privacy import pseudonym, sha256_hex
    from indelible.client.receipt import AuditEvent, AuditFields, Receipt
    from indelible.client.tally import Counts
    from indelible.event import LossReason

__all__ = [
    "AsyncIndelible",
    "Audit",
    "AuditEvent",
    "AuditFields",
    "ClientOptions",
    "Context",
    "Counts",
    "IdLike",
    "Indelible",
    "InvalidOption",
    "LossReason",
    "Options",
    "Receipt",
    "pseudonym",
    "sha256_hex",
]

_PLACES = {
    "AsyncIndelible": "indelible.client.asynchronous",
    "Audit": "indelible.client.audit",
    "AuditEvent": "indelible.client.receipt",
    "AuditFields": "indelible.client.receipt",
    "ClientOptions": "indelible.client.options",
    "Context": "indelible.client.context",
    "Counts": "indelible.client.tally",
    "IdLike": "indelible.client.encode",
    "Indelible": "indelible.client.client",
    "InvalidOption": "indelible.client.options",
    "LossReason": "indelible.event",
    "Options": "indelible.client.options",
    "Receipt": "indelible.client.receipt",
    "pseudonym": "indelible.client.privacy",
    "sha256_hex": "indelible.client.privacy",
}


def __getattr__(name: str) -> object:
    # Each is loaded when it is asked for, so that whoever needs one part waits for no other.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(importlib.import_module(_PLACES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__name__"]
