"""Erasure by person and by actor: previewed, confirmed, and no further than what was confirmed."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.persons.people import (
    act,
    ask_erasure,
    change,
    changed,
    erased,
    erased_indexes,
    get,
    identify,
    ids,
    is_known,
    path,
    person,
    previewed,
    seen,
    send,
    settled,
)
from tests.world import AS_ADMIN, AS_APPLICATION, World, assert_canonical_error, started


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with started(tmp_path / "data") as server:
        yield server


@pytest.fixture(params=["0", "1"], ids=["one process", "several"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with started(tmp_path / "data", INDELIBLE_EDGES=request.param) as server:
        yield server


def left_of(certificate: dict[str, Any]) -> dict[str, int | None]:
    return {each["what"]: each["events"] for each in certificate["left"]}


def test_a_person_is_erased_through_merges_and_its_audit_events_only_by_their_actors(
    either: World,
) -> None:
    world = either
    mine = send(
        world,
        seen("p-anon", **{"$set": {"email": "zq@example.com"}}),
        identify("p-user", "p-anon", plan="pro"),
        seen("p-user"),
        {"event": "$create_alias", "distinct_id": "p-user", "properties": {"alias": "p-alias"}},
        seen("p-alias"),
    )
    others = send(world, seen("q"), seen("q", properties={"friend": "p-user"}))
    by_user = [act(world, "p-user")["index"], act(world, {"id": "p-user"})["index"]]
    by_anon, by_other = act(world, "p-anon")["index"], act(world, "q")["index"]
    was = person(world, "p-user")

    preview = previewed(world, person="p-alias", actors=["p-user"])

    assert [] == erased_indexes(world)
    assert (True, 7, 5, 2) == tuple(preview[n] for n in ("dry_run", "erased", "product", "audit"))
    assert was["person_id"] == preview["person"]
    assert ["p-user", "p-anon", "p-alias"] == preview["ids"]
    assert {
        "other_actors": 1,
        "log_entries": None,
        "mentions": None,
        "backups": None,
    } == left_of(preview)

    certificate = ask_erasure(
        world, person="p-anon", actors=["p-user"], confirm=preview["preview"]
    ).json()

    assert (False, 7, 5, 2, True, 3) == tuple(
        certificate[n] for n in ("dry_run", "erased", "product", "audit", "swept", "id_count")
    )
    assert sorted([*mine, *by_user]) == erased_indexes(world)
    events = {event["index"]: event for event in world.events()}
    for index in (*others, by_anon, by_other):
        assert "erased" not in events[index]
    (entry,) = certificate["events"]
    told = events[entry["index"]]
    assert ("erasure", "request") == (told["kind"], told["facts"]["reason"])
    assert "p-" not in json.dumps(told)  # ids are in the answer only
    for who in ("p-user", "p-anon", "p-alias", was["person_id"]):
        assert not is_known(world, who)
    assert is_known(world, "q")
    body = assert_canonical_error(
        ask_erasure(world, person="p-user", dry_run=True), 404, "not_found"
    )
    assert "p-user" not in body["message"]


def test_a_late_identify_of_an_erased_person_begins_a_new_one(world: World) -> None:
    send(world, identify("l-user", "l-anon", plan="pro"), identify("l-two", "l-anon-2"))
    person(world, "l-user")
    changed(world, "merge", ids=["l-user", "l-two"])

    certificate = erased(world, person="l-two")

    assert {"l-user", "l-anon", "l-two", "l-anon-2"} == set(certificate["ids"])
    (undone,) = certificate["unmerged"]
    event = world.http.get(f"/v1/events/{undone['tx_id']}", headers=AS_ADMIN).json()
    assert "persons_unmerged" == event["event"]
    assert undone["index"] < certificate["events"][0]["index"]
    (late,) = send(world, identify("l-user", "l-anon"))
    found = person(world, "l-user")
    assert (["l-user", "l-anon"], {}, late) == (
        ids(found),
        found["properties"],
        found["first_index"],
    )
    send(world, seen("l-two"))
    assert ["l-two"] == ids(person(world, "l-two"))


def test_by_actor_only_the_ids_named_are_erased_never_through_merges(either: World) -> None:
    world = either
    send(world, identify("a-user", "a-anon"), identify("a-user", "a-victim"))
    named = act(world, "a-user")["index"]
    victims = [act(world, "a-victim")["index"], act(world, {"id": "a-anon"})["index"]]
    near = [
        act(world, who)["index"]
        for who in (
            "A-user",
            "a-user ",
            " a-user",
            "a-user2",
            {"name": "a-user"},
            {"id": ["a-user"]},
        )
    ]
    answer = world.send_audit({"payload": "actor a-user", "meta": {"type": "info"}})
    near.append(answer.json()["index"])
    answer = world.send_audit({"payload": '["actor","a-user"]', "meta": {"type": "info"}})
    near.append(answer.json()["index"])

    certificate = erased(world, actors=["a-user"])

    assert [named] == erased_indexes(world)
    assert (1, 0, 1, None, []) == tuple(
        certificate[n] for n in ("erased", "product", "audit", "person", "ids")
    )
    assert ["a-anon", "a-user", "a-victim"] == sorted(ids(person(world, "a-user")))
    assert 2 == erased(world, actors=["a-victim", "a-anon", "nobody"])["erased"]
    assert sorted([named, *victims]) == erased_indexes(world)
    assert len(near) == 8


def test_without_its_preview_a_person_or_an_actor_is_never_erased(world: World) -> None:
    send(world, seen("c"))
    act(world, "c")
    for wanted in ({"person": "c"}, {"actors": ["c"]}, {"person": "c", "actors": ["c"]}):
        body = assert_canonical_error(ask_erasure(world, **wanted), 400, "confirm_missing")
        assert "dry_run" in body["hint"]
        for wrong in ("", "x", "1", "-", f"{10**13}-{'0' * 64}", f"1-{'g' * 64}"):
            answer = ask_erasure(world, **wanted, confirm=wrong)
            assert_canonical_error(answer, 400, "invalid_parameter")
        for until in (0, 1, 2, 10**12):
            answer = ask_erasure(world, **wanted, confirm=f"{until}-{'0' * 64}")
            assert_canonical_error(answer, 409, "preview_changed")
    nonsense: tuple[dict[str, Any], ...] = (
        {"person": "c", "distinct_id": "c"},
        {"actors": ["c"], "tx_ids": ["tx_" + "0" * 32]},
        {"person": ""},
        {"actors": []},
        {"actors": [""]},
        {"actors": ["x" * 201]},
    )
    for both in nonsense:
        answer = ask_erasure(world, dry_run=True, **both)
        assert_canonical_error(answer, 400, "invalid_parameter")
    assert [] == erased_indexes(world)


def test_a_selection_that_has_changed_since_its_preview_is_refused_and_nothing_is_erased(
    world: World,
) -> None:
    tx_ids = [
        event["tx_id"]
        for event in world.send(
            {"api_key": "test-token", "batch": [seen("s-user"), seen("s-user"), seen("s-other")]}
        ).json()["events"]
    ]
    act(world, "s-user")
    wanted = {"person": "s-user", "actors": ["s-user"]}

    def refused(confirm: str, **body: Any) -> None:
        before = erased_indexes(world)
        answer = ask_erasure(world, **body, confirm=confirm)
        assert "preview again" in assert_canonical_error(answer, 409, "preview_changed")["hint"]
        assert before == erased_indexes(world)

    shown = previewed(world, **wanted)["preview"]
    for other in (
        {**wanted, "reason": "contract_end"},
        {"person": "s-user"},
        {"actors": ["s-user"]},
        {"person": "s-other", "actors": ["s-user"]},
        {"distinct_id": "s-user"},
        {"tx_ids": tx_ids[:2]},
        {**wanted, "actors": ["s-user", "s-other"]},
    ):
        refused(shown, **other)
    send(world, identify("s-user", "s-anon"))  # an id joins it
    refused(shown, **wanted)
    shown = previewed(world, **wanted)["preview"]
    changed(world, "unmerge", id="s-user", ids=["s-anon"])  # and leaves it again
    refused(shown, **wanted)
    shown = previewed(world, **wanted)["preview"]
    assert 1 == ask_erasure(world, tx_ids=tx_ids[:1]).json()["erased"]  # a part is gone
    refused(shown, **wanted)
    name = "twin"
    twin = world.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN).json()
    send(world, *(seen("s-user") for _ in range(8)), token=twin["token"])
    theirs = previewed(world, person="s-user", project=name)["preview"]
    refused(theirs, person="s-user")
    assert 3 == erased(world, **wanted)["erased"]


def test_previews_of_other_selections_may_be_confirmed(world: World) -> None:
    tx_ids = [
        event["tx_id"]
        for event in world.send(
            {"api_key": "test-token", "batch": [seen("d"), seen("d"), seen("d")]}
        ).json()["events"]
    ]
    by_tx = previewed(world, tx_ids=tx_ids[:1])["preview"]
    by_id = previewed(world, distinct_id="d")["preview"]
    send(world, seen("d"))

    answer = ask_erasure(world, tx_ids=tx_ids[1:2], confirm=by_tx)
    assert_canonical_error(answer, 409, "preview_changed")
    assert 3 == ask_erasure(world, distinct_id="d", confirm=by_id).json()["erased"]
    assert [0, 1, 2] == erased_indexes(world)
    assert 1 == ask_erasure(world, distinct_id="d").json()["erased"]


def test_events_that_come_after_the_preview_are_left_and_counted(world: World) -> None:
    send(world, seen("n"), seen("n"))
    act(world, "n")
    preview = previewed(world, person="n", actors=["n"])
    since = send(world, seen("n"), seen("n"))
    act(world, "n")

    certificate = ask_erasure(world, person="n", actors=["n"], confirm=preview["preview"]).json()

    assert 3 == certificate["erased"]
    assert 3 == left_of(certificate)["since_preview"]
    found = person(world, "n")
    assert (2, since[0]) == (found["events"], found["first_index"])


def test_a_person_is_erased_while_its_events_come(world: World) -> None:
    send(world, seen("busy"))
    stop = threading.Event()
    sent: list[int] = []

    def go_on() -> None:
        while not stop.is_set() and len(sent) < 1_000:
            sent.extend(send(world, *(seen("busy") for _ in range(5))))

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        done = 0
        while done < 3:
            answer = ask_erasure(world, person="busy", dry_run=True)
            if answer.status_code == 404:  # erased, and not come again yet
                if not thread.is_alive():
                    break
                continue
            preview = answer.json()
            certificate = ask_erasure(world, person="busy", confirm=preview["preview"]).json()
            assert preview["erased"] == certificate["erased"], certificate
            done += 1
    finally:
        stop.set()
        thread.join()
    assert done
    last = erased(world, person="busy") if is_known(world, "busy") else None
    assert not is_known(world, "busy")
    left = [event for event in world.events() if event["kind"] == "product"]
    assert all(event.get("erased") for event in left), last
    assert len(sent) + 1 == len(left)


def test_a_legal_hold_between_preview_and_confirm_refuses(world: World) -> None:
    send(world, seen("h"))
    preview = previewed(world, person="h")["preview"]
    world.http.patch("/v1/projects/default", json={"legal_hold": True}, headers=AS_ADMIN)

    assert_canonical_error(ask_erasure(world, person="h", confirm=preview), 409, "legal_hold")
    assert_canonical_error(ask_erasure(world, person="h", dry_run=True), 409, "legal_hold")
    assert_canonical_error(ask_erasure(world, actors=["h"], dry_run=True), 409, "legal_hold")
    world.http.patch("/v1/projects/default", json={"legal_hold": False}, headers=AS_ADMIN)

    assert 1 == ask_erasure(world, person="h", confirm=preview).json()["erased"]


def test_merge_unmerge_and_erasure_at_once_erase_what_was_confirmed_or_nothing(
    world: World,
) -> None:
    names = [f"k{n}" for n in range(4)]
    send(world, *map(identify, names), *map(seen, names))
    settled(world)
    answers: list[httpx.Response] = []
    wrong: list[Any] = []

    def decide() -> None:
        for turn in range(8):
            one, other = names[turn % 4], names[(turn + 1) % 4]
            change(world, "merge", ids=[one, other])
            change(world, "unmerge", id=one)

    def erase() -> None:
        for turn in range(8):
            who = names[turn % 4]
            preview = ask_erasure(world, person=who, dry_run=True)
            if preview.status_code != 200:
                continue
            shown = preview.json()
            answer = ask_erasure(world, person=who, confirm=shown["preview"])
            answers.append(answer)
            if answer.status_code == 200:
                if (shown["ids"], shown["erased"]) != tuple(
                    answer.json()[name] for name in ("ids", "erased")
                ):
                    wrong.append((shown, answer.json()))
                send(world, identify(who), seen(who))

    threads = [threading.Thread(target=work) for work in (decide, erase)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [] == wrong
    assert {answer.status_code for answer in answers} <= {200, 404, 409}
    assert 200 in {answer.status_code for answer in answers}
    for answer in answers:
        if answer.status_code == 409:
            assert_canonical_error(answer, 409, "preview_changed")


def test_what_was_erased_is_in_no_file_of_the_server_any_more(world: World) -> None:
    marks = [f"zq{n:06}zq" for n in range(40)]
    send(
        world,
        *(identify("f-user", mark, note=f"p{mark}") for mark in marks),
        *(seen(mark, **{"$set": {mark: mark}}) for mark in marks),
    )
    act(world, "f-user", what=f"a{marks[0]}")
    was = person(world, marks[7])
    assert 41 == was["id_count"]

    certificate = erased(world, person="f-user", actors=["f-user"])

    assert certificate["swept"]
    found = {}
    for file in world.data_dir.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            found[file.name] = [mark for mark in marks if mark.encode() in content]
    assert {"journal.db", "persons.db"} <= found.keys()
    assert {} == {name: there for name, there in found.items() if there}


def test_head_and_other_projects_keys_erase_nothing(world: World) -> None:
    send(world, seen("o"))
    preview = previewed(world, person="o")["preview"]
    body = {"person": "o", "confirm": preview}
    answer = world.http.post("/v1/erasures", json=body, headers=AS_APPLICATION)
    assert_canonical_error(answer, 403, "manage_scope_missing")
    assert 405 == world.http.head("/v1/erasures", headers=AS_ADMIN).status_code
    assert 405 == world.http.get("/v1/erasures", headers=AS_ADMIN).status_code
    assert 200 == get(world, path("o")).status_code
    assert [] == erased_indexes(world)
