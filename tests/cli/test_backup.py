"""`indelible backup`."""

import sqlite3
import threading
from pathlib import Path

from tests.cli.command import assert_refused, at, call, fine, run_without_privilege
from tests.edge.wire import eventually
from tests.world import TOKEN, ServerProcess, audit, product, started


def test_a_backup_taken_under_load_is_a_whole_journal(world: ServerProcess, tmp_path: Path) -> None:
    events = [{**product(), "uuid": f"seed-{n}"} for n in range(1_000)]
    assert 200 == world.send({"api_key": TOKEN, "batch": events}).status_code
    acknowledged: list[str] = []
    enough = threading.Event()

    def send() -> None:
        while not enough.is_set():
            name = f"live-{len(acknowledged)}"
            assert 200 == world.send(product(uuid=name)).status_code
            acknowledged.append(name)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        before = list(acknowledged)
        target = tmp_path / "copies" / "journal-monday.db"
        target.parent.mkdir(mode=0o700)
        said = fine("backup", str(target), "--json", *at(world)).json
        eventually(lambda: len(acknowledged) >= len(before) + 10 or not sender.is_alive())
        assert sender.is_alive()
    finally:
        enough.set()
        sender.join()

    assert [target] == list(target.parent.iterdir())
    assert 0o600 == target.stat().st_mode & 0o777
    assert target.stat().st_size == said["size_bytes"]
    elsewhere = tmp_path / "elsewhere"
    fine("restore", str(target), "--data", str(elsewhere), "--new-log")
    with started(elsewhere) as copy:
        *held, succeeded = copy.events()
        assert "log.succeeded" == succeeded["event"]
        ids = {event["uuid"] for event in held}
        assert {"project": "default", "entries": len(held)} == said["logs"][0]
        assert {event["uuid"] for event in events} | set(before) <= ids
        again = copy.send(product(uuid="seed-7")).json()["events"][0]
        assert (True, 7) == (again["duplicate"], again["index"])
        added = copy.send(product(uuid="after")).json()["events"][0]
        assert ("ok", len(held) + 1) == (added["result"], added["index"])


def test_a_backup_needs_no_server_and_gets_a_name_of_its_own_in_a_folder(
    world: ServerProcess, tmp_path: Path
) -> None:
    world.send(product())
    world.send_audit(audit())
    world.stop()
    folder = tmp_path / "backups"
    folder.mkdir()

    said = fine("backup", str(folder), *at(world))

    (made,) = folder.iterdir()
    assert str(made) == said.fact("backup")
    assert made.name.startswith("journal-")
    assert "default: 2 entries, index 0 to 1" == said.fact("project")
    assert "_server: 0 entries" == said.fact("server")
    assert "3, hashed" == said.fact("keys")
    with sqlite3.connect(made) as connection:
        assert (2,) == connection.execute("SELECT count(*) FROM event").fetchone()
    connection.close()
    assert [made] == list(folder.iterdir())


def test_a_backup_never_overwrites(shared: ServerProcess, tmp_path: Path) -> None:
    target = tmp_path / "journal.db"
    target.write_text("older")

    assert_refused(call("backup", str(target), *at(shared)), 2, "already_exists")
    assert "older" == target.read_text()


def test_a_backup_of_nothing_or_to_nowhere_is_a_clear_error(
    shared: ServerProcess, tmp_path: Path
) -> None:
    target = tmp_path / "copy.db"

    assert_refused(call("backup", str(target), "--data", str(tmp_path)), 3, "no_journal")
    assert_refused(call("backup", str(tmp_path / "x" / "y"), *at(shared)), 3, "io_failed")
    assert [] == list(tmp_path.iterdir())


def test_a_journal_with_a_gap_is_not_backed_up(shared: ServerProcess, tmp_path: Path) -> None:
    shared.send({"api_key": TOKEN, "batch": [product() for _ in range(5)]})
    broken = tmp_path / "journal.db"
    assert 0 == call("backup", str(broken), *at(shared)).code
    with sqlite3.connect(broken) as connection:
        connection.execute("DELETE FROM event_1 WHERE id = (1 << 40) + 2")
    connection.close()

    ran = call("backup", str(tmp_path / "copy.db"), "--data", str(tmp_path))

    assert_refused(ran, 1, "journal_damaged")
    assert "project default misses 1 of its indexes" in ran.err
    assert [broken] == [path for path in tmp_path.iterdir() if path.suffix == ".db"]
    assert not (tmp_path / "copy.db").exists()


def test_a_journal_in_a_folder_that_is_read_only_is_not_called_damaged(
    world: ServerProcess, tmp_path: Path
) -> None:
    world.send(product())
    world.stop()
    world.data_dir.chmod(0o500)

    target = str(tmp_path / "copy.db")
    assert_refused(run_without_privilege("backup", target, *at(world)), 3, "io_failed")
    assert_refused(run_without_privilege("serve", "--port", "0", *at(world)), 3, "io_failed")
    audited = run_without_privilege("audit", str(world.data_dir), "--state", str(tmp_path))
    assert_refused(audited, 3, "journal_unreadable")
    examined = run_without_privilege("doctor", "--json", *at(world))
    states = {one["name"]: one["state"] for one in examined.json["checks"]}
    assert (3, "cannot check") == (examined.code, states["journal"])
