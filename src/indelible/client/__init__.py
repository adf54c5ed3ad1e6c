"""The client: never blocks, never raises, never loses without counting.

Needs nothing but the standard library. ``indelible.capture(…)`` is the shortest way in; an
`Indelible` of one's own is the same with its own options.
"""

from indelible.client.asynchronous import AsyncIndelible
from indelible.client.audit import Audit
from indelible.client.client import Indelible
from indelible.client.context import Context
from indelible.client.options import InvalidOption, Options
from indelible.client.privacy import pseudonym, sha256_hex
from indelible.client.receipt import AuditEvent, Receipt
from indelible.client.tally import Counts
from indelible.event import LossReason

__all__ = [
    "AsyncIndelible",
    "Audit",
    "AuditEvent",
    "Context",
    "Counts",
    "Indelible",
    "InvalidOption",
    "LossReason",
    "Options",
    "Receipt",
    "pseudonym",
    "sha256_hex",
]
