"""The names of everything that is counted. Served at /metrics in the Prometheus text format."""

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import Counter as SharedCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

disable_created_metrics()  # type: ignore[no-untyped-call]  # when something was counted first says nothing of several processes
REGISTRY: Final = CollectorRegistry()

Samples = list[tuple[str, dict[str, str], float]]
Counts = dict[str, Samples]
"""What a process has counted: of each family its samples, those that are 0 left out."""


class Tally(Collector):
    """A counter that one thread alone adds to: the event loop's.

    prometheus_client's own takes a lock at each step, 5 microseconds a time and four times in each
    request; this one is an addition, and is read without a lock when somebody asks.
    """

    def __init__(self, name: str, meaning: str, labels: tuple[str, ...]) -> None:
        self._name = name
        self._meaning = meaning
        self._labels = labels
        self._counts: Counter[tuple[str, ...]] = Counter()
        REGISTRY.register(self)

    def add(self, *labels: str, count: int = 1) -> None:
        """Count `count` more under these label values, given in the order of the labels."""
        self._counts[labels] += count

    def collect(self) -> Iterable[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._meaning, labels=self._labels)
        for labels, count in list(self._counts.items()):
            family.add_metric(labels, count)
        yield family


class Level(Collector):
    """A figure that rises and falls, set on the event loop only."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name = name
        self._meaning = meaning
        self.value = 0.0
        REGISTRY.register(self)

    def collect(self) -> Iterable[GaugeMetricFamily]:
        yield GaugeMetricFamily(self._name, self._meaning, value=self.value)


class _Page:
    """What all processes of a server have counted, added up.

    What an ended process counted stays, since a counter never falls; its levels do not.
    """

    def __init__(self) -> None:
        self._others: dict[str, Counts] = {}
        self._ended: Counts = {}

    def take(self, process: str, counted: Counts) -> None:
        self._others[process] = counted

    def keep(self, process: str) -> None:
        ended = self._others.pop(process, {})
        for family in REGISTRY.collect():
            if family.type != "gauge" and family.name in ended:
                kept = self._ended.setdefault(family.name, [])
                self._ended[family.name] = _sum([kept, ended[family.name]])

    def counts(self, tally: Tally) -> Counter[tuple[str, ...]]:
        """What all processes have counted of one counter, by its labels in their order."""
        (own,) = tally.collect()
        found: Counter[tuple[str, ...]] = Counter()
        parts = [
            [(sample.name, sample.labels, sample.value) for sample in own.samples],
            *(other.get(own.name, []) for other in (*self._others.values(), self._ended)),
        ]
        for _, labels, value in chain.from_iterable(parts):
            found[tuple(labels.values())] += round(value)
        return found

    def collect(self) -> Iterable[Metric]:
        others = [*self._others.values(), self._ended]
        for family in REGISTRY.collect():
            samples = [(sample.name, sample.labels, sample.value) for sample in family.samples]
            whole = Metric(family.name, family.documentation, family.type)
            parts = (other.get(family.name, []) for other in others)
            for sample in _sum([samples, *parts]):
                whole.add_sample(*sample)
            yield whole


def _sum(parts: Iterable[Samples]) -> Samples:
    """Add up what stands under one name and labels, in the order in which it is first met."""
    whole: dict[tuple[str, ...], tuple[str, dict[str, str], float]] = {}
    for name, labels, value in chain.from_iterable(parts):
        key = (name, *labels.values())
        known = whole.get(key)
        whole[key] = (name, labels, value + (0.0 if known is None else known[2]))
    return list(whole.values())


_PAGE: Final = _Page()


def counts() -> Counts:
    """Return what this process has counted, for another one to `take`."""
    return {
        family.name: [
            (sample.name, sample.labels, sample.value) for sample in family.samples if sample.value
        ]
        for family in REGISTRY.collect()
    }


def take(process: str, counted: Counts) -> None:
    """Add what another process has counted so far to the page of this one."""
    _PAGE.take(process, counted)


def keep(process: str) -> None:
    """Note that this process has ended: its counters stay, its levels do not."""
    _PAGE.keep(process)


def counts_of(tally: Tally) -> Counter[tuple[str, ...]]:
    """What all processes have counted of this counter, by its labels in their order."""
    return _PAGE.counts(tally)


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
NUMBERED: Final = "numbered"
OTHERS: Final = "others"
PROJECT_EVENTS_DROPPED = Tally(
    "indelible_project_events_dropped",
    "Events dropped for good, by project; those of a sender that numbers them are in its account "
    "as well.",
    ("project", "lane", "reason", "sender"),
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
LIVE_STREAMS = Level("indelible_live_streams", "Open streams of the debug view.")
LIVE_ENTRIES = Level("indelible_live_entries", "Messages that the rings of all projects hold.")
LIVE_BYTES = Level("indelible_live_bytes", "Bytes that the rings of all projects hold.")
LIVE_GAPS = Tally(
    "indelible_live_gaps",
    "Gaps that were told to streams of the debug view, by reason.",
    ("reason",),
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
    return generate_latest(_PAGE)
