"""What is recorded: the real code at work on a folder, saying what it promises as it goes.

A story is prepared (its folder is durable then), told in one or more processes, each of which ends
like a program whose power is cut, and checked for every state that a cut could have left.

`python -m tests.power.stories STORY PART FOLDER` tells one part: `prepare`, or the number of a
process.
"""

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from indelible.client import Indelible
from indelible.clock import now_ms
from indelible.errors import WitnessUnwritable
from indelible.event import Kind
from indelible.journal import unique
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.note import parse_note
from indelible.ledger.format.policy import Witness as Member
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.tree import leaf_hash, root_of
from indelible.ledger.witness.rules import Witness, hash_of
from indelible.ledger.witness.store import create, read_key
from indelible.registry.registry import Registry
from indelible.testing import InMemoryServer
from indelible.testing.server import Refusal
from tests.cli.command import call
from tests.ledger.witness.witnesses import Book, looks_like, policy_of
from tests.power import promises
from tests.power.door import Door, opened
from tests.power.promises import Found, Mark
from tests.power.recording import fail_syncs, mark

TOKEN: Final = "test-token"
API_KEY: Final = "iml_live_test-key-0123456789"
ADMIN_KEY: Final = "ind_adm_test-key-0123456789"
FIXED: Final[dict[str, Any]] = {
    "server_token": TOKEN,
    "server_api_key": API_KEY,
    "server_admin_key": ADMIN_KEY,
}
SEALED: Final = "?wait=sealed&timeout=30s"
DAY_MS: Final = 24 * 60 * 60 * 1000

Part = Callable[[Path], None]
Check = Callable[[Path, list[Mark], Found], None]


@dataclass(frozen=True, slots=True)
class Story:
    """`told`: one function for each process; `stop_after`: see `recording.record`."""

    name: str
    told: tuple[Part, ...]
    check: Check
    prepare: Part | None = None
    stop_after: str | None = None

    def programs(self, folder: Path) -> list[list[str | Path]]:
        return [
            ["-m", "tests.power.stories", self.name, str(number), folder]
            for number in range(len(self.told))
        ]


# Sending, and saying what was answered


def send_product(door: Door, *uuids: str, key: str = API_KEY, token: str = TOKEN) -> None:
    """Product events in one request; sealed, and the receipts taken, if there is one."""
    events = [
        {
            "event": "bought",
            "distinct_id": f"person-{uuid}",
            "uuid": uuid,
            "properties": {"mark": f"content-{uuid}"},
        }
        for uuid in uuids
    ]
    request: dict[str, Any] = {
        "method": "POST",
        "path": f"/api/e{SEALED}",
        "json": {"api_key": token, "batch": events},
    }
    answer = door.ask(**request)
    assert 200 == answer.status_code, answer.text
    for event in answer.json()["events"]:
        stored(event, key, f"content-{event['uuid']}", request, is_first=event["uuid"] == uuids[0])


def send_audit(door: Door, name: str, *, key: str = API_KEY, wait: str = SEALED) -> str:
    """One audit event; its transaction id."""
    request: dict[str, Any] = {
        "method": "POST",
        "path": f"/v1/events{wait}",
        "key": key,
        "headers": {"Idempotency-Key": name},
        "json": {
            "payload": json.dumps({"mark": f"content-{name}"}),
            "meta": {"type": "info", "event_name": "paid", "service": "shop"},
        },
    }
    answer = door.ask(**request)
    assert 202 == answer.status_code, answer.text
    stored(answer.json(), key, f"content-{name}", request, is_first=bool(wait))
    return str(answer.json()["tx_id"])


_policies: dict[str, tuple[str, str]] = {}


def stored(event: Any, key: str, content: str, request: Any, *, is_first: bool) -> None:
    """Mark an event as acknowledged, and its receipt as handed out."""
    facts = {"index": event["index"], "tx": event["tx_id"], "content": content}
    mark("stored", key=key, request=request, **facts)
    if is_first and event.get("receipt"):
        log, policy = _policies[key]
        mark("sealed", receipt=event["receipt"], policy=policy, log=log)


