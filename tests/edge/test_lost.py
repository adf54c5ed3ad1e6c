"""What senders report as lost: kept once, counted by reason, and never at the cost of an event."""

import json
import uuid
from typing import Any

import httpx
import pytest

from tests.edge.wire import Tenant, fresh, stored, tenant
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    World,
    assert_canonical_error,
    audit,
    inside,
    product,
)

COUNTS = {"queue_full": 10, "expired": 2}
LANES = ("product", "audit")


def report(**more: Any) -> dict[str, Any]:
    """A report as the client sends it."""
    return {"uuid": fresh(), "process_id": uuid.uuid4().hex, "counts": dict(COUNTS), **more}


def post(project: Tenant, lane: str, events: list[Any], **more: Any) -> httpx.Response:
    """Send a batch of this lane; events are names of product or payloads of audit events."""
    http = project.world.http
    if lane == "product":
        batch = [{"event": name, "distinct_id": "d", "uuid": fresh()} for name in events]
        return http.post("/api/e", json={"api_key": project.token, "batch": batch, **more})
    body = {"events": [{"payload": text, "idempotency_key": fresh()} for text in events], **more}
    return http.post("/v1/events/batch", json=body, headers=project.as_application)


def losses(project: Tenant) -> list[dict[str, Any]]:
    return [entry for entry in project.log() if entry["kind"] == "loss"]


def counted(world: World, lane: str, reason: str) -> float:
    return world.count("indelible_losses_reported_total", lane=lane, reason=reason)


@pytest.mark.parametrize("lane", LANES)
def test_a_report_is_an_entry_of_the_log_beside_the_events(shared: World, lane: str) -> None:
    project, said = tenant(shared), report()

    answer = post(project, lane, ["a", "b"], lost=said)

    assert answer.status_code in (200, 202), answer.text
    body = answer.json()
    assert (2, 0) == (body["accepted"], body["rejected"])
    assert 2 == len(body["results"])
    assert "lost_warning" not in body
    assert [lane, lane, "loss"] == [entry["kind"] for entry in project.log()]
    (entry,) = losses(project)
    assert ("loss", lane, said["uuid"], said) == (
        entry["event"],
        entry["lane"],
        entry["uuid"],
        entry["facts"],
    )


def test_a_report_is_kept_to_the_byte(world: World) -> None:
    text = json.dumps(report(), indent=3)
    body = f'{{"api_key":"test-token","batch":[],"sent_at":"2026-01-02T03:04:05Z","lost":{text}}}'

    assert 200 == world.send(None, content=body.encode()).status_code

    export = world.http.get("/v1/export", headers=AS_APPLICATION).text
    assert text.replace("\n", " ") in export
    assert "2026-01-02T03:04:05Z" == json.loads(export)["request"]["sent_at"]


@pytest.mark.parametrize("lane", LANES)
def test_a_report_sent_again_is_counted_once(shared: World, lane: str) -> None:
    project, said = tenant(shared), report()
    before = counted(shared, lane, "queue_full")

    for _ in range(3):
        assert "lost_warning" not in post(project, lane, ["e"], lost=said).json()

    assert 1 == len(losses(project))
    assert before + 10 == counted(shared, lane, "queue_full")


@pytest.mark.parametrize("lane", LANES)
def test_a_report_needs_no_events_beside_it(shared: World, lane: str) -> None:
    project = tenant(shared)

    answer = post(project, lane, [], lost=report())

    assert answer.is_success, answer.text
    assert (0, 0) == (answer.json()["accepted"], answer.json()["rejected"])
    assert 1 == len(losses(project))


def test_the_same_uuid_in_both_lanes_is_two_reports(shared: World) -> None:
    project, said = tenant(shared), report()

    for lane in LANES:
        assert "lost_warning" not in post(project, lane, [], lost=said).json()

    assert [*LANES] == [entry["lane"] for entry in losses(project)]


