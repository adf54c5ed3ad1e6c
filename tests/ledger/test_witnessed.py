"""From an event to its witnessed receipt: a server and two witnesses, each in its own process."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from indelible.ledger.policy import Policy, parse_policy
from indelible.ledger.verify import Verdict, verify_receipt
from tests.ledger.witnesses import WitnessProcess, policy_of, witness
from tests.world import AS_APPLICATION, ServerProcess, audit, started

ORIGIN = "log.example/default"
SETTLED_S = 60.0


@dataclass
class Town:
    """A data folder whose log two running witnesses know."""

    data: Path
    policy_file: Path
    policy: Policy
    witnesses: list[WitnessProcess]

    def serve(self, data: Path | None = None) -> contextlib.AbstractContextManager[ServerProcess]:
        """A server that asks the witnesses."""
        return started(
            data or self.data,
            INDELIBLE_LEDGER_ORIGIN=ORIGIN.rpartition("/")[0],
            INDELIBLE_WITNESS_POLICY=str(self.policy_file),
        )


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    data = tmp_path / "data"
    with started(data, INDELIBLE_LEDGER_ORIGIN=ORIGIN.rpartition("/")[0]):
        pass  # the log has its key now, which the witnesses need to know
    (log,) = parse_policy((data / "ledger/default/policy").read_text()).logs
    with contextlib.ExitStack() as running:
        witnesses = [
            running.enter_context(
                witness(tmp_path / name, [log.key], new=f"witness.example/{name}")
            )
            for name in ("w1", "w2")
        ]
        members = [one.as_member(f"w{number}") for number, one in enumerate(witnesses, start=1)]
        policy = policy_of(members, 2)
        file = tmp_path / "witnesses.policy"
        file.write_text(policy.text)
        proposed = Policy((log,), policy.witnesses, policy.groups, policy.quorum)
        yield Town(data, file, proposed, witnesses)


def send(server: ServerProcess, key: str) -> str:
    """Store an audit event; its transaction id."""
    answer = server.send_audit(audit(f'{{"order_id":"{key}"}}'), key)
    assert 202 == answer.status_code, answer.text
    return str(answer.json()["tx_id"])


def receipt(server: ServerProcess, tx_id: str, timeout: str) -> Any:
    return server.http.get(
        f"/v1/events/{tx_id}/receipt",
        params={"wait": "witnessed", "timeout": timeout},
        headers=AS_APPLICATION,
    )


@pytest.mark.clocked
def test_an_event_is_witnessed_within_a_second(town: Town) -> None:
    with town.serve() as server:
        assert 200 == receipt(server, send(server, "first"), "20s").status_code
        for number in range(5):
            begun = time.monotonic()
            answer = receipt(server, send(server, f"ord_{number}"), "20s")
            took_s = time.monotonic() - begun
            assert 200 == answer.status_code, answer.text
            found = verify_receipt(answer.content, town.policy)
            assert Verdict.VERIFIED is found.verdict, found.steps
            assert {"w1", "w2"} == {seen.witness for seen in found.witnesses}
            assert took_s < 1.0
        assert [] == server.http.get("/healthz").json()["ledger"]["alarms"]


def test_with_a_witness_down_nothing_is_witnessed_and_everything_is_sealed(town: Town) -> None:
    with town.serve() as server:
        assert 200 == receipt(server, send(server, "before"), "20s").status_code
        town.witnesses[1].stop()
        tx_id = send(server, "during")
        answer = receipt(server, tx_id, "1s")
        assert (409, "not_witnessed") == (answer.status_code, answer.json()["code"])
        sealed = server.http.get(f"/v1/events/{tx_id}/receipt", headers=AS_APPLICATION)
        assert 200 == sealed.status_code
        assert "ok" == server.http.get("/healthz").json()["status"]


def health_with_alarms(server: ServerProcess) -> Any:
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        answer = server.http.get("/healthz")
        if answer.json()["ledger"]["alarms"]:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"no alarm within {SETTLED_S} s")


@pytest.mark.parametrize(("theirs", "ours"), [(5, 2), (3, 7)], ids=["shorter", "longer"])
def test_a_forked_log_is_refused_and_the_alarm_names_it(
    town: Town, tmp_path: Path, theirs: int, ours: int
) -> None:
    """A copy of the whole folder, lock and keys included, goes on beside the original."""
    with town.serve() as server:
        receipt(server, send(server, "common"), "20s")
    shutil.copytree(town.data, tmp_path / "copy")
    with town.serve() as server:
        for number in range(theirs - 1):
            last = send(server, f"true_{number}")
        assert 200 == receipt(server, last, "20s").status_code
    with town.serve(tmp_path / "copy") as server:
        for number in range(ours - 1):
            last = send(server, f"forged_{number}")
        assert 409 == receipt(server, last, "2s").status_code
        health = health_with_alarms(server)
        assert (503, "failing") == (health.status_code, health.json()["status"])
        for alarm in health.json()["ledger"]["alarms"]:
            assert ORIGIN in alarm
            assert alarm.partition(" has cosigned")[0] in ("The witness w1", "The witness w2")
        assert "has cosigned" in server.output()
