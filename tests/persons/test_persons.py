"""Persons over HTTP: who they are, what is known of them, and what joined and parted them."""

import json
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.persons.people import (
    Json,
    act,
    change,
    changed,
    get,
    identify,
    ids,
    is_known,
    path,
    person,
    seen,
    send,
    settled,
)
from tests.world import (
    AS_ADMIN,
    AS_APPLICATION,
    ServerProcess,
    World,
    assert_canonical_error,
    bearer,
    product,
    started,
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose persons many tests add to, each with ids of its own."""
    with started(tmp_path_factory.mktemp("town")) as server:
        yield server


def test_an_identify_makes_one_person_of_what_came_before_and_after_it(town: World) -> None:
    first, _, last = send(
        town, seen("one-anon"), identify("one-user", "one-anon", plan="pro"), seen("one-user")
    )

    found = person(town, "one-anon")

    assert "one-user" == found["distinct_id"]
    assert ["one-user", "one-anon"] == ids(found)
    assert (True, 2, 3, first, last) == tuple(
        found[name] for name in ("identified", "id_count", "events", "first_index", "last_index")
    )
    assert {"plan": "pro"} == found["properties"]
    assert ["identified", "anonymous"] == [each["role"] for each in found["ids"]]
    (fact,) = found["merges"]
    assert ("identify", "accepted", None) == (fact["kind"], fact["state"], fact["reason"])
    assert found == person(town, found["person_id"])
    for each in found["ids"]:
        assert found == person(town, each["person_id"])


@pytest.mark.parametrize(
    "who",
    [
        *("a/b", "a%2Fb", "/", "//", "a/history", "history", "merge", "unmerge", "ids", "timeline"),
        *("a?b=c", "a#b", "a&b", "a+b", "a b", " a ", "%", "%00", "a\u0000b", "é", "e\u0301"),
        *("😀", "👩‍👩‍👧", "漢字", "x" * 200, "😀" * 200, "...", ".a", "a.", "user@example.com"),
        *("per_1", "per_" + "0" * 32, "tx_" + "0" * 32, "Case", "case", '"', "'", "\\", "\u202e"),
    ],
)
def test_a_person_is_found_by_whatever_its_id_is(town: World, who: str) -> None:
    (index,) = send(town, seen(who))
    settled(town)

    found = person(town, who)

    assert who == found["distinct_id"]
    assert index == found["last_index"]
    assert [who] == [p["distinct_id"] for p in get(town, "/v1/persons", id=who).json()["persons"]]
    assert found["person_id"] == person(town, found["person_id"])["person_id"]
    for of in ("ids", "merges", "history", "timeline"):
        answer = get(town, path(who, f"/{of}"))
        assert 200 == answer.status_code, (of, answer.text)
    assert index == get(town, path(who, "/timeline")).json()["events"][0]["index"]
    assert 200 == town.http.head(path(who), headers=AS_APPLICATION).status_code


@pytest.mark.parametrize("who", [".", ".."])
def test_an_id_that_no_path_can_have_is_found_by_the_list_and_its_person_id(
    town: World, who: str
) -> None:
    send(town, seen(who))
    settled(town)

    (found,) = get(town, "/v1/persons", id=who).json()["persons"]

    assert who == found["distinct_id"]
    assert who == person(town, found["person_id"])["distinct_id"]


def test_an_unknown_person_is_404_with_a_hint_and_bytes_that_are_no_text_are_400(
    town: World,
) -> None:
    for where in (path("nobody"), path("nobody", "/timeline"), path("per_" + "f" * 32)):
        body = assert_canonical_error(get(town, where), 404, "not_found")
        assert "persons list" in body["hint"]
    assert_canonical_error(get(town, "/v1/persons/%FF"), 400, "invalid_parameter")
    assert [] == get(town, "/v1/persons", id="nobody").json()["persons"]


def test_as_of_an_index_a_person_is_as_the_log_was_below_it(town: World) -> None:
    first, second, third, fourth = send(
        town,
        seen("then-anon"),
        identify("then-user", "then-anon", plan="free"),
        seen("then-user", **{"$set": {"plan": "pro"}}),
        seen("then-user"),
    )

    assert not is_known(town, "then-anon", at=first)
    before = person(town, "then-anon", at=second)
    assert (["then-anon"], {}, 1) == (ids(before), before["properties"], before["events"])
    assert not is_known(town, "then-user", at=second)
    joined = person(town, "then-anon", at=third)
    assert (["then-user", "then-anon"], {"plan": "free"}) == (ids(joined), joined["properties"])
    later = person(town, "then-anon", at=fourth)
    assert ({"plan": "pro"}, 3, fourth) == (later["properties"], later["events"], later["as_of"])
    assert 4 == person(town, "then-anon")["events"]
    timeline = get(town, path("then-anon", "/timeline"), at=fourth).json()["events"]
    assert [third, second, first] == [event["index"] for event in timeline]
    past = settled(town) + 1
    for of in ("", "/ids", "/merges", "/history", "/timeline"):
        body = assert_canonical_error(get(town, path("then-user", of), at=past), 404, "not_found")
        assert f"no index {past:,}" in body["message"]
    assert_canonical_error(get(town, path("then-user"), at=-1), 400, "invalid_parameter")


def test_history_and_timeline_go_by_pages_newest_first(town: World) -> None:
    writes = send(town, *(seen("paged", **{"$set": {"n": n}, "$unset": ["m"]}) for n in range(5)))
    mine = [
        act(town, "paged")["index"],
        act(town, {"id": "paged", "name": "P"})["index"],
    ]
    act(town, "another")
    settled(town)

    def walked(of: str, member: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        cursor = None
        while True:
            more: Json = {} if cursor is None else {"cursor": cursor}
            page = get(town, path("paged", f"/{of}"), limit=2, **more).json()
            assert len(page[member]) <= 2
            found += page[member]
            cursor = page["next"]
            if cursor is None:
                return found

    history = walked("history", "writes")
    assert writes[::-1] == [write["index"] for write in history]
    assert ({"n": 4}, {}, ["m"], "paged") == tuple(
        history[0][name] for name in ("$set", "$set_once", "$unset", "distinct_id")
    )
    timeline = walked("timeline", "events")
    assert [*mine[::-1], *writes[::-1]] == [event["index"] for event in timeline]
    assert {"audit", "product"} == {event["kind"] for event in timeline}
    for of in ("history", "timeline", "ids", "merges"):
        stolen = get(town, path("paged", "/timeline"), limit=2).json()["next"]
        answer = get(town, path("paged", f"/{of}"), cursor=stolen, at=settled(town))
        assert_canonical_error(answer, 400, "invalid_cursor")


def test_persons_are_listed_last_seen_first_and_chosen_by_a_condition(tmp_path: Path) -> None:
    with started(tmp_path / "data") as world:
        for who, plan in (("a", "pro"), ("b", "free"), ("c", "pro"), ("d", "pro")):
            send(world, seen(who, **{"$set": {"plan": plan, "size": len(who)}}))
        send(world, seen("a"))
        settled(world)

        def listed(**more: Any) -> list[str]:
            page = get(world, "/v1/persons", **more)
            assert 200 == page.status_code, page.text
            return [found["distinct_id"] for found in page.json()["persons"]]

        assert ["a", "d", "c", "b"] == listed()
        assert ["a", "d", "c"] == listed(filter='properties.plan = "pro"')
        assert ["c"] == listed(filter='properties.plan = "pro" and distinct_id = "c"')
        assert ["a", "d", "c", "b"] == listed(filter="received_at > 2026-01-01")
        assert [] == listed(last_seen_from="2100-01-01")
        assert ["b"] == listed(id="b")
        assert [] == listed(id="b", filter='properties.plan = "pro"')
        pages, cursor = [], None
        while True:
            more: Json = {} if cursor is None else {"cursor": cursor}
            page = get(world, "/v1/persons", limit=1, **more).json()
            pages += page["persons"]
            cursor = page["next"]
            if cursor is None:
                break
        assert ["a", "d", "c", "b"] == [found["distinct_id"] for found in pages]
        first = get(world, "/v1/persons", limit=1).json()["next"]
        answer = get(world, "/v1/persons", cursor=first, filter='properties.plan = "pro"')
        assert_canonical_error(answer, 400, "invalid_cursor")
        for wrong in ('event = "x"', "kind = 1", "properties.", 'index > 1 and properties.a = "b"'):
            answer = get(world, "/v1/persons", filter=wrong)
            assert_canonical_error(answer, 400, "invalid_condition")
        assert_canonical_error(
            get(world, "/v1/persons", last_seen_from="soon"), 400, "invalid_parameter"
        )


def test_persons_are_for_keys_with_the_scope_query_and_of_their_own_project(
    town: ServerProcess,
) -> None:
    name = "persons-other"
    made = town.http.post("/v1/projects", json={"name": name}, headers=AS_ADMIN).json()
    send(town, seen("scoped"))
    send(town, seen("theirs"), token=made["token"])
    settled(town)
    reading = town.http.post(
        "/v1/keys",
        json={"role": "application", "project": "default", "scopes": ["read"]},
        headers=AS_ADMIN,
    ).json()["secret"]

    for where in ("/v1/persons", path("scoped"), path("scoped", "/timeline")):
        answer = town.http.get(where, headers=bearer(reading))
        assert_canonical_error(answer, 403, "query_scope_missing")
        answer = town.http.get(
            where, headers=bearer(made["api_key"]), params={"project": "default"}
        )
        assert_canonical_error(answer, 403, "forbidden")
    answer = town.http.get("/v1/export", headers=bearer(reading), params={"person": "scoped"})
    assert_canonical_error(answer, 403, "query_scope_missing")
    answer = town.http.get(path("scoped"), headers=bearer(made["api_key"]))
    assert_canonical_error(answer, 404, "not_found")
    answer = town.http.get(path("theirs"), headers=AS_ADMIN, params={"project": name})
    assert 200 == answer.status_code
    for what in ("merge", "unmerge"):
        answer = town.http.post(f"/v1/persons/{what}", json={}, headers=AS_APPLICATION)
        assert_canonical_error(answer, 403, "manage_scope_missing")


def test_two_identified_persons_are_merged_on_request_and_taken_apart_as_if_never_merged(
    town: World,
) -> None:
    send(
        town,
        identify("m-one", "m-anon-1", plan="pro"),
        identify("m-two", "m-anon-2", plan="free", city="Bern"),
        seen("m-two"),
    )
    before = [person(town, who) for who in ("m-one", "m-two")]

    done = changed(town, "merge", ids=["m-anon-1", before[1]["person_id"]])

    (merged,) = done["persons"]
    assert done["folded"]
    assert "m-one" == merged["distinct_id"]
    assert {"m-one", "m-anon-1", "m-two", "m-anon-2"} == set(ids(merged))
    assert {"plan": "free", "city": "Bern"} == merged["properties"]
    assert merged["person_id"] == person(town, "m-two")["person_id"]
    index = done["event"]["index"]
    event = town.http.get(f"/v1/events/{done['event']['tx_id']}", headers=AS_ADMIN).json()
    assert ("administration", "persons_merged") == (event["kind"], event["event"])
    assert {each["person_id"] for each in before} == set(event["facts"]["persons"])
    assert "m-" not in json.dumps(event["facts"])  # keys only: it can never be erased
    assert before == [
        {**person(town, who, at=index), "as_of": was["as_of"]}
        for who, was in zip(("m-one", "m-two"), before, strict=True)
    ]

    undone = changed(town, "unmerge", id="m-two", merge=index)

    assert {"m-one", "m-two"} == {each["distinct_id"] for each in undone["persons"]}
    for who, was in zip(("m-one", "m-two"), before, strict=True):
        now = person(town, who)
        for member in ("person_id", "properties", "ids", "events"):
            assert was[member] == now[member], member


def test_some_ids_leave_a_person_or_every_id_is_one_by_itself_and_no_event_joins_them_again(
    town: World,
) -> None:
    send(town, *(identify("u-user", f"u-anon-{n}") for n in range(4)))
    person(town, "u-user")

    done = changed(town, "unmerge", id="u-user", ids=["u-anon-1", "u-anon-2"])

    assert {"u-user", "u-anon-0", "u-anon-3"} == set(ids(person(town, "u-user")))
    assert ["u-anon-1"] == ids(person(town, "u-anon-1"))
    assert {"u-user", "u-anon-1", "u-anon-2"} == {one["distinct_id"] for one in done["persons"]}
    send(town, identify("u-user", "u-anon-1"))
    assert ["u-anon-1"] == ids(person(town, "u-anon-1"))
    states = [(fact["state"], fact["reason"]) for fact in person(town, "u-anon-1")["merges"]]
    assert ("refused", "taken_apart") in states

    whole = changed(town, "unmerge", id="u-anon-0")

    assert 3 == len(whole["persons"])
    assert all(1 == each["id_count"] for each in whole["persons"])
    changed(town, "merge", ids=["u-user", "u-anon-1"])
    assert ["u-user", "u-anon-1"] == ids(person(town, "u-anon-1"))


def test_merges_that_make_no_sense_are_clear_errors_and_log_nothing(town: World) -> None:
    send(town, identify("e-user", "e-anon"), seen("e-other"), seen("guest"))
    end = settled(town)

    cases: list[tuple[str, dict[str, Any], int, str]] = [
        ("merge", {"ids": ["e-user", "e-user"]}, 409, "not_mergeable"),
        ("merge", {"ids": ["e-user", "e-anon"]}, 409, "not_mergeable"),
        ("merge", {"ids": ["e-user", "e-nobody"]}, 404, "not_found"),
        ("merge", {"ids": ["e-user", "per_" + "e" * 32]}, 404, "not_found"),
        ("merge", {"ids": ["e-user", "guest"]}, 404, "not_found"),
        ("merge", {"ids": ["e-user"]}, 400, "invalid_parameter"),
        ("merge", {"ids": []}, 400, "invalid_parameter"),
        ("merge", {"ids": ["e-user", ""]}, 400, "invalid_parameter"),
        ("merge", {"ids": ["e-user", "e-other"], "project": "nowhere"}, 404, "not_found"),
        ("merge", {"ids": ["e-user", "e-other"], "who": 1}, 400, "unknown_parameter"),
        ("unmerge", {"id": "e-other"}, 409, "not_unmergeable"),
        ("unmerge", {"id": "e-nobody"}, 404, "not_found"),
        ("unmerge", {"id": "e-user", "ids": ["e-other"]}, 404, "not_found"),
        ("unmerge", {"id": "e-user", "merge": 10**6}, 404, "not_found"),
        ("unmerge", {"id": "e-user", "merge": 0, "ids": ["e-anon"]}, 400, "invalid_parameter"),
        ("unmerge", {"ids": ["e-anon"]}, 400, "invalid_parameter"),
    ]
    for what, body, status, code in cases:
        assert_canonical_error(change(town, what, **body), status, code)
    assert end == settled(town)
    assert ["e-user", "e-anon"] == ids(person(town, "e-user"))


def test_merges_and_unmerges_at_once_end_in_a_state_that_the_log_explains(tmp_path: Path) -> None:
    with started(tmp_path / "data") as world:
        names = [f"r{n}" for n in range(6)]
        send(world, *map(identify, names))
        settled(world)
        answers: list[httpx.Response] = []

        def work(mine: int) -> None:
            for turn in range(6):
                one, other = names[(mine + turn) % 6], names[(mine * 2 + turn + 1) % 6]
                if (mine + turn) % 3:
                    answers.append(change(world, "merge", ids=[one, other]))
                else:
                    answers.append(change(world, "unmerge", id=one))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {200} <= {answer.status_code for answer in answers} <= {200, 409}
        settled(world)
        members: dict[str, set[str]] = {name: set(ids(person(world, name))) for name in names}
        for name, others in members.items():
            assert name in others
            assert all(members[other] == others for other in others)
        logged = [e for e in world.events() if str(e.get("event")).startswith("persons_")]
        assert len(logged) == sum(200 == answer.status_code for answer in answers)
        end = settled(world)
        shown = {name: set(ids(person(world, name, at=end))) for name in names}
        assert members == shown


def test_where_an_event_is_says_whose_it_is(town: World) -> None:
    answer = town.send(product(distinct_id="w-anon", uuid="w-event")).json()["events"][0]
    send(town, identify("w-user", "w-anon"))
    found = person(town, "w-user")

    one = get(town, f"/v1/events/{answer['tx_id']}").json()
    (where,) = get(town, "/v1/where", id="w-event").json()["events"]

    for shown in one, where:
        assert found["person_id"] == shown["person"]
        assert {"step": "resolved", "at": None, "person": found["person_id"]} == shown["life"][-1]
    audited = act(town, "w-user")
    assert "person" not in get(town, f"/v1/events/{audited['tx_id']}").json()


def test_the_events_of_a_person_and_of_an_actor_are_exported_in_the_order_of_the_log(
    town: World,
) -> None:
    product_indexes = send(town, seen("x-anon"), identify("x-user", "x-anon"), seen("x-other"))[:2]
    mine = act(town, "x-user")["index"]
    act(town, "x-other")
    product_indexes += send(town, seen("x-user", "last"))

    def exported(**more: Any) -> list[int]:
        answer = get(town, "/v1/export", **more)
        assert 200 == answer.status_code, answer.text
        return [json.loads(line)["index"] for line in answer.text.splitlines()]

    assert product_indexes == exported(person="x-anon")
    assert [mine] == exported(actor="x-user")
    assert sorted([*product_indexes, mine]) == exported(person="x-user", actor="x-user")
    assert product_indexes[-1:] == exported(person="x-user", filter='event = "last"')
    assert product_indexes[1:] == exported(person="x-user", start=product_indexes[0] + 1)
    assert product_indexes[:1] == exported(person="x-user", end=product_indexes[0] + 1)
    assert [] == exported(actor="nobody")
    assert_canonical_error(get(town, "/v1/export", person="nobody"), 404, "not_found")


@pytest.mark.slow(minutes=2)
def test_a_page_ends_by_the_bytes_of_its_properties_and_loses_none(tmp_path: Path) -> None:
    with started(tmp_path / "data") as world:
        large = "x" * 900_000
        for n in range(12):
            send(world, seen(f"big-{n}", **{"$set": {"n": n, "note": large}}))
        for n in range(12):
            send(world, seen("big-0", **{"$set": {"n": n, "note": large}}))
        settled(world)

        for where, member, count in (
            ("/v1/persons", "persons", 12),
            (path("big-0", "/history"), "writes", 13),
        ):
            pages: list[list[Json]] = []
            cursor = None
            while True:
                more: Json = {} if cursor is None else {"cursor": cursor}
                page = get(world, where, limit=200, **more).json()
                pages.append(page[member])
                cursor = page["next"]
                if cursor is None:
                    break
            assert count == sum(map(len, pages))
            assert 1 < len(pages)
