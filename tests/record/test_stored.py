"""What any version stored is read for ever, and what was sent is stored to the byte as it ever was.

`vectors/receipts.json`: receipts of a log of November 2026, one entry of each kind and an erased
one. `vectors/requests.json`: requests of the same time, from tests and from unmodified clients,
with the payloads and records that were stored of them. Neither file is ever made again.
"""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from indelible import record
from indelible.errors import UnknownVersion
from indelible.event import Kind
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.world import AS_APPLICATION, ServerProcess

VECTORS = Path(__file__).parents[1] / "vectors"
KEPT = json.loads((VECTORS / "receipts.json").read_text())
REQUESTS = json.loads((VECTORS / "requests.json").read_text())
FORMS: dict[str, Any] = {kind.word: getattr(record, kind.word.capitalize()) for kind in Kind}
RECORDS = [
    *((Kind(one["kind"]).word, one["record"]) for one in REQUESTS["stored"]),
    *(
        (one["kind"], found.record.decode())
        for one in KEPT["receipts"]
        if (found := verify_receipt(one["receipt"], parse_policy(KEPT["policy"]))).record
    ),
]


def test_an_old_receipt_verifies_for_ever() -> None:
    policy = parse_policy(KEPT["policy"])
    for one in KEPT["receipts"]:
        found = verify_receipt(one["receipt"], policy)
        assert (Verdict.VERIFIED, one["kind"]) == (found.verdict, found.kind)
    assert set(FORMS) == {one["kind"] for one in KEPT["receipts"]}


def test_a_stored_record_read_and_written_again_has_the_same_bytes() -> None:
    assert set(FORMS) == {kind for kind, _ in RECORDS}
    for kind, text in RECORDS:
        read = msgspec.json.decode(text, type=FORMS[kind])
        members = json.loads(text)
        if "$extra" in members:  # kept as sent, so with the sender's spaces
            read = msgspec.structs.replace(read, extra=_raw_of(text, "$extra"))
        for name in ("$set", "$set_once", "$unset", "process_id", "sequence"):
            if name in members:
                field = name.removeprefix("$")
                read = msgspec.structs.replace(read, **{field: _raw_of(text, name)})
        assert text == record.encode_record(read).decode()


def test_every_reader_reads_every_stored_record() -> None:
    records = [*(text.encode() for _, text in RECORDS), None]
    run = b"[" + b",".join([text or b"null" for text in records]) + b"]"
    names = frozenset({"event", "distinct_id", "meta", "$set", "uuid", "absent"})

    chosen, captures = record.member_reader(names)(records), record.captures(run)

    assert chosen[-1] is None
    assert captures[-1] is None
    for (_, text), found, capture in zip(RECORDS, chosen, captures, strict=False):
        members = record.record_members(text.encode())
        assert json.loads(text) == members
        assert found == {name: members[name] for name in names & members.keys()}
        assert capture is not None
        assert [capture.process_id, capture.sequence, capture.lane] == [
            members.get(name) for name in ("process_id", "sequence", "lane")
        ]


def test_a_record_may_gain_members_and_an_unknown_form_is_refused() -> None:
    gained = '{"event":"viewed","distinct_id":"u1","of_tomorrow":[1],"request":{}}'
    assert [1] == record.record_members(gained.encode())["of_tomorrow"]
    distinct_ids = record.member_reader(frozenset({"distinct_id"}))
    assert [{"distinct_id": "u1"}] == distinct_ids([gained.encode()])

    other = '{"event":"viewed","v":2}'
    with pytest.raises(UnknownVersion):
        distinct_ids([other.encode()])
    with pytest.raises(UnknownVersion):
        record.captures(f"[{other}]".encode())
    with pytest.raises(UnknownVersion):
        record.record_members(other.encode())


def test_no_sender_can_say_which_form_a_record_has(world: ServerProcess) -> None:
    sent = {"api_key": "test-token", "event": "e", "distinct_id": "d", "v": 2}
    assert 200 == world.send(sent).status_code
    assert 202 == world.send_audit({"payload": "p", "v": 2, "meta": {"v": "2"}}).status_code

    assert [{"v": 2}, {"v": 2}] == [event["$extra"] for event in world.events()]


def test_what_was_sent_is_stored_to_the_byte_as_it_ever_was(world: ServerProcess) -> None:
    for sent in REQUESTS["requests"]:
        assert sent["status"] == _answer(world, sent).status_code, sent

    policy = parse_policy(world.http.get("/ledger/default/policy", headers=AS_APPLICATION).text)
    stored = []
    for event in world.events():
        path = f"/v1/events/{event['tx_id']}/receipt?wait=sealed&timeout=30s"
        found = verify_receipt(world.http.get(path, headers=AS_APPLICATION).text, policy)
        assert Verdict.VERIFIED == found.verdict
        assert found.payload is not None
        assert found.record is not None
        kind = Kind[event["kind"].upper()].value
        stored.append(
            {"kind": kind, "payload": found.payload.decode(), "record": found.record.decode()}
        )
    assert REQUESTS["stored"] == stored


def _answer(world: ServerProcess, sent: dict[str, Any]) -> httpx.Response:
    body = base64.b64decode(sent["body"]) if sent["method"] == "POST" else None
    headers = [(name, value) for name, value in sent["headers"]]
    return world.http.request(sent["method"], sent["url"], headers=headers, content=body)


def _raw_of(text: str, name: str) -> msgspec.Raw:
    return msgspec.json.decode(text, type=dict[str, msgspec.Raw])[name]