def publish(door: Door, data: Path, log: str = "default", *, key: str = API_KEY) -> None:
    """Mark the checkpoint that readers see, and learn the log's policy."""
    policy = door.ask("GET", f"/ledger/{log}/policy", key=key)
    assert 200 == policy.status_code, policy.text
    _policies[key] = log, policy.text
    note = (data / "ledger" / log / CHECKPOINT).read_text()
    size = Checkpoint.parse(parse_note(note).text).size
    mark("published", log=log, note=CHECKPOINT, size=size)


def small_merges() -> None:
    """Let the keys' file take part: by itself it is written at 32,768 keys."""
    defaults = unique.UniqueKeys.__init__.__kwdefaults__
    assert defaults is not None
    defaults["merge_at"] = 4


# First start, ingest, sealing, a project and a key, a clean stop, and another start


def first_start(folder: Path) -> None:
    small_merges()
    data = folder / "srv" / "events"
    with opened(data) as door:
        door.write_cli_file()
        made = door.house.following.made
        for role, name in (("token", "token"), ("application", "API key"), ("admin", "admin key")):
            mark("key", role=role, secret=made[name])
        key, token, admin = made["API key"], made["token"], made["admin key"]
        publish(door, data, key=key)
        send_audit(door, "first", key=key)
        publish(door, data, key=key)
        send_product(door, "a", "b", "c", key=key, token=token)
        answer = door.ask("POST", "/v1/projects", key=admin, json={"name": "shop"}).json()
        mark("key", role="token", secret=answer["token"])
        mark("key", role="application", secret=answer["api_key"])
        publish(door, data, "shop", key=answer["api_key"])
        send_audit(door, "sold", key=answer["api_key"])
        publish(door, data, "shop", key=answer["api_key"])
        wanted = {"role": "application", "project": "default"}
        made_key = door.ask("POST", "/v1/keys", key=admin, json=wanted).json()
        mark("key", role="application", secret=made_key["secret"])
        log = door.house.following.ledger.logs.named("default")
        assert log is not None
        times = door.house.following.ledger.times(log.project_id, 0)
    mark("stopped", origin=log.origin, sealed=0, at_ms=times.sealed_at_ms)
    with opened(data) as door:
        door.write_cli_file()
        for n in range(4):
            send_product(door, f"later-{n}", f"even-later-{n}", key=key, token=token)
        send_audit(door, "last", key=key)
        publish(door, data, key=key)


def start(folder: Path) -> None:
    data = folder / "srv" / "events"
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_audit(door, "first")
        os._exit(0)


def check_first_start(folder: Path, marks: list[Mark], found: Found) -> None:
    promises.check_server(folder / "srv" / "events", marks, found)


# A log that grows over the border of a tile


def prepare_border(folder: Path) -> None:
    data = folder / "data"
    with opened(data, **FIXED) as door:
        publish(door, data)
        for first in range(0, 240, 80):
            send_product(door, *(f"before-{n}" for n in range(first, first + 80)))


def border(folder: Path) -> None:
    data = folder / "data"
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, *(f"to-{n}" for n in range(10)))
        publish(door, data)
        send_product(door, *(f"over-{n}" for n in range(20)))
        publish(door, data)
        send_audit(door, "beyond")
        publish(door, data)
        os._exit(0)


# Tiles that were lost, and are made again from the journal before anything else


def prepare_mended(folder: Path) -> None:
    prepare_border(folder)
    shutil.rmtree(folder / "data/ledger/default/tile/0")


def mended(folder: Path) -> None:
    with opened(folder / "data", **FIXED):
        mark("mended")
        os._exit(0)


def check_mended(folder: Path, marks: list[Mark], found: Found) -> None:
    if promises.of_kind(marks, "mended"):
        promises.check_readers(folder / "data", marks, found)


