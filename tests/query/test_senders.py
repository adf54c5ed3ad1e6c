"""Is anything missing? The accounts of sending processes, through the front door."""

import base64
import random
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.edge.wire import eventually
from tests.query.log import Log, new_log
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    World,
    assert_canonical_error,
    spawn,
    started,
)


def process() -> str:
    return uuid.uuid4().hex


def numbered(process_id: str, number: int) -> dict[str, Any]:
    """A product event as the client sends it."""
    return {
        "event": "e",
        "distinct_id": "d",
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{process_id}/{number}")),
        "process_id": process_id,
        "sequence": number,
    }


def audited(process_id: str, number: int) -> dict[str, Any]:
    """An audit event as the client sends it."""
    return {
        "payload": "{}",
        "meta": {"process_id": process_id, "sequence": str(number)},
        "idempotency_key": f"{process_id}/{number}",
    }


def lost(process_id: str, **counts: int) -> dict[str, Any]:
    return {"uuid": str(uuid.uuid4()), "process_id": process_id, "counts": counts}


def page(log: Log, **parameters: Any) -> dict[str, Any]:
    answer = log.http.get("/v1/senders", params=parameters)
    assert 200 == answer.status_code, answer.text
    body: dict[str, Any] = answer.json()
    return body


def settled(log: Log, captured: int) -> list[dict[str, Any]]:
    """The accounts, once all that was answered is in them; so many events were captured in all."""
    eventually(lambda: log.http.get("/healthz").json()["accounting"]["oldest_uncounted_s"] is None)
    senders: list[dict[str, Any]] = page(log)["senders"]
    assert captured == sum(sender["captured"] for sender in senders)
    return senders


def test_of_a_thousand_captured_ten_were_lost_and_five_have_vanished(log: Log) -> None:
    mine = process()
    never_sent = set(random.sample(range(999), 15))
    sent = random.sample(sorted(set(range(1_000)) - never_sent), 985)
    batches = [sent[at : at + 100] for at in range(0, len(sent), 100)]
    reports = [lost(mine, queue_full=7), lost(mine, before_send=2, exit=1)]
    for number, batch in enumerate(batches):
        body: dict[str, Any] = {"batch": [numbered(mine, n) for n in batch]}
        if number in (2, 7):
            body["lost"] = reports.pop()
        for _ in range(1 + number % 2):  # an answer was lost: sent again
            assert 200 == log.send(body).status_code

    (account,) = settled(log, 1_000)

    assert {
        "process_id": mine,
        "lane": "product",
        "captured": 1_000,
        "stored": 985,
        "lost": {"before_send": 2, "exit": 1, "queue_full": 7},
        "missing": 5,
        "gaps_cut": False,
    } == {k: v for k, v in account.items() if k not in ("gaps", "first_seen", "last_seen")}
    assert never_sent == {n for start, end in account["gaps"] for n in range(start, end)}
    assert account["first_seen"] <= account["last_seen"]


def test_a_process_that_says_how_many_it_captured_hides_nothing_behind_its_losses(log: Log) -> None:
    mine = process()
    report = {**lost(mine, exit=3), "captured": 10}
    log.send({"batch": [numbered(mine, n) for n in (0, 1, 4)], "lost": report})

    (account,) = settled(log, 10)

    assert (10, 3, {"exit": 3}, 4) == tuple(
        account[name] for name in ("captured", "stored", "lost", "missing")
    )


def test_an_audit_event_and_its_losses_have_an_account_of_their_own(log: Log) -> None:
    mine = process()
    log.send({"batch": [numbered(mine, 0)]})
    body = {"events": [audited(mine, n) for n in (0, 3)], "lost": lost(mine, expired=1)}
    assert 202 == log.http.post("/v1/events/batch", json=body).status_code

    of = {account["lane"]: account for account in settled(log, 5)}

    assert (4, 2, {"expired": 1}, 1, [[1, 3]]) == tuple(
        of["audit"][name] for name in ("captured", "stored", "lost", "missing", "gaps")
    )
    assert (1, 1, {}, 0, []) == tuple(
        of["product"][name] for name in ("captured", "stored", "lost", "missing", "gaps")
    )


def test_the_process_heard_of_last_stands_first_and_pages_follow_each_other(log: Log) -> None:
    processes = [process() for _ in range(5)]
    for one in processes:
        log.send({"batch": [numbered(one, 0)]})
    settled(log, 5)

    found, cursor = [], None
    while True:
        more = page(log, limit=2, **({"cursor": cursor} if cursor else {}))
        found += [account["process_id"] for account in more["senders"]]
        cursor = more["next"]
        if cursor is None:
            break

    times = {s["process_id"]: s["last_seen"] for s in page(log)["senders"]}
    assert sorted(processes, key=lambda p: (times[p], p), reverse=True) == found


def test_only_those_that_miss_events_and_only_one_process_can_be_asked_for(log: Log) -> None:
    whole, holey = process(), process()
    log.send({"batch": [numbered(whole, 0), numbered(holey, 1)]})
    settled(log, 3)

    def found(**parameters: Any) -> set[str]:
        return {s["process_id"] for s in page(log, **parameters)["senders"]}

    assert {whole, holey} == found(missing=False)
    assert {holey} == found(missing=True)
    assert {whole} == found(process_id=whole)
    assert set() == found(process_id=whole, missing=True)
    assert set() == found(process_id=process())


