"""The names of everything that is counted. Served at /metrics in the Prometheus text format."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest
from prometheus_client import Counter as SharedCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

REGISTRY: Final = CollectorRegistry()


Counts = dict[str, list[tuple[list[str], float]]]
"""What a process has counted: of each name, label values and count."""


class Tally(Collector):
    """A counter that one thread alone adds to: the event loop's.

    prometheus_client's own takes a lock at each step, 5 microseconds a time and four times in each
    request; this one is an addition, and is read without a lock when somebody asks.

    Of a server of several processes each counts its own. What the others counted is added when the
    page is made; what an ended process counted stays, since a counter never falls.
    """

    def __init__(self, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._counts: Counter[tuple[str, ...]] = Counter()
        REGISTRY.register(self)
        _COUNTED[name] = self

    def add(self, *labels: str, count: int = 1) -> None:
        """Count `count` more under these label values, given in the order of the labels."""
        self._counts[labels] += count

    def own(self) -> list[tuple[list[str], float]]:
        """Return what this process has counted."""
        return [(list(labels), count) for labels, count in list(self._counts.items())]

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in _sum(self._name, self.own(), is_level=False).items():
            family.add_metric(labels, count)
        yield family


class Level(Collector):
    """A figure that rises and falls, set on the event loop only; of several processes, the sum."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name = name
        self._meaning = meaning
        self.value = 0.0
        REGISTRY.register(self)
        _COUNTED[name] = self

    def own(self) -> list[tuple[list[str], float]]:
        """Return the figure of this process."""
        return [([], self.value)]

    def collect(self) -> Iterable[GaugeMetricFamily]:
        whole = sum(_sum(self._name, self.own(), is_level=True).values())
        yield GaugeMetricFamily(self._name, self._meaning, value=whole)


_COUNTED: Final[dict[str, Tally | Level]] = {}
_OTHERS: Final[dict[str, Counts]] = {}
_ENDED: Final[dict[str, Counter[tuple[str, ...]]]] = {}


def _sum(
    name: str, own: list[tuple[list[str], float]], *, is_level: bool
) -> dict[tuple[str, ...], float]:
    whole: dict[tuple[str, ...], float] = {} if is_level else dict(_ENDED.get(name, {}))
    for counts in (own, *(other.get(name, []) for other in list(_OTHERS.values()))):
        for labels, count in counts:
            whole[tuple(labels)] = whole.get(tuple(labels), 0) + count
    return whole


def counts() -> Counts:
    """Return what this process has counted, for another one to `take`."""
    return {name: own for name, counted in _COUNTED.items() if (own := counted.own())}


def take(process: str, counted: Counts) -> None:
    """Add what another process has counted so far to the page of this one."""
    _OTHERS[process] = counted


def keep(process: str) -> None:
    """Note that this process has ended: its counters stay, its levels do not."""
    for name, counted in _OTHERS.pop(process, {}).items():
        ended = _ENDED.setdefault(name, Counter())
        for labels, count in counted:
            ended[tuple(labels)] += int(count)


REQUESTS = Tally("indelible_requests", "Ingest requests by route and answer.", ("route", "status"))
REQUESTS_REFUSED = Tally(
    "indelible_requests_refused", "Ingest requests refused as a whole, by code.", ("route", "code")
)
EVENTS_RECEIVED = Tally("indelible_events_received", "Events read from requests.", ("lane",))
EVENTS_STORED = Tally("indelible_events_stored", "Events written and synced.", ("lane",))
EVENTS_DUPLICATE = Tally(
    "indelible_events_duplicate", "Events recognised as stored before.", ("lane",)
)
EVENTS_DROPPED = Tally(
    "indelible_events_dropped", "Events not stored, by reason.", ("lane", "reason")
)
EVENTS_WARNED = Tally(
    "indelible_events_warned", "Events with a warning, by reason.", ("lane", "reason")
)
EVENTS_RATE_LIMITED = Tally(
    "indelible_events_rate_limited",
    "Events turned away because their token or key had reached its rate, by project.",
    ("lane", "project"),
)
LOSSES_REPORTED = Tally(
    "indelible_losses_reported",
    "Events that senders report as lost before they were sent, by reason.",
    ("lane", "reason"),
)
LOSS_REPORTS_IGNORED = Tally(
    "indelible_loss_reports_ignored", "Reports of losses not taken, by reason.", ("lane", "reason")
)

CONNECTIONS_OPEN = Level("indelible_connections_open", "Open connections.")
CONNECTIONS_CLOSED = Tally(
    "indelible_connections_closed", "Connections that ended, by reason.", ("reason",)
)
REQUEST_BYTES_HELD = Level(
    "indelible_request_bytes_held", "Bytes of requests under way that are held in memory."
)

BYTES_WAITING = Gauge(
    "indelible_bytes_waiting",
    "Bytes of events that are admitted and wait for their sync.",
    registry=REGISTRY,
)
GROUP_EVENTS = Histogram(
    "indelible_group_events",
    "Events that shared one sync.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000, 10000),
    registry=REGISTRY,
)
COMMIT_SECONDS = Histogram(
    "indelible_commit_seconds",
    "Time to write and sync a group.",
    buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
FOLLOWER_FAILURES = SharedCounter(
    "indelible_follower_failures",
    "Batches that a follower could not handle.",
    ["follower"],
    registry=REGISTRY,
)
SEAL_SECONDS = Histogram(
    "indelible_seal_seconds",
    "Time to write, recompute, sign and publish the checkpoints of a round.",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5),
    registry=REGISTRY,
)
WITNESS_ANSWERS = SharedCounter(
    "indelible_witness_answers",
    "Answers of witnesses, by what came of them.",
    ["witness", "answer"],
    registry=REGISTRY,
)
TILES_REBUILT = SharedCounter(
    "indelible_tiles_rebuilt",
    "Tiles and bundles found damaged or missing, and rebuilt from what was signed.",
    registry=REGISTRY,
)
SCRUBBED_BYTES = SharedCounter(
    "indelible_scrubbed_bytes",
    "Bytes of tiles, bundles and stored events that the scrub has compared with what was signed.",
    registry=REGISTRY,
)
DAMAGED_PLACES = Gauge(
    "indelible_damaged_places",
    "Places of the logs that differ from what was signed and cannot be rebuilt.",
    registry=REGISTRY,
)


def exposition() -> bytes:
    """All of the above in the Prometheus text format, version 0.0.4."""
    return generate_latest(REGISTRY)
