"""Notices: who listens learns what the edge refused or dropped, and why."""

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
from indelible.edge.notice import EXCERPT_BYTES, Notice, Notices, excerpt, masked
from indelible.errors import InvalidJson
from tests.world import API_KEY, TOKEN, World, audit, inside, product


class Watched:
    """A server, and the notices that it gave."""

    def __init__(self, world: World, notices: list[Notice]) -> None:
        self.world = world
        self.notices = notices

    def told(self) -> list[tuple[str, int, str | None]]:
        """Reason, count and id of each notice since the last look."""
        found = [(notice.reason, notice.count, notice.event_id) for notice in self.notices]
        self.notices.clear()
        return found


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    notices: list[Notice] = []
    with inside(tmp_path_factory.mktemp("watched"), listener=notices.append) as world:
        yield Watched(world, notices)


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


def test_a_listener_that_fails_costs_no_event_and_one_that_left_hears_nothing(
    tmp_path: Path,
) -> None:
    def fail(notice: Notice) -> None:
        raise RuntimeError(notice.excerpt)

    with inside(tmp_path, listener=fail) as world:
        answer = world.send({"api_key": TOKEN, "batch": [product(), {"event": "no one"}]})
        assert ["ok", "drop"] == [event["result"] for event in answer.json()["events"]]
        assert 1 == len(world.events())


def test_a_listener_that_has_left_is_told_nothing() -> None:
    heard: list[Notice] = []
    notices = Notices(now_ms)
    leave = notices.listen(heard.append)
    scope = {"method": "POST", "path": "/api/e", "headers": [], "query_string": b""}
    request = Request(scope, _nothing)

    notices.refused(request, InvalidJson())
    leave()
    leave()
    notices.refused(request, InvalidJson())

    assert [("invalid_json", "/api/e")] == [(notice.reason, notice.path) for notice in heard]


async def _nothing() -> Message:
    raise AssertionError("a notice reads nothing")
