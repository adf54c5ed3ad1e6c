"""A log whose witnesses have seen another history: it is signed no further until somebody decides.

Two real witnesses and servers in processes of their own; a copy of the data folder, lock and key
included, is the log's other history.
"""

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from indelible.ledger.format.policy import Witness, parse_policy
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.cli.command import call, fine
from tests.ledger.witness.test_witnessed import Town, a_town, health_with_alarms, receipt, send
from tests.ledger.witness.witnesses import looks_like, policy_of, stranger
from tests.query.log import new_log
from tests.world import AS_APPLICATION, ServerProcess, assert_canonical_error, product, started

PROMPTLY_S = 5.0


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Two witnesses that have seen `data` go on to its second event."""
    with a_town(tmp_path_factory.mktemp("town")) as town:
        with town.serve() as server:
            assert 200 == receipt(server, send(server, "common")).status_code
        shutil.copytree(town.data, town.data.with_name("copy"))
        with town.serve() as server:
            assert 200 == receipt(server, send(server, "true")).status_code
        yield town


@pytest.fixture(scope="module")
def halted(town: Town) -> Path:
    """A copy that went on with another second event, until it was halted."""
    data = town.data.with_name("halted")
    shutil.copytree(town.data.with_name("copy"), data)
    halt(town, data)
    return data


@pytest.fixture
def data(halted: Path, tmp_path: Path) -> Path:
    """A copy of that for this test alone."""
    shutil.copytree(halted, tmp_path / "data")
    return tmp_path / "data"


def halt(town: Town, data: Path) -> None:
    with town.serve(data) as server:
        send(server, "forged")
        until_halted(server)


def until_halted(server: ServerProcess) -> list[str]:
    """The alarms, once one of them says that the log is signed no further."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        alarms: list[str] = server.http.get("/healthz").json()["ledger"]["alarms"]
        if any("is not signed beyond" in alarm for alarm in alarms):
            return alarms
        time.sleep(0.05)
    raise AssertionError("the log is still signed")


def size(data: Path, log: str = "default") -> int:
    """How many events the published checkpoint covers."""
    return int((data / "ledger" / log / "checkpoint").read_text().split("\n")[1])


def wait_for_seal(server: ServerProcess, key: str) -> Any:
    """An audit event that asks for its receipt: the answer, and how long it took."""
    began = time.monotonic()
    answer = server.http.post(
        "/v1/events?wait=sealed&timeout=20s",
        json={"payload": "{}", "meta": {"type": "success", "event_name": "a", "service": "s"}},
        headers={**AS_APPLICATION, "Idempotency-Key": key},
    )
    assert 202 == answer.status_code, answer.text
    return answer.json(), time.monotonic() - began


