"""Receipts and the log's files over HTTP: what whoever asks gets, and what it proves."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from indelible.leaf import decode
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tree import HASH_SIZE
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.query.log import Log, new_log
from tests.world import (
    AS_ADMIN,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    product,
    started,
)

UNKNOWN = "tx_019a9f3c7e0a7000a1b2c3d4e5f60718"
SIZES = (1, 2, 255, 256, 257, 511, 1000)
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
FOR_EVER = "max-age=31536000, immutable"
BRIEFLY = "max-age=2"


@pytest.fixture
def log(shared: World) -> Iterator[Log]:
    with new_log(shared) as log:
        yield log


@pytest.fixture(scope="module")
def log_of_two(shared: World) -> Iterator[Log]:
    """A sealed log that nobody adds to."""
    with new_log(shared) as log:
        fill(log, 2)
        yield log


@pytest.fixture(scope="module")
def unsealing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that seals its first event, and the next ones in an hour."""
    folder = tmp_path_factory.mktemp("unsealing")
    with started(folder, INDELIBLE_SEAL_INTERVAL_MS="3600000") as server:
        first = server.send(product(), params={"wait": "sealed", "timeout": "20s"})
        assert "sealed" == first.json()["events"][0]["status"]
        yield server


def fill(log: Log, count: int) -> list[str]:
    """`count` events as one batch; their transaction ids, once all of them are sealed."""
    batch = [
        {"event": "seen", "distinct_id": f"d{n}", "properties": {"n": n}} for n in range(count)
    ]
    answer = log.http.post("/api/e", json={"api_key": log.token, "batch": batch})
    assert 200 == answer.status_code, answer.text
    tx_ids = [event["tx_id"] for event in answer.json()["events"]]
    receipt(log, tx_ids[-1])
    return tx_ids


def receipt(log: Log, tx_id: str) -> str:
    """The event's receipt, as soon as a checkpoint covers it."""
    wait = {"wait": "sealed", "timeout": "20s"}
    answer = log.http.get(f"/v1/events/{tx_id}/receipt", params=wait)
    assert 200 == answer.status_code, answer.text
    assert TEXT == answer.headers["content-type"]
    assert f'attachment; filename="{tx_id}.tlog-proof"' == answer.headers["content-disposition"]
    return answer.text


def policy_of(log: Log) -> Policy:
    return parse_policy(log.http.get(f"/ledger/{log.project}/policy").text)


def opening_of(text: str) -> Opening:
    extra = Proof.parse(text).extra
    assert extra is not None
    return Opening.decode(extra)


def bulk(log: Log, **bounds: int) -> list[dict[str, Any]]:
    answer = log.http.get("/v1/receipts", params=bounds)
    assert (200, "application/x-ndjson") == (answer.status_code, answer.headers["content-type"])
    return [json.loads(line) for line in answer.text.splitlines()]