def test_a_report_is_found_by_its_uuid_by_its_kind_and_by_its_transaction_id(
    shared: World,
) -> None:
    project, said = tenant(shared), report()
    post(project, "product", ["e"], lost=said)

    def read(path: str, **parameters: str) -> Any:
        return shared.http.get(path, params=parameters, headers=project.as_application).json()

    (found,) = read("/v1/where", id=said["uuid"])["events"]
    (listed,) = read("/v1/events", kind="loss")["events"]
    one = read(f"/v1/events/{found['tx_id']}")

    assert ("loss", said) == (one["kind"], one["facts"])
    assert found["index"] == listed["index"] == one["index"]
    assert {"received", "stored"} <= {step["step"] for step in one["life"]}


@pytest.mark.parametrize("lane", LANES)
def test_a_report_takes_nothing_from_the_monthly_limit_and_is_taken_when_it_is_used_up(
    shared: World, lane: str
) -> None:
    project = tenant(shared, monthly_limit=2, audit_monthly_limit=2)
    post(project, lane, ["a"], lost=report())
    post(project, lane, ["b"], lost=report())

    answer = post(project, lane, ["c"], lost=report())

    assert (0, 1) == (answer.json()["accepted"], answer.json()["rejected"])
    assert 3 == len(losses(project))


def test_a_report_beside_events_that_are_all_refused_is_kept(shared: World) -> None:
    project = tenant(shared)
    body = {"api_key": project.token, "batch": [{"event": ""}], "lost": report()}

    assert_canonical_error(shared.http.post("/api/e", json=body), 400, "missing_event")

    assert 1 == len(losses(project))


BAD: dict[str, Any] = {
    "no object": 7,
    "a list": [report()],
    "a text": "queue_full",
    "nothing in it": {},
    "no uuid": report(uuid=None),
    "an id that is no UUID": report(uuid="1"),
    "a line feed behind the UUID": report(uuid=f"{fresh()}\n"),
    "no process": report(process_id=None),
    "a short process id": report(process_id="ab" * 15),
    "a process id in upper case": report(process_id="AB" * 16),
    "a line feed behind the process id": report(process_id="ab" * 16 + "\n"),
    "counts that are a list": report(counts=[1]),
    "no counts": report(counts={}),
    "a count of nothing": report(counts={"exit": 0}),
    "a negative count": report(counts={"exit": -1}),
    "half an event": report(counts={"exit": 1.5}),
    "a count that is a text": report(counts={"exit": "1"}),
    "a count that is a truth": report(counts={"exit": True}),
    "a count beyond counting": report(counts={"exit": 2**53}),
    "a count beyond any machine": report(counts={"exit": 10**400}),
    "too many reasons": report(counts={f"r{n}": 1 for n in range(33)}),
    "an empty reason": report(counts={"": 1}),
    "a long reason": report(counts={"r" * 65: 1}),
    "a reason with a capital": report(counts={"Exit": 1}),
    "a reason with a line feed": report(counts={"exit\n": 1}),
    "a deep one": report(more=json.loads("[" * 40 + "]" * 40)),
}


@pytest.fixture(scope="module")
def careless(shared: World) -> Tenant:
    """A project whose senders make nothing but mistakes."""
    return tenant(shared)


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("how", BAD)
def test_a_bad_report_never_costs_the_events(careless: Tenant, lane: str, how: str) -> None:
    shared, held = careless.world, len(careless.log())
    ignored = {"lane": lane, "reason": "malformed"}
    before = shared.count("indelible_loss_reports_ignored_total", **ignored)

    answer = post(careless, lane, ["a", "b"], lost=BAD[how])

    assert answer.is_success, answer.text
    assert (2, "malformed") == (answer.json()["accepted"], answer.json()["lost_warning"])
    assert [lane, lane] == [entry["kind"] for entry in careless.log()[held:]]
    assert before + 1 == shared.count("indelible_loss_reports_ignored_total", **ignored)


@pytest.mark.parametrize("lane", LANES)
def test_a_report_that_could_hide_content_is_too_large(shared: World, lane: str) -> None:
    project = tenant(shared)

    answer = post(project, lane, ["a"], lost=report(more="x" * 4_096))

    assert (1, "too_large") == (answer.json()["accepted"], answer.json()["lost_warning"])
    assert [] == losses(project)


