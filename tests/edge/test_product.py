"""Product ingest: every body that is read, every answer that is given, every limit at its edge."""

import json
import os
import socket
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from indelible.edge.pipeline import CONTENT_TYPES
from indelible.event import Lane
from tests.edge.wire import (
    FORM,
    JSON,
    PLAIN,
    b64,
    encoded,
    eventually,
    first,
    form,
    fresh,
    gz,
    known_as,
    nested,
    raw_deflated,
    stored,
    tenant,
    urlencoded,
    zlib_deflated,
)
from tests.world import (
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    World,
    assert_canonical_error,
    inside,
    product,
    spawn,
    started,
)

Event = dict[str, Any]
Shape = Callable[[World, Event], httpx.Response]

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def plain(uuid: str, **more: Any) -> Event:
    """An event without a token."""
    return {"event": "viewed", "distinct_id": "d1", "properties": {"n": 1}, "uuid": uuid, **more}


def with_token(event: Event) -> Event:
    return {"api_key": TOKEN, **event}


def packed(pack: Callable[[bytes], bytes], headers: dict[str, str], query: str = "") -> Shape:
    """A single event, its JSON text packed by `pack`."""

    def send(world: World, event: Event) -> httpx.Response:
        content = pack(encoded(with_token(event)))
        return world.http.post(f"/api/e{query}", content=content, headers=headers)

    return send


def wrapped(wrap: Callable[[Event], Any], query: str = "") -> Shape:
    """JSON of another shape round the event."""
    return lambda world, event: world.http.post(f"/api/e{query}", json=wrap(event))


def got(pack: Callable[[bytes], bytes]) -> Shape:
    """GET with the event in the query."""

    def send(world: World, event: Event) -> httpx.Response:
        data = pack(encoded(with_token(event))).decode()
        return world.http.get("/api/e", params={"data": data})

    return send


def as_sent(data: bytes) -> bytes:
    return data


