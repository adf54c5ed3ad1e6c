"""Erasure through the front door: what is gone, what stays, and who may."""

import contextlib
import hashlib
import itertools
import json
import os
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from indelible import leaf
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    bearer,
    product,
    spawn,
    started,
)

BATCH = 500
AUDIT_BATCH = 100
MARKER = re.compile(rb"zq-[0-9]{6}-zq")
UNKNOWN = "tx_019a9f3c7e0a7000a1b2c3d4e5f60718"


@dataclass(frozen=True, slots=True)
class Sent:
    """An event as it was sent: its place, and the marker that is in every part of it."""

    index: int
    tx_id: str
    marker: str


def marker(number: int) -> str:
    return f"zq-{number:06}-zq"


def send_products(world: World, numbers: Iterable[int]) -> list[Sent]:
    """Product events with their marker in name, distinct id, uuid, properties and more."""
    sent: list[Sent] = []
    rest = iter(numbers)
    while batch := list(itertools.islice(rest, BATCH)):
        answer = world.send({"api_key": TOKEN, "batch": [product_of(n) for n in batch]})
        assert 200 == answer.status_code, answer.text
        for number, result in zip(batch, answer.json()["events"], strict=True):
            sent.append(Sent(result["index"], result["tx_id"], marker(number)))
    return sent


def product_of(number: int) -> dict[str, Any]:
    mark = marker(number)
    return {
        "event": f"seen {mark}",
        "distinct_id": f"person {mark}",
        "uuid": f"uuid {mark}",
        "properties": {"note": mark * 3, mark: 1, "long": mark * (600 if number % 50 == 0 else 1)},
        "$set": {"email": f"{mark}@example.com"},
        "also": mark,
    }


def send_audit(world: World, number: int) -> Sent:
    """An audit event with its marker in payload, meta and Idempotency-Key."""
    mark = marker(number)
    answer = world.send_audit(audit_of(mark), key=f"key-{mark}").json()
    return Sent(answer["index"], answer["tx_id"], mark)


def send_audits(world: World, numbers: Iterable[int]) -> list[Sent]:
    """The same in batches."""
    sent: list[Sent] = []
    rest = map(marker, numbers)
    while marks := list(itertools.islice(rest, AUDIT_BATCH)):
        events = [{**audit_of(mark), "idempotency_key": f"key-{mark}"} for mark in marks]
        answer = world.http.post(
            "/v1/events/batch", json={"events": events}, headers=AS_APPLICATION
        )
        assert 202 == answer.status_code, answer.text
        for mark, result in zip(marks, answer.json()["results"], strict=True):
            sent.append(Sent(result["index"], result["tx_id"], mark))
    return sent


def audit_of(mark: str) -> dict[str, Any]:
    return audit(json.dumps({"who": mark}), actor=mark, trace_id=mark)


def ask(world: World, headers: dict[str, str] = AS_ADMIN, **body: Any) -> httpx.Response:
    return world.http.post("/v1/erasures", json=body, headers=headers, timeout=120)


def erase(world: World, **body: Any) -> dict[str, Any]:
    answer = ask(world, **body)
    assert 200 == answer.status_code, answer.text
    certificate: dict[str, Any] = answer.json()
    return certificate


def one(world: World, tx_id: str) -> dict[str, Any]:
    answer = world.http.get(f"/v1/events/{tx_id}", headers=AS_ADMIN)
    assert 200 == answer.status_code, answer.text
    event: dict[str, Any] = answer.json()
    return event


def receipt(world: World, tx_id: str) -> str:
    """The event's receipt, as soon as a checkpoint covers it."""
    wait = {"wait": "sealed", "timeout": "20s"}
    answer = world.http.get(f"/v1/events/{tx_id}/receipt", headers=AS_ADMIN, params=wait)
    assert 200 == answer.status_code, answer.text
    return answer.text


def receipts(world: World) -> dict[int, str]:
    """The receipt of every event that is sealed, by index."""
    answer = world.http.get("/v1/receipts", headers=AS_ADMIN, timeout=120)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    return {line["index"]: line["receipt"] for line in lines}


