"""Large bodies: what is read of them, and that they take turns."""

import asyncio
import json
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from indelible.edge.brackets import MAX_VALUES
from indelible.edge.large import SHORT_BYTES, LargeBodies
from indelible.edge.shallow import MAX_MEMBERS, WINDOW, TooManyMembers, elements, members, parse
from indelible.errors import BatchTooLarge, InvalidJson, Overloaded, Unavailable
from tests.edge.wire import encoded, first, fresh, gz, known_as, nested, stored
from tests.world import (
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    product,
    started,
)

# Cutting: what msgspec does with a short text, for one of any length.

MB = 1 << 20

LONG = '"' + "x" * WINDOW + '"'
VALUES = (
    "1",
    "-12.5e-3",
    "null",
    "true",
    '""',
    '"é✓"',
    r'"\"[{\\"',
    r'"\ud83d\ude00"',
    "[]",
    '{"a":[1,{"b":"]"}]}',
)


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_cut_right_wherever_the_window_ends(value: str) -> None:
    width = len(value.encode())
    for missing in range(-2, width + 3):
        # The list's second element ends that many bytes behind the end of the first window.
        text = f'["{"x" * (WINDOW - width - 6 + missing)}", {value} , {LONG},{value}]'.encode()

        found = [bytes(raw) for raw in elements(text, most=10)]

        assert [value.encode(), value.encode()] == [found[1], found[3]]
        assert json.loads(text) == [json.loads(raw) for raw in found]