SHAPES: dict[str, Shape] = {
    "one object": packed(as_sent, JSON),
    "one object, other charset case": packed(as_sent, {"content-type": "Application/JSON;q=1"}),
    "batch with api_key": wrapped(lambda e: {"api_key": TOKEN, "batch": [e]}),
    "batch with token": wrapped(lambda e: {"token": TOKEN, "batch": [e]}),
    "batch with the token in the event": wrapped(lambda e: {"batch": [with_token(e)]}),
    "bare list": wrapped(lambda e: [with_token(e)]),
    "bare list, token in properties": wrapped(
        lambda e: [{**e, "properties": {**e["properties"], "token": TOKEN}}]
    ),
    "bare list with ?api_key=": wrapped(lambda e: [e], f"?api_key={TOKEN}"),
    "bare list with ?token=": wrapped(lambda e: [e], f"?token={TOKEN}"),
    "one object with ?api_key=": wrapped(lambda e: e, f"?api_key={TOKEN}"),
    "batch with ?token=": wrapped(lambda e: {"batch": [e]}, f"?token={TOKEN}"),
    "form": packed(lambda d: urlencoded(data=d.decode()), FORM),
    "form with other fields": packed(
        lambda d: urlencoded(verbose="1", data=d.decode(), ip="0"), FORM
    ),
    "form with base64": packed(lambda d: urlencoded(data=b64(d).decode()), FORM),
    "form with base64, unquoted": packed(lambda d: b"data=" + b64(d), FORM),
    "form with base64 without padding": packed(lambda d: b"data=" + b64(d).rstrip(b"="), FORM),
    "form by its looks": packed(lambda d: urlencoded(data=d.decode()), PLAIN),
    "JSON labelled as a form": packed(as_sent, FORM),
    "text/plain": packed(as_sent, PLAIN),
    "text/plain base64": packed(b64, PLAIN),
    "base64 twice": packed(lambda d: b64(b64(d)), PLAIN),
    "?compression=base64": packed(b64, PLAIN, "?compression=base64"),
    "no content type": packed(as_sent, {}),
    "octet-stream": packed(as_sent, {"content-type": "application/octet-stream"}),
    "vendor JSON": packed(as_sent, {"content-type": "application/vnd.shop+json"}),
    "byte order mark": packed(lambda d: b"\xef\xbb\xbf" + d, JSON),
    "white space round it": packed(lambda d: b"\r\n\t " + d + b"\n", JSON),
    "gzip by header": packed(gz, {**JSON, "content-encoding": "gzip"}),
    "gzip by magic": packed(gz, PLAIN),
    "gzip labelled as a form": packed(gz, FORM),
    "gzip labelled as deflate": packed(gz, {**JSON, "content-encoding": "deflate"}),
    "gzip in two members": packed(lambda d: gz(d[:9]) + gz(d[9:]), JSON),
    "?compression=gzip-js": packed(gz, PLAIN, "?compression=gzip-js"),
    "JSON labelled as gzip": packed(as_sent, {**JSON, "content-encoding": "gzip"}),
    "deflate in zlib's wrapper": packed(zlib_deflated, {**JSON, "content-encoding": "deflate"}),
    "deflate, bare": packed(raw_deflated, {**JSON, "content-encoding": "deflate"}),
    "gzip in base64 in a form": packed(lambda d: form(b64(gz(d))), FORM),
    "form in gzip": packed(lambda d: gz(form(d)), FORM),
    "GET": got(as_sent),
    "GET with base64": got(b64),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_body_is_read_as_the_same_event(shared: World, shape: str) -> None:
    event = plain(fresh(), properties={"name": "Zoë ✓ +/&=", "amount": 9.5})

    result = first(SHAPES[shape](shared, event))

    assert ("ok", event["uuid"]) == (result["result"], result["uuid"])
    read = stored(shared, result["tx_id"])
    properties = {k: v for k, v in read["properties"].items() if k != "token"}
    assert event == {**{name: read[name] for name in event}, "properties": properties}


@pytest.mark.parametrize("route", ["/batch", "/batch/"])
def test_the_batch_route_reads_the_same_bodies(shared: World, route: str) -> None:
    for wrap in (with_token, lambda e: [with_token(e)], lambda e: {"token": TOKEN, "batch": [e]}):
        answer = shared.http.post(route, content=gz(encoded(wrap(plain(fresh())))))
        assert "ok" == first(answer)["result"]


def test_payload_bytes_are_kept_as_they_were_sent(shared: World) -> None:
    properties = '{ "b":1.50,  "a" : "\\u00e9\\/é", "b2":1e2 ,"n":[ ] }'
    text = f'{{"api_key":"{TOKEN}","event":"e","distinct_id":"d","properties":{properties}}}'

    result = first(shared.send(None, content=text.encode()))

    answer = shared.http.get(f"/v1/events/{result['tx_id']}", headers=AS_APPLICATION)
    assert properties in answer.text


# Answers


def test_a_stored_event_is_answered_with_exactly_the_documented_members(shared: World) -> None:
    uuid = fresh()

    answer = shared.send(product(uuid=uuid))

    result = first(answer)
    index = result["index"]
    assert {
        "status": 1,
        "success": True,
        "code": 200,
        "accepted": 1,
        "rejected": 0,
        "results": {uuid: {"result": "ok", "index": index}},
        "events": [{"uuid": uuid, "result": "ok", "tx_id": result["tx_id"], "index": index}],
    } == answer.json()
    assert "application/json" == answer.headers["content-type"]
    assert stored(shared, result["tx_id"])["index"] == index


def test_a_server_made_uuid_stands_where_the_client_sent_none(shared: World) -> None:
    answer = shared.send(product())

    result = first(answer)
    assert result["tx_id"] == "tx_" + result["uuid"].replace("-", "")
    assert [result["uuid"]] == list(answer.json()["results"])
    assert [result["index"]] == [event["index"] for event in known_as(shared, result["uuid"])]


@pytest.mark.parametrize("absent", [{}, {"uuid": None}, {"uuid": ""}])
def test_two_events_without_a_uuid_are_two_events(shared: World, absent: Event) -> None:
    one = first(shared.send(product("a", **absent)))
    other = first(shared.send(product("b", **absent)))

    assert ("ok", "ok") == (one["result"], other["result"])
    assert one["index"] != other["index"]


def test_results_stand_in_the_order_of_the_request_with_one_for_each_event(shared: World) -> None:
    bad, good, last = fresh(), fresh(), fresh()
    batch = [plain(bad, event=""), plain(good), {"event": "x", "distinct_id": "d"}, plain(last)]

    answer = shared.send({"api_key": TOKEN, "batch": batch}).json()

    results = [(e["uuid"], e["result"], e.get("reason")) for e in answer["events"]]
    made = answer["events"][2]["uuid"]
    assert [
        (bad, "drop", "missing_event"),
        (good, "ok", None),
        (made, "ok", None),
        (last, "ok", None),
    ] == results
    assert [bad, good, made, last] == list(answer["results"])
    assert {"result": "drop", "reason": "missing_event"} == answer["results"][bad]
    assert (3, 1) == (answer["accepted"], answer["rejected"])
    indexes = [e["index"] for e in answer["events"][1:]]
    assert list(range(indexes[0], indexes[0] + 3)) == indexes
    assert [] == known_as(shared, bad)


def test_a_duplicate_is_answered_with_the_first_copy(shared: World) -> None:
    event = product(uuid=fresh())
    stored_first = first(shared.send(event))

    answer = shared.send(event)

    again = {**stored_first, "duplicate": True}
    assert again == first(answer)
    assert {"result": "ok", "index": again["index"], "duplicate": True} == answer.json()["results"][
        event["uuid"]
    ]
    assert 1 == answer.json()["accepted"]
    assert [again["index"]] == [event["index"] for event in known_as(shared, event["uuid"])]


def test_a_duplicate_is_recognised_within_one_batch_and_across_routes(shared: World) -> None:
    event = plain(fresh())
    answer = shared.send({"api_key": TOKEN, "batch": [event, event]}).json()
    assert [None, True] == [e.get("duplicate") for e in answer["events"]]

    by_posthog = first(shared.http.post("/batch/", json={"api_key": TOKEN, "batch": [event]}))

    assert by_posthog["duplicate"] is True
    assert answer["events"][0]["index"] == by_posthog["index"]


def test_the_same_uuid_with_other_content_keeps_the_first_and_warns(shared: World) -> None:
    uuid = fresh()
    kept = first(shared.send(product(uuid=uuid)))

    result = first(shared.send(product("other", uuid=uuid)))

    assert ("warning", "uuid_conflict", True) == (
        result["result"],
        result["reason"],
        result["duplicate"],
    )
    assert kept["tx_id"] == result["tx_id"]
    assert "purchase_completed" == stored(shared, kept["tx_id"])["event"]


def test_two_projects_do_not_share_uuids(shared: World) -> None:
    one, other, uuid = tenant(shared), tenant(shared), fresh()

    assert "duplicate" not in first(one.send(uuid=uuid))
    assert "duplicate" not in first(other.send(uuid=uuid))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"event": None}, "missing_event"),
        ({"event": ""}, "missing_event"),
        ({"event": 7}, "missing_event"),
        ({"distinct_id": None}, "missing_distinct_id"),
        ({"distinct_id": ["a"]}, "missing_distinct_id"),
        ({"distinct_id": True}, "missing_distinct_id"),
        ({"properties": [1]}, "invalid_event"),
        ({"properties": "x"}, "invalid_event"),
        ({"uuid": {}}, "invalid_event"),
        ({"uuid": True}, "invalid_event"),
        ({"$set": [1]}, "invalid_event"),
        ({"$set": 0}, "invalid_event"),
        ({"$set_once": "x"}, "invalid_event"),
        ({"$set_once": False}, "invalid_event"),
        ({"$unset": {"a": 1}}, "invalid_event"),
        ({"$unset": ""}, "invalid_event"),
    ],
)
def test_an_event_that_cannot_be_taken_is_refused_alone_and_dropped_from_a_batch(
    shared: World, change: Event, reason: str
) -> None:
    dropped = shared.count("indelible_events_dropped_total", lane="product", reason=reason)
    event = {**plain(fresh()), **change}

    body = assert_canonical_error(shared.send(with_token(event)), 400, reason)
    assert [("drop", reason)] == [(e["result"], e["reason"]) for e in body["events"]]

    batch = shared.send({"api_key": TOKEN, "batch": [plain(fresh()), event]}).json()
    assert ["ok", "drop"] == [e["result"] for e in batch["events"]]
    assert reason == batch["events"][1]["reason"]
    assert dropped + 2 == shared.count(
        "indelible_events_dropped_total", lane="product", reason=reason
    )