def check_data(folder: Path, marks: list[Mark], found: Found) -> None:
    promises.check_server(folder / "data", marks, found)


# Erasure on request, and retention


def prepare_erasure(folder: Path) -> None:
    data = folder / "data"
    data.mkdir(parents=True)
    long_ago = now_ms() - 30 * DAY_MS
    journal = SqliteJournal(Database(data / "journal.db"), clock=lambda: long_ago)
    registry = Registry(RegistryTables(journal))
    registry.projects.create("default")
    old = registry.projects.create("old")
    secret = registry.keys.create(registry_role("application"), old, label="", log=False).secret
    journal.append(
        [
            Draft(
                old.id,
                Kind.AUDIT,
                received_at_ms=long_ago,
                payload=json.dumps({"mark": f"expires-{n}"}).encode(),
                record=b'{"event":"x"}',
            )
            for n in range(3)
        ]
    )
    journal.close()
    with opened(data, **FIXED) as door:
        publish(door, data)
        for n in range(3):
            send_product(door, f"keep-{n}", f"gone-{n}")
        send_audit(door, "audit-gone")
    (folder / "old.key").write_text(secret)


def registry_role(name: str) -> Any:
    from indelible.registry.values import Role

    return Role(name)


def erasure(folder: Path) -> None:
    data = folder / "data"
    old = (folder / "old.key").read_text()
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, "late", "gone-late")
        log = door.export(API_KEY)
        for wanted in (
            # First what is in the WAL, whose cut nothing syncs by the way before the answer.
            {"tx_ids": [at["tx_id"] for at in log if "gone-late" in json.dumps(at)]},
            {"distinct_id": "person-gone-1"},
            {"tx_ids": [at["tx_id"] for at in log if "audit-gone" in json.dumps(at)]},
        ):
            erase(door, log, wanted)
        send_product(door, "after")
        publish(door, data)
        expires = door.export(old)
        mark("erasing", txs=[event["tx_id"] for event in expires if event["kind"] == "audit"])
        change = door.ask("PATCH", "/v1/projects/old", key=ADMIN_KEY, json={"retention_days": 7})
        assert 200 == change.status_code, change.text
        mark("expiring", key=old, contents=[f"expires-{n}" for n in range(3)])
        assert 3 == door.house.following.retention.expire()
        mark("erased", txs=[], secrets=[f"expires-{n}" for n in range(3)])
        (certificate,) = [event for event in door.export(old) if event["kind"] == "erasure"]
        mark("certificate", key=old, index=certificate["index"], tx=certificate["tx_id"])
        os._exit(0)


def erase(door: Door, log: list[dict[str, Any]], wanted: dict[str, Any]) -> None:
    """Erase, and mark what was promised by the answer."""
    meant = [
        event
        for event in log
        if event["tx_id"] in wanted.get("tx_ids", ())
        or event.get("distinct_id") == wanted.get("distinct_id", "")
    ]
    txs = [event["tx_id"] for event in meant]
    names = [event.get("uuid") or event["idempotency_key"] for event in meant]
    mark("erasing", txs=txs)
    answer = door.ask("POST", "/v1/erasures", key=ADMIN_KEY, json=wanted).json()
    assert (len(meant), True) == (answer["erased"], answer["swept"]), answer
    mark("erased", txs=txs, secrets=[f"content-{name}" for name in names])
    for entry in answer["events"]:
        mark("certificate", key=API_KEY, index=entry["index"], tx=entry["tx_id"])


# A backup while the server runs


def backup(folder: Path) -> None:
    data = folder / "data"
    (folder / "backups").mkdir(exist_ok=True)
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, "one", "two")
        ran = call("backup", str(folder / "backups" / "monday.db"), "--data", str(data))
        assert 0 == ran.code, ran.err
        mark("backed up", key=API_KEY, contents=["content-one", "content-two", "content-before-0"])
        send_product(door, "three")
        os._exit(0)


def prepare_backup(folder: Path) -> None:
    data = folder / "data"
    (folder / "backups").mkdir(parents=True)
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, *(f"before-{n}" for n in range(5)))


