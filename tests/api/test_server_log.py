"""The server's own log: admin keys and whatever else belongs to no project, proved as any event."""

import json
import shutil
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from indelible.journal.tables import create_view
from tests.cli.command import assert_refused, at, call, fine
from tests.world import (
    ADMIN_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    ServerProcess,
    World,
    assert_canonical_error,
    audit,
    bearer,
    product,
    started,
)

SERVER = "_server"


def admin_key(world: World, label: str = "") -> dict[str, Any]:
    body = {"role": "admin", "label": label}
    made: dict[str, Any] = world.http.post("/v1/keys", json=body, headers=AS_ADMIN).json()
    return made


def logged(world: World, project: str = SERVER) -> list[dict[str, Any]]:
    """The whole log of a project, oldest first."""
    answer = world.http.get("/v1/export", params={"project": project}, headers=AS_ADMIN)
    assert 200 == answer.status_code, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def audited(data: Path) -> list[str]:
    """Audit a data folder, which must be sound; the logs that it has, in order."""
    state = str(data.with_name("state"))
    ran = call("audit", str(data), "--json", XDG_STATE_HOME=state)
    assert 0 == ran.code, ran.out + ran.err
    return [log["origin"].rpartition("/")[2] for log in ran.json["logs"]]


def test_it_is_empty_at_first_and_has_each_change_of_an_admin_key(
    world: ServerProcess,
) -> None:
    assert [] == logged(world)

    key = admin_key(world, label="ops")["key"]["id"]
    rotated = world.http.post(f"/v1/keys/{key}/rotate", json={}, headers=AS_ADMIN).json()
    world.http.delete(f"/v1/keys/{rotated['key']['id']}", headers=AS_ADMIN)

    events = logged(world)

    assert ["key.created", "key.rotated", "key.revoked"] == [event["event"] for event in events]
    assert [0, 1, 2] == [event["index"] for event in events]
    assert {"administration"} == {event["kind"] for event in events}
    assert ["ops", "ops", "ops"] == [event["facts"]["label"] for event in events]
    assert [] == logged(world, "default")
    assert ADMIN_KEY not in json.dumps(events)


def test_keys_of_a_project_are_in_the_log_of_the_project(world: ServerProcess) -> None:
    before = logged(world)
    body = {"role": "application", "project": "default"}
    world.http.post("/v1/keys", json=body, headers=AS_ADMIN)

    assert ["key.created"] == [event["event"] for event in logged(world, "default")]
    assert before == logged(world)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/events",
        "/v1/export",
        "/v1/receipts",
        "/v1/senders",
        "/v1/where?id=x",
        "/v1/events/tx_1",
        "/v1/events/tx_1/receipt",
    ],
)
def test_it_is_read_with_manage_and_nothing_less(shared: World, path: str) -> None:
    url = httpx.URL(path).copy_merge_params({"project": SERVER})
    answer = shared.http.get(url, headers=AS_APPLICATION)
    assert_canonical_error(answer, 403, "manage_scope_missing")
    assert shared.http.get(url, headers=AS_ADMIN).status_code in (200, 404)


def test_its_files_are_read_with_manage_and_nothing_less(shared: World) -> None:
    path = f"/ledger/{SERVER}/checkpoint"
    assert_canonical_error(shared.http.get(path), 401, "invalid_api_key")
    refused = shared.http.get(path, headers=AS_APPLICATION)
    assert_canonical_error(refused, 403, "manage_scope_missing")

    note = shared.http.get(path, headers=AS_ADMIN).text

    assert note.splitlines()[0].endswith(f"/{SERVER}")


def test_no_one_writes_into_it_or_changes_it(shared: World) -> None:
    def ask(method: str, path: str, body: Any) -> httpx.Response:
        return shared.http.request(method, path, json=body, headers=AS_ADMIN)

    for path, body in (("/v1/events", audit()), ("/v1/events/batch", {"events": [audit()]})):
        written = ask("POST", f"{path}?project={SERVER}", body)
        assert_canonical_error(written, 404, "not_found")
    changed = ask("PATCH", f"/v1/projects/{SERVER}", {"ledger_access": "public"})
    assert_canonical_error(changed, 404, "not_found")
    for path, body in (
        ("/v1/projects", {"name": SERVER}),
        ("/v1/keys", {"role": "application", "project": SERVER}),
        ("/v1/erasures", {"project": SERVER, "distinct_id": "x"}),
    ):
        assert_canonical_error(ask("POST", path, body), 400, "invalid_parameter")
    listed = shared.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]
    assert SERVER not in [project["name"] for project in listed]


def test_an_event_of_it_has_a_receipt_that_verifies(world: ServerProcess, tmp_path: Path) -> None:
    admin_key(world)
    (event,) = logged(world)
    path = f"/v1/events/{event['tx_id']}"
    params = {"project": SERVER, "wait": "sealed", "timeout": "30s"}

    checked = world.http.get(f"{path}/verify", params=params, headers=AS_ADMIN).json()

    assert "verified" == checked["verdict"], checked
    assert checked["origin"].endswith(f"/{SERVER}")
    text = world.http.get(f"{path}/receipt", params=params, headers=AS_ADMIN).text
    policy = world.http.get(f"/ledger/{SERVER}/policy", headers=AS_ADMIN).text
    (tmp_path / "it.tlog-proof").write_text(text)
    (tmp_path / "policy").write_text(policy)
    fine("verify", str(tmp_path / "it.tlog-proof"), "--policy", str(tmp_path / "policy"))