def verbatim(
    server: World, path: str, headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """GET a path as it stands: other clients tidy dots and slashes away before they send it."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("size", SIZES)
def test_every_receipt_of_a_log_verifies_whatever_its_size(log: Log, size: int) -> None:
    tx_ids = fill(log, size)
    policy = policy_of(log)
    sampled = sorted({n for n in (0, 1, 127, 254, 255, 256, 257, 510, size - 1) if n < size})

    for index in sampled:
        found = verify_receipt(receipt(log, tx_ids[index]), policy)
        assert Verdict.VERIFIED is found.verdict, found.steps
        assert (index, size, tx_ids[index]) == (found.index, found.size, found.tx_id)
        assert found.payload is not None
        assert {"n": index} == json.loads(found.payload)


def test_a_receipt_in_which_any_byte_is_another_does_not_verify(log: Log) -> None:
    tx_ids = fill(log, 3)
    policy = policy_of(log)
    kept = receipt(log, tx_ids[1]).encode()
    assert Verdict.VERIFIED is verify_receipt(kept, policy).verdict

    believed = []
    for at in range(len(kept)):
        changed = bytearray(kept)
        changed[at] ^= 1
        if verify_receipt(bytes(changed), policy).verdict is Verdict.VERIFIED:
            believed.append(at)

    assert [] == believed


def test_a_receipt_does_not_verify_under_the_policy_of_another_log(log: Log, shared: World) -> None:
    kept = receipt(log, fill(log, 1)[0])

    with new_log(shared) as other:
        found = verify_receipt(kept, policy_of(other))

    assert Verdict.UNVERIFIABLE is found.verdict


def test_receipts_come_in_bulk_in_log_order(log: Log) -> None:
    tx_ids = fill(log, 257)
    policy = policy_of(log)

    every = bulk(log)

    assert list(range(257)) == [line["index"] for line in every]
    assert tx_ids == [line["tx_id"] for line in every]
    for line in every[::16] + every[-2:]:
        found = verify_receipt(line["receipt"], policy)
        assert (Verdict.VERIFIED, line["index"]) == (found.verdict, found.index)
    assert every[99:201] == bulk(log, start=99, end=201)
    assert every[256:] == bulk(log, start=256, end=9_999)
    for start, end in ((257, 300), (5, 5), (9, 2)):
        assert [] == bulk(log, start=start, end=end)
    assert_canonical_error(
        log.http.get("/v1/receipts", params={"start": -1}), 400, "invalid_parameter"
    )


def test_receipts_in_bulk_end_with_what_is_sealed(unsealing: ServerProcess) -> None:
    sent = unsealing.send(product()).json()["events"][0]
    assert sent["index"] > 0

    answer = unsealing.http.get("/v1/receipts", headers=AS_ADMIN)

    assert [0] == [json.loads(line)["index"] for line in answer.text.splitlines()]


def test_the_receipt_of_an_erased_event_shows_its_leaf_alone_and_verifies(log: Log) -> None:
    sent = log.send_audit(audit('{"who":"somebody"}')).json()
    kept = receipt(log, sent["tx_id"])
    policy = policy_of(log)
    erasure = {"project": log.project, "tx_ids": [sent["tx_id"]]}
    done = log.http.post("/v1/erasures", json=erasure, headers=AS_ADMIN)
    assert 1 == done.json()["erased"], done.text

    text = receipt(log, sent["tx_id"])

    opening = opening_of(text)
    assert opening.erased
    assert opening_of(kept).leaf_entry == opening.leaf_entry
    parts = (opening.payload, opening.payload_salt, opening.record, opening.record_salt)
    assert (None, None, None, None) == parts
    assert bytes.fromhex(sent["tx_id"][3:]) == decode(opening.leaf_entry).tx
    for one in (text, kept):  # what was kept from before still holds
        assert Verdict.VERIFIED is verify_receipt(one, policy).verdict
    assert opening_of(bulk(log, end=1)[0]["receipt"]).erased


@pytest.mark.parametrize("what", ["receipt", "verify"])
def test_an_unknown_event_has_no_receipt(log: Log, shared: World, what: str) -> None:
    (mine,) = fill(log, 1)
    with new_log(shared) as other:
        for asked, tx_id in ((log, UNKNOWN), (log, "hello-1"), (log, "tx_"), (other, mine)):
            answer = asked.http.get(f"/v1/events/{tx_id}/{what}")
            assert_canonical_error(answer, 404, "not_found")


@pytest.mark.parametrize("what", ["receipt", "verify"])
def test_an_event_that_no_checkpoint_covers_yet_has_no_receipt(
    unsealing: ServerProcess, what: str
) -> None:
    tx_id = unsealing.send(product()).json()["events"][0]["tx_id"]
    path = f"/v1/events/{tx_id}/{what}"

    for wait in ({}, {"wait": "sealed", "timeout": "50ms"}):
        answer = unsealing.http.get(path, params=wait, headers=AS_ADMIN)
        assert_canonical_error(answer, 409, "not_sealed")


@pytest.mark.parametrize("what", ["receipt", "verify"])
def test_a_log_without_a_quorum_says_at_once_that_nothing_is_witnessed(log: Log, what: str) -> None:
    (tx_id,) = fill(log, 1)

    answer = log.http.get(
        f"/v1/events/{tx_id}/{what}", params={"wait": "witnessed", "timeout": "20s"}
    )

    assert_canonical_error(answer, 409, "not_witnessed")
    assert answer.elapsed.total_seconds() < 20


@pytest.mark.parametrize(
    "wrong", [{"wait": "soon"}, {"wait": ""}, {"timeout": "1m"}, {"timeout": "-1"}]
)
def test_a_wait_that_cannot_be_read_is_refused(log: Log, wrong: dict[str, str]) -> None:
    (tx_id,) = fill(log, 1)
    answer = log.http.get(f"/v1/events/{tx_id}/receipt", params=wrong)
    assert_canonical_error(answer, 400, "invalid_parameter")


def test_the_server_names_each_check_that_it_made(log: Log) -> None:
    tx_ids = fill(log, 2)

    said = log.http.get(f"/v1/events/{tx_ids[1]}/verify").json()

    assert ("verified", 1, 2) == (said["verdict"], said["index"], said["size"])
    assert said["origin"].endswith(f"/{log.project}")
    assert [(name, "ok") for name in ("leaf", "log", "witnesses", "inclusion")] == [
        (check["name"], check["outcome"]) for check in said["checks"]
    ]
    assert all(check["sentence"].endswith(".") for check in said["checks"])


def folder_of(server: World, log: Log) -> Path:
    return server.data_dir / "ledger" / log.project


def read(log: Log, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    """A file of the log, with the log's own key unless `headers` say otherwise."""
    return log.http.get(f"/ledger/{log.project}/{path}", headers=headers)


def test_the_files_of_a_log_are_served_as_they_lie_on_disk(log: Log, shared: World) -> None:
    fill(log, 257)
    folder = folder_of(shared, log)
    tiles = [path for path in (folder / "tile").rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)) for path in tiles}
    full = {"tile/0/000", "tile/entries/000"}
    assert full | {"tile/0/001.p/1", "tile/entries/001.p/1", "tile/1/000.p/1"} <= names

    for path in tiles:
        answer = read(log, str(path.relative_to(folder)))
        assert (200, path.read_bytes()) == (answer.status_code, answer.content)
        assert BYTES == answer.headers["content-type"]
        assert FOR_EVER == answer.headers["cache-control"]
    for name in ("checkpoint", "policy"):
        answer = read(log, name)
        assert (200, (folder / name).read_text()) == (answer.status_code, answer.text)
        assert (TEXT, BRIEFLY) == (answer.headers["content-type"], answer.headers["cache-control"])
    assert "257" == read(log, "checkpoint").text.split("\n")[1]