def test_what_is_no_object_in_a_batch_is_dropped_and_its_neighbours_are_stored(
    shared: World,
) -> None:
    batch: list[Any] = [None, 7, "x", [], plain(fresh())]

    answer = shared.send({"api_key": TOKEN, "batch": batch}).json()

    assert ["invalid_event"] * 4 == [e.get("reason") for e in answer["events"][:4]]
    assert [None] * 4 == [e["uuid"] for e in answer["events"][:4]]
    assert "ok" == answer["events"][4]["result"]


def test_when_every_event_is_bad_the_answer_is_400_with_the_result_of_each(shared: World) -> None:
    batch = [plain(fresh(), distinct_id=None), plain(fresh(), event="")]

    body = assert_canonical_error(
        shared.send({"api_key": TOKEN, "batch": batch}), 400, "missing_distinct_id"
    )

    assert ["missing_distinct_id", "missing_event"] == [e["reason"] for e in body["events"]]
    assert [event["uuid"] for event in batch] == [e["uuid"] for e in body["events"]]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "invalid_json"),
        (b"{", "invalid_json"),
        (b'{"event":}', "invalid_json"),
        (b"hello!", "invalid_json"),
        (b'"a string"', "invalid_json"),
        (b"null", "invalid_json"),
        (b"[1,]", "invalid_json"),
        (b'{"a":1} {"a":1}', "invalid_json"),
        (b'{"api_key":"test-token","batch":{}}', "invalid_json"),
        (b'{"api_key":"test-token","batch":null}', "invalid_json"),
        (b'{"api_key":"test-token","batch":[]}', "empty_batch"),
        (b"[]", "empty_batch"),
        (b'{"api_key":"test-token","event":"\xff\xfe"}', "invalid_json"),
        (b'{"api_key":"test-token","properties":{"a":"\xed\xa0\x80"}}', "invalid_json"),
        (b'{"api_key":"test-token","properties":{"a":NaN}}', "invalid_json"),
        (b'{"api_key":"test-token","properties":{"a":Infinity}}', "invalid_json"),
        (b'{"api_key":"test-token","properties":{"a":-Infinity}}', "invalid_json"),
        (b'{"api_key":"test-token","properties":{"a":"raw \x01 control"}}', "invalid_json"),
    ],
)
def test_a_body_that_cannot_be_read_is_400(shared: World, content: bytes, code: str) -> None:
    assert_canonical_error(shared.send(None, content=content), 400, code)


def test_the_quota_is_answered_200_and_the_events_keep_their_order(shared: World) -> None:
    project = tenant(shared, monthly_limit=2)
    batch = [plain(fresh()) for _ in range(3)]

    answer = shared.http.post("/api/e", json={"api_key": project.token, "batch": batch})

    assert ["ok", "ok", "drop"] == [e["result"] for e in answer.json()["events"]]
    assert "quota" == answer.json()["events"][2]["reason"]

    alone = project.send()
    assert 200 == alone.status_code
    assert (0, 1) == (alone.json()["accepted"], alone.json()["rejected"])
    assert "quota" == first(alone)["reason"]
    assert 2 == len(project.log())


def test_an_empty_img_question_is_answered_with_a_pixel(shared: World) -> None:
    event = with_token(plain(fresh()))

    answer = shared.http.get("/api/e", params={"data": json.dumps(event), "img": "1"})

    assert (200, "image/gif") == (answer.status_code, answer.headers["content-type"])
    assert answer.content.startswith(b"GIF89a")
    assert 1 == len(known_as(shared, event["uuid"]))


def test_get_without_data_is_400(shared: World) -> None:
    assert_canonical_error(shared.http.get("/api/e"), 400, "invalid_json")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_another_method_is_405_and_names_those_there_are(shared: World, method: str) -> None:
    answer = shared.http.request(method, "/api/e", content=b"{}")

    assert_canonical_error(answer, 405, "method_not_allowed")
    assert {"GET", "HEAD", "POST", "OPTIONS"} == set(answer.headers["allow"].split(", "))


# Crawlers


def crawl(world: World, route: str, body: Any, agent: str = GOOGLEBOT) -> httpx.Response:
    """POST as the script of a page does in a browser."""
    headers = {"user-agent": agent, "origin": "https://shop.example"}
    return world.http.post(route, json=body, headers=headers)


def test_a_crawler_gets_204_on_api_e_and_its_event_is_counted_not_stored(shared: World) -> None:
    before = shared.count("indelible_events_dropped_total", lane="product", reason="bot")
    uuid = fresh()

    answer = crawl(shared, "/api/e", product(uuid=uuid))

    assert (204, b"") == (answer.status_code, answer.content)
    assert [] == known_as(shared, uuid)
    assert before + 1 == shared.count(
        "indelible_events_dropped_total", lane="product", reason="bot"
    )


def test_a_crawler_with_a_wrong_token_is_401_like_anybody(shared: World) -> None:
    assert_canonical_error(
        crawl(shared, "/api/e", product(api_key="nobody's")), 401, "unknown_token"
    )


def test_on_the_batch_route_a_crawler_is_marked_and_never_answered_204(shared: World) -> None:
    body = {"api_key": TOKEN, "batch": [plain(fresh())]}

    result = first(crawl(shared, "/batch/", body))

    assert ("warning", "bot") == (result["result"], result["reason"])

    strict = tenant(shared, bot_policy="discard")
    answer = crawl(shared, "/batch/", {"api_key": strict.token, "batch": [plain(fresh())]})
    assert ("drop", "bot") == (first(answer)["result"], first(answer)["reason"])
    assert [] == strict.log()


