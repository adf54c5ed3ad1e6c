"""Notices: who listens learns what the edge refused or dropped, and why."""

import asyncio
import base64
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.clock import now_ms
from indelible.edge.http import Message, Request
from indelible.edge.notice import (
    EXCERPT_BYTES,
    MOST_EXCERPTS_A_SECOND,
    MOST_UNREAD,
    Listening,
    Notice,
    Notices,
    excerpt,
    masked,
)
from indelible.errors import InvalidJson
from tests.world import API_KEY, TOKEN, World, audit, inside, product


class Watched:
    """A server, and the notices that it gave."""

    def __init__(self, world: World, listening: Listening) -> None:
        self.world = world
        self._listening = listening
        self._heard: list[Notice] = []

    @property
    def notices(self) -> list[Notice]:
        """Those since the last look."""
        self._heard += self._listening.take().notices
        return self._heard

    def told(self) -> list[tuple[str, int, str | None]]:
        """Reason, count and id of each notice since the last look."""
        found = [(notice.reason, notice.count, notice.event_id) for notice in self.notices]
        self._heard.clear()
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    queues: list[Listening] = []
    with inside(tmp_path_factory.mktemp("watched"), listener=queues.append) as world:
        yield Watched(world, queues[0])


def test_what_is_stored_is_told_to_nobody(watched: Watched) -> None:
    watched.told()
    assert 200 == watched.world.send(product()).status_code
    assert 202 == watched.world.send_audit(audit()).status_code
    assert [] == watched.told()


def test_a_dropped_event_is_told_with_its_reason_and_its_beginning(watched: Watched) -> None:
    watched.told()
    good, bad = product(), {"event": "bad", "uuid": "u-9", "note": "x"}
    watched.world.send({"api_key": TOKEN, "batch": [good, bad, {**bad, "uuid": "u-10"}]})

    (notice,) = watched.notices
    assert [("missing_distinct_id", 2, "u-9")] == watched.told()
    assert "/api/e" == notice.path
    assert notice.project_id is not None
    assert {**bad} == json.loads(notice.excerpt)


def test_each_reason_of_a_request_is_told_once(watched: Watched) -> None:
    watched.told()
    nameless = {"distinct_id": "d"}
    watched.world.send({"api_key": TOKEN, "batch": [{"event": "e"}, nameless, {"event": "f"}]})
    assert [("missing_distinct_id", 2, None), ("missing_event", 1, None)] == watched.told()


def test_a_refused_request_is_told_with_its_code(watched: Watched) -> None:
    watched.told()
    watched.world.send_audit({"payload": 1, "meta": {"service": "shop"}})
    (notice,) = watched.notices
    assert [("invalid_payload", 0, None)] == watched.told()
    assert '"service":"shop"' in notice.excerpt

    batch = {"events": [audit(), {"payload": "p", "meta": {"type": "no"}}]}
    headers = {"Authorization": f"Bearer {API_KEY}"}
    watched.world.http.post("/v1/events/batch", json=batch, headers=headers)
    (notice,) = watched.notices
    assert [("invalid_type", 1, None)] == watched.told()
    assert {"payload": "p", "meta": {"type": "no"}} == json.loads(notice.excerpt)


def test_without_a_project_nothing_of_the_body_is_told(watched: Watched) -> None:
    watched.told()
    for body, reason in (
        ({"api_key": "wrong", "event": "e", "distinct_id": "d"}, "unknown_token"),
        ({"event": "e", "distinct_id": "d"}, "missing_token"),
    ):
        watched.world.send(body)
        (notice,) = watched.notices
        assert (reason, None, "") == (notice.reason, notice.project_id, notice.excerpt)
        watched.told()
    watched.world.http.post("/v1/events", json=audit(), headers={"Authorization": "Bearer no"})
    assert ["invalid_api_key"] == [notice.reason for notice in watched.notices]
    assert "" == watched.notices[0].excerpt


def test_tokens_never_stand_in_an_excerpt(watched: Watched) -> None:
    watched.told()
    body = {**product(), "token": TOKEN, "properties": {"token": TOKEN, "url": "/?k=iml_live_abc"}}
    del body["distinct_id"]
    packed = gzip.compress(json.dumps(body).encode())
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    watched.world.send(body)
    watched.world.send(None, content=packed, headers=headers)

    for notice in watched.notices:
        assert TOKEN not in notice.excerpt
        assert "iml_live_abc" not in notice.excerpt
        assert '"api_key": "***"' in notice.excerpt.replace('":"', '": "')
    assert 2 == len(watched.told())


@pytest.mark.parametrize("before", [0, EXCERPT_BYTES - 40, EXCERPT_BYTES - len('{"note":"')])
def test_a_token_that_looks_like_none_is_masked_wherever_it_stands(
    watched: Watched, before: int
) -> None:
    watched.told()
    note = " " * before + f"{TOKEN}, see ?t={TOKEN}&k={API_KEY}" + f"&t={TOKEN}" * 50
    watched.world.send({"batch": [{"note": note}], "api_key": TOKEN})
    watched.world.send_audit({"note": note, "payload": 1})

    assert ["missing_event", "invalid_payload"] == [notice.reason for notice in watched.notices]
    for notice in watched.notices:
        assert notice.excerpt.startswith('{"note":"')
        assert TOKEN[:5] not in notice.excerpt
        assert API_KEY[:9] not in notice.excerpt
        assert len(notice.excerpt.encode()) <= EXCERPT_BYTES


