"""Which visitors were joined to which persons lately: it need not be said in each request."""

from collections import OrderedDict
from contextlib import suppress
from typing import Final

from indelible.client.encode import id_of
from indelible.client.timing import Time

AGAIN_S: Final = 3_600.0
"""A join is sent again after this long: the one before may have been lost on its way."""

MAX_PAIRS: Final = 4_096


class Joins:
    """The pairs of ids joined in the last hour, at most `MAX_PAIRS` of them. Threads may share it:
    at worst a join is sent twice, which changes nothing.
    """

    def __init__(self, time: Time) -> None:
        self._time = time
        self._sent: OrderedDict[tuple[str, str | None], float] = OrderedDict()

    def is_due(self, anonymous_id: object, distinct_id: object) -> bool:
        """Whether to send the join of these two now; False without an anonymous id, or if it is the
        person's own."""
        try:
            visitor, person = id_of(anonymous_id, "anonymous_id"), id_of(distinct_id, "distinct_id")
        except Exception:  # no id at all, as a list is none: the capture counts it
            return True
        if visitor is None or visitor == person:
            return False
        pair = (visitor, person)
        now_s = self._time.monotonic()
        sent_s = self._sent.get(pair)
        if sent_s is not None and now_s - sent_s < AGAIN_S:
            return False
        self._sent[pair] = now_s
        while len(self._sent) > MAX_PAIRS:
            with suppress(KeyError):  # another thread was faster
                self._sent.popitem(last=False)
        return True
