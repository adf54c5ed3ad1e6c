"""`kill -9` of the serve PID while it seals: no receipt that was given is ever contradicted."""

import random
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from indelible.cli.audit import targets_of
from indelible.ledger.audit.whole import Audit, audit_log
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import open_note
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tree import (
    Hashes,
    check_consistency,
    leaf_hash,
    prove_consistency,
    root_of,
)
from indelible.ledger.format.verify import Verdict, log_keys, verify_receipt
from tests.crash.load import History, Load, complaints, merged
from tests.world import AS_APPLICATION, a_free_port, audit, plain_client, spawn

pytestmark = pytest.mark.crash

LOG = Path("ledger") / "default"


def test_killed_while_it_seals_it_contradicts_no_receipt(tmp_path: Path) -> None:
    kill_while_sealing(tmp_path / "data", rounds=3)


@pytest.mark.slow
def test_killed_twenty_times_while_it_seals_it_contradicts_no_receipt(tmp_path: Path) -> None:
    kill_while_sealing(tmp_path / "data", rounds=20)


@dataclass
class Customer:
    """Sends audit events one after the other, waits for each receipt, and keeps it."""

    url: str
    receipts: list[str] = field(default_factory=list)
    acknowledged: list[tuple[int, str]] = field(default_factory=list)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "a customer hangs"

    def _send(self) -> None:
        with plain_client(self.url) as client:
            while True:
                try:
                    answer = client.post(
                        "/v1/events?wait=sealed&timeout=10s",
                        json=audit('{"mark":null}'),
                        headers=AS_APPLICATION,
                    )
                except httpx.TransportError:
                    return  # the server was killed
                assert 202 == answer.status_code, answer.text
                self.acknowledged.append((answer.json()["index"], answer.json()["tx_id"]))
                if "receipt" in answer.json():
                    self.receipts.append(answer.json()["receipt"])


def kill_while_sealing(data_dir: Path, *, rounds: int) -> None:
    """Load, kill, restart; at the end, all that anybody was given is held against the log."""
    port = a_free_port()
    history, receipts, acknowledged, seen = History(), [], [], set()
    server = spawn(data_dir, port, INDELIBLE_SEAL_INTERVAL_MS="50")
    try:
        for _ in range(rounds):
            load, customer = Load(server.url, senders=2), Customer(server.url)
            load.start()
            customer.start()
            load.until_acked(100)
            deadline = time.monotonic() + 60
            while len(customer.receipts) < 3:
                assert time.monotonic() < deadline, "nothing is sealed"
                seen.add((data_dir / LOG / "checkpoint").read_text())
                time.sleep(0.01)  # the server needs the processor more than this does
            time.sleep(random.uniform(0, 0.2))
            server.kill()
            mine = load.join()
            customer.join()
            server.end()
            seen.add((data_dir / LOG / "checkpoint").read_text())
            history = merged([history, mine])
            receipts += customer.receipts
            acknowledged += customer.acknowledged
            server = spawn(data_dir, port, INDELIBLE_SEAL_INTERVAL_MS="50")
        policy = parse_policy((data_dir / LOG / "policy").read_text())
        log = server.events()
        assert 0 == server.stop()
    finally:
        server.end()

    assert len(receipts) >= 3 * rounds
    stored = {(event["index"], event["tx_id"]) for event in log}
    assert [] == [one for one in acknowledged if one not in stored]
    known = [event for event in log if event.get("payload") != '{"mark":null}']
    assert [] == [
        one for one in complaints(known, history) if "stands at place" not in one
    ]  # the customer's events stand between them
    found = audited(data_dir)
    assert () == found.findings
    assert len(log) == found.size  # what was stored before SIGTERM was sealed before the end
    assert_one_history(data_dir, policy, receipts, seen)


def audited(data_dir: Path) -> Audit:
    (target,) = targets_of(data_dir, project="default", policy=None, memory=None)
    return audit_log(target.source, target.known)


def assert_one_history(data_dir: Path, policy: Policy, receipts: list[str], seen: set[str]) -> None:
    """Every receipt verifies, and its checkpoint and all others are of the log as it is now."""
    keys = log_keys(policy)

    def read(note: str) -> Checkpoint:
        return Checkpoint.parse(open_note(note, keys).text)

    (target,) = targets_of(data_dir, project="default", policy=None, memory=None)
    assert target.known.journal is not None
    rows = list(target.known.journal.rows(0, target.known.journal.next_index()))
    hashes = Hashes([leaf_hash(row.leaf) for row in rows])
    last = read((data_dir / LOG / "checkpoint").read_text())
    assert root_of([leaf_hash(row.leaf) for row in rows]) == last.root
    for receipt in receipts:
        assert Verdict.VERIFIED == verify_receipt(receipt, policy).verdict
    for note in {*seen, *(Proof.parse(receipt).checkpoint for receipt in receipts)}:
        one = read(note)
        proof = prove_consistency(hashes, one.size, last.size)
        assert check_consistency(one.size, last.size, proof, one.root, last.root), one.size


def test_a_receipt_of_another_history_is_noticed(tmp_path: Path) -> None:
    """The test above can fail."""
    folder = tmp_path / "data"
    server = spawn(folder)
    try:
        answer = server.http.post(
            "/v1/events?wait=sealed&timeout=10s", json=audit(), headers=AS_APPLICATION
        ).json()
        policy = parse_policy((folder / LOG / "policy").read_text())
        server.stop()
    finally:
        server.end()
    receipt = answer["receipt"]
    assert_one_history(folder, policy, [receipt], set())
    with pytest.raises(AssertionError):
        assert_one_history(folder, policy, [receipt.replace("index 0", "index 1")], set())