def test_a_partial_tile_is_the_beginning_of_the_full_one(log: Log) -> None:
    fill(log, 256)

    part, whole = read(log, "tile/0/000.p/5").content, read(log, "tile/0/000").content
    bundle, bundles = read(log, "tile/entries/000.p/5").content, read(log, "tile/entries/000")

    assert 256 * HASH_SIZE == len(whole)
    assert whole[: 5 * HASH_SIZE] == part
    assert 0 < len(bundle) < len(bundles.content)
    assert bundles.content.startswith(bundle)


def test_whoever_has_a_key_of_the_project_reads_its_log(log: Log, shared: World) -> None:
    fill(log, 1)
    with new_log(shared) as other:
        for path in ("checkpoint", "policy", "tile/0/000.p/1"):
            assert 200 == read(log, path).status_code
            assert 200 == read(log, path, AS_ADMIN).status_code
            theirs = other.http.get(f"/ledger/{log.project}/{path}")
            assert_canonical_error(theirs, 404, "not_found")
            nobody = shared.http.get(f"/ledger/{log.project}/{path}")
            assert_canonical_error(nobody, 401, "invalid_api_key")
        no_log = f"/ledger/{log.project}-never/checkpoint"
        assert_canonical_error(shared.http.get(no_log), 401, "invalid_api_key")
        assert_canonical_error(log.http.get(no_log), 404, "not_found")
        assert_canonical_error(shared.http.get(no_log, headers=AS_ADMIN), 404, "not_found")


def test_a_public_log_is_open_to_everyone_and_its_log_says_since_when(
    log: Log, shared: World
) -> None:
    fill(log, 1)
    paths = [f"/ledger/{log.project}/{path}" for path in ("checkpoint", "policy", "tile/0/000.p/1")]

    def let(whom: str) -> None:
        change = {"ledger_access": whom}
        answer = shared.http.patch(f"/v1/projects/{log.project}", json=change, headers=AS_ADMIN)
        assert 200 == answer.status_code, answer.text

    let("public")
    with new_log(shared) as other:
        for path in paths:
            assert 200 == shared.http.get(path).status_code
            assert 200 == other.http.get(path).status_code
    # The files are public, the events and their receipts are not.
    assert_canonical_error(shared.http.get("/v1/receipts"), 401, "invalid_api_key")

    let("key")
    for path in paths:
        assert_canonical_error(shared.http.get(path), 401, "invalid_api_key")
    facts = [line["facts"] for line in log.export() if line["kind"] == "administration"]
    assert ["public", "key"] == [one["ledger_access"] for one in facts]


@pytest.mark.parametrize(
    "path",
    [
        "",
        "tile",
        "tile/0/001",
        "tile/1/000.p/1",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/00",
        "tile/64/000",
        "tile/entries/001",
        "tile/entries/000.p/0",
        "tile/0/000.p/3",
        "witnessed",
        "Checkpoint",
        "checkpoint.txt",
        "../default/policy",
        "%2e%2e/default/policy",
        "..%2fdefault%2fpolicy",
        "tile/../checkpoint",
        "tile/%2e%2e/checkpoint",
        "tile/../../../lock.db",
        "..%2f..%2flock.db",
        "%2e%2e/%2e%2e/lock.db",
        "./checkpoint",
        "//",
        "/../checkpoint",
        "tile//0/000.p/3",
        "tile/0/%30%30%30.p/2%00",
        "checkpoint%0a",
    ],
)
def test_no_other_file_is_served_however_the_path_is_written(
    log_of_two: Log, shared: World, path: str
) -> None:
    folder = f"/ledger/{log_of_two.project}"

    status, headers, body = verbatim(shared, f"{folder}/{path}", AS_ADMIN)

    assert 404 == status, body
    assert "not_found" == json.loads(body)["code"]
    assert "immutable" not in headers.get("cache-control", "")
    there, _, _ = verbatim(shared, f"{folder}/tile/0/000.p/2", AS_ADMIN)
    assert 200 == there  # it was the path that was refused


@pytest.mark.parametrize("path", ["/checkpoint", "tile//0/000.p/2", "tile/0///000.p/2"])
def test_slashes_in_a_row_are_one_and_ask_for_the_same_key(
    log: Log, shared: World, path: str
) -> None:
    fill(log, 2)
    plain = read(log, path.replace("///", "/").replace("//", "/").removeprefix("/"))

    written = f"/ledger/{log.project}/{path}"

    assert (200, plain.content) == verbatim(shared, written, AS_ADMIN)[::2]
    assert 401 == verbatim(shared, written, {})[0]