def test_a_project_sees_its_own_senders_only(log: Log, shared: World) -> None:
    log.send({"batch": [numbered(process(), 0)]})
    settled(log, 1)

    with new_log(shared) as other:
        assert {"senders": [], "next": None, "unlisted": []} == page(other)
        answer = other.http.get("/v1/senders", params={"project": log.project})
        assert_canonical_error(answer, 403, "forbidden")


def test_senders_are_for_those_who_have_a_key(shared: World) -> None:
    assert_canonical_error(shared.http.get("/v1/senders"), 401, "invalid_api_key")
    token = {"Authorization": f"Bearer {TOKEN}"}
    assert_canonical_error(shared.http.get("/v1/senders", headers=token), 401, "invalid_api_key")
    for headers in (AS_APPLICATION, AS_ADMIN):
        assert 200 == shared.http.get("/v1/senders", headers=headers).status_code


def test_a_cursor_that_is_forged_or_of_another_list_is_refused(log: Log, shared: World) -> None:
    for _ in range(2):
        log.send({"batch": [numbered(process(), 1)]})
    settled(log, 4)
    cursor = page(log, limit=1)["next"]
    huge = base64.urlsafe_b64encode(f"{2**70}.{'a' * 32}.product.0".encode()).decode()

    for wrong in ("x", "é", "MA", cursor + "A", huge):
        answer = log.http.get("/v1/senders", params={"cursor": wrong})
        assert_canonical_error(answer, 400, "invalid_cursor")
    answer = log.http.get("/v1/senders", params={"cursor": cursor, "missing": True})
    assert_canonical_error(answer, 400, "invalid_cursor")
    with new_log(shared) as other:
        answer = other.http.get("/v1/senders", params={"cursor": cursor})
        assert_canonical_error(answer, 400, "invalid_cursor")


@pytest.mark.parametrize(
    "parameters",
    [{"process_id": "x"}, {"process_id": "A" * 32}, {"missing": "maybe"}, {"limit": 201}],
)
def test_a_parameter_that_cannot_be_read_is_refused(log: Log, parameters: dict[str, Any]) -> None:
    answer = log.http.get("/v1/senders", params=parameters)

    assert_canonical_error(answer, 400, "invalid_parameter")


def as_default(server: ServerProcess) -> Log:
    """The project `default` of a server of one's own."""
    log = Log(server.url, "default", TOKEN, "")
    log.http.headers.update(AS_APPLICATION)
    return log


@pytest.mark.crash
def test_accounts_are_exact_after_kill_9_at_any_time(tmp_path: Path) -> None:
    mine, data_dir = process(), tmp_path / "data"
    sent = 0
    for round_ in range(3):
        server = spawn(data_dir)
        try:
            log = as_default(server)
            for _ in range(random.randint(1, 30)):
                body = {"batch": [numbered(mine, n) for n in range(sent, sent + 20)]}
                log.send({**body, "lost": lost(mine, exit=1)})
                sent += 21  # the one behind each batch is lost
            log.http.close()
        finally:
            server.kill()
            server.end()
        if round_ == 1:
            for file in data_dir.glob("accounts.db*"):
                file.unlink()

    with started(data_dir) as server:
        log = as_default(server)
        (account,) = settled(log, sent)
        log.http.close()

    batches = sent // 21
    assert (20 * batches, {"exit": batches}, 0) == (
        account["stored"],
        account["lost"],
        account["missing"],
    )


def test_events_erased_before_a_lost_file_is_made_anew_are_counted_as_nobodys(
    tmp_path: Path,
) -> None:
    mine, data_dir = process(), tmp_path / "data"
    with started(data_dir) as server:
        log = as_default(server)
        made = log.send({"batch": [numbered(mine, n) for n in range(4)]}).json()["events"]
        settled(log, 4)
        wanted = {"tx_ids": [made[1]["tx_id"]], "reason": "request"}
        assert server.http.post("/v1/erasures", json=wanted, headers=AS_ADMIN).is_success
        assert 0 == settled(log, 4)[0]["missing"]
        log.http.close()
    for file in data_dir.glob("accounts.db*"):
        file.unlink()

    with started(data_dir) as server:
        log = as_default(server)
        (account,) = settled(log, 4)
        assert (3, 1, [[1, 2]]) == (account["stored"], account["missing"], account["gaps"])
        assert [("product", 1)] == [(r["lane"], r["erased"]) for r in page(log)["unlisted"]]
        log.http.close()


def test_health_says_how_far_the_accounts_are_behind(world: ServerProcess) -> None:
    def told() -> dict[str, Any]:
        health: dict[str, Any] = world.http.get("/healthz").json()["accounting"]
        return health

    world.send({"api_key": TOKEN, "batch": [numbered(process(), 0)]})

    eventually(lambda: told()["oldest_uncounted_s"] is None)
    assert ("ok", None) == (told()["status"], told()["failure"])
