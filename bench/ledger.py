"""The rows of the ledger: how soon events are sealed, and what receipts and audits cost."""

import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.world import AS_APPLICATION, ServerProcess

from indelible import leaf
from indelible.clock import now_ms
from indelible.event import Kind, tx_bytes, tx_time_ms
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.format.note import is_signed
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.verify import Verdict, verify_receipt
from indelible.ledger.ledger import Choices, Ledger
from indelible.registry.registry import Registry

RATE: Final = 5_000
_PAYLOAD: Final = (
    b'{"amount":99.99,"currency":"USD","plan":"pro","$pathname":"/checkout/step/2","$lib":"bench"}'
)


def sealing_off() -> dict[str, str]:
    """The server's environment with one checkpoint an hour: as good as none."""
    return {"INDELIBLE_SEAL_INTERVAL_MS": "3600000"}


def seal_latencies_ms(server: ServerProcess) -> list[int]:
    """For every 37th stored event, the time from stored to sealed; sorted."""
    connection = apsw.Connection(str(server.data_dir / "seals.db"))
    rows = connection.execute("SELECT size, sealed_at_ms FROM seal ORDER BY size")
    seals = [(int(str(size)), int(str(at_ms))) for size, at_ms in rows]
    connection.close()
    stored = [tx_time_ms(tx) for tx in _transaction_ids(server)]
    latencies = []
    seal = iter(seals)
    size, sealed_at_ms = next(seal)
    for index in range(0, len(stored), 37):
        while index >= size:
            size, sealed_at_ms = next(seal)
        latencies.append(sealed_at_ms - stored[index])
    return sorted(latencies)


def wait_until_sealed(server: ServerProcess, *, timeout_s: float = 60.0) -> int:
    """Wait until every stored event is sealed; how many there are."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        health = server.http.get("/healthz").json()["ledger"]
        if health["oldest_unsealed_s"] is None:
            note = server.http.get("/ledger/default/checkpoint", headers=AS_APPLICATION).text
            return int(note.split("\n")[1])
        time.sleep(0.05)
    raise AssertionError("events are still not sealed")


def receipts_per_s(data_dir: Path, *, seconds: float) -> tuple[float, list[str], Policy]:
    """Receipts of events drawn at random from a stopped data folder, one after the other, on one
    core; some of them, and the log's policy."""
    with _Opened(data_dir) as house:
        log = house.ledger.logs.signing()[0]
        size = house.ledger.sealed_size(log.project_id)
        draw = random.Random(1)
        made: list[str] = []
        began = time.perf_counter()
        while time.perf_counter() - began < seconds:
            index = draw.randrange(size)
            (entry,) = house.journal.read(log.project_id, index, index + 1)
            made.append(house.ledger.receipts.of(entry))
        rate = len(made) / (time.perf_counter() - began)
        return rate, made[:5_000], house.ledger.logs.policy_of(log)


def verifications_per_s(receipts: list[str], policy: Policy, *, one_checkpoint: bool) -> float:
    """How many receipts one core verifies: all under one checkpoint, whose signature is then
    verified once, or as if each had a checkpoint of its own."""
    began = time.perf_counter()
    for receipt in receipts:
        if not one_checkpoint:
            is_signed.cache_clear()
        assert verify_receipt(receipt, policy).verdict is Verdict.VERIFIED
    return len(receipts) / (time.perf_counter() - began)


def signatures_per_s(seconds: float) -> float:
    """The floor of a verification: one Ed25519 signature, checked."""
    private = Ed25519PrivateKey.generate()
    public, message = private.public_key(), b"x" * 120
    signature = private.sign(message)
    checked, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        public.verify(signature, message)
        checked += 1
    return checked / (time.perf_counter() - began)


def fill(data_dir: Path, events: int) -> None:
    """A data folder with so many product events of the usual size, all sealed."""
    with _Opened(data_dir) as house:
        (project,) = house.registry.snapshot.projects.values()
        record = json.dumps(
            {"distinct_id": "user_1", "event": "purchase_completed", "request": {"route": "/api/e"}}
        ).encode()
        for start in range(0, events, 1_000):
            drafts = [
                Draft(project.id, Kind.PRODUCT, now_ms(), _PAYLOAD, record)
                for _ in range(min(1_000, events - start))
            ]
            house.journal.append(drafts)
        house.ledger.start()
        house.ledger.stop()


def audit_s(data_dir: Path, state: Path) -> float:
    """Seconds of `indelible audit` on a data folder, from the command to its exit."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "indelible", "audit", str(data_dir), "--state", str(state)],
        check=True,
        capture_output=True,
    )
    return time.perf_counter() - began


def hashing_s(events: int) -> float:
    """The floor of an audit: the hashes of so many events alone, on every core."""
    sample = 50_000
    salt, record, entry = bytes(32), bytes(90), b"\x00" + bytes(96)
    began = time.perf_counter()
    for _ in range(sample):
        leaf.commit(salt, leaf.PAYLOAD, _PAYLOAD)
        leaf.commit(salt, leaf.RECORD, record)
        hashlib.sha256(entry).digest()
        hashlib.sha256(entry).digest()
    return (time.perf_counter() - began) * events / sample / (os.cpu_count() or 1)


def rate_of(outcomes: list[dict[str, Any]]) -> float:
    """The median rate of several loads."""
    return statistics.median(float(one["events_per_s"]) for one in outcomes)


class _Opened:
    """Journal and ledger of a folder that no server has, for the time of a `with`."""

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        self.journal = SqliteJournal(Database(data_dir / "journal.db"))
        self.registry = Registry(RegistryTables(self.journal))
        if not self.registry.snapshot.projects:
            self.registry.projects.create("default")
        self.ledger = Ledger(
            data_dir,
            journal=self.journal,
            registry=self.registry,
            choices=Choices(
                origin=None, seal_interval_ms=1, witness_interval_ms=1, witnesses=Policy()
            ),
            clock=now_ms,
        )

    def __enter__(self) -> "_Opened":
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()
        self.journal.close()


def _transaction_ids(server: ServerProcess) -> list[bytes]:
    found = []
    with server.http.stream("GET", "/v1/export", headers=AS_APPLICATION) as answer:
        for line in answer.iter_lines():
            tx = tx_bytes(json.loads(line)["tx_id"])
            assert tx is not None
            found.append(tx)
    return found
