"""Events of the durable door whose fate is not known yet, so that each gets exactly one.

A call may be cut off: by Ctrl-C, by a time limit of the application's, or by the end of the process
while it waits on a thread that nobody joins. Whoever takes an event out of here first settles it.
"""

import threading
from typing import Final, NamedTuple

from indelible.client.capture import Record
from indelible.client.outbox import Outbox
from indelible.client.timing import Time
from indelible.client.wire import AuditWire
from indelible.event import LossReason

_LOOK_EACH_S: Final = 0.01


class Prepared(NamedTuple):
    """An event as it will be sent, and the way that it goes."""

    outbox: Outbox
    wire: AuditWire
    record: Record
    at_ms: int


class UnderWay:
    """Takes no lock, so a call may come from any thread and from a signal handler."""

    def __init__(self, time: Time) -> None:
        self._time = time
        self._events: dict[int, Prepared] = {}

    def add(self, one: Prepared) -> None:
        """Its fate is not known from now on."""
        self._events[id(one)] = one

    def takes_out(self, one: Prepared) -> bool:
        """Whether the caller is the one who settles this event: true once for each."""
        return self._events.pop(id(one), None) is not None

    def lose(self, one: Prepared, reason: LossReason) -> None:
        """Count it as lost, unless it is settled."""
        if self.takes_out(one):
            one.outbox.lose(reason)

    def delivered(self, one: Prepared) -> None:
        """Count it as delivered, unless it is settled."""
        if self.takes_out(one):
            one.outbox.note_delivered(1)

    def keep(self, one: Prepared) -> bool:
        """Leave it to the spool, unless it is settled; False if it was counted as lost instead.

        Perhaps the server has it by now, and perhaps nobody would send it again. Sent twice, it is
        stored once.
        """
        if not self.takes_out(one) or one.outbox.keep(one.record, one.at_ms):
            return True
        one.outbox.lose(LossReason.SPOOL_FAILED)
        return False

    def end(self, timeout_s: float) -> None:
        """Wait for those calls, and leave to the spool what they have not settled by then."""
        deadline = self._time.monotonic() + timeout_s
        while self._events and self._time.monotonic() < deadline:
            threading.Event().wait(_LOOK_EACH_S)
        for one in list(self._events.values()):
            self.keep(one)
