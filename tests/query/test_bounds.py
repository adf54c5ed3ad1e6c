"""Pages and exports are bounded in bytes: however large the events, memory and ingest are safe."""

import itertools
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible.query.events import PAGE_BYTES, SCANNED_BYTES_PER_PAGE
from indelible.query.senders import GAPS_PER_PAGE
from tests.edge.wire import eventually
from tests.query.log import Log, new_log
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    World,
    audit,
    inside,
    plain_client,
    product,
    started,
)

MIB = 1024 * 1024
LARGEST = "x" * (MIB - 300)  # with its envelope just below the limit of an event


def send_large(world: World, count: int, **more: Any) -> None:
    """Send `count` events of almost 1 MiB each."""
    for start in range(0, count, 10):
        batch = [
            {"event": "large", "distinct_id": "d", "properties": {"n": n, "x": LARGEST}, **more}
            for n in range(start, min(start + 10, count))
        ]
        answer = world.send({"api_key": TOKEN, "batch": batch})
        assert len(batch) == answer.json()["accepted"]


def search(world: World, **parameters: Any) -> dict[str, Any]:
    answer = world.http.get("/v1/events", params=parameters, headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text
    page: dict[str, Any] = answer.json()
    return page


def pages(world: World, **parameters: Any) -> Iterator[dict[str, Any]]:
    """Every page of a search, by its cursors."""
    page = search(world, **parameters)
    yield page
    while (cursor := page["next"]) is not None:
        page = search(world, **parameters, cursor=cursor)
        assert cursor != page["next"], "the pages do not end"
        yield page


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose log has 48 events of almost 1 MiB each."""
    with started(
        tmp_path_factory.mktemp("large"),
        INDELIBLE_PRODUCT_MIN_FREE_PERCENT="0",
        INDELIBLE_AUDIT_MIN_FREE_PERCENT="0",
    ) as server:
        send_large(server, 48)
        yield server


@pytest.mark.parametrize("order", ["newest", "oldest"])
@pytest.mark.parametrize("name", [None, "large"])
def test_a_page_of_large_events_is_short_and_has_a_next(
    large: ServerProcess, order: str, name: str | None
) -> None:
    named = {} if name is None else {"event_name": name}
    found = [
        [event["index"] for event in page["events"] if event.get("event") == "large"]
        for page in pages(large, order=order, limit=200, **named)
    ]

    largest = PAGE_BYTES // len(LARGEST)
    assert max(map(len, found)) <= largest
    indexes = list(itertools.chain(*found))
    assert sorted(set(indexes), reverse=order == "newest") == indexes
    assert 48 == len(indexes)


def test_the_largest_event_is_read_alone_however_much_larger_than_a_page(tmp_path: Path) -> None:
    payload = "y" * (PAGE_BYTES + MIB)
    with inside(tmp_path, max_payload_bytes=2 * PAGE_BYTES) as world:
        for key in ("before", "itself", "behind"):
            sent = payload if key == "itself" else "{}"
            assert 202 == world.send_audit(audit(sent), key).status_code

        assert [[key] for key in ("behind", "itself", "before")] == [
            [event["idempotency_key"] for event in page["events"]] for page in pages(world)
        ]
        assert ["{}", payload, "{}"] == [event["payload"] for event in world.events()]
        (found,) = world.http.get("/v1/where?id=itself", headers=AS_APPLICATION).json()["events"]
        assert payload == found["payload"]


def test_a_search_that_finds_nothing_looks_at_a_bounded_number_of_bytes(world: World) -> None:
    # Unknown members are kept in the record, which a search must look at.
    event = {"event": "e", "distinct_id": "d", "unknown": LARGEST}
    left = SCANNED_BYTES_PER_PAGE // len(LARGEST) + 4
    while left > 0:
        world.send({"api_key": TOKEN, "batch": [event] * min(left, 8)})
        left -= 8

    found = list(pages(world, event_name="no_such"))

    assert [0] * len(found) == [len(page["events"]) for page in found]
    assert 2 == len(found)


@contextmanager
def growth(server: ServerProcess) -> Iterator[list[float]]:
    """How many MiB the server's memory grew at its peak, within a `with`; known behind it."""
    pid, grown = server.process.pid, [0.0]
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is that from now on
    before = memory_kib(pid, "VmRSS")
    yield grown
    grown[0] = (memory_kib(pid, "VmHWM") - before) / 1024


def memory_kib(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise AssertionError(name)


def download(server: ServerProcess, path: str) -> int:
    """Read an answer to its end; how many bytes it has."""
    with (
        plain_client(server.url, headers=AS_APPLICATION) as http,
        http.stream("GET", path) as answer,
    ):
        return sum(map(len, answer.iter_raw()))


MOST_GROWTH_MIB = 96  # with all of them whole in memory it would be ten times as much


def test_many_exports_and_searches_at_once_take_no_more_memory_than_their_pieces(
    large: ServerProcess,
) -> None:
    paths = ["/v1/export"] * 6 + ["/v1/events?limit=200&event_name=large"] * 8
    with growth(large) as grown, ThreadPoolExecutor(len(paths)) as pool:
        sizes = list(pool.map(lambda path: download(large, path), paths))

    assert [48 * len(LARGEST)] * 6 <= sizes[:6]
    assert all(MIB < size < PAGE_BYTES + MIB for size in sizes[6:])
    assert grown[0] < MOST_GROWTH_MIB


def test_an_export_that_is_not_read_is_not_made_in_advance(large: ServerProcess) -> None:
    with growth(large) as grown, ExitStack() as opened:
        for _ in range(6):
            http = opened.enter_context(plain_client(large.url, headers=AS_APPLICATION))
            answer = opened.enter_context(http.stream("GET", "/v1/export"))
            next(answer.iter_raw(1_000))
        time.sleep(1)

    assert grown[0] < MOST_GROWTH_MIB


def test_receipts_in_bulk_go_by_pieces_too(large: ServerProcess) -> None:
    with growth(large) as grown:
        size = download(large, "/v1/receipts")

    assert size > 40 * MIB
    assert grown[0] < MOST_GROWTH_MIB


def test_an_erasure_by_person_reads_no_payloads(large: ServerProcess) -> None:
    with growth(large) as grown:
        answer = large.http.post(
            "/v1/erasures", json={"distinct_id": "d", "dry_run": True}, headers=AS_ADMIN
        )

    assert 48 <= answer.json()["erased"]
    assert grown[0] < 8


@pytest.mark.clocked
@pytest.mark.slow
def test_ingest_does_not_wait_for_those_that_read(large: ServerProcess) -> None:
    assert 0.1 > min(slowest_answer_beside_readers(large) for _ in range(5))


def slowest_answer_beside_readers(server: ServerProcess) -> float:
    """The slowest of the answers to single events, but for one in a hundred."""
    took: list[float] = []
    reading = threading.Event()

    def send() -> None:
        while not reading.is_set():
            began = time.monotonic()
            assert 200 == server.send(product()).status_code
            took.append(time.monotonic() - began)

    paths = ["/v1/export"] * 6 + ["/v1/events?limit=200&event_name=large"] * 8
    with ThreadPoolExecutor(len(paths) + 1) as pool:
        sending = pool.submit(send)
        list(pool.map(lambda path: download(server, path), paths))
        reading.set()
        sending.result()
    return sorted(took)[len(took) * 99 // 100]


@pytest.mark.slow
def test_a_page_of_accounts_with_many_gaps_is_short_and_has_a_next(shared: World) -> None:
    processes = GAPS_PER_PAGE // 1_000 + 1
    with new_log(shared) as log:
        for number in range(processes):
            batch = [
                {
                    "event": "e",
                    "distinct_id": "d",
                    "process_id": f"{number:032x}",
                    "sequence": 2 * n + 1,
                }
                for n in range(1_000)
            ]
            assert 200 == log.send({"batch": batch}).status_code
        eventually(lambda: gaps(log) == [1_000 * (processes - 1), 1_000])


def gaps(log: Log) -> list[int]:
    """How many gaps each page of accounts shows."""
    counts: list[int] = []
    cursor: dict[str, str] = {}
    while True:
        answer: httpx.Response = log.http.get("/v1/senders", params={"limit": 200, **cursor})
        page = json.loads(answer.content)
        counts.append(sum(len(sender["gaps"]) for sender in page["senders"]))
        if page["next"] is None:
            return counts
        cursor = {"cursor": page["next"]}