def check_backup(folder: Path, marks: list[Mark], found: Found) -> None:
    promises.check_backup(folder, marks, found)


# Restore: of an older backup with a successor log, and of the journal of a log that goes on


def prepare_restore(folder: Path) -> None:
    data = folder / "data"
    marks: list[Mark] = []
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, "kept", "gone-1")
        ran = call("backup", str(folder / "monday.db"), "--data", str(data))
        assert 0 == ran.code, ran.err
        log = door.export(API_KEY)
        answer = door.ask(
            "POST", f"/api/e{SEALED}", json={"api_key": TOKEN, "event": "later", "distinct_id": "x"}
        ).json()
        name, policy = _policies[API_KEY]
        receipt = answer["events"][0]["receipt"]
        marks.append({"promise": "sealed", "receipt": receipt, "policy": policy, "log": name})
        erase(door, log, {"distinct_id": "person-gone-1"})
        send_product(door, "lost")
        write_facts(folder, ["--new-log"], frozen=True, erased=["content-gone-1"], marks=marks)
        os._exit(0)  # the WAL stays: restore must not take it for the new journal's


def write_facts(
    folder: Path,
    arguments: Sequence[str] = (),
    *,
    frozen: bool = False,
    erased: Sequence[str] = (),
    marks: Sequence[Mark] = (),
) -> None:
    """What the check of a restore must know beforehand."""
    facts = {"arguments": [*arguments], "frozen": frozen, "marks": [*marks], "key": API_KEY}
    facts |= {"kept": ["content-kept"], "erased": [*erased]}
    (folder / "facts.json").write_text(json.dumps(facts))


def restore(folder: Path) -> None:
    data = folder / "data"
    facts = json.loads((folder / "facts.json").read_text())
    ran = call("restore", str(folder / "monday.db"), "--data", str(data), *facts["arguments"])
    assert 0 == ran.code, ran.err
    mark("restored")
    with opened(data, **FIXED) as door:
        publish(door, data, "default.2" if facts["frozen"] else "default")
        send_product(door, "after-restore")
        os._exit(0)


def prepare_bring_back(folder: Path) -> None:
    data = folder / "data"
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, "kept", "other")
    ran = call("backup", str(folder / "monday.db"), "--data", str(data))
    assert 0 == ran.code, ran.err
    write_facts(folder)
    for path in data.glob("journal.db*"):
        path.unlink()


def prepare_afresh(folder: Path) -> None:
    prepare_bring_back(folder)
    write_facts(folder, ["--new-log"], frozen=True)
    shutil.rmtree(folder / "data")


# A witness


def logbook() -> Book:
    from tests.ledger.format import worked

    return Book.of(worked.SIGNER, "0123456789")


def witness(folder: Path) -> None:
    home, book = folder / "srv" / "witness", logbook()
    create(home, "witness.example/w1")
    mark("witness", vkey=read_key(home).key.text)
    told = Witness(home, [book.signer.key], read_key(home), now_ms)
    old = 0
    for size in (1, 2, 5):
        cosign(told, book, old, size)
        old = size
    fork = Book.of(book.signer, "01234xyz89")
    answer = told.add_checkpoint(fork.body(0, 7).encode())
    assert 409 == answer.status, answer
    told.close()
    told = Witness(home, [book.signer.key], read_key(home), now_ms)
    cosign(told, book, 5, 6)
    os._exit(0)


def cosign(told: Witness, book: Book, old: int, size: int) -> None:
    answer = told.add_checkpoint(book.body(old, size).encode())
    assert 200 == answer.status, answer
    mark("cosigned", size=size, root=book.root(size).hex())