LONG_VALUES = (
    LONG,
    '"' + r"\\\"" * (WINDOW // 2) + '"',
    '"' + r"\u0061" * (WINDOW // 3) + '"',
    "[" + "[]," * (WINDOW // 2) + "1]",
    "[" + '{"a":"]"},' * (WINDOW // 5) + "1]",
    "[" * 500 + LONG + "]" * 500,
    '{"a":' * 200 + '"' + r"\"}" * WINDOW + '"' + "}" * 200,
    "1" * (2 * WINDOW),
    '["' + "é" * WINDOW + '"]',
    "[1" + " " * (2 * WINDOW) + "]",
)


@pytest.mark.parametrize("value", LONG_VALUES, ids=range(len(LONG_VALUES)))
def test_a_value_longer_than_a_window_is_cut_where_it_ends(value: str) -> None:
    sent = value.encode()
    listed = [bytes(raw) for raw in elements(b"[1, " + sent + b" ,2]", most=10)]
    assert [b"1", sent, b"2"] == listed

    named = members(b'{"a":' + sent + b', "b" : ' + sent + b' ,"c":3}')
    assert {"a": sent, "b": sent, "c": b"3"} == {name: bytes(raw) for name, raw in named.items()}


def test_text_of_any_size_is_cut_as_msgspec_decodes_it() -> None:
    chosen = random.Random(7)
    for _ in range(20):
        sent = [json.loads(chosen.choice(VALUES)) for _ in range(50)] + ["x" * 300_000] * 5
        chosen.shuffle(sent)
        text = json.dumps(sent, indent=chosen.choice([None, 3])).encode()
        assert len(text) > WINDOW
        assert sent == [json.loads(bytes(raw)) for raw in elements(text, most=100)]
        keyed = {f'k"{n}': value for n, value in enumerate(sent)}
        found = members(json.dumps(keyed).encode())
        assert keyed == {name: json.loads(bytes(raw)) for name, raw in found.items()}


@pytest.mark.parametrize("broken", ["[1 2]", "[1,]", "[01]", "[nul]", '["\\x"]', "[}", "]", '"a'])
def test_what_is_broken_is_refused_however_long_the_text(broken: str) -> None:
    for text in (f"[{broken},{LONG}]", f"[{LONG},{broken}]", f'{{"a":{LONG},"b":{broken}}}'):
        with pytest.raises(InvalidJson):
            parse(text.encode(), most=10)


@pytest.mark.parametrize("rest", ["]", "[1]", ",1", "x"])
def test_what_follows_a_long_text_is_refused(rest: str) -> None:
    with pytest.raises(InvalidJson, match="byte"):
        parse(f"[{LONG}] {rest}".encode(), most=10)


def test_a_long_text_is_utf8_to_its_last_byte() -> None:
    for cut in range(8):  # no character is broken where a window ends
        text = f'["{"x" * (WINDOW - 8 + cut)}é✓😀{"x" * WINDOW}"]'.encode()
        assert text == parse(text, most=1)[1]
    with pytest.raises(InvalidJson, match=f"byte {2 * WINDOW + 2}"):
        parse(b'["' + b"x" * 2 * WINDOW + b'\xff"]', most=1)


def test_half_characters_of_a_long_text_are_replaced_and_whole_ones_kept() -> None:
    for shift in range(0, 14, 3):
        text = '["' + "x" * shift + r"\ud83d\ude00\ud83d\\ud83d\ude00" * (WINDOW // 28) + '"]'
        expected = text.replace(r"\ud83d\\ud83d\ude00", r"\ufffd\\ud83d\ufffd")
        assert expected.encode() == parse(text.encode(), most=1)[1]


def test_members_and_elements_are_counted_before_they_are_built() -> None:
    with pytest.raises(TooManyMembers):
        members(b"{" + b'"a":1,' * WINDOW + b'"a":1}')
    with pytest.raises(BatchTooLarge, match="more than 10"):
        elements(b"[" + b"1," * WINDOW + b"1]", most=10)
    with pytest.raises(msgspec.DecodeError):  # cut where the text ends
        elements(f"[1,{LONG},1".encode(), most=10)


# Through the front door


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("tight")) as server:
        yield server


@pytest.mark.parametrize("size", [2_000_000, 12_000_000])
def test_an_event_that_is_too_large_costs_its_neighbours_nothing(shared: World, size: int) -> None:
    ids = [fresh() for _ in range(3)]
    noise = "".join(random.Random(1).choices("0123456789abcdef", k=size // 40)) * 40
    events = [{"event": "e", "distinct_id": "d", "uuid": each} for each in ids]
    events[1]["properties"] = {"a": noise}  # type: ignore[assignment]

    answer = shared.send(None, content=gz(encoded({"api_key": TOKEN, "batch": events})))

    assert 200 == answer.status_code, answer.text
    results = answer.json()["events"]
    assert [None, "event_too_large", None] == [each.get("reason") for each in results]
    assert ids == [each["uuid"] for each in results]
    assert [1, 0, 1] == [len(known_as(shared, each)) for each in ids]


def test_an_event_with_too_many_members_or_values_is_too_large(shared: World) -> None:
    for few, many in (
        ({f"m{n}": n for n in range(MAX_MEMBERS - 4)}, {f"m{n}": n for n in range(MAX_MEMBERS)}),
        (
            {"properties": {"a": [1] * (MAX_VALUES - 20)}},
            {"properties": {"a": [1] * (MAX_VALUES + 1)}},
        ),
    ):
        assert "ok" == first(shared.send(product(**few)))["result"]
        assert_canonical_error(shared.send(product(**many)), 400, "event_too_large")
        batch = {"api_key": TOKEN, "batch": [product(), product(**many)]}
        results = shared.send(batch).json()["events"]
        assert [None, "event_too_large"] == [each.get("reason") for each in results]


def test_a_text_of_a_million_commas_is_one_value(shared: World) -> None:
    assert "ok" == first(shared.send(product(properties={"a": "[,{" * 300_000})))["result"]


def test_a_large_event_is_stored_to_the_byte(shared: World) -> None:
    properties = {"a": 'é\\"[' * 50_000, "b": nested(20), "c": [{"d": n} for n in range(5_000)]}

    result = first(shared.send(product(properties=properties)))

    assert properties == stored(shared, result["tx_id"])["properties"]


def test_a_large_batch_is_stored_in_order_and_in_several_groups(tight: ServerProcess) -> None:
    events = [{"event": "e", "distinct_id": str(n)} for n in range(3_000)]
    before = tight.count("indelible_group_events_count")

    answer = tight.http.post("/api/e", json={"api_key": TOKEN, "batch": events})

    results = answer.json()["events"]
    indexes = [each["index"] for each in results]
    assert list(range(indexes[0], indexes[0] + 3_000)) == indexes
    assert tight.count("indelible_group_events_count") - before >= 6
    assert tight.count("indelible_group_events_bucket", le="500.0") == tight.count(
        "indelible_group_events_count"
    )


def test_a_long_sent_at_is_not_noted_with_each_event(shared: World) -> None:
    for sent_at, noted in (("2026-01-01T00:00:00Z", True), ("2026-" + "x" * 300, False)):
        batch = {"api_key": TOKEN, "batch": [product()], "sent_at": sent_at}
        event = stored(shared, first(shared.send(batch))["tx_id"])
        assert noted == ("sent_at" in event["request"])


@pytest.mark.parametrize("more", [{}, {"timestamp": "2026-11-30T10:00:00Z"}])
def test_honest_batches_compress_as_well_as_they_like(shared: World, more: dict[str, str]) -> None:
    text = encoded({"api_key": TOKEN, "batch": [product(**more)] * 10_000})
    assert len(text) > 200 * len(gz(text))

    answer = shared.send(None, content=gz(text))

    assert 10_000 == answer.json()["accepted"]


def test_beyond_4_mib_a_body_unpacks_to_a_hundred_times_what_was_sent(shared: World) -> None:
    blanks = b" " * (4 * MB - 1_000)
    assert "ok" == first(shared.send(None, content=gz(encoded(product()) + blanks)))["result"]
    answer = shared.send(None, content=gz(encoded(product()) + blanks * 2))
    message = assert_canonical_error(answer, 413, "body_too_large")["message"]
    assert "Once unpacked, the body is over 4,194,304 bytes" in message

    noise = random.Random(1).randbytes(MB // 10).hex().encode()  # so much more may be unpacked
    text = encoded({**product(), "x": ""}).replace(b'"x": ""', b'"x": "%s"' % noise)
    assert "ok" == first(shared.send(None, content=gz(text + blanks * 2)))["result"]


@pytest.mark.parametrize("kind", ["payload", "meta", "extra", "key"])
def test_an_audit_event_of_megabytes_is_refused_for_its_part_that_is(
    shared: World, kind: str
) -> None:
    long = "x" * 3_000_000
    bodies: dict[str, dict[str, Any]] = {
        "payload": {"payload": long},
        "meta": {"payload": "x", "meta": {"a": long}},
        "extra": {"payload": "x", "a": long},
        "key": {"payload": "x", "idempotency_key": long},
    }
    body = bodies[kind]
    status, code = {
        "payload": (413, "payload_too_large"),
        "meta": (400, "invalid_meta"),
        "extra": (413, "payload_too_large"),
        "key": (400, "invalid_idempotency_key"),
    }[kind]
    events = [{"payload": "ok"}, body]
    batch = shared.http.post("/v1/events/batch", json={"events": events}, headers=AS_APPLICATION)
    assert [None, code] == [each.get("code") for each in batch.json()["results"]]
    if kind != "key":
        assert_canonical_error(shared.send_audit(body), status, code)


DEEP = (
    '{"api_key":%s,"event":"e"}',
    '{"token":"t","sent_at":%s,"batch":[{"event":"e"}]}',
    '{"token":"t","properties":%s}',
    '{"token":"t","properties":{"token":%s}}',
    '{"token":"t","uuid":%s}',
    '{"token":"t","x":%s}',
    '{"token":"t","batch":[%s]}',
    '{"token":"t","batch":[{"properties":%s}],"lost":%s}',
    "[%s]",
    '[{"token":%s}]',
    '{"payload":%s}',
    '{"payload":"x","meta":%s}',
    '{"payload":"x","x":%s}',
    '{"events":%s}',
    '{"events":[{"payload":"x","x":%s}],"lost":%s}',
    '{"events":[{"payload":"x","idempotency_key":%s}]}',
)


@pytest.mark.parametrize("shape", DEEP)
def test_what_is_almost_too_deep_to_be_read_is_no_fault_of_the_server(
    shared: World, shape: str
) -> None:
    """Reading goes on some calls further down than where the body was taken apart."""
    for depth in range(940, 1_000):
        value = "[" * depth + "]" * depth
        content = shape.replace("%s", value)
        for path in ("/api/e", "/v1/events", "/v1/events/batch"):
            answer = shared.http.post(path, content=content, headers=AS_APPLICATION)
            assert 400 <= answer.status_code < 500 or 202 == answer.status_code, answer.text


# Turns


def turns_of(
    bodies: Mapping[str, tuple[int, bool]], *, while_waiting: Callable[..., None] = lambda *_: None
) -> list[str]:
    """The order in which bodies of these lengths, of known callers or not, get their turns; all of
    them come while a body is read that is as long as the first. A `!` ends the name of one that is
    refused."""
    order: list[str] = []

    async def read(large: LargeBodies, name: str) -> None:
        size, is_known = bodies[name]
        try:
            async with large.turn(size, is_known=is_known):
                order.append(name)
                await asyncio.sleep(0.001)
                order.append(f"/{name}")
        except Overloaded:
            order.append(f"{name}!")

    async def story() -> None:
        large = LargeBodies(max_waiting_bytes=1_000)
        async with large.turn(next(iter(bodies.values()))[0]):
            tasks = [asyncio.create_task(read(large, name)) for name in bodies]
            await asyncio.sleep(0)
            while_waiting(*tasks)
        await asyncio.gather(*tasks, return_exceptions=True)
        await large.stop()

    asyncio.run(story())
    assert all(f"/{one}" == after for one, after in pairwise(order) if one in bodies)
    return [name for name in order if not name.startswith("/")]


def test_a_caller_whose_key_was_checked_comes_first_then_the_shorter_then_the_earlier() -> None:
    bodies = {
        "a": (30, False),
        "b": (10, False),
        "c": (50, True),
        "d": (10, False),
        "e": (40, True),
    }
    assert ["e", "c", "b", "d", "a"] == turns_of(bodies)


def test_where_too_many_bytes_wait_the_body_whose_turn_would_come_last_is_refused() -> None:
    bodies = {"a": (900, False), "b": (200, True), "c": (700, False), "d": (300, False)}
    assert ["a!", "c!", "b", "d"] == turns_of(bodies)
    assert ["a"] == turns_of({"a": (5_000, False)})  # alone it may wait however long it is


def test_who_leaves_while_waiting_takes_no_turn_with_him() -> None:
    bodies = dict.fromkeys("abc", (10, False))
    assert ["a", "c"] == turns_of(bodies, while_waiting=lambda _, b, __: b.cancel())


def test_who_leaves_while_waiting_makes_room_for_others() -> None:
    async def story() -> None:
        large = LargeBodies(max_waiting_bytes=1_000)

        async def read(size: int) -> None:
            async with large.turn(size):
                pass

        async with large.turn(10):
            leaving = asyncio.create_task(read(300))
            await asyncio.sleep(0)
            leaving.cancel()
            await asyncio.sleep(0)
            staying = [asyncio.create_task(read(size)) for size in (600, 400)]
            await asyncio.sleep(0)
        await asyncio.gather(*staying)
        await large.stop()

    asyncio.run(story())


def test_who_leaves_at_the_very_moment_of_his_turn_hands_it_on() -> None:
    async def story() -> list[str]:
        large, order = LargeBodies(max_waiting_bytes=1_000), []

        async def read(name: str) -> None:
            async with large.turn(10):
                order.append(name)

        async with large.turn(10):
            first, second = (asyncio.create_task(read(name)) for name in "ab")
            await asyncio.sleep(0)
        first.cancel()  # its turn has come, and it does not know yet
        await asyncio.wait_for(second, 10)
        await large.stop()
        return order

    assert ["b"] == asyncio.run(story())


def test_a_short_body_does_not_wait_for_a_long_one() -> None:
    async def story() -> None:
        large = LargeBodies(max_waiting_bytes=1_000)
        async with large.turn(SHORT_BYTES + 1), asyncio.timeout(10), large.turn(SHORT_BYTES):
            pass
        await large.stop()

    asyncio.run(story())


@pytest.mark.clocked
def test_long_bodies_of_anybody_keep_no_honest_batch_waiting(world: ServerProcess) -> None:
    """A batch of 400 events and an audit event of 60 kB, next to bodies that take a second each."""
    bad = b"data=" + b"%" * 6_000_000
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    events = json.dumps({"api_key": TOKEN, "batch": [product()] * 400}).encode()
    sends = (
        partial(world.send, None, content=events),
        partial(world.send_audit, audit("x" * 60_000)),
    )
    ended = threading.Event()

    def attack() -> None:
        while not ended.is_set():
            answer = world.http.post("/api/e", content=bad, headers=form)
            assert answer.status_code in (400, 503)

    waits: list[float] = []
    with ThreadPoolExecutor(4) as attackers:
        attacks = [attackers.submit(attack) for _ in range(4)]
        try:
            time.sleep(1)
            for _ in range(20):
                for send in sends:
                    began = time.monotonic()
                    assert send().status_code in (200, 202)
                    waits.append(time.monotonic() - began)
        finally:
            ended.set()
        for attacked in attacks:
            attacked.result(60)
    assert statistics.median(waits) <= 0.25
    assert max(waits) <= 1


def test_a_body_that_waits_for_its_turn_while_the_server_stops_is_told_so() -> None:
    async def story() -> None:
        large = LargeBodies(max_waiting_bytes=1_000)
        async with large.turn(10):
            waiting = asyncio.create_task(read(large))
            await asyncio.sleep(0)
            await large.stop()
        with pytest.raises(Unavailable):
            await waiting

    async def read(large: LargeBodies) -> int:
        async with large.turn(10) as turns:
            return await turns.run(lambda: 7)

    asyncio.run(story())


def test_the_turn_ends_with_an_error_too() -> None:
    async def story() -> int:
        large = LargeBodies(max_waiting_bytes=1_000)
        with pytest.raises(ZeroDivisionError):
            async with large.turn(1) as turns:
                await turns.run(lambda: 1 // 0)
        async with large.turn(1) as turns:
            found = await turns.run(lambda: 7)
        await large.stop()
        return found

    assert 7 == asyncio.run(story())