@pytest.mark.parametrize("lane", LANES)
def test_the_longest_report_is_taken_with_what_a_later_version_adds(
    shared: World, lane: str
) -> None:
    project = tenant(shared)
    said = report(counts={f"{n:02}".ljust(64, "x"): 2**53 - 1 for n in range(32)}, since="today")

    assert "lost_warning" not in post(project, lane, ["a"], lost=said).json()
    assert said == losses(project)[0]["facts"]


@pytest.mark.parametrize("lane", LANES)
def test_a_report_with_a_uuid_that_says_something_else_already_is_not_taken(
    shared: World, lane: str
) -> None:
    project, said = tenant(shared), report()
    post(project, lane, [], lost=said)

    answer = post(project, lane, ["a"], lost={**said, "counts": {"exit": 1}})

    assert (1, "uuid_conflict") == (answer.json()["accepted"], answer.json()["lost_warning"])
    assert [said] == [entry["facts"] for entry in losses(project)]


@pytest.mark.parametrize("lane", LANES)
def test_no_events_and_a_bad_report_is_an_empty_batch(shared: World, lane: str) -> None:
    project = tenant(shared)

    for lost in (None, BAD["no counts"]):
        answer = post(project, lane, [], lost=lost)
        body = assert_canonical_error(answer, 400, "empty_batch")
        assert ("malformed" in body["message"]) == (lost is not None)


@pytest.mark.parametrize("lane", LANES)
def test_reasons_that_are_not_on_the_list_are_counted_as_other(shared: World, lane: str) -> None:
    project = tenant(shared)
    before = {reason: counted(shared, lane, reason) for reason in ("other", "exit")}

    post(project, lane, [], lost=report(counts={"gremlins": 3, "moths": 4, "exit": 5}))

    assert before["other"] + 7 == counted(shared, lane, "other")
    assert before["exit"] + 5 == counted(shared, lane, "exit")
    assert "gremlins" not in shared.http.get("/metrics", headers=AS_ADMIN).text


def test_a_report_is_refused_with_its_lane_when_the_disk_is_low(tmp_path: Any) -> None:
    with inside(tmp_path, product_min_free_percent=100.0, audit_min_free_percent=0.0) as world:
        body = {"api_key": "test-token", "batch": [], "lost": report()}
        assert_canonical_error(world.send(body), 503, "unavailable")
        assert [] == world.events()


def test_a_single_event_keeps_the_member_lost_like_any_unknown_one(shared: World) -> None:
    said = report()
    sent = shared.send(product(lost=said)).json()["events"][0]
    receipt = shared.send_audit({**audit(), "lost": said}).json()

    for tx_id in (sent["tx_id"], receipt["tx_id"]):
        assert {"lost": said} == stored(shared, tx_id)["$extra"]


@pytest.mark.parametrize("sequence", [0, 7, 2**53 - 1])
def test_an_event_shows_its_process_and_its_number(shared: World, sequence: int) -> None:
    place: dict[str, Any] = {"process_id": uuid.uuid4().hex, "sequence": sequence}

    read = stored(shared, shared.send(product(**place)).json()["events"][0]["tx_id"])

    assert place == {name: read[name] for name in place}
    assert "$extra" not in read


@pytest.mark.parametrize(
    "place",
    [
        {"process_id": "AB" * 16},
        {"process_id": "ab" * 16 + "\n"},
        {"process_id": 7},
        {"process_id": None},
        {"sequence": -1},
        {"sequence": 1.0},
        {"sequence": True},
        {"sequence": "7"},
        {"sequence": 2**53},
        {"sequence": [1]},
    ],
)
def test_a_process_or_number_that_is_none_is_an_unknown_member(shared: World, place: Any) -> None:
    read = stored(shared, shared.send(product(**place)).json()["events"][0]["tx_id"])

    assert place == read["$extra"]
    assert not {"process_id", "sequence"} & set(read)
