"""From an event to its witnessed receipt: a server and two witnesses, each in its own process."""

import contextlib
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from indelible.app import House
from indelible.ledger.format.policy import Policy, parse_policy
from indelible.ledger.format.verify import Verdict, verify_receipt
from indelible.settings import Settings
from tests.ledger.witness.witnesses import WitnessProcess, policy_of, witness
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    audit,
    started,
)

ORIGIN = "log.example/default"
SETTLED_S = 60.0


@dataclass
class Town:
    """A data folder whose log two running witnesses know."""

    data: Path
    policy_file: Path
    policy: Policy
    witnesses: list[WitnessProcess]

    def serve(
        self, data: Path | None = None, **env: str
    ) -> contextlib.AbstractContextManager[ServerProcess]:
        """A server that asks the witnesses."""
        return started(
            data or self.data,
            INDELIBLE_LEDGER_ORIGIN=ORIGIN.rpartition("/")[0],
            INDELIBLE_WITNESS_POLICY=str(self.policy_file),
            **env,
        )


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with a_town(tmp_path) as town:
        yield town


@contextlib.contextmanager
def a_town(tmp_path: Path) -> Iterator[Town]:
    """A town in a folder, for the time of a `with`."""
    data = tmp_path / "data"
    House(
        Settings(
            data_dir=data,
            server_token=TOKEN,
            server_api_key=API_KEY,
            server_admin_key=ADMIN_KEY,
            ledger_origin=ORIGIN.rpartition("/")[0],
        )
    ).close()  # the log has its key now, which the witnesses need to know
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


def receipt(
    server: ServerProcess, tx_id: str, timeout: str = "20s", *, wait: str = "witnessed"
) -> Any:
    return server.http.get(
        f"/v1/events/{tx_id}/receipt",
        params={"wait": wait, "timeout": timeout},
        headers=AS_APPLICATION,
    )


@pytest.mark.clocked
def test_an_event_is_witnessed_within_a_second(town: Town) -> None:
    with town.serve() as server:
        assert 200 == receipt(server, send(server, "first")).status_code
        for number in range(5):
            begun = time.monotonic()
            answer = receipt(server, send(server, f"ord_{number}"))
            took_s = time.monotonic() - begun
            assert 200 == answer.status_code, answer.text
            found = verify_receipt(answer.content, town.policy)
            assert Verdict.VERIFIED is found.verdict, found.steps
            assert {"w1", "w2"} == {seen.witness for seen in found.witnesses}
            assert took_s < 1.0
        assert [] == server.http.get("/healthz").json()["ledger"]["alarms"]


def test_with_a_witness_down_nothing_is_witnessed_and_everything_is_sealed(town: Town) -> None:
    with town.serve() as server:
        assert 200 == receipt(server, send(server, "before")).status_code
        town.witnesses[1].stop()
        tx_id = send(server, "during")
        assert 200 == receipt(server, tx_id, wait="sealed").status_code
        answer = receipt(server, tx_id, "1s")
        assert (409, "not_witnessed") == (answer.status_code, answer.json()["code"])
        assert "ok" == server.http.get("/healthz").json()["status"]


def test_witnesses_that_answer_late_never_take_a_newer_checkpoint_from_the_readers(
    town: Town,
) -> None:
    published = town.data / "ledger/default/checkpoint"
    sizes: list[int] = []
    slow = town.witnesses[1].process
    with town.serve(INDELIBLE_SEAL_INTERVAL_MS="1", INDELIBLE_WITNESS_INTERVAL_MS="1") as server:
        for turn in range(3):
            assert 200 == receipt(server, send(server, f"first-{turn}")).status_code
            slow.send_signal(signal.SIGSTOP)
            asked = send(server, f"asked-{turn}")
            assert 200 == receipt(server, asked, wait="sealed").status_code
            newer = send(server, f"newer-{turn}")
            assert 200 == receipt(server, newer, wait="sealed").status_code
            sizes.append(size_of(published))
            slow.send_signal(signal.SIGCONT)
            while receipt(server, newer, "1ms").status_code != 200:
                sizes.append(size_of(published))
                time.sleep(0.005)
        sizes.append(size_of(published))
    assert sorted(sizes) == sizes


def size_of(checkpoint: Path) -> int:
    """How many events a published checkpoint covers."""
    return int(checkpoint.read_text().split("\n")[1])


def health_with_alarms(server: ServerProcess, count: int) -> Any:
    deadline = time.monotonic() + SETTLED_S
    while time.monotonic() < deadline:
        answer = server.http.get("/healthz")
        if len(answer.json()["ledger"]["alarms"]) >= count:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"no {count} alarms within {SETTLED_S} s")


def test_a_forked_log_is_refused_and_the_alarm_names_it(town: Town, tmp_path: Path) -> None:
    """Copies of the whole folder, lock and keys included, go on beside the original."""
    with town.serve() as server:
        assert 200 == receipt(server, send(server, "common")).status_code
    copies = {tmp_path / "shorter": 1, tmp_path / "longer": 6}
    for copy in copies:
        shutil.copytree(town.data, copy)
    with town.serve() as server:
        for number in range(4):
            last = send(server, f"true_{number}")
        assert 200 == receipt(server, last).status_code

    for copy, count in copies.items():
        with town.serve(copy) as server:
            first = send(server, "forged_0")
            assert 200 == receipt(server, first, wait="sealed").status_code
            for number in range(1, count):
                send(server, f"forged_{number}")
            health = health_with_alarms(server, 2)
            assert (503, "failing") == (health.status_code, health.json()["status"])
            alarms = health.json()["ledger"]["alarms"]
            assert all(ORIGIN in alarm for alarm in alarms)
            alarms = [alarm for alarm in alarms if " has cosigned" in alarm]
            assert {"The witness w1", "The witness w2"} == {
                alarm.partition(" has cosigned")[0] for alarm in alarms
            }
            assert "has cosigned" in server.output()
            assert 409 == receipt(server, first, "500ms").status_code