def test_bot_policy_mark_stores_the_event_with_bot_true(shared: World) -> None:
    project = tenant(shared, bot_policy="mark")

    result = first(crawl(shared, "/api/e", project.event()))

    assert ("warning", "bot") == (result["result"], result["reason"])
    (event,) = project.log()
    assert '"$bot": true' in json.dumps(event)


def test_bot_policy_off_stores_the_event_as_any_other(shared: World) -> None:
    project = tenant(shared, bot_policy="off")

    for route in ("/api/e", "/batch/"):
        assert "ok" == first(crawl(shared, route, project.event()))["result"]
    assert 2 == len(project.log())


@pytest.mark.parametrize(
    "agent",
    [
        "Go-http-client/1.1",
        "reqwest/0.12",
        "python-requests/2.32.3",
        "curl/8.5.0",
        "node",
        "okhttp/4.12.0",
        "Java/17.0.1",
        "axios/1.7.2",
        "posthog-python/7.91.1",
        FIREFOX,
        "",
    ],
)
def test_http_libraries_and_browsers_are_no_crawlers(shared: World, agent: str) -> None:
    assert "ok" == first(crawl(shared, "/api/e", product(), agent))["result"]


@pytest.mark.parametrize(
    "agent",
    [
        GOOGLEBOT,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2)",
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/120.0.0.0 Safari/537.36",
    ],
)
def test_search_ai_and_seo_crawlers_and_headless_browsers_are(shared: World, agent: str) -> None:
    assert 204 == crawl(shared, "/api/e", product(), agent).status_code


# Limits, each at its edge


@pytest.mark.parametrize("letter", ["a", "é", "𝄞"])
def test_a_name_has_200_characters_at_most(shared: World, letter: str) -> None:
    assert "ok" == first(shared.send(product(letter * 200)))["result"]
    assert_canonical_error(shared.send(product(letter * 201)), 400, "name_too_long")


@pytest.mark.parametrize("letter", ["a", "é", "𝄞"])
def test_a_distinct_id_has_200_characters_at_most(shared: World, letter: str) -> None:
    assert "ok" == first(shared.send(product(distinct_id=letter * 200)))["result"]
    assert_canonical_error(shared.send(product(distinct_id=letter * 201)), 400, "id_too_long")
    in_properties = product(distinct_id=None, properties={"distinct_id": letter * 201})
    assert_canonical_error(shared.send(in_properties), 400, "id_too_long")


def test_a_uuid_has_255_characters_at_most(shared: World) -> None:
    longest = fresh() + "x" * 219
    assert longest == first(shared.send(product(uuid=longest)))["uuid"]
    assert_canonical_error(shared.send(product(uuid=longest + "x")), 400, "id_too_long")


def test_an_event_has_1000_property_keys_at_most(shared: World) -> None:
    properties = {f"k{n}": n for n in range(1000)}
    assert "ok" == first(shared.send(product(properties=properties)))["result"]
    assert_canonical_error(
        shared.send(product(properties={**properties, "one": "more"})), 400, "event_too_large"
    )


def test_an_event_is_nested_32_deep_at_most_and_its_neighbours_are_stored(shared: World) -> None:
    # The event and its properties are two of the levels.
    assert "ok" == first(shared.send(product(properties={"deep": nested(30)})))["result"]
    assert_canonical_error(shared.send(product(properties={"deep": nested(31)})), 400, "too_deep")

    batch = [plain(fresh(), properties={"deep": nested(depth)}) for depth in (30, 31, 900, 1)]
    answer = shared.send({"api_key": TOKEN, "batch": batch}).json()
    assert [None, "too_deep", "too_deep", None] == [e.get("reason") for e in answer["events"]]


def test_brackets_in_text_and_side_by_side_are_no_depth(shared: World) -> None:
    properties = {"text": "[{" * 100 + '\\"[', "list": [{"a": []}] * 100}
    assert "ok" == first(shared.send(product(properties=properties)))["result"]


@pytest.mark.parametrize("depth", [1_000, 10_000, 100_000])
@pytest.mark.parametrize(
    "around", [b"%s", b'[{"x":%s}]', b'{"batch":[{"x":%s}]}', b'{"api_key":%s}']
)
def test_what_is_too_deep_to_be_read_at_all_is_refused(
    shared: World, depth: int, around: bytes
) -> None:
    content = around % (b"[" * depth + b"]" * depth)
    assert_canonical_error(shared.send(None, content=content), 400, "too_deep")


def test_an_event_has_1_mib_at_most(shared: World) -> None:
    event = plain(fresh(), properties={"fill": ""})
    room = 1024 * 1024 - len(encoded(event))
    fits = {**event, "properties": {"fill": "x" * room}}
    over = {**plain(fresh()), "properties": {"fill": "x" * (room + 1)}}
    assert 1024 * 1024 == len(encoded(fits))

    content = encoded([fits, over, plain(fresh())])
    answer = shared.send(None, content=content, params={"api_key": TOKEN}).json()

    assert [None, "event_too_large", None] == [e.get("reason") for e in answer["events"]]


