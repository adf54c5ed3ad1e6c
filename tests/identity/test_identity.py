"""The persons of a log: what a follower keeps of bad input, erasures and other journals."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.errors import NotFound, NotMergeable, NotUnmergeable, Unavailable, UnknownVersion
from indelible.event import REFUSED_IDS
from indelible.identity.facts import MAX_UNIT_CHARS, MAX_UNITS
from indelible.identity.person import (
    PROPERTIES_KEPT,
    PROPERTY_BYTES_KEPT,
    MergeKind,
    MergeState,
    Refusal,
    Role,
)
from indelible.identity.persons import PERSONS_FILE
from tests.identity.town import Town, alias, audit, event, identify, opened


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with opened(tmp_path) as town:
        yield town


def test_a_person_has_the_events_of_all_ids_also_those_before_the_identify(town: Town) -> None:
    town.take(event("anon"), event("other"), identify("u1", "anon"), event("anon"), event("u1"))
    person = town.find("anon")

    assert ("u1", 2, 4, True) == (
        person.principal,
        person.id_count,
        person.events,
        person.is_identified,
    )
    assert [("u1", Role.IDENTIFIED, 2), ("anon", Role.ANONYMOUS, 2)] == [
        (one.distinct_id, one.role, one.events) for one in person.ids
    ]
    assert (4, 3, 2, 0) == town.persons.timeline(town.project, "u1", limit=9).indexes
    assert person == town.find(person.person_id) == town.find(person.ids[1].person_id)


def test_persons_are_known_as_of_an_index(town: Town) -> None:
    town.take(event("anon"), identify("u1", "anon", **{"$set": {"plan": "pro"}}), event("u1"))
    assert ["anon"] == town.ids("anon", at=1)
    assert ["anon", "u1"] == town.ids("anon", at=2)
    assert (None, {"plan": "pro"}) == (
        town.persons.find(town.project, "u1", at=1),
        town.find("anon", at=2).properties,
    )


@pytest.mark.parametrize("refused", [*sorted(REFUSED_IDS), " Guest ", "NULL"])
def test_a_refused_id_is_no_person_and_joins_none_by_any_road(town: Town, refused: str) -> None:
    town.take(
        event(refused),
        identify("u1", refused or None),
        identify("u2", refused or None),
        identify(refused, "anon"),
        alias(refused, "u3"),
        alias("u4", refused),
        event("anon"),
    )
    assert town.persons.find(town.project, refused) is None
    for one in ("u1", "u2", "u3", "anon"):
        assert [one] == town.ids(one)
    with pytest.raises(NotFound):
        town.persons.merge_facts(town.project, ["u1", refused])
    with pytest.raises(NotFound):
        town.persons.merge_facts(
            town.project, ["u1", town.persons.person_id(town.project, refused)]
        )
    assert 1 == town.persons.count(town.project, ["u1", refused])


def test_the_reason_of_a_refused_merge_is_told(town: Town) -> None:
    town.take(identify("u1", "anon"), identify("u2", "anon"), identify("u1", "null"))
    town.take(alias("u1", "u2"), identify("u1", "anon"), identify("u1", "anon"))
    facts = town.persons.merges(town.project, "u1", limit=9).facts
    assert [
        (3, MergeKind.ALIAS, MergeState.REFUSED, Refusal.ALIAS_IDENTIFIED, 1),
        (2, MergeKind.IDENTIFY, MergeState.REFUSED, Refusal.REFUSED_ID, 1),
        (1, MergeKind.IDENTIFY, MergeState.REFUSED, Refusal.OTHER_PERSON, 1),
        (0, MergeKind.IDENTIFY, MergeState.ACCEPTED, None, 3),
    ] == [(fact.index, fact.kind, fact.state, fact.reason, fact.times) for fact in facts]


def test_ids_that_differ_by_case_or_unicode_form_are_two(town: Town) -> None:
    ids = [
        "Ann",
        "ann",
        "\N{LATIN SMALL LETTER E WITH ACUTE}",
        "e\u0301",
        "nul\x00l",
        "nul",
        " ann",
    ]
    town.take(*map(event, ids))
    assert len(ids) == town.persons.count(town.project, ids)
    assert all([one] == town.ids(one) for one in ids)


def test_a_lone_surrogate_is_nobodys_id(town: Town) -> None:
    town.take(event("?"), event("\ufffd"))
    assert town.persons.find(town.project, "\ud800") is None
    assert 1 == town.persons.count(town.project, ["\ud800"])


def test_a_distinct_id_in_the_form_of_a_person_id_does_not_hide_that_person(town: Town) -> None:
    town.take(event("u1"))
    person_id = town.find("u1").person_id
    town.take(event(person_id))
    assert "u1" == town.find(person_id).principal


def test_merge_and_unmerge_on_request(town: Town) -> None:
    town.take(identify("u1", "a1"), identify("u2", "a2"))
    merged = town.merge("a1", "u2")
    assert ["a1", "a2", "u1", "u2"] == town.ids("u2")
    with pytest.raises(NotMergeable):
        town.merge("u1", "a2")
    town.unmerge("a1", merge=merged)
    assert (["a1", "u1"], ["a2", "u2"]) == (town.ids("u1"), town.ids("u2"))
    with pytest.raises(NotUnmergeable):
        town.unmerge("a1", merge=merged)
    town.unmerge("u1", taken_out=["a1"])
    town.take(identify("u1", "a1"))
    assert (["a1"], ["u1"]) == (town.ids("a1"), town.ids("u1"))
    town.merge("a1", "u1")
    assert ["a1", "u1"] == town.ids("u1")
    assert ["a1", "a2", "u1", "u2"] == town.ids("u1", at=merged + 1)


def test_who_was_taken_apart_stays_apart_after_what_had_joined_them_is_erased(town: Town) -> None:
    town.take(identify("u1", "anon"), event("anon"))
    town.unmerge("u1")
    town.erase(0)
    town.take(identify("u1", "anon"))
    assert ["u1"] == town.ids("u1")


def test_the_late_identify_of_an_erased_person_begins_a_new_one(town: Town) -> None:
    town.take(event("anon"), identify("u1", "anon", **{"$set": {"mail": "a@example.org"}}))
    town.erase(0, 1)
    assert town.persons.find(town.project, "u1") is None
    town.take(identify("u1"))
    assert ({}, 1, ["u1"]) == (
        town.find("u1").properties,
        town.find("u1").events,
        town.ids("u1"),
    )


def test_erased_ids_and_values_are_in_none_of_the_files(town: Town) -> None:
    secret = "Zaphod.Beeblebrox@example.org"
    town.take(
        event("u2"),
        event(secret, "viewed", **{"$set": {"name": f"name of {secret}"}}),
        audit({"actor": secret}),
        event("u2", "viewed", **{"$groups": {"company": f"the company of {secret}"}}),
    )
    town.erase(1, 2, 3)
    files = list(town.folder.glob(f"{PERSONS_FILE}*"))
    assert files
    assert not [file for file in files if secret.encode() in file.read_bytes()]


def test_set_of_a_mebibyte_is_kept_within_its_bound(town: Town) -> None:
    text = "x" * (PROPERTY_BYTES_KEPT - 100)
    town.take(event("u1", "viewed", **{"$set": {"small": 1, "large": text}}))
    assert {"small": 1, "large": text} == town.find("u1").properties
    town.take(event("u1", "viewed", **{"$set": {"more": "y" * 1_000, "small": 2}}))
    person = town.find("u1")
    assert (2, 1) == (person.properties["small"], person.properties_left_out)
    assert "more" not in person.properties


def test_of_10_000_properties_1_000_are_kept_and_the_rest_is_counted(town: Town) -> None:
    for start in range(0, 10_000, 500):
        values = {f"p{n:05}": n for n in range(start, start + 500)}
        town.store(event("u1", "viewed", **{"$set": values}))
    town.identity.catch_up()
    person = town.find("u1")
    assert (PROPERTIES_KEPT, 10_000 - PROPERTIES_KEPT) == (
        len(person.properties),
        person.properties_left_out,
    )
    town.erase(0)
    assert ("p01499", PROPERTIES_KEPT) == (
        max(town.find("u1").properties),
        len(town.find("u1").properties),
    )


def test_the_user_wins_and_the_anonymous_id_fills_gaps(town: Town) -> None:
    town.take(
        event("anon", "viewed", **{"$set": {"plan": "free", "ref": "ad"}}),
        identify("u1", "anon", **{"$set": {"plan": "pro"}, "$set_once": {"first": 1}}),
        event("anon", "viewed", **{"$set": {"plan": "late"}}),
        event("u1", "viewed", of_record={"$set_once": {"first": 2}, "$set": {"mail": "m"}}),
        event("u1", "viewed", **{"$unset": ["mail"]}),
    )
    assert {"plan": "pro", "ref": "ad", "first": 1} == town.find("anon").properties
    writes = town.persons.history(town.project, "u1", limit=2)
    assert [4, 3] == [write.index for write in writes.writes]
    assert (("mail",), {"mail": "m"}) == (writes.writes[0].unset, writes.writes[1].set)
    rest = town.persons.history(town.project, "u1", limit=9, before=writes.before)
    assert [2, 1, 0] == [write.index for write in rest.writes]


def test_200_000_ids_become_one_person(town: Town) -> None:
    many, at_once = 200_000, 5_000
    for start in range(0, many, at_once):
        town.store(*(alias(f"id-{n}", "hub") for n in range(start, start + at_once)))
    town.identity.catch_up()
    assert many + 1 == town.find("id-7").id_count
    assert many + 1 == sum(1 for _ in town.persons.all_ids(town.project, "hub"))
    town.take(identify("hub", "id-1"))
    assert "hub" == town.find("id-199999").principal
    town.unmerge("hub", taken_out=["id-7"])
    assert (["id-7"], many) == (town.ids("id-7"), town.find("hub").id_count)


def test_groups_and_tenants_are_kept_as_units(town: Town) -> None:
    many = {f"type-{n}": "x" for n in range(MAX_UNITS + 2)}
    town.take(
        event("u1", "viewed", **{"$groups": {"company": "acme", "team": 7}}),
        audit("{}", tenant="acme"),
        audit("{}", tenant="acme"),
        event("u1", "viewed", **{"$groups": many}),
        audit("{}", tenant="x" * (MAX_UNIT_CHARS + 1)),
    )
    units = town.persons.units(town.project, limit=100).units
    assert {("company", "acme", 0, 0, 1), ("team", "7", 0, 0, 1), (None, "acme", 1, 2, 2)} < {
        (u.type, u.name, u.first_index, u.last_index, u.events) for u in units
    }
    assert [(None, "", 3, 4, 2)] == [
        (u.type, u.name, u.first_index, u.last_index, u.events) for u in units if not u.name
    ]


def test_audit_events_are_on_the_timeline_by_their_actor(town: Town) -> None:
    town.take(
        identify("u1", "anon"),
        audit({"actor": "u1"}),
        audit({"actor": {"id": "anon", "name": "A"}}),
        audit({"actor": "someone"}),
        audit("no json"),
        audit({"actor": ["u1"]}),
    )
    assert (2, 1, 0) == town.persons.timeline(town.project, "u1", limit=9).indexes
    assert (0,) == town.persons.timeline(town.project, "u1", limit=9, with_audit=False).indexes
    assert [1] == list(town.persons.indexes_of_actors(town.project, ["u1"]))


def test_persons_are_listed_last_seen_first_in_pages(town: Town) -> None:
    town.take(*(event(f"u{n}") for n in range(5)), identify("u0", "u3"), event("null"))
    first = town.persons.page(town.project, limit=2)
    assert ["u0", "u4"] == [person.principal for person in first.persons]
    rest = town.persons.page(town.project, limit=9, before=first.before)
    assert ["u2", "u1"] == [person.principal for person in rest.persons]
    assert rest.before is None
    chosen = town.persons.page(town.project, limit=9, chosen=lambda one: one.events == 3)
    assert ["u0"] == [person.principal for person in chosen.persons]


def test_two_projects_share_no_person(town: Town) -> None:
    town.store(event("u1"), event("u1"), project=town.neighbour)
    town.take(event("u1"))
    assert 1 == town.find("u1").events
    assert town.persons.person_id(town.project, "u1") != town.persons.person_id(
        town.neighbour, "u1"
    )
    town.erase(0)
    assert town.persons.find(town.project, "u1") is None
    found = town.persons.find(town.neighbour, "u1")
    assert found is not None
    assert 2 == found.events


def test_a_record_of_a_later_version_stops_its_project_alone(town: Town) -> None:
    town.store(event("u1"), event("u2", of_record={"v": 2}))
    town.store(event("u3"), project=town.neighbour)
    with pytest.raises(UnknownVersion):
        town.identity.catch_up()
    assert (0, 1) == (
        town.identity.next_index(town.project),
        town.identity.next_index(town.neighbour),
    )
    assert (2, True) == (town.identity.behind()[0], town.identity.behind()[1] is not None)


def test_a_damaged_file_is_made_again_at_the_next_start(town: Town) -> None:
    town.take(identify("u1", "anon"))
    town.identity.close()
    (town.folder / PERSONS_FILE).write_bytes(b"x" * 100_000)
    town.open()
    with pytest.raises(AssertionError):
        town.find("u1")
    town.identity.catch_up()
    assert ["anon", "u1"] == town.ids("u1")


def test_the_persons_of_another_journal_are_made_again(
    town: Town, tmp_path_factory: pytest.TempPathFactory
) -> None:
    town.take(event("u1"))
    with opened(tmp_path_factory.mktemp("other")) as other:
        other.take(event("x1"), event("x2"))
        other.identity.close()
        shutil.copy(town.folder / PERSONS_FILE, other.folder / PERSONS_FILE)
        other.open()
        other.identity.catch_up()
        assert other.persons.find(other.project, "u1") is None
        assert 2 == other.persons.count(other.project, ["x1", "x2"])


def test_damage_that_shows_later_is_told(town: Town) -> None:
    town.take(event("u1"))
    town.identity._file.give_up("it is damaged")
    with pytest.raises(Unavailable):
        town.persons.find(town.project, "u1")
    assert town.identity.failure is not None