def policy_of(world: World) -> Policy:
    return parse_policy(world.http.get("/ledger/default/policy", headers=AS_ADMIN).text)


def assert_verified(text: str, policy: Policy) -> None:
    found = verify_receipt(text, policy)
    assert Verdict.VERIFIED == found.verdict, found


def opening_of(text: str) -> Opening:
    extra = Proof.parse(text).extra
    assert extra is not None
    return Opening.decode(extra)


def files_of(folder: Path) -> dict[Path, bytes]:
    """What lies under a folder of a server that may be running: its drafts and partial tiles come
    and go, and one that went is not there."""
    files = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                files[path] = path.read_bytes()
    return files


def markers_in(folder: Path) -> set[str]:
    """Every marker that is in any file under the data folder."""
    files = files_of(folder)
    assert {"journal.db", "unique.db", "lock.db", "checkpoint"} <= {path.name for path in files}
    found = set[bytes]().union(*(MARKER.findall(content) for content in files.values()))
    return {one.decode() for one in found}


def tiles_of(folder: Path) -> dict[Path, bytes]:
    """The full tiles and bundles of the log, which stay as they are while it grows."""
    files = files_of(folder / "ledger" / "default" / "tile")
    return {path: content for path, content in files.items() if ".p" not in str(path)}


def test_one_in_a_hundred_is_erased_and_every_proof_holds(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    server = spawn(folder)
    try:
        sent = send_products(server, range(9_800))
        sent += send_audits(server, range(9_800, 9_990))
        sent += [send_audit(server, number) for number in range(9_990, 10_000)]
        chosen = random.Random(1).sample(sent[:9_800], 90)
        by_id, by_person = chosen[:87] + sent[-10:], chosen[87:]
        gone = {event.marker for event in by_id + by_person}
        erased = {event.index for event in by_id + by_person}
        policy = policy_of(server)
        receipt(server, sent[-1].tx_id)
        customers = {*erased, *range(0, 10_000, 100)}
        before = {e.index: receipt(server, e.tx_id) for e in sent if e.index in customers}
        leaves, tiles = leaves_of(folder), tiles_of(folder)
        assert 10_000 == len(leaves)
        assert {event.marker for event in sent} == markers_in(folder)

        certificates = [erase(server, tx_ids=[event.tx_id for event in by_id])]
        certificates += [
            erase(server, distinct_id=f"person {event.marker}", reason="contract_end")
            for event in by_person
        ]
        server.kill()  # right after the answer
        server.end()

        left = {event.marker for event in sent} - gone
        assert 9_900 == len(left)
        assert left == markers_in(folder)
        server = spawn(folder)
        assert set() == markers_in(folder) & gone

        assert [97, 1, 1, 1] == [certificate["erased"] for certificate in certificates]
        assert {True} == {certificate["swept"] for certificate in certificates}
        events = [event for certificate in certificates for event in certificate["events"]]
        for event in events:
            assert_verified(receipt(server, event["tx_id"]), policy)
        after = receipts(server)
        assert len(leaves) + len(events) == len(after)
        opened = {index: opening_of(text) for index, text in after.items()}
        assert leaves == {index: opened[index].leaf_entry for index in leaves}
        assert tiles == {
            path: content for path, content in tiles_of(folder).items() if path in tiles
        }
        assert erased == {index for index, opening in opened.items() if opening.erased}
        for index, kept in before.items():
            assert_verified(kept, policy)  # what a customer kept still holds
            assert_verified(after[index], policy)
        said = [span for event in events for span in one(server, event["tx_id"])["facts"]["erased"]]
        assert erased == {index for start, end in said for index in range(start, end)}

        server.stop()
        assert left == markers_in(folder)
    finally:
        server.end()


def leaves_of(folder: Path) -> dict[int, bytes]:
    """The leaf of every event, as the journal has it."""
    connection = apsw.Connection(str(folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    rows: Any = connection.execute("SELECT id - (1 << 40), leaf FROM event_1").fetchall()
    connection.close()
    return dict(rows)


def salts_and_leaf(folder: Path, index: int) -> tuple[bytes | None, bytes]:
    connection = apsw.Connection(str(folder / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    tables = [
        name
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        if name == "event" or name == "event_1"
    ]
    row = connection.execute(
        f"SELECT salts, leaf FROM {tables[0]} WHERE id = ?",
        (1 << 40 | index,),
    )
    ((salts, entry),) = row.fetchall()
    connection.close()
    assert isinstance(entry, bytes)
    assert isinstance(salts, bytes | None)
    return salts, entry


def test_a_dictionary_attack_on_the_leaves_finds_nothing_once_the_salt_is_gone(
    world: World,
) -> None:
    guesses = [json.dumps({"email": f"{n}@example.com"}) for n in range(2_000)]
    answer = world.send_audit(audit(guesses[1_234])).json()
    others = [world.send_audit(audit(guess)).json() for guess in guesses[1_230:1_233]]

    def guessed(salts: Iterable[bytes]) -> set[str]:
        committed = leaf.decode(salts_and_leaf(world.data_dir, answer["index"])[1])
        wanted = (committed.payload_commitment, committed.record_commitment)
        found = set()
        for guess in guesses:
            plain = guess.encode()
            tries = [leaf.commit(salt, leaf.PAYLOAD, plain) for salt in salts]
            tries += [hashlib.sha256(plain).digest(), hashlib.sha256(leaf.PAYLOAD + plain).digest()]
            if set(tries) & set(wanted):
                found.add(guess)
        return found

    salts, _ = salts_and_leaf(world.data_dir, answer["index"])
    assert salts is not None
    assert {guesses[1_234]} == guessed([salts[:32]])

    erase(world, tx_ids=[answer["tx_id"]])

    assert salts_and_leaf(world.data_dir, answer["index"])[0] is None
    left = [salts_and_leaf(world.data_dir, other["index"])[0] or b"" for other in others]
    tx = bytes.fromhex(answer["tx_id"][3:])
    known = [half for both in left for half in (both[:32], both[32:])]
    assert set() == guessed([*known, bytes(32), tx + bytes(16), tx + tx])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_late_resend_is_a_duplicate_and_brings_nothing_back(
    world: ServerProcess, restarted: bool
) -> None:
    (first,) = send_products(world, [7])
    second = send_audit(world, 8)
    assert 2 == erase(world, tx_ids=[first.tx_id, second.tx_id])["erased"]
    if not restarted:
        assert_recognised(world, first, second)
        return
    world.kill()  # the look-up by key is then read from the rows again
    with started(world.data_dir) as again:
        assert_recognised(again, first, second)


def assert_recognised(world: World, first: Sent, second: Sent) -> None:
    """Both events, erased and sent once more, are duplicates."""
    again = world.send({"api_key": TOKEN, "batch": [product_of(7)]}).json()["events"][0]
    answer = world.send_audit(audit('{"other": 1}'), key=f"key-{second.marker}")

    assert (first.index, first.tx_id, True) == (again["index"], again["tx_id"], again["duplicate"])
    assert 202 == answer.status_code
    resent = answer.json()
    assert (second.index, True) == (resent["index"], resent["duplicate"])
    assert resent["payload_hash"] is None
    assert set() == markers_in(world.data_dir)
    assert 3 == len(world.events())


def test_an_erased_event_is_shown_as_such_wherever_it_is_asked_for(world: World) -> None:
    (event,) = send_products(world, [7])
    other = send_audit(world, 8)
    certificate = erase(world, tx_ids=[event.tx_id, other.tx_id])

    shown = one(world, event.tx_id)
    left = {"index", "tx_id", "kind", "received_at", "erased", "status", "stored_at", "life"}
    assert left == shown.keys()
    assert (0, event.tx_id, "product", True) == tuple(
        shown[name] for name in ("index", "tx_id", "kind", "erased")
    )
    assert ["received", "stored"] == [step["step"] for step in shown["life"]][:2]
    for any_id in (event.tx_id, f"uuid {event.marker}", f"key-{other.marker}"):
        found = world.http.get("/v1/where", params={"id": any_id}, headers=AS_APPLICATION).json()
        assert [True] == [e["erased"] for e in found["events"]]
    for name in ("distinct_id", "event_name"):
        looked = {name: f"person {event.marker}"}
        page = world.http.get("/v1/events", params=looked, headers=AS_APPLICATION).json()
        assert [] == page["events"]
    kinds = [(e["kind"], e.get("erased", False)) for e in world.events()]
    assert [("product", True), ("audit", True), ("erasure", False)] == kinds
    page = world.http.get("/v1/events", params={"kind": "erasure"}, headers=AS_APPLICATION).json()
    (entry,) = page["events"]
    assert "erasure" == entry["event"]
    assert {"at": certificate["at"], "erased": [[0, 2]], "reason": "request"} == entry["facts"]
    assert certificate["events"] == [{"index": entry["index"], "tx_id": entry["tx_id"]}]


def test_every_event_of_a_distinct_id_is_erased_and_nobody_elses(world: World) -> None:
    ids = ["ann", "bob", "ann", "Ann", "ann ", 'a"nn', "änn"]
    for number in range(0, 210, 7):
        world.send({"api_key": TOKEN, "batch": [product_for(name, number) for name in ids]})
    world.send_audit(audit('{"distinct_id":"ann"}', distinct_id="ann"))
    mention = product("$identify", distinct_id="zoe", properties={"$anon_distinct_id": "ann"})
    world.send(mention)

    preview = erase(world, distinct_id="ann", dry_run=True)
    certificate = erase(world, distinct_id="ann")

    assert (60, 60, True, False) == (
        preview["erased"],
        certificate["erased"],
        preview["dry_run"],
        certificate["dry_run"],
    )
    assert [] == preview["events"]
    events = world.events()
    assert 60 == sum(event.get("erased", False) for event in events)
    assert {"bob", "Ann", "ann ", 'a"nn', "änn", "zoe"} == {
        event["distinct_id"] for event in events if "distinct_id" in event
    }
    for name in ('a"nn', "änn"):
        assert 30 == erase(world, distinct_id=name)["erased"]
    assert 0 == erase(world, distinct_id="ann")["erased"]


def product_for(distinct_id: str, number: int) -> dict[str, Any]:
    return {"event": "seen", "distinct_id": distinct_id, "properties": {"n": number}}


def test_what_is_erased_twice_is_erased_once(world: World) -> None:
    (event,) = send_products(world, [7])
    first = erase(world, tx_ids=[event.tx_id, event.tx_id])

    again = erase(world, tx_ids=[event.tx_id])

    assert (1, 0, 1) == (first["erased"], first["already_erased"], len(first["events"]))
    assert (0, 1, []) == (again["erased"], again["already_erased"], again["events"])
    assert 2 == len(world.events())


def test_an_unknown_id_keeps_everything(world: World) -> None:
    (event,) = send_products(world, [7])
    before = world.events()
    unknown = [UNKNOWN, *(f"tx_{n:032x}" for n in range(20))]

    body = assert_canonical_error(ask(world, tx_ids=[event.tx_id, *unknown]), 404, "not_found")
    preview = erase(world, tx_ids=[event.tx_id, *unknown], dry_run=True)

    assert "21 of the transaction ids" in body["message"]
    assert UNKNOWN in body["message"]
    assert (1, unknown) == (preview["erased"], preview["unknown"])
    assert before == world.events()


def test_ids_are_looked_up_in_one_project(world: World) -> None:
    (event,) = send_products(world, [7])
    world.http.post("/v1/projects", json={"name": "shop"}, headers=AS_ADMIN)

    answer = ask(world, tx_ids=[event.tx_id], project="shop")
    assert_canonical_error(answer, 404, "not_found")
    assert_canonical_error(ask(world, tx_ids=[event.tx_id], project="nowhere"), 404, "not_found")
    assert 0 == erase(world, distinct_id=f"person {event.marker}", project="shop")["erased"]
    assert "erased" not in one(world, event.tx_id)


def test_the_logs_own_entries_are_never_erased(world: World) -> None:
    (event,) = send_products(world, [7])
    certificate = erase(world, tx_ids=[event.tx_id])
    (made,) = certificate["events"]
    world.http.post("/v1/keys", json={"role": "token", "project": "default"}, headers=AS_ADMIN)
    administration = world.events()[-1]
    assert "administration" == administration["kind"]

    for own in (made["tx_id"], administration["tx_id"]):
        assert_canonical_error(ask(world, tx_ids=[own]), 409, "not_erasable")
    assert 3 == len(world.events())


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "invalid_api_key"),
        (bearer(TOKEN), 401, "invalid_api_key"),
        (AS_APPLICATION, 403, "manage_scope_missing"),
    ],
)
def test_only_an_admin_key_erases(
    shared: World, headers: dict[str, str], status: int, code: str
) -> None:
    (event,) = send_products(shared, [700_000 + status])
    answer = ask(shared, headers, tx_ids=[event.tx_id])
    assert_canonical_error(answer, status, code)
    assert "erased" not in one(shared, event.tx_id)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tx_ids": []},
        {"tx_ids": [UNKNOWN] * 10_001},
        {"tx_ids": [UNKNOWN + "\n"]},
        {"tx_ids": ["019a9f3c7e0a7000a1b2c3d4e5f60718"]},
        {"tx_ids": [UNKNOWN], "distinct_id": "ann"},
        {"distinct_id": ""},
        {"distinct_id": "x" * 201},
        {"distinct_id": 7},
        {"distinct_id": "ann", "reason": "Mr Smith asked"},
        {"distinct_id": "ann", "reason": ""},
        {"distinct_id": "ann", "reason": "a" * 65},
        {"distinct_id": "ann", "dry_run": "yes"},
    ],
)
def test_what_cannot_be_read_erases_nothing(shared: World, body: dict[str, Any]) -> None:
    answer = shared.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
    assert_canonical_error(answer, 400, "invalid_parameter")