def test_a_batch_has_10000_events_at_most(shared: World) -> None:
    events = [{"event": "e", "distinct_id": str(n)} for n in range(10_000)]

    answer = shared.send({"api_key": TOKEN, "batch": events})
    assert (10_000, 0) == (answer.json()["accepted"], answer.json()["rejected"])

    refused = shared.send({"api_key": TOKEN, "batch": [*events, events[0]]})
    body = assert_canonical_error(refused, 413, "batch_too_large")
    assert "10,000" in body["message"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A server that takes 4,000 bytes on the wire, so 20,000 unpacked."""
    with started(tmp_path_factory.mktemp("small"), INDELIBLE_MAX_BODY_BYTES="4000") as server:
        yield server


def filled(size: int) -> bytes:
    """A product body of exactly `size` bytes."""
    empty = product(properties={"fill": ""})
    text = encoded({**empty, "properties": {"fill": "x" * (size - len(encoded(empty)))}})
    assert size == len(text)
    return text


def chunked(content: bytes) -> Any:
    """`content` in pieces, so that it is sent without a Content-Length."""
    return (content[start : start + 700] for start in range(0, len(content), 700))


def test_a_body_at_the_limit_is_taken_and_one_byte_over_is_413(small: World) -> None:
    assert "ok" == first(small.send(None, content=filled(4000)))["result"]
    assert "ok" == first(small.send(None, content=chunked(filled(4000))))["result"]
    assert_canonical_error(small.send(None, content=filled(4001)), 413, "body_too_large")
    assert_canonical_error(small.send(None, content=chunked(filled(4001))), 413, "body_too_large")


def test_an_unpacked_body_may_be_five_times_the_limit_and_not_a_byte_more(small: World) -> None:
    assert "ok" == first(small.send(None, content=gz(filled(20_000))))["result"]
    assert_canonical_error(small.send(None, content=gz(filled(20_001))), 413, "body_too_large")
    headers = {"content-encoding": "deflate"}
    assert (
        "ok"
        == first(small.send(None, content=zlib_deflated(filled(20_000)), headers=headers))["result"]
    )
    over = small.send(None, content=zlib_deflated(filled(20_001)), headers=headers)
    assert_canonical_error(over, 413, "body_too_large")


def test_the_layers_share_one_budget(small: World) -> None:
    # 9,000 bytes of base64 and 9,000 inside them would fit alone; with 12,000 for each they do not.
    assert "ok" == first(small.send(None, content=gz(b64(filled(8_000)))))["result"]
    assert_canonical_error(small.send(None, content=gz(b64(filled(9_000)))), 413, "body_too_large")


def test_a_body_over_20_mib_is_refused_by_its_content_length_alone(shared: ServerProcess) -> None:
    address = urlsplit(shared.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as line:
        line.sendall(b"POST /api/e HTTP/1.1\r\nHost: x\r\nContent-Length: 20971521\r\n\r\n{")
        assert line.recv(100).startswith(b"HTTP/1.1 413 ")


def resident_mib(process_id: int, what: str = "VmHWM") -> int:
    """Memory of a process; VmHWM is the most it ever had."""
    for line in Path(f"/proc/{process_id}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) // 1024
    raise AssertionError(what)


def worked_s(process_id: int) -> float:
    """Processor time that a process has used: another's load is not in it."""
    fields = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bomb(size: int) -> bytes:
    """A gzip stream that unpacks to `size` zeros, made without holding them."""
    stream = zlib.compressobj(1, wbits=zlib.MAX_WBITS | 16)
    zeros = bytes(1024 * 1024)
    parts = [stream.compress(zeros) for _ in range(size // len(zeros))]
    return b"".join([*parts, stream.flush()])


def test_a_gzip_bomb_is_413_and_costs_no_more_memory_than_the_limit(tmp_path: Path) -> None:
    with started(tmp_path, INDELIBLE_MAX_BODY_BYTES=str(4 * 1024 * 1024)) as server:
        before = resident_mib(server.process.pid, "VmRSS")
        one = bomb(128 * 1024 * 1024)
        for content in (one, gz(one), gz(gz(one)), gz(b"{}") + one):
            answer = server.send(None, content=content)
            assert_canonical_error(answer, 413, "body_too_large")
        # 20 MiB may be unpacked; the join of the parts holds them twice.
        assert resident_mib(server.process.pid) - before < 64


def test_a_long_text_in_a_much_nested_event_costs_little_memory(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        before = resident_mib(server.process.pid, "VmRSS")
        event = product(properties={"many": [[]] * 40, "text": "x" * (8 * 1024 * 1024)})
        assert_canonical_error(server.send(event), 400, "event_too_large")
        assert resident_mib(server.process.pid) - before < 200


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], ServerProcess]]:
    """A server that a story may leave dead: the next one gets another."""
    servers: list[ServerProcess] = []

    def alive() -> ServerProcess:
        if not servers or servers[-1].process.poll() is not None:
            servers.append(spawn(tmp_path_factory.mktemp("spare")))
        return servers[-1]

    yield alive
    for server in servers:
        server.end()


@pytest.mark.parametrize(
    "content",
    [
        b" " * 40_000 + b"!",
        b"A" * 40_000 + b"\n" * 40_000 + b"!",
        b"A" * 40_000 + b"=" * 40_000 + b"!",
        gz(b"") * 150_000,
        b"data=" + b"%2B" * 400_000,
        b"data=" + b"&data=" * 90,
        b'{"a":"' + b"\\ud800" * 200_000 + b'"}',
    ],
    ids=["blanks", "lines", "padding", "gzip members", "plus signs", "fields", "surrogates"],
)
def test_no_body_keeps_the_server_from_answering_others(
    spare: Callable[[], ServerProcess], content: bytes
) -> None:
    server = spare()
    before_s = worked_s(server.process.pid)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.http.post, "/api/e", content=content)
        eventually(lambda: answer.done() or worked_s(server.process.pid) - before_s > 3)
        if not answer.done():
            server.kill()
            pytest.fail("no answer after 3 s of work")
    assert 400 <= answer.result().status_code < 500


# Tokens


@pytest.mark.parametrize(
    ("body", "query", "code"),
    [
        ({"event": "e", "distinct_id": "d"}, {}, "missing_token"),
        ([{"event": "e", "distinct_id": "d"}], {}, "missing_token"),
        ({"batch": [{"event": "e", "distinct_id": "d"}]}, {}, "missing_token"),
        ({"api_key": None, "event": "e", "distinct_id": "d"}, {}, "missing_token"),
        ({"api_key": "nobody's", "event": "e", "distinct_id": "d"}, {}, "unknown_token"),
        ({"api_key": "", "event": "e", "distinct_id": "d"}, {}, "unknown_token"),
        ({"api_key": 7, "event": "e", "distinct_id": "d"}, {}, "unknown_token"),
        ({"api_key": {}, "event": "e", "distinct_id": "d"}, {}, "unknown_token"),
        ({"event": "e", "distinct_id": "d"}, {"token": "nobody's"}, "unknown_token"),
        ({"event": "e", "distinct_id": "d", "properties": {"token": "n"}}, {}, "unknown_token"),
        (product(token="another"), {}, "mixed_tokens"),
        (product(), {"token": "another"}, "mixed_tokens"),
        (product(), {"api_key": "another"}, "mixed_tokens"),
        ([product(), product(api_key="another")], {}, "mixed_tokens"),
        ({"api_key": TOKEN, "batch": [product(api_key="another")]}, {}, "mixed_tokens"),
    ],
)
def test_a_token_that_is_missing_unknown_or_mixed_is_401(
    shared: World, body: Any, query: dict[str, str], code: str
) -> None:
    answer = shared.http.post("/api/e", json=body, params=query)

    assert_canonical_error(answer, 401, code)
    assert "Bearer" == answer.headers["www-authenticate"]