def check_witness(folder: Path, marks: list[Mark], found: Found) -> None:
    home, book = folder / "srv" / "witness", logbook()
    created = promises.of_kind(marks, "witness")
    if not created:
        return
    cosigned = promises.of_kind(marks, "cosigned")

    def serve() -> None:
        key = read_key(home)
        assert created[0]["vkey"] == key.key.text, "it is another one"
        told = Witness(home, [book.signer.key], key, now_ms)
        try:
            last = max((one["size"] for one in cosigned), default=0)
            for one in cosigned:
                # Another history of the same length, and one that begins before it.
                fork = Book.of(book.signer, "x" * 10)
                answer = told.add_checkpoint(fork.body(0, one["size"]).encode())
                found.hold(promises.COSIGNED, 409 == answer.status, f"at {one['size']}: {answer}")
                found.hold(promises.COSIGNED, int(answer.body) >= last, f"it is at {answer.body}")
            # A cosignature that did not get out may have been kept; it says so, and goes on.
            answer = told.add_checkpoint(book.body(last, 9).encode())
            if answer.status == 409:
                answer = told.add_checkpoint(book.body(int(answer.body), 9).encode())
            found.hold(promises.COSIGNED, 200 == answer.status, f"it does not go on: {answer}")
        finally:
            told.close()

    found.trying(promises.WITNESS, serve)


# A server whose log a witness cosigns, on the same disk


@contextlib.contextmanager
def beside_a_witness(folder: Path) -> Iterator[Door]:
    """A server with a policy whose one witness has its folder here too."""
    data, home = folder / "data", folder / "witness"
    key = parse_policy((data / "ledger" / "default" / "policy").read_text()).logs[0].key
    told = Witness(home, [key], read_key(home), now_ms)

    def answer(body: str) -> tuple[int, str]:
        said = told.add_checkpoint(body.encode())
        return said.status, said.body

    with contextlib.ExitStack() as opened_here:
        opened_here.callback(told.close)
        url = opened_here.enter_context(looks_like(answer))
        with tempfile.NamedTemporaryFile("w", suffix=".policy") as policy:
            member = Member("w1", read_key(home).key, url)
            policy.write(policy_of([member], 1).text)
            policy.flush()
            more: dict[str, Any] = {"witness_policy": Path(policy.name), "witness_interval_ms": 1}
            with opened(data, **FIXED, **more) as door:
                yield door


def prepare_witnessed(folder: Path) -> None:
    prepare_border_small(folder)
    create(folder / "witness", "witness.example/w1")


def witnessed(folder: Path) -> None:
    data = folder / "data"
    with beside_a_witness(folder) as door:
        for n in range(3):
            cosigned_event(door, f"event-{n}")
            note = (data / "ledger" / "default" / WITNESSED).read_text()
            size = Checkpoint.parse(parse_note(note).text).size
            mark("published", log="default", note=WITNESSED, size=size)
        os._exit(0)


def cosigned_event(door: Door, uuid: str) -> None:
    wait = "?wait=witnessed&timeout=30s"
    body = {"api_key": TOKEN, "event": "x", "distinct_id": "u", "uuid": uuid}
    answer = door.ask("POST", f"/api/e{wait}", json=body).json()
    assert "witnessed" == answer["events"][0]["status"], answer


def check_witnessed(folder: Path, marks: list[Mark], found: Found) -> None:
    data, home = folder / "data", folder / "witness"
    key = parse_policy((data / "ledger" / "default" / "policy").read_text()).logs[0].key
    promises.check_server(data, marks, found)

    def agree() -> None:
        """What the witness has cosigned is the beginning of the log that goes on."""
        told = Witness(home, [key], read_key(home), now_ms)
        cosigned = told.latest(hash_of(key.name))
        told.close()
        if cosigned is not None:
            seen = Checkpoint.parse(parse_note(cosigned).text)
            journal = SqliteJournal(Database(data / "journal.db"))
            leaves = journal.leaves(1, 0, seen.size)
            journal.close()
            assert seen.root == root_of([leaf_hash(leaf) for leaf in leaves]), "it is another log"

    found.trying(promises.COSIGNED, agree)


# A sync that fails


def prepare_failed_sync(folder: Path) -> None:
    prepare_border_small(folder)
    create(folder / "witness", "witness.example/w1")


