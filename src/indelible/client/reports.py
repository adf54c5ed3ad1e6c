"""Reports of what was lost: each loss is told to the server once."""

import os

from indelible.client.capture import Stamp
from indelible.client.tally import Numbers, Tally
from indelible.client.timing import Time
from indelible.client.wire import Report
from indelible.event import LossReason


class Reports:
    """Those of one lane in one process. Not for two threads at once."""

    def __init__(self, process_id: str, *, tally: Tally, numbers: Numbers, time: Time) -> None:
        self._process_id = process_id
        self._tally = tally
        self._numbers = numbers
        self._time = time
        self._pending: Report | None = None
        self._told: dict[str, int] = {}

    def next(self) -> Report | None:
        """What was lost since the last report that a server took; the same until one takes it."""
        if self._pending is None:
            sums = self._tally.sums()
            counts = {
                reason.value: sums[reason] - self._told.get(reason, 0)
                for reason in LossReason
                if sums[reason] > self._told.get(reason, 0)
            }
            if counts:
                stamp = Stamp(self._time.wall_ns(), 0, os.urandom(10))
                drawn = self._numbers.drawn
                self._pending = Report(stamp.uuid, self._process_id, counts, drawn)
        return self._pending

    def taken(self, report: Report | None) -> None:
        """A server has this report, or will never take one."""
        if report is not None and self._pending is report:
            for reason, count in report.counts.items():
                self._told[reason] = self._told.get(reason, 0) + count
            self._pending = None