@pytest.mark.parametrize("token", [b"1e999", b"-1e999", b'"\\ud800"', b"[[]]"])
@pytest.mark.parametrize(
    "around", [b'{"api_key":%s,"event":"e","distinct_id":"d"}', b'{"token":%s,"batch":[{}]}']
)
def test_a_token_of_any_type_names_no_project(shared: World, token: bytes, around: bytes) -> None:
    assert_canonical_error(shared.send(None, content=around % token), 401, "unknown_token")


def test_the_same_token_in_every_place_is_one_token(shared: World) -> None:
    event = product(token=TOKEN, properties={"token": TOKEN})
    assert "ok" == first(shared.send(event, params={"api_key": TOKEN, "token": TOKEN}))["result"]


def test_a_property_named_token_is_a_property_while_a_token_stands_elsewhere(shared: World) -> None:
    result = first(shared.send(product(properties={"token": "of a game"})))
    assert {"token": "of a game"} == stored(shared, result["tx_id"])["properties"]

    by_query = {**plain(fresh()), "properties": {"token": "of a game"}}
    assert "ok" == first(shared.send(by_query, params={"token": TOKEN}))["result"]


def test_the_valid_token_of_another_project_is_a_mix_up_even_in_properties(shared: World) -> None:
    other = tenant(shared)
    event = product(properties={"token": other.token})
    assert_canonical_error(shared.send(event), 401, "mixed_tokens")


def test_tokens_are_not_stored(shared: World) -> None:
    result = first(shared.send(product(token=TOKEN, **{"$token": TOKEN})))
    assert TOKEN not in json.dumps(stored(shared, result["tx_id"]))


def test_an_api_key_where_the_token_belongs_is_refused_with_a_hint_and_never_repeated(
    tmp_path: Path,
) -> None:
    event = {"event": "e", "distinct_id": "d"}
    unknown = "iml_live_unknown-0123456789"
    admin = "ind_adm_unknown-0123456789"
    sent: list[tuple[Any, dict[str, str]]] = [
        ({**event, "api_key": API_KEY}, {}),
        ({**event, "api_key": unknown}, {}),
        ({**event, "api_key": admin}, {}),
        ({**event, "token": API_KEY}, {}),
        ({**event, "properties": {"token": API_KEY}}, {}),
        ({"batch": [{**event, "api_key": API_KEY}]}, {}),
        ([{**event, "token": API_KEY}], {}),
        (event, {"api_key": API_KEY}),
        (event, {"token": API_KEY}),
    ]
    with started(tmp_path) as server:
        for body, query in sent:
            answer = server.http.post("/api/e", json=body, params=query)

            error = assert_canonical_error(answer, 401, "unknown_token")
            assert "public project token" in error["hint"]
            assert "replace" in error["hint"]
            for secret in (API_KEY, unknown, admin):
                assert secret not in answer.text + str(answer.headers)
        server.stop()
        said = server.output()
        assert not [secret for secret in (API_KEY, unknown, admin) if secret in said]


def test_a_revoked_token_is_unknown_from_the_next_request_on(shared: World) -> None:
    project = tenant(shared)
    assert "ok" == first(project.send())["result"]
    keys = shared.http.get("/v1/keys", headers=AS_ADMIN).json()["keys"]
    (key,) = [key for key in keys if key["token"] == project.token]

    shared.http.delete(f"/v1/keys/{key['id']}", headers=AS_ADMIN).raise_for_status()

    assert_canonical_error(project.send(), 401, "unknown_token")


