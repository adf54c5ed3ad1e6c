"""A story of one person through a running server, and the file that is made again by command."""

from pathlib import Path
from typing import Any

from indelible.clock import now_ms
from indelible.identity.identity import Identity
from indelible.identity.person import Person
from indelible.identity.persons import PERSONS_FILE
from indelible.journal.reader import open_reader
from indelible.layout import JOURNAL_FILE
from tests.cli.command import assert_refused, call, fine
from tests.edge.wire import eventually
from tests.world import ServerProcess, World, product, started

LETTER = {"email": "alice@example.com", "plan": "pro"}


def told(folder: Path, who: str) -> tuple[Person | None, int]:
    """What the file of a server that has stopped says of a person, and how far it reaches."""
    journal = open_reader(folder / JOURNAL_FILE)
    (project,) = journal.projects()[-1:]
    identity = Identity(folder, journal=journal, projects=journal.projects, clock=now_ms)
    try:
        return identity.persons.find(project, who), identity.next_index(project)
    finally:
        identity.close()
        journal.close()


def is_taken(server: World) -> bool:
    health: dict[str, Any] = server.http.get("/healthz").json()["identity"]
    return health["behind"] == 0 and health["failure"] is None


def tell(server: ServerProcess) -> None:
    """The guides' `Identify` in Go and in Rust, and what a browser sends that met her before."""
    for body in (
        product("$pageview", distinct_id="anon_7", properties={"$current_url": "/pricing"}),
        product("$identify", distinct_id="user_42", properties={"$set": LETTER}),
        product("$identify", distinct_id="user_42", properties={"$set": LETTER | {"plan": "max"}}),
        product(
            "$identify",
            distinct_id="user_42",
            properties={"$anon_distinct_id": "anon_7", "$device_id": "device_7"},
        ),
        product("$pageview", distinct_id="anon_7", properties={"$current_url": "/account"}),
        product("purchase_completed", distinct_id="user_42"),
    ):
        answer = server.http.post("/api/e", json=body)
        assert ("ok", 200) == (answer.json()["events"][0]["result"], answer.status_code)


def test_identify_on_the_server_then_in_the_browser_is_one_person_with_all_events(
    tmp_path: Path,
) -> None:
    with started(tmp_path) as server:
        tell(server)
        eventually(lambda: is_taken(server))
        assert_refused(call("rebuild", "persons", "--data", str(tmp_path)), 3, "data_folder_in_use")
    person, reached = told(tmp_path, "anon_7")
    assert person is not None
    assert ("user_42", 6, LETTER | {"plan": "max"}) == (
        person.principal,
        person.events,
        person.properties,
    )
    assert ["user_42", "anon_7"] == [one.distinct_id for one in person.ids]

    (tmp_path / PERSONS_FILE).unlink()
    made = fine("rebuild", "persons", "--data", str(tmp_path), "--json").json
    assert (1, 2, 2, 6) == (made["persons"], made["ids"], made["merged_ids"], made["events"])
    assert (person, reached) == told(tmp_path, "anon_7")
    shown = fine("rebuild", "persons", "--data", str(tmp_path))
    assert ("1", "2") == (shown.fact("persons"), shown.fact("ids"))


def test_rebuild_names_the_files_that_it_can_make(tmp_path: Path) -> None:
    ran = call("rebuild", "tiles", "--data", str(tmp_path))
    assert_refused(ran, 2, "called_wrongly")
    assert "persons" in ran.err
    assert_refused(call("rebuild", "persons", "--data", str(tmp_path)), 2, "no_journal")