def test_an_excerpt_of_a_large_body_takes_no_more_than_its_beginning() -> None:
    large = b'{"a":"' + "é".encode() * 2_000_000
    tracemalloc.start()
    try:
        shown = excerpt(large, None)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert EXCERPT_BYTES == len(shown.encode())
    assert peak_bytes < 100_000


def test_an_excerpt_is_json_or_nothing() -> None:
    text = json.dumps(product()).encode()
    assert "" == excerpt(base64.b64encode(text), None)
    assert "" == excerpt(b"data=" + text, None)
    assert "" == excerpt(b"\x1f\x8bnot gzip", None)
    assert "" == excerpt(b"", 0)
    assert excerpt(text, 0) == excerpt(b"[" + text + b"]", 0) == excerpt(gzip.compress(text), None)
    assert "" == excerpt(b"[" + text + b"]", 1)
    bomb = gzip.compress(b"[" + b" " * 50_000_000)
    assert "[" == excerpt(bomb, None).strip()


@given(st.binary(max_size=100), st.integers(0, 3000), st.integers(0, 2) | st.none())
def test_an_excerpt_is_short_whatever_was_sent(junk: bytes, size: int, place: int | None) -> None:
    for sent in (b"{" + junk + b"x" * size, b'{"token":"' + junk, b"[" * size, b"\x78" + junk):
        shown = excerpt(sent, place)
        assert len(shown.encode()) <= EXCERPT_BYTES


@pytest.mark.parametrize(
    "name", ["api_key", "token", "$token", "apiKey", "write_key", "Authorization", "password"]
)
@pytest.mark.parametrize("behind", ['"}', '", "a": 1}', ""])
def test_a_secret_is_masked_even_where_the_excerpt_ends_in_it(name: str, behind: str) -> None:
    shown = masked(f'{{"event":"e","{name}" : "s3cr\\"et{behind}')
    assert "s3cr" not in shown
    assert "et" not in shown.partition("***")[2]
    assert '"event":"e"' in shown


def refused(reason: str = "/api/e") -> Request:
    """A request by this path, to be refused."""
    scope = {"method": "POST", "path": reason, "headers": [], "query_string": b""}
    return Request(scope, _nothing)


def test_a_listener_that_has_left_is_told_nothing() -> None:
    notices = Notices(now_ms)
    listening = notices.listen()

    notices.refused(refused(), InvalidJson())
    listening.leave()
    listening.leave()
    notices.refused(refused(), InvalidJson())

    assert not notices.is_heard
    (notice,) = listening.take().notices
    assert ("invalid_json", "/api/e") == (notice.reason, notice.path)


def test_a_listener_that_does_not_read_loses_the_oldest_and_learns_how_many(
    tmp_path: Path,
) -> None:
    queues: list[Listening] = []
    count = MOST_UNREAD + 10
    with inside(tmp_path, listener=queues.append) as world:
        for number in range(count):
            event = {"distinct_id": "d", "uuid": f"u-{number}"}
            assert world.send({"api_key": TOKEN, "batch": [product(), event]}).is_success
    heard = queues[0].take()

    assert [10] == list(heard.missed.values())
    assert [f"u-{number}" for number in range(10, count)] == [
        notice.event_id for notice in heard.notices
    ]
    assert ([], {}) == queues[0].take()


@given(st.lists(st.integers(0, MOST_UNREAD * 2), max_size=6), st.integers(1, 3))
def test_every_listener_is_told_or_learns_of_every_notice(told: list[int], listeners: int) -> None:
    notices = Notices(now_ms)
    queues = [notices.listen() for _ in range(listeners)]
    heard = [0] * listeners
    for turn, count in enumerate(told):
        for number in range(count):
            notices.refused(refused(f"/{turn}/{number}"), InvalidJson())
        for number, listening in enumerate(queues[: turn % listeners + 1]):
            some = listening.take()
            heard[number] += len(some.notices) + sum(some.missed.values())
    for number, listening in enumerate(queues):
        some = listening.take()
        heard[number] += len(some.notices) + sum(some.missed.values())
        assert len(some.notices) <= MOST_UNREAD

    assert [sum(told)] * listeners == heard


def test_a_flood_of_refusals_is_told_in_full_and_shown_in_part(tmp_path: Path) -> None:
    queues: list[Listening] = []
    with inside(tmp_path, listener=queues.append, clock=lambda: 1_800_000_000_000) as world:
        for _ in range(MOST_EXCERPTS_A_SECOND + 20):
            assert 400 == world.send(product("")).status_code
    heard = queues[0].take()

    assert MOST_EXCERPTS_A_SECOND + 20 == len(heard.notices)
    assert 20 == sum(notice.excerpt == "" for notice in heard.notices)


def test_who_waits_is_woken_by_a_notice_and_by_leaving() -> None:
    async def story() -> None:
        notices = Notices(now_ms)
        listening = notices.listen()
        waiting = asyncio.ensure_future(listening.hear())
        await asyncio.sleep(0)
        notices.refused(refused(), InvalidJson())
        heard = await waiting
        assert heard is not None
        assert ["invalid_json"] == [notice.reason for notice in heard.notices]

        waiting = asyncio.ensure_future(listening.hear())
        await asyncio.sleep(0)
        listening.leave()
        assert await waiting is None

    asyncio.run(story())


async def _nothing() -> Message:
    raise AssertionError("a notice reads nothing")