def prepare_border_small(folder: Path) -> None:
    data = folder / "data"
    with opened(data, **FIXED) as door:
        publish(door, data)
        send_product(door, "before")


def failed_sync(folder: Path) -> None:
    """Once a sync of the journal, of the lock and of a witness's database has failed, nothing more
    is promised by who made it, though every later sync succeeds."""
    data, book = folder / "data", logbook()
    told = Witness(folder / "witness", [book.signer.key], read_key(folder / "witness"), now_ms)
    cosign(told, book, 0, 2)
    fail_syncs("witness.db-wal")
    try:
        told.add_checkpoint(book.body(2, 4).encode())
    except WitnessUnwritable:
        mark("failed", what="witness")
    fail_syncs("")
    for old in (2, 4):
        try:
            if told.add_checkpoint(book.body(old, 6).encode()).status == 200:
                mark("answered", what="witness")
        except WitnessUnwritable:
            pass
    with opened(data, **FIXED) as door:
        publish(door, data)
        request: dict[str, Any] = {"method": "POST", "path": "/api/e"}
        body = {"api_key": TOKEN, "event": "x", "distinct_id": "u"}
        fail_syncs("lock.db-wal")
        assert 200 == door.ask(**request, json={**body, "uuid": "unsealed"}).status_code
        wait_until(
            lambda: door.house.following.ledger.sealer.failure is not None or is_sealed(door, 2)
        )
        mark("failed", what="lock")
        fail_syncs("")
        assert 200 == door.ask(**request, json={**body, "uuid": "unsealed too"}).status_code
        if door.house.following.ledger.sealer.failure is None:
            wait_until(lambda: is_sealed(door, 2))
            mark("answered", what="lock")
        fail_syncs("journal.db-wal")
        assert 503 == door.ask(**request, json={**body, "uuid": "unstored"}).status_code
        mark("failed", what="journal")
        fail_syncs("")
        if 200 == door.ask(**request, json={**body, "uuid": "unstored too"}).status_code:
            mark("answered", what="journal")
        os._exit(0)


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not met() and time.monotonic() < deadline:
        time.sleep(0.01)


def is_sealed(door: Door, size: int) -> bool:
    (project,) = door.house.following.registry.snapshot.projects.values()
    return door.house.following.ledger.sealed_size(project.id) >= size


def check_failed_sync(folder: Path, marks: list[Mark], found: Found) -> None:
    failed = {one["what"] for one in promises.of_kind(marks, "failed")}
    answered = {one["what"] for one in promises.of_kind(marks, "answered")}
    found.hold(promises.POISONED, not failed & answered, f"{failed & answered} went on")
    promises.check_server(folder / "data", marks, found)


# The client's spool


class _Nowhere:
    url, token, api_key = "http://127.0.0.1:9", TOKEN, API_KEY


class _Telling(InMemoryServer):
    """Says what has arrived before the client hears of it."""

    def answer(
        self, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, Mapping[str, str]]:
        answered = super().answer(path, headers, body)
        for event in self.audit:
            mark("delivered", name=event.payload["mark"])
        return answered


def client_of(server: Any, folder: Path) -> Indelible:
    return Indelible(
        server.token,
        api_key=server.api_key,
        host=server.url,
        spool_dir=folder / "var" / "spool",
        total_s=0.5,
        exit_s=0,
    )


def spool_down(folder: Path) -> None:
    """The server cannot be reached."""
    client = client_of(_Nowhere, folder)
    for name in ("first", "second", "third"):
        receipt = client.audit.send("paid", {"mark": name}, idempotency_key=name)
        assert receipt.is_spooled, receipt
        mark("safe", name=name)
    os._exit(0)