def test_a_member_that_is_not_known_erases_nothing(world: World) -> None:
    world.send(product(distinct_id="ann"))

    body = {"distinct_id": "ann", "events": ["purchase_completed"]}
    answer = world.http.post("/v1/erasures", json=body, headers=AS_ADMIN)

    assert_canonical_error(answer, 400, "unknown_parameter")
    assert "erased" not in world.events()[0]


def test_ten_thousand_ids_fit_into_one_request(world: World) -> None:
    sent = send_products(world, range(10_000))
    certificate = erase(world, tx_ids=[event.tx_id for event in sent])

    assert 10_000 == certificate["erased"]
    assert set() == markers_in(world.data_dir)
    said = [s for e in certificate["events"] for s in one(world, e["tx_id"])["facts"]["erased"]]
    assert [0, 10_000] == [said[0][0], said[-1][1]]
    too_long = b'{"distinct_id":"ann"' + b" " * 1024 * 1024 + b"}"
    headers = {**AS_ADMIN, "content-type": "application/json"}
    answer = world.http.post("/v1/erasures", content=too_long, headers=headers)
    body = assert_canonical_error(answer, 413, "body_too_large")
    assert "1,048,576" in body["message"]


def test_an_erasure_while_events_come_in_loses_none_and_stops_none(world: World) -> None:
    (first,) = send_products(world, [0])
    for number in range(1, 20):
        send_products(world, [number])
        certificate = erase(world, distinct_id=f"person {marker(number - 1)}")
        assert (1, True) == (certificate["erased"], certificate["swept"])  # nobody was waited for
    assert {marker(19)} == markers_in(world.data_dir)
    assert 20 == sum(event["kind"] == "product" for event in world.events())
    assert one(world, first.tx_id)["erased"]
