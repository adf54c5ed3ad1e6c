"""`indelible persons`, and what other commands know of persons."""

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import PROGRAM, assert_refused, call, fine, run, surroundings
from tests.cli.conftest import Shop
from tests.world import AS_ADMIN


def identify(shop: Shop, who: str, anonymous: str, **properties: Any) -> None:
    fields: dict[str, Any] = {"$anon_distinct_id": anonymous, "$set": properties}
    shop.send("$identify", distinct_id=who, properties=fields)


def known(shop: Shop) -> None:
    shop.send("seen", distinct_id="anon")
    identify(shop, "ann", "anon", plan="pro", note='a "b"')


def test_a_person_is_shown_listed_and_followed(shop: Shop) -> None:
    known(shop)

    said = fine("persons", "show", "anon", *shop.here)

    assert ("2", "yes", "2") == (said.fact("ids"), said.fact("identified"), said.fact("events"))
    assert 'plan = "pro"' in said.out
    assert "1  identify  anon + ann  accepted" == said.fact("fact")
    person = call("persons", "show", "ann", "--json", *shop.here).json
    assert ["ann", "anon"] == [each["distinct_id"] for each in person["ids"]]
    assert person["person_id"] == said.fact("person")
    (listed,) = call("persons", "list", "--json", *shop.here).lines
    assert person["person_id"] == listed["person_id"]
    table = call("persons", "list", *shop.here).out.splitlines()
    assert ["LAST", "SEEN", "EVENTS", "IDS", "PERSON"] == table[0].split()
    assert ["2", "2", "ann"] == table[1].split()[1:]
    assert ["ann", "anon"] == [
        line["distinct_id"] for line in call("persons", "ids", "ann", "--json", *shop.here).lines
    ]
    assert "anonymous" in call("persons", "ids", "ann", *shop.here).out
    timeline = call("persons", "timeline", "ann", "--json", *shop.here).lines
    assert [0, 1] == [event["index"] for event in timeline]
    assert 2 == len(call("persons", "timeline", "ann", *shop.here).out.splitlines())
    history = call("persons", "history", "ann", *shop.here).out
    assert 'plan = "pro"' in history
    before = call("persons", "show", "anon", "--at", "1", "--json", *shop.here).json
    assert (1, 1) == (before["id_count"], before["as_of"])


def test_what_there_is_none_of_is_said_with_what_to_do(shop: Shop) -> None:
    assert "no persons yet" in call("persons", "list", *shop.here).err
    shop.send("seen", distinct_id="zoe")
    none = call("persons", "list", "--filter", 'properties.plan = "pro"', *shop.here)
    assert ("", "no person matches\n") == (none.out, none.err)
    assert "nothing was written" in call("persons", "history", "zoe", *shop.here).err
    for of in ("show", "ids", "timeline", "history"):
        assert_refused(call("persons", of, "nobody", *shop.here), 2, "not_found")
    assert_refused(call("persons", "show", "..", *shop.here), 2, "called_wrongly")
    assert_refused(
        call("persons", "list", "--filter", 'event = "x"', *shop.here), 2, "invalid_condition"
    )
    assert_refused(call("persons", "show", "zoe", "--at", "99", *shop.here), 2, "not_found")


def test_persons_are_merged_and_taken_apart(shop: Shop) -> None:
    known(shop)
    identify(shop, "bob", "b-anon")

    merged = fine("persons", "merge", "ann", "bob", *shop.here)

    assert merged.fact("event").startswith("index 3, tx_")
    assert {"ann", "with", "anon,", "bob,", "b-anon"} == set(merged.fact("person").split())
    undone = call("persons", "unmerge", "bob", "--merge", "3", "--json", *shop.here).json
    assert {"ann", "bob"} == {person["distinct_id"] for person in undone["persons"]}
    apart = call("persons", "unmerge", "ann", "--id", "anon", "--json", *shop.here).json
    assert {"ann", "anon"} == {person["distinct_id"] for person in apart["persons"]}
    assert_refused(call("persons", "unmerge", "ann", *shop.here), 2, "not_unmergeable")
    assert_refused(call("persons", "merge", "ann", *shop.here), 2, "called_wrongly")
    assert_refused(call("persons", "merge", "ann", "ann", *shop.here), 2, "not_mergeable")
    wrong = call("persons", "unmerge", "ann", "--id", "x", "--merge", "3", *shop.here)
    assert_refused(wrong, 2, "called_wrongly")