# What an event may hold


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"42", "42"),
        (b"0.5", "0.5"),
        (b"-7", "-7"),
        (b"12345678901234567890", "12345678901234567890"),
        (b"123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
@pytest.mark.parametrize("place", [b'"distinct_id":%s', b'"properties":{"distinct_id":%s}'])
def test_a_numeric_distinct_id_becomes_its_decimal_string(
    shared: World, sent: bytes, kept: str, place: bytes
) -> None:
    content = b'{"api_key":"test-token","event":"e",' + place % sent + b"}"

    result = first(shared.send(None, content=content))

    assert kept == stored(shared, result["tx_id"])["distinct_id"]


def test_a_distinct_id_may_stand_in_properties_and_stays_there(shared: World) -> None:
    event = {"api_key": TOKEN, "event": "e", "properties": {"distinct_id": "u7", "a": 1}}

    read = stored(shared, first(shared.send(event))["tx_id"])

    assert "u7" == read["distinct_id"]
    assert event["properties"] == read["properties"]


@pytest.mark.parametrize("properties", [{}, {"properties": None}, {"properties": {}}])
def test_null_absent_and_empty_properties_are_all_an_empty_object(
    shared: World, properties: Event
) -> None:
    event = {"api_key": TOKEN, "event": "e", "distinct_id": "d", **properties}
    assert {} == stored(shared, first(shared.send(event))["tx_id"])["properties"]


def test_unknown_members_are_kept_under_extra(shared: World) -> None:
    extra: Event = {"library": {"name": "own", "n": [1, 2.50]}, "$session": "s", "type": "capture"}

    read = stored(shared, first(shared.send(product(**extra)))["tx_id"])

    assert extra == read["$extra"]


def test_set_set_once_and_unset_are_kept_wherever_they_stand(shared: World) -> None:
    person: Event = {"$set": {"plan": "pro"}, "$set_once": {"first": 1}, "$unset": ["old"]}

    at_the_root = stored(shared, first(shared.send(product(**person)))["tx_id"])
    inside_it = stored(shared, first(shared.send(product(properties=person)))["tx_id"])

    assert person == {name: at_the_root[name] for name in person}
    assert "$extra" not in at_the_root
    assert person == inside_it["properties"]


def test_null_person_properties_count_as_absent(shared: World) -> None:
    nothing: Event = {"$set": None, "$set_once": None, "$unset": None}
    event = product(**nothing)
    assert "$set" not in stored(shared, first(shared.send(event))["tx_id"])


def test_what_describes_the_request_is_kept_beside_each_event(shared: World) -> None:
    sent_at = "2026-01-01T00:00:00Z"
    body = {"api_key": TOKEN, "sent_at": sent_at, "historical_migration": True}

    result = first(shared.send({**body, "batch": [plain(fresh())]}))

    request = stored(shared, result["tx_id"])["request"]
    assert (sent_at, True, "/api/e") == (
        request["sent_at"],
        request["historical_migration"],
        request["route"],
    )


@pytest.mark.parametrize(
    ("escape", "kept"),
    [
        ("\\ud83d\\ude00", "\N{GRINNING FACE}"),
        ("\\ud83d", "\N{REPLACEMENT CHARACTER}"),
        ("\\ude00", "\N{REPLACEMENT CHARACTER}"),
        ("\\ud83d tail", "\N{REPLACEMENT CHARACTER} tail"),
        ("\\ude00\\ud83d", "\N{REPLACEMENT CHARACTER}" * 2),
        ("\\\\ud83d", "\\ud83d"),
    ],
)
@pytest.mark.parametrize("place", ["event", "distinct_id", "property", "key", "extra", "uuid"])
def test_a_lone_surrogate_is_replaced_and_a_pair_is_kept(
    shared: World, escape: str, kept: str, place: str
) -> None:
    mark = fresh()
    event: Event = {
        "event": {**product("HERE" + mark)},
        "distinct_id": product(distinct_id="HERE" + mark),
        "property": product(properties={"a": ["HERE" + mark]}),
        "key": product(properties={"HERE" + mark: 1}),
        "extra": product(other={"a": "HERE" + mark}),
        "uuid": product(uuid="HERE" + mark),
    }[place]
    content = encoded(event).replace(b"HERE", escape.encode())

    read = stored(shared, first(shared.send(None, content=content))["tx_id"])

    assert kept + mark in str(read)


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 400 + b".0"])
@pytest.mark.parametrize("place", [b'"properties":{"a":%s}', b'"other":%s'])
def test_a_number_out_of_range_drops_its_event_alone(
    shared: World, number: bytes, place: bytes
) -> None:
    bad = b'{"event":"e","distinct_id":"d",' + place % number + b"}"
    content = b'{"api_key":"test-token","batch":[' + bad + b',{"event":"e","distinct_id":"d"}]}'

    answer = shared.send(None, content=content).json()

    assert ["drop", "ok"] == [e["result"] for e in answer["events"]]
    assert "invalid_event" == answer["events"][0]["reason"]


def ahead(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


@pytest.mark.parametrize(
    "timestamp",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01T00:00:00.123456+02:00",
        "2026-01-01 00:00:00",
        "1971-01-01",
        1_767_225_600,
        1_767_225_600.5,
        1_767_225_600_000,
        0,
    ],
)
def test_a_timestamp_is_kept_as_it_was_sent_however_old(shared: World, timestamp: Any) -> None:
    result = first(shared.send(product(timestamp=timestamp)))

    assert "ok" == result["result"]
    assert timestamp == stored(shared, result["tx_id"])["timestamp"]


def test_a_null_timestamp_is_none(shared: World) -> None:
    assert "timestamp" not in stored(shared, first(shared.send(product(timestamp=None)))["tx_id"])


def test_a_timestamp_over_23_hours_ahead_is_stored_with_a_warning(shared: World) -> None:
    assert "ok" == first(shared.send(product(timestamp=ahead(hours=22.9))))["result"]

    sent = ahead(hours=23.1)
    result = first(shared.send(product(timestamp=sent)))

    assert ("warning", "future_timestamp") == (result["result"], result["reason"])
    assert sent == stored(shared, result["tx_id"])["timestamp"]


REFUSED_IDS = [
    "0",
    "00000000-0000-0000-0000-000000000000",
    "anonymous",
    "anonymous-user",
    "backend",
    "distinct_id",
    "distinctid",
    "email",
    "false",
    "guest",
    "id",
    "nan",
    "none",
    "not_authenticated",
    "null",
    "system",
    "true",
    "undefined",
    "user",
]


@pytest.mark.parametrize("distinct_id", [*REFUSED_IDS, "[object object]", "", " Guest ", "NULL", 0])
def test_an_illegal_distinct_id_keeps_the_event_and_warns(shared: World, distinct_id: Any) -> None:
    result = first(shared.send(product(distinct_id=distinct_id)))

    assert ("warning", "illegal_distinct_id") == (result["result"], result["reason"])
    assert str(distinct_id) == stored(shared, result["tx_id"])["distinct_id"]


@pytest.mark.parametrize("before", [*REFUSED_IDS, " NULL ", "[Object object]", 0])
@pytest.mark.parametrize(
    ("event", "place"),
    [("$identify", "$anon_distinct_id"), ("$create_alias", "alias"), ("$alias", "alias")],
)
def test_an_event_that_joins_a_refused_id_warns_that_it_joins_nothing(
    shared: World, event: str, place: str, before: Any
) -> None:
    result = first(shared.send(product(event, properties={place: before})))
    assert ("warning", "merge_refused") == (result["result"], result["reason"])


def test_an_event_that_joins_two_plain_ids_has_no_warning(shared: World) -> None:
    joins = product("$identify", properties={"$anon_distinct_id": "guest-7"})
    assert "ok" == first(shared.send(joins))["result"]


# Packing


@pytest.mark.parametrize(
    "kind", ["text/html", "application/xml", "multipart/form-data", "image/gif"]
)
def test_an_unknown_content_type_is_415(shared: World, kind: str) -> None:
    answer = shared.send(None, content=b"{}", headers={"content-type": kind})
    assert kind in assert_canonical_error(answer, 415, "unsupported_media_type")["message"]