def test_it_is_audited_with_the_others(tmp_path: Path) -> None:
    with started(tmp_path / "data") as server:
        server.send(product())
        admin_key(server)
        server.stop()

    assert ["default", SERVER] == audited(tmp_path / "data")


def make_old(data: Path) -> None:
    """Turn a folder into one of the version that had no log of the server's own, nor scopes."""
    connection = apsw.Connection(str(data / "journal.db"))
    connection.execute(
        "DROP VIEW event; DROP VIEW event_part_0; DROP TABLE event_0;"
        "DELETE FROM log WHERE project_id = 0; DELETE FROM project WHERE id = 0;"
        "ALTER TABLE access_key DROP COLUMN scopes; ALTER TABLE log DROP COLUMN shard;"
        " ALTER TABLE project DROP COLUMN legal_hold;"
        " PRAGMA user_version = 3"
    )
    create_view(connection)
    connection.close()
    (data / "unique.db").unlink()
    (data / "keys" / f"{SERVER}.key").unlink()
    shutil.rmtree(data / "ledger" / SERVER)


def test_an_older_journal_gets_it_at_the_first_start_and_keeps_its_own_logs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started(data) as server:
        server.send(product(uuid="before"))
        before = logged(server, "default")
        server.stop()
    make_old(data)

    with started(data) as server:
        assert [] == logged(server)
        assert before == logged(server, "default")
        assert "duplicate" in server.send(product(uuid="before")).text
        admin_key(server, label="after")
        assert ["after"] == [event["facts"]["label"] for event in logged(server)]
        assert 200 == server.http.get("/v1/events", headers=AS_APPLICATION).status_code
        server.stop()

    assert ["default", SERVER] == audited(data)


def test_a_backup_from_before_there_was_one_goes_on_with_it_while_it_is_empty(
    tmp_path: Path,
) -> None:
    data, old = tmp_path / "data", tmp_path / "old"
    with started(data) as server:
        server.send(product())
        server.stop()
    shutil.copytree(data, old)
    make_old(old)

    said = fine("restore", str(old / "journal.db"), "--json", "--data", str(data)).json

    assert [] == said["logs"]
    with started(data) as server:
        admin_key(server, label="after")
        assert ["after"] == [event["facts"]["label"] for event in logged(server)]
        server.stop()
    assert ["default", SERVER] == audited(data)


def test_a_backup_from_before_there_was_one_gives_it_a_successor(tmp_path: Path) -> None:
    data, old = tmp_path / "data", tmp_path / "old"
    with started(data) as server:
        server.send(product())
        server.stop()
    shutil.copytree(data, old)
    make_old(old)
    with started(data) as server:
        admin_key(server)
        server.stop()
    here = ("--data", str(data))
    backup = str(old / "journal.db")

    assert_refused(call("restore", backup, *here), 3, "journal_shorter")
    said = fine("restore", backup, "--new-log", "--json", *here).json

    assert f"{SERVER}.2" in [log["successor"] for log in said["logs"]], said
    with started(data) as server:
        assert ["log.succeeded"] == [event["event"] for event in logged(server)]
        created = admin_key(server, label="later")
        assert 200 == server.http.get("/v1/keys", headers=bearer(created["secret"])).status_code
        assert ["later"] == [event["facts"]["label"] for event in logged(server)[1:]]
        note = server.http.get(f"/ledger/{SERVER}.2/checkpoint", headers=AS_ADMIN).text
        assert note.splitlines()[0].endswith(f"/{SERVER}.2")
        frozen = server.http.get(f"/ledger/{SERVER}/checkpoint", headers=AS_ADMIN)
        assert 200 == frozen.status_code
        server.stop()
    assert ["default", SERVER, f"{SERVER}.2"] == audited(data)


def test_the_log_of_a_project_keeps_its_names_and_row_ids_beside_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with started(data, INDELIBLE_LEDGER_ORIGIN="log.example/ledger") as server:
        server.send(product())
        admin_key(server)
        server.stop()
    connection = apsw.Connection(str(data / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)

    assert [
        (1, "default", "log.example/ledger/default", 0),
        (0, SERVER, f"log.example/ledger/{SERVER}", 0),
    ] == list(
        connection.execute(
            "SELECT project_id, name, origin, shard FROM log ORDER BY project_id DESC"
        )
    )
    assert [(0,), (1 << 40,)] == list(connection.execute("SELECT id FROM event ORDER BY id"))
    for folder, end in (("keys", ".key"), ("ledger", "")):
        assert {f"default{end}", f"{SERVER}{end}"} == {p.name for p in (data / folder).iterdir()}


def test_a_backup_has_it(world: ServerProcess, tmp_path: Path) -> None:
    said = fine("backup", str(tmp_path / "journal.db"), *at(world)).out
    assert SERVER in said