def test_where_says_whose_an_event_is_and_that_an_id_is_a_persons(shop: Shop) -> None:
    known(shop)
    person = call("persons", "show", "ann", "--json", *shop.here).json
    (tx_id,) = shop.send("later", distinct_id="ann")
    call("persons", "show", "ann", *shop.here)  # waits for it to be followed

    assert person["person_id"] == fine("where", tx_id, *shop.here).fact("resolved")
    refused = call("where", "anon", *shop.here)
    assert_refused(refused, 1, "not_found")
    assert "persons show anon" in refused.err


def test_an_export_of_a_person_begins_with_who_it_is(shop: Shop, tmp_path: Path) -> None:
    known(shop)
    shop.send("seen", distinct_id="zoe")
    file = tmp_path / "ann.ndjson"

    fine("export", "--person", "anon", "--output", str(file), *shop.here)

    first, *events = [json.loads(line) for line in file.read_text().splitlines()]
    assert ("person", "ann", {"plan": "pro", "note": 'a "b"'}) == (
        first["kind"],
        first["distinct_id"],
        first["properties"],
    )
    assert ["ann", "anon"] == [each["distinct_id"] for each in first["ids"]]
    assert [0, 1] == [event["index"] for event in events]
    table = call("export", "--person", "ann", "--format", "csv", *shop.here).out.splitlines()
    assert 4 == len(table)
    assert "" == call("export", "--actor", "ann", *shop.here).out
    assert_refused(call("export", "--person", "nobody", *shop.here), 2, "not_found")


def erased(shop: Shop) -> list[int]:
    page = shop.server.http.get(
        "/v1/events", params={"project": shop.name, "limit": 200}, headers=AS_ADMIN
    ).json()
    return sorted(event["index"] for event in page["events"] if event.get("erased"))


def test_a_person_is_erased_by_the_preview_that_was_shown(shop: Shop) -> None:
    known(shop)

    shown = fine("erase", "--person", "anon", "--dry-run", *shop.here)
    assert ("2", "2") == (shown.fact("would erase"), shown.fact("ids"))
    refused = run("erase", "--person", "ann", *shop.here)
    assert_refused(refused, 2, "called_wrongly")
    assert "--confirm" in refused.err
    wrong = call("erase", "--person", "ann", "--confirm", f"1-{'0' * 64}", *shop.here)
    assert_refused(wrong, 2, "preview_changed")
    assert [] == erased(shop)

    done = fine("erase", "--person", "ann", "--confirm", shown.fact("preview"), *shop.here)

    assert "2" == done.fact("erased")
    assert [0, 1] == erased(shop)
    assert_refused(call("erase", "--person", "ann", "--yes", *shop.here), 2, "not_found")
    both = call("erase", "--person", "ann", "--distinct-id", "ann", *shop.here)
    assert_refused(both, 2, "called_wrongly")
    nobody = call("erase", "--actor", "nobody", "--yes", "--json", *shop.here).json
    assert (0, []) == (nobody["erased"], nobody["events"])


@pytest.mark.parametrize(("answer", "gone"), [("y\n", [0, 1]), ("\n", [])])
def test_on_a_terminal_the_preview_is_shown_before_it_asks(
    shop: Shop, answer: str, gone: list[int]
) -> None:
    known(shop)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, answer.encode())
        done = subprocess.run(
            [*PROGRAM, "erase", "--person", "ann", *shop.here],
            env=surroundings(),
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)

    assert (0 if gone else 2) == done.returncode, done.stderr
    assert "anon" in done.stderr
    assert "[y/N]" in done.stderr
    assert gone == erased(shop)