def spool_up(folder: Path) -> None:
    """Another process finds what the first one left; the server refuses one event for good."""
    with _Telling() as server:
        client = client_of(_Nowhere, folder)
        receipt = client.audit.send("paid", {"mark": "fourth"}, idempotency_key="fourth")
        assert receipt.is_spooled, receipt
        mark("safe", name="fourth")
        client.shutdown(0.1)
        server.refuse(Refusal(400, "invalid_payload"))
        client = client_of(server, folder)
        client.audit.send_async("paid", {"mark": "fifth"}, idempotency_key="fifth")
        assert client.flush(30)
        os._exit(0)


def check_spool(folder: Path, marks: list[Mark], found: Found) -> None:
    safe = {one["name"] for one in promises.of_kind(marks, "safe")}
    delivered = {one["name"] for one in promises.of_kind(marks, "delivered")}
    with InMemoryServer() as server:
        client = client_of(server, folder)
        client.audit.send_async("checked", {"mark": "check"}, idempotency_key="check")
        found.hold(promises.SAFE, client.flush(30), "it is not flushed")
        client.shutdown(1)
        arrived = [event.payload["mark"] for event in server.audit]
    aside = b"".join(path.read_bytes() for path in (folder / "var").rglob("refused/*.batch"))
    for name in sorted(safe - delivered):
        kept = name in arrived or name.encode() in aside
        found.hold(promises.SAFE, kept, f"{name} is lost")
    found.hold(promises.SAFE, len(arrived) == len(set(arrived)), f"twice: {arrived}")


# Files that commands write


def output(folder: Path) -> None:
    data, out = folder / "data", folder / "out"
    for command, name in (
        (("evidence", str(out / "log.tar"), "--data", str(data)), "log.tar"),
        (("evidence", str(out / "log.tar"), "--data", str(data)), "log.tar"),
    ):
        ran = call(*command)
        assert 0 == ran.code, ran.err
        mark("written", path=f"out/{name}", size=(out / name).stat().st_size)
    state = folder / "home" / "state"
    ran = call("audit", str(data), XDG_STATE_HOME=str(state))
    assert 0 == ran.code, ran.out
    sizes = {
        path: json.loads(path.read_text())["size"] for path in state.rglob("*") if path.is_file()
    }
    head = max(sizes, key=sizes.__getitem__)  # the other one is of the server's own log
    mark("remembered", path=str(head.parent.relative_to(folder)), size=sizes[head])


def prepare_output(folder: Path) -> None:
    prepare_border_small(folder)
    (folder / "out").mkdir()


STORIES: Final = {
    story.name: story
    for story in (
        Story("first-start", (first_start,), check_first_start),
        Story("start", (start,), check_first_start),
        # The first process is killed before it can sync what it has just made.
        *(
            Story(f"killed-at-{what}", (start,) * 2, check_first_start, None, path)
            for what, path in (
                ("data-folder", "/srv/events"),
                ("key", "/keys/default.key"),
                ("log-folder", "/ledger/default"),
                ("tile-folder", "/tile/0"),
            )
        ),
        Story("border", (border,), check_data, prepare_border),
        Story("mended", (mended,), check_mended, prepare_mended),
        Story("erasure", (erasure,), check_data, prepare_erasure),
        Story("backup", (backup,), check_backup, prepare_backup),
        Story("restore", (restore,), promises.check_restore, prepare_restore),
        Story("bring-back", (restore,), promises.check_restore, prepare_bring_back),
        Story("restore-afresh", (restore,), promises.check_restore, prepare_afresh),
        Story("witness", (witness,), check_witness),
        Story("witnessed", (witnessed,), check_witnessed, prepare_witnessed),
        Story("failed-sync", (failed_sync,), check_failed_sync, prepare_failed_sync),
        Story("spool", (spool_down, spool_up), check_spool),
        Story("spool-killed", (spool_down, spool_down), check_spool, None, "/var/spool/audit"),
        Story("output", (output,), promises.check_output, prepare_output),
    )
}


def main(arguments: Sequence[str]) -> None:
    name, part, folder = arguments
    story = STORIES[name]
    tell = story.prepare if part == "prepare" else story.told[int(part)]
    assert tell is not None
    tell(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