def test_content_encodings_in_several_fields_are_one_list(shared: World) -> None:
    content = gz(raw_deflated(json.dumps(product()).encode()))
    fields = [("content-encoding", "deflate"), ("content-encoding", "gzip")]
    answer = shared.http.post("/api/e", content=content, headers=fields)
    assert 200 == answer.status_code, answer.text


@pytest.mark.parametrize("path", ["/api/e", "/v1/events"])
def test_more_than_five_hundred_query_parameters_are_refused(shared: World, path: str) -> None:
    query = "&".join(f"a{number}=1" for number in range(501))
    answer = shared.http.get(f"{path}?{query}", headers=AS_APPLICATION)
    assert_canonical_error(answer, 400, "invalid_parameter")
    assert "500" in answer.json()["message"]


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", "aes128gcm"])
def test_an_unknown_content_encoding_is_415(shared: World, coding: str) -> None:
    answer = shared.send(None, content=b"{}", headers={"content-encoding": coding})
    assert_canonical_error(answer, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    ("layers", "coding"),
    [
        ([gz, gz], "gzip, gzip"),
        ([zlib_deflated, gz], "deflate, gzip"),
        ([gz, zlib_deflated], "gzip, deflate"),
        ([raw_deflated, raw_deflated], "deflate, deflate"),
        ([gz], "identity, gzip"),
        ([gz], "utf-8, gzip"),
        ([], "identity, identity"),
        ([], "utf-8"),
        ([], "UTF-8,"),
    ],
)
def test_a_list_of_content_encodings_is_unpacked_from_its_end(
    shared: World, layers: list[Callable[[bytes], bytes]], coding: str
) -> None:
    content = text_of_one_event()
    for layer in layers:
        content = layer(content)
    answer = shared.send(None, content=content, headers={"content-encoding": coding})
    assert "ok" == first(answer)["result"]


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [0, 1, 6, 9])
def test_deflate_is_read_whatever_its_window_and_level(
    shared: World, window_bits: int, level: int
) -> None:
    for wbits in (window_bits, -window_bits):
        stream = zlib.compressobj(level, wbits=wbits)
        content = stream.compress(text_of_one_event()) + stream.flush()
        answer = shared.send(None, content=content, headers={"content-encoding": "deflate"})
        assert "ok" == first(answer)["result"]


BLANKS = (b"\xef\xbb\xbf", b"\n\r\n", b" \t", b"\n\xef\xbb\xbf\r\n ")


@pytest.mark.parametrize("before", BLANKS, ids=range(len(BLANKS)))
@pytest.mark.parametrize("kind", ["", *sorted(CONTENT_TYPES[Lane.PRODUCT])])
def test_a_byte_order_mark_or_blanks_before_json_make_no_difference(
    shared: World, before: bytes, kind: str
) -> None:
    text = before + encoded(product(properties={"query": "data=1&data=e30"})) + b"\r\n"
    headers = {"content-type": kind} if kind else {}
    for content in (text, gz(text), form(text), b64(text)):
        result = first(shared.send(None, content=content, headers=headers))
        assert "data=1&data=e30" == stored(shared, result["tx_id"])["properties"]["query"]


@pytest.mark.parametrize("text", [b"null", b"true", b"false", b"1234", b"-12.5e3", b'"text"'])
def test_json_that_is_no_object_is_called_that(shared: World, text: bytes) -> None:
    for content in (text, b" " + text + b"\n", gz(text)):
        body = assert_canonical_error(shared.send(None, content=content), 400, "invalid_json")
        assert "The body must be a JSON object or a list" == body["message"]
        answer = shared.http.post("/v1/events", content=content, headers=AS_APPLICATION)
        body = assert_canonical_error(answer, 400, "invalid_json")
        assert "The body must be a JSON object" == body["message"]


def test_an_unknown_compression_parameter_is_400(shared: World) -> None:
    answer = shared.send(product(), params={"compression": "lz64"})
    assert_canonical_error(answer, 400, "invalid_encoding")


def text_of_one_event() -> bytes:
    return encoded(product())


@pytest.mark.parametrize(
    "content",
    [
        *(gz(text_of_one_event())[:size] for size in (2, 5, 10, 12, 40, -9, -8, -1)),
        gz(text_of_one_event())[:-8] + b"\x00" * 8,
        gz(text_of_one_event()) + b"rubbish",
        b"\x1f\x8b" + b"rubbish" * 5,
    ],
)
def test_a_damaged_gzip_body_is_400(shared: World, content: bytes) -> None:
    assert_canonical_error(shared.send(None, content=content), 400, "invalid_encoding")


def test_truncated_deflate_is_400(shared: World) -> None:
    for pack in (zlib_deflated, raw_deflated):
        content = pack(text_of_one_event())[:-6]
        answer = shared.send(None, content=content, headers={"content-encoding": "deflate"})
        assert_canonical_error(answer, 400, "invalid_encoding")


def test_a_form_that_is_not_utf_8_inside_is_400_like_any_other_body(shared: World) -> None:
    content = b"data=" + b"%7B%22api_key%22%3A%22test-token%22%2C%22event%22%3A%22%FF%22%7D"
    assert_canonical_error(shared.send(None, content=content, headers=FORM), 400, "invalid_json")


def test_three_layers_of_gzip_are_read_and_four_are_not(shared: World) -> None:
    three = gz(gz(gz(text_of_one_event())))
    assert "ok" == first(shared.send(None, content=three))["result"]
    body = assert_canonical_error(shared.send(None, content=gz(three)), 400, "invalid_encoding")
    assert "three layers" in body["message"]


def test_requests_on_connections_of_their_own_are_all_stored_in_one_order(tmp_path: Path) -> None:
    with inside(tmp_path) as world:

        def send_alone(number: int) -> tuple[str, int]:
            line = HTTPConnection(urlsplit(world.url).netloc)
            with closing(line):
                line.request("POST", "/api/e", encoded(product(uuid=f"u{number}")))
                result = json.loads(line.getresponse().read())["events"][0]
                return result["uuid"], result["index"]

        with ThreadPoolExecutor(16) as pool:
            told = dict(pool.map(send_alone, range(100)))

        assert told == {event["uuid"]: event["index"] for event in world.events()}
        assert set(range(100)) == set(told.values())
