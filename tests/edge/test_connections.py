"""Connections cost a descriptor, never the service; a body that was cut off is not processed."""

import contextlib
import itertools
import json
import random
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from indelible.ledger.witness.rules import hash_of
from tests.edge.lines import Line, chunked, exchange, held, post, waits_of
from tests.edge.wire import eventually, fresh
from tests.ledger.format import worked
from tests.ledger.witness.witnesses import Book, witness
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_ADMIN,
    ServerProcess,
    World,
    audit,
    product,
    started,
)

AS_KEY = f"Authorization: Bearer {API_KEY}"
JSON = "Content-Type: application/json"

HALF_HEAD = b"POST /api/e HTTP/1.1\r\nHost: a\r\nContent-"
ONE_BYTE_OF_A_BODY = post("/api/e", b"{", JSON).replace(b"Length: 1", b"Length: 100")
IDLE = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
MOST_DESCRIPTORS = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
HELD = {
    "silent": b"",
    "half-head": HALF_HEAD,
    "one-byte-body": ONE_BYTE_OF_A_BODY,
    "idle": IDLE,
    "preface": PREFACE,
}


@contextlib.contextmanager
def serving(what: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """A server or a witness: its address, and what another client asks of it."""
    if what == "server":
        with started(folder / "data") as server:
            yield server.url, post("/api/e", json.dumps(product()).encode(), JSON)
    else:
        name = "witness.example/w1"
        with witness(folder / "w", [worked.SIGNER.key], new=name) as running:
            yield running.url, IDLE


def waits(url: str, request: bytes, *, for_s: float) -> list[float]:
    """How long clients waited for their answers, each on a connection of its own; ascending."""

    def ask() -> None:
        assert 200 == exchange(url, request).status

    return waits_of(ask, for_s=for_s)


@pytest.mark.clocked
@pytest.mark.parametrize("what", ["server", "witness"])
def test_1_500_connections_that_are_held_keep_no_other_client_waiting(
    tmp_path: Path, what: str
) -> None:
    with serving(what, tmp_path) as (url, asked), held(url, 1_500, *HELD.values()):
        took = waits(url, asked, for_s=3)
    assert took[len(took) * 99 // 100] <= 0.1


@pytest.mark.clocked
@pytest.mark.skipif(MOST_DESCRIPTORS < 20_000, reason="the system gives too few descriptors")
@pytest.mark.parametrize(("count", "size"), [(2_400, 60_000), (12_000, 12_000)])
def test_long_heads_that_drip_in_byte_by_byte_keep_no_other_client_waiting(
    world: ServerProcess, count: int, size: int
) -> None:
    """Together they hold more than the memory of large requests, and less than all of it."""
    opening = b"POST /api/e HTTP/1.1\r\nHost: a\r\nA: " + b"a" * size
    resource.setrlimit(resource.RLIMIT_NOFILE, (MOST_DESCRIPTORS, MOST_DESCRIPTORS))
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(1) as pool:
        lines = [opened.enter_context(Line(world.url)) for _ in range(count)]
        for line in lines:
            line.send(opening)
        dripped = pool.submit(drip, lines, for_s=3)
        took = waits(world.url, post("/api/e", json.dumps(product()).encode(), JSON), for_s=3)
        assert 10_000 <= dripped.result()
    assert took[len(took) * 99 // 100] <= 0.1


def drip(lines: list[Line], *, for_s: float) -> int:
    """Send a byte on each line in turn, 5,000 a second; how many there were."""
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < for_s:
        while sent < 5_000 * passed:
            with contextlib.suppress(OSError):  # the server ended it
                lines[sent % len(lines)].send(b"a")
            sent += 1
        time.sleep(0.005)
    return sent


@pytest.mark.slow(minutes=2)
@pytest.mark.clocked
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", HELD)
@pytest.mark.parametrize("what", ["server", "witness"])
def test_1_100_connections_held_for_a_minute_keep_no_other_client_waiting(
    tmp_path: Path, what: str, kind: str
) -> None:
    with serving(what, tmp_path) as (url, asked), held(url, 1_100, HELD[kind]):
        took = waits(url, asked, for_s=60)
    show(f"{what}, 1,100 {kind}", took)
    assert took[len(took) * 99 // 100] <= 0.1


@pytest.mark.slow(minutes=2)
@pytest.mark.clocked
@pytest.mark.timeout(300)
@pytest.mark.skipif(MOST_DESCRIPTORS < 20_000, reason="the system gives too few descriptors")
@pytest.mark.parametrize("what", ["server", "witness"])
def test_15_000_connections_held_for_a_minute_keep_no_other_client_waiting(
    tmp_path: Path, what: str
) -> None:
    with serving(what, tmp_path) as (url, asked), held(url, 15_000, *HELD.values()):
        took = waits(url, asked, for_s=60)
    show(f"{what}, 15,000 of all kinds", took)
    assert took[len(took) * 99 // 100] <= 0.1


def show(what: str, took: list[float]) -> None:
    """Print how long other clients waited; `-s` lets it be seen."""
    p50, p99 = (1000 * took[len(took) * share // 100] for share in (50, 99))
    print(f"\n{what}: p50 {p50:.1f} ms, p99 {p99:.1f} ms, most {1000 * took[-1]:.1f} ms")  # noqa: T201


# Bodies that are cut off


def product_body(uuid: str) -> bytes:
    return json.dumps(product(uuid=uuid)).encode()


def audit_body(uuid: str) -> bytes:
    return json.dumps(audit(json.dumps({"id": uuid}))).encode()


ROUTES = {
    "product": ("/api/e", product_body),
    "audit": ("/v1/events", audit_body),
    "batch": ("/v1/events/batch", lambda uuid: b'{"events":[%b]}' % audit_body(uuid)),
}
CHUNKED = "Transfer-Encoding: chunked"


def short_of_its_length(path: str, body: bytes) -> bytes:
    """Every byte of a document is there; Content-Length announces one more."""
    return post(path, body + b" ", AS_KEY, JSON)[:-1]


def far_short_of_its_length(path: str, body: bytes) -> bytes:
    """As above, and so long that its route has had a part of it in hand."""
    return post(path, body + b" " * 200_000, AS_KEY, JSON)[:-1]


def without_last_chunk(path: str, body: bytes) -> bytes:
    return post(path, chunked(body)[:-5], AS_KEY, JSON, CHUNKED)


def in_the_midst_of_the_last_chunk(path: str, body: bytes) -> bytes:
    return post(path, chunked(body)[:-1], AS_KEY, JSON, CHUNKED)


def with_broken_chunks(path: str, body: bytes) -> bytes:
    return post(path, chunked(body)[:-5] + b"xyz\r\n\r\n", AS_KEY, JSON, CHUNKED)


CUTS = (
    short_of_its_length,
    far_short_of_its_length,
    without_last_chunk,
    in_the_midst_of_the_last_chunk,
    with_broken_chunks,
)


def test_of_bodies_that_were_cut_off_nothing_is_stored(world: ServerProcess) -> None:
    sent = 0
    for turn in range(5):
        for path, body in ROUTES.values():
            for cut in CUTS:
                for end in (Line.half_close, Line.reset):
                    line = Line(world.url)
                    line.send(cut(path, body(f"cut-{turn}")))
                    end(line)
                    if end is Line.half_close:
                        assert line.rest()[:12] in (b"", b"HTTP/1.1 400")
                        line.close()
                    sent += 1
    assert 150 == sent
    world.send(product(uuid="after")).raise_for_status()
    eventually(lambda: world.count("indelible_connections_open") <= 2)
    assert ["after"] == [event["uuid"] for event in world.events()]


def test_a_client_that_still_listens_hears_that_its_body_was_cut_off(shared: World) -> None:
    for path in ("/api/e", "/v1/events", "/v1/events/batch"):
        for cut in CUTS[:-1]:
            with Line(shared.url) as line:
                line.send(cut(path, b"{}"))
                line.half_close()
                reply = line.read()
            assert (400, "incomplete_body") == (reply.status, json.loads(reply.body)["code"])
        reply = exchange(shared.url, with_broken_chunks(path, b"{}"))
        assert (400, "malformed_request") == (reply.status, json.loads(reply.body)["code"])


@pytest.mark.parametrize("end", [Line.half_close, Line.reset])
def test_a_witness_does_not_cosign_a_checkpoint_that_was_cut_off(
    tmp_path: Path, end: Callable[[Line], None]
) -> None:
    book = Book.of(worked.SIGNER, "0123456789")
    with witness(tmp_path / "w", [worked.SIGNER.key], new="witness.example/w1") as running:
        line = Line(running.url)
        line.send(post("/add-checkpoint", book.body(0, 4).encode() + b" ")[:-1])
        time.sleep(0.1)
        end(line)
        time.sleep(0.1)
        line.close()
        assert 404 == running.http.get(f"/{hash_of(book.origin)}/checkpoint").status_code
        assert 200 == running.add(book.body(0, 4)).status_code


@pytest.mark.parametrize("end", [Line.half_close, Line.reset])
def test_a_management_body_that_was_cut_off_changes_nothing_and_is_no_fault_of_ours(
    world: ServerProcess, end: Callable[[Line], None]
) -> None:
    key = f"Authorization: Bearer {ADMIN_KEY}"
    for path in ("/v1/projects", "/v1/keys", "/v1/erasures"):
        with Line(world.url) as line:
            line.send(post(path, b'{"name":"cut"} ', key, JSON)[:-1])
            time.sleep(0.05)  # its route has begun to read
            end(line)
            if end is Line.half_close:
                assert 400 == line.read().status
    names = [p["name"] for p in world.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]]
    assert ["default"] == names
    assert 0 == world.stop()
    assert "Exception" not in world.output()
    assert "Error" not in world.output()


@pytest.mark.parametrize("for_s", [3, pytest.param(60, marks=pytest.mark.slow(minutes=2))])
def test_what_was_sent_whole_is_stored_and_nothing_else_wherever_it_is_cut(
    world: ServerProcess, for_s: float
) -> None:
    """Requests sent ahead in pieces of any size, cut off anywhere, by FIN or by RST."""
    chance = random.Random()  # its seed is told should it fail
    state = chance.getstate()
    whole: set[str] = set()
    never: set[str] = set()
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        uuids = [fresh() for _ in range(chance.randint(1, 4))]
        requests = [a_request(uuid, chance) for uuid in uuids]
        sent = b"".join(requests)
        end = chance.choice((len(sent), chance.randint(0, len(sent))))
        ends = list(itertools.accumulate(map(len, requests)))
        done = {uuid for uuid, behind in zip(uuids, ends, strict=True) if behind <= end}
        never |= set(uuids) - done
        with Line(world.url) as line:
            for piece in pieces_of(sent[:end], chance):
                line.send(piece)
            if chance.random() < 0.3:
                line.reset()  # before or after what was whole was stored
                continue
            line.half_close()
            assert len(done) == line.rest().count(b"HTTP/1.1 200 "), state
        whole |= done
    stored = {event["uuid"] for event in world.events()}
    assert whole <= stored, state
    assert not never & stored, state


def a_request(uuid: str, chance: random.Random) -> bytes:
    """A product event, small or large, with a length or in chunks."""
    padding = "x" * chance.choice((0, 0, 100, 70_000, 300_000))
    body = json.dumps(product(uuid=uuid, properties={"p": padding})).encode()
    if chance.random() < 0.5:
        return post("/api/e", body, JSON)
    return post("/api/e", chunked(*pieces_of(body, chance)), JSON, CHUNKED)


def pieces_of(data: bytes, chance: random.Random) -> Iterator[bytes]:
    """`data` in pieces of any size, most of them small at first."""
    start = number = 0
    while start < len(data):
        size = chance.choice((1, 7, 100, 70_000) if number < 200 else (70_000, 1_000_000))
        yield data[start : start + size]
        start, number = start + size, number + 1