def test_a_log_whose_quorum_is_out_of_reach_is_signed_no_further(
    town: Town, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(town.data.with_name("copy"), data)
    with town.serve(data) as server, new_log(server) as other:
        send(server, "forged")
        alarms = until_halted(server)
        signed = size(data)

        assert 3 == len(alarms)  # what both witnesses said, and what came of it
        answer, took_s = wait_for_seal(server, "stored")
        assert "receipt" not in answer
        assert took_s < PROMPTLY_S  # there is nothing to wait for
        asked = receipt(server, answer["tx_id"], "5s", wait="sealed")
        assert_canonical_error(asked, 409, "not_sealed")
        health = server.http.get("/healthz")
        assert (503, "failing") == (health.status_code, health.json()["ledger"]["status"])
        assert "ok" == health.json()["journal"]["status"]

        body = product(api_key=other.token)
        (of_other,) = server.http.post("/api/e?wait=sealed&timeout=20s", json=body).json()["events"]
        assert "receipt" in of_other
        assert signed == size(data)


def test_a_restart_does_not_forget_it_whatever_the_policy_is_then(data: Path) -> None:
    signed = size(data)
    with started(data) as server:
        answer, took_s = wait_for_seal(server, "again")
        assert "receipt" not in answer
        assert took_s < PROMPTLY_S
        assert 503 == server.http.get("/healthz").status_code
    assert signed == size(data)


def test_resume_shows_what_the_witnesses_said(town: Town, data: Path) -> None:
    here = ("--data", str(data))

    code, said = ran("resume", "--json", *here)

    assert 1 == code
    (one,) = said["halted"]
    assert ("default", "log.example/default", size(data)) == (
        one["project"],
        one["origin"],
        one["signed"],
    )
    assert 2 == len(one["witnesses"])
    assert all("has cosigned" in sentence for sentence in one["witnesses"])
    text = call("resume", *here).out
    assert all(sentence.split(":")[0][:60] in text for sentence in one["witnesses"])
    with started(data):  # the same while a server runs, which keeps it from being resumed
        assert (1, said) == ran("resume", "--json", *here)
        assert 3 == call("resume", "default", "--new-log", *here).code
    for wrong in (["--new-log"], ["default"], ["default", "--new-log", "--same-log"]):
        assert 2 == call("resume", *wrong, *here).code
    assert "not_found" in call("resume", "other", "--new-log", *here).err
    assert (0, {"halted": []}) == ran("resume", "--json", "--data", str(town.data))


def ran(*arguments: str) -> tuple[int, Any]:
    done = call(*arguments)
    return done.code, json.loads(done.out)


def test_resumed_in_the_same_log_it_is_signed_again_without_those_witnesses(data: Path) -> None:
    signed = size(data)

    fine("resume", "default", "--same-log", "--data", str(data))

    with started(data) as server:
        answer, _ = wait_for_seal(server, "resumed")
        policy = parse_policy((data / "ledger/default/policy").read_text())
        assert Verdict.VERIFIED is verify_receipt(answer["receipt"], policy).verdict
        assert 200 == server.http.get("/healthz").status_code
        (resumed,) = [one for one in server.events() if one.get("event") == "log.resumed"]
        assert ("log.example/default", signed) == (
            resumed["facts"]["log"],
            resumed["facts"]["signed"],
        )
        assert "has cosigned" in resumed["facts"]["reason"]
    assert (0, {"halted": []}) == ran("resume", "--json", "--data", str(data))


def test_resumed_in_the_same_log_with_the_same_witnesses_it_is_halted_again(
    town: Town, data: Path
) -> None:
    fine("resume", "default", "--same-log", "--data", str(data))
    halt(town, data)
    assert 1 == ran("resume", "--json", "--data", str(data))[0]


def test_resumed_in_a_new_log_the_project_has_a_successor_with_all_its_events(data: Path) -> None:
    frozen = (data / "ledger/default/checkpoint").read_bytes()

    said = fine("resume", "default", "--new-log", "--json", "--data", str(data)).json

    assert ("default.2", "default") == (said["log"], said["frozen"])
    with started(data) as server:
        answer, _ = wait_for_seal(server, "resumed")
        policy = parse_policy((data / "ledger/default.2/policy").read_text())
        found = verify_receipt(answer["receipt"], policy)
        assert Verdict.VERIFIED is found.verdict
        events = server.events()
        assert (len(events) - 1, len(events)) == (found.index, found.size)
        assert 200 == server.http.get("/healthz").status_code
        assert "log.succeeded" in [one.get("event") for one in events]
    assert frozen == (data / "ledger/default/checkpoint").read_bytes()
    assert (0, {"halted": []}) == ran("resume", "--json", "--data", str(data))


# What is no reason to stop


@contextmanager
def serving(town: Town, members: list[Witness], needed: int) -> Iterator[ServerProcess]:
    """The town's own server with another policy."""
    file = town.policy_file.with_name("other.policy")
    file.write_text(policy_of(members, needed).text)
    with Town(town.data, file, town.policy, town.witnesses).serve() as server:
        yield server


def test_one_confused_witness_of_three_is_an_alarm_and_stops_nothing(town: Town) -> None:
    members = list(town.policy.witnesses)
    with (
        looks_like(lambda _: (409, "1000000\n")) as url,
        serving(town, [*members, stranger("w3", url)], 2) as server,
    ):
        assert 200 == receipt(server, send(server, "first")).status_code
        health_with_alarms(server, 1)
        for number in range(3):
            assert 200 == receipt(server, send(server, f"more_{number}")).status_code
        (alarm,) = server.http.get("/healthz").json()["ledger"]["alarms"]
        assert alarm.startswith("The witness w3 has cosigned 1,000,000 events")


def test_witnesses_that_refuse_without_another_history_stop_nothing(town: Town) -> None:
    answers = itertools.cycle([(409, "1\n"), (409, "0\n"), (403, ""), (500, "")])
    with looks_like(lambda _: next(answers)) as url:
        members = [stranger("w1", url), stranger("w2", url)]
        with serving(town, members, 2) as server:
            for number in range(5):
                assert "receipt" in wait_for_seal(server, f"event_{number}")[0]
            assert [] == server.http.get("/healthz").json()["ledger"]["alarms"]
