"""Rates: how many events a second a token or key may send.

Each has a token bucket in the memory of this process: it holds at most the key's burst, fills at
its rate, and an event takes one from it. There is a bucket for each key that has a rate and was
used, so memory is bounded by the number of keys; after a restart all of them are full. Only the
event loop touches them, so there is no lock. Of several processes that accept events each has its
own buckets, and is told now and then what passed the others.

An event costs when it is about to be stored. One that is dropped for what it is costs nothing; one
that turns out to be a duplicate does, since only the journal knows. A request gets what is left in
the bucket: a batch larger than the burst is never impossible to send, it is taken in parts.

What a sender is told depends on whether it survives a 429. Ours does: it waits for Retry-After and
sends the rest again, alone. Browsers' clients and those of ImmutableLog's guides drop what a 429
answers, so a product event gets a result of its own in a 200, and an audit event, which must not be
lost, a 503.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from indelible.clock import monotonic_s
from indelible.edge.http import Request
from indelible.errors import AuditRateLimited, RateLimited
from indelible.event import Lane
from indelible.metrics import EVENTS_RATE_LIMITED
from indelible.registry.values import Key, Project, Rate

_ATTEMPT: Final = b"x-indelible-attempt"  # our client numbers its tries


@dataclass(slots=True)
class _Bucket:
    rate: Rate
    level: float
    at_s: float

    def fill(self, now_s: float) -> None:
        filled = self.level + (now_s - self.at_s) * self.rate.per_s
        self.level = min(self.rate.burst, filled)
        self.at_s = now_s


class Rates:
    """The buckets of all keys. For one event loop."""

    def __init__(self, *, monotonic: Callable[[], float] = monotonic_s) -> None:
        self._monotonic = monotonic
        self._buckets: dict[str, _Bucket] = {}
        self._spent: dict[str, int] = {}

    def take(self, key: Key, project: Project, lane: Lane, wanted: int) -> int:
        """How many of `wanted` events may pass now; the rest is counted as turned away."""
        if key.rate is None:
            return wanted
        bucket = self._bucket(key)
        passed = min(wanted, max(int(bucket.level), 0))
        bucket.level -= passed
        self._spent[key.id] = self._spent.get(key.id, 0) + passed
        if passed < wanted:
            EVENTS_RATE_LIMITED.add(lane.value, project.name, count=wanted - passed)
        return passed

    def refusal(self, key: Key, lane: Lane, request: Request) -> RateLimited:
        """The error for a request of which nothing may pass now."""
        assert key.rate is not None
        wait_s = ceil((1.0 - self._bucket(key).level) / key.rate.per_s)
        refused = RateLimited if lane is Lane.PRODUCT or survives_429(request) else AuditRateLimited
        return refused(retry_after_s=max(wait_s, 1))

    def spent(self) -> dict[str, int]:
        """Return how many events have passed since the last call, by key."""
        spent, self._spent = self._spent, {}
        return spent

    def charge(self, spent: Mapping[str, int]) -> None:
        """Count what another process has let pass. A bucket may owe one burst for it; one that was
        not used here yet is full when it is."""
        for key_id, count in spent.items():
            bucket = self._buckets.get(key_id)
            if bucket is not None:
                bucket.fill(self._monotonic())
                bucket.level = max(bucket.level - count, -bucket.rate.burst)

    def _bucket(self, key: Key) -> _Bucket:
        """The key's bucket, filled up to now."""
        assert key.rate is not None
        now_s = self._monotonic()
        bucket = self._buckets.get(key.id)
        if bucket is None:
            bucket = self._buckets[key.id] = _Bucket(key.rate, key.rate.burst, now_s)
        bucket.rate = key.rate
        bucket.fill(now_s)
        return bucket


def survives_429(request: Request) -> bool:
    """Whether the sender is known to try again after a 429: it is our own client."""
    return request.has(_ATTEMPT)
