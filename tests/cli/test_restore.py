"""`indelible restore`: a backup comes back, and no second history is ever signed."""

from pathlib import Path

import apsw
import pytest

from indelible.ledger.checkpoint import Checkpoint
from indelible.ledger.note import parse_note
from indelible.ledger.policy import parse_policy
from indelible.ledger.verify import Verdict, verify_receipt
from tests.cli.command import assert_refused, at, begin, call, fine
from tests.world import AS_ADMIN, ServerProcess, product, spawn


def receipt(server: ServerProcess, uuid: str) -> str:
    """The sealed receipt of a new event."""
    answer = server.http.post("/api/e?wait=sealed&timeout=10s", json=product(uuid=uuid))
    return str(answer.json()["events"][0]["receipt"])


def policy(server: ServerProcess, log: str = "default") -> str:
    return server.http.get(f"/ledger/{log}/policy", headers=AS_ADMIN).text


def checkpoint(data_dir: Path, log: str) -> Checkpoint:
    note = (data_dir / "ledger" / log / "checkpoint").read_text()
    return Checkpoint.parse(parse_note(note).text)


@pytest.fixture
def backup(world: ServerProcess, tmp_path: Path) -> Path:
    """A backup that has one event, of a log that has two; the server is stopped."""
    receipt(world, "before")
    path = tmp_path / "journal-monday.db"
    fine("backup", str(path), *at(world))
    return path


def test_a_backup_as_new_as_the_signed_log_goes_on_with_it(
    world: ServerProcess, backup: Path
) -> None:
    signed = checkpoint(world.data_dir, "default")
    world.stop()

    said = fine("restore", str(backup), "--json", *at(world)).json

    assert [] == said["logs"]
    assert Path(said["kept"]).exists()
    assert Path(said["kept"]).name not in call("doctor", *at(world)).out
    again = spawn(world.data_dir)
    try:
        receipt(again, "after")
        assert signed.origin == checkpoint(world.data_dir, "default").origin
        assert 2 == checkpoint(world.data_dir, "default").size
    finally:
        again.end()


def test_a_backup_older_than_the_signed_log_is_refused_and_nothing_is_changed(
    world: ServerProcess, backup: Path
) -> None:
    receipt(world, "later")
    world.stop()
    journal = (world.data_dir / "journal.db").read_bytes()

    ran = call("restore", str(backup), *at(world))

    assert_refused(ran, 3, "journal_shorter")
    assert "--new-log" in ran.err
    assert journal == (world.data_dir / "journal.db").read_bytes()
    assert [] == list(world.data_dir.glob(".restore-*"))


def test_with_new_log_the_old_one_is_frozen_and_a_successor_follows_it(
    world: ServerProcess, backup: Path
) -> None:
    old_policy = parse_policy(policy(world))
    lost = receipt(world, "later")
    frozen = checkpoint(world.data_dir, "default")
    world.stop()

    said = fine("restore", str(backup), "--new-log", *at(world))

    assert "default.2" in said.fact("log")
    before_its_start = call("audit", str(world.data_dir), XDG_STATE_HOME=str(backup.parent))
    assert 0 == before_its_start.code, before_its_start.out
    again = spawn(world.data_dir)
    try:
        new_policy = parse_policy(policy(again, "default.2"))
        proof = receipt(again, "after")
        # The old log is as it was, to the byte of its checkpoint; the new one is another log.
        assert frozen == checkpoint(world.data_dir, "default")
        assert Verdict.VERIFIED is verify_receipt(lost, old_policy).verdict
        assert Verdict.VERIFIED is verify_receipt(proof, new_policy).verdict
        assert Verdict.UNVERIFIABLE is verify_receipt(proof, old_policy).verdict
        _, succeeded, _ = again.events()
        assert "log.succeeded" == succeeded["event"]
        assert frozen.root.hex() == succeeded["facts"]["frozen_root"]
        assert {"frozen": frozen.origin, "frozen_size": 2, "kept": 1} == {
            name: succeeded["facts"][name] for name in ("frozen", "frozen_size", "kept")
        }
        assert not (world.data_dir / "keys" / "default.key").exists()
    finally:
        again.end()


def test_a_journal_that_is_only_copied_into_place_does_not_start(
    world: ServerProcess, backup: Path
) -> None:
    receipt(world, "later")
    world.stop()
    for name in ("journal.db", "unique.db"):
        for end in ("", "-wal", "-shm"):
            (world.data_dir / f"{name}{end}").unlink(missing_ok=True)
    (world.data_dir / "journal.db").write_bytes(backup.read_bytes())

    assert_refused(call("serve", "--port", "0", *at(world)), 3, "journal_shorter")


def test_a_restore_that_was_killed_leaves_no_copy_behind_once_it_is_made_again(
    world: ServerProcess, backup: Path
) -> None:
    world.stop()
    begun: list[Path] = []
    killed = begin("restore", str(backup), *at(world))
    try:
        while not begun and killed.poll() is None:
            begun = [*world.data_dir.glob(".restore-*")]
    finally:
        killed.kill()
        killed.communicate()
    assert 1 == len(begun)
    assert begun == [*world.data_dir.glob(".restore-*")]

    fine("restore", str(backup), *at(world))

    assert [] == [*world.data_dir.glob(".restore-*")]


def test_a_folder_in_use_and_a_missing_backup_are_refused(
    world: ServerProcess, backup: Path
) -> None:
    assert_refused(call("restore", str(backup), *at(world)), 3, "data_folder_in_use")
    assert_refused(call("restore", "nothing.db", *at(world)), 2, "no_journal")


@pytest.mark.parametrize("is_put_aside", [False, True])
def test_an_erasure_that_the_replaced_journal_knows_is_made_again(
    world: ServerProcess, backup: Path, is_put_aside: bool
) -> None:
    (event,) = world.events()
    body = {"tx_ids": [event["tx_id"]]}
    answer = world.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
    assert answer.is_success, answer.text
    world.stop()
    if is_put_aside:  # where a restore that lost its power has left it
        journal = world.data_dir / "journal.db"
        journal.rename(world.data_dir / "journal.db.before-20261121T113857.000000Z")

    said = fine("restore", str(backup), "--new-log", "--json", *at(world)).json

    assert 1 == said["erased_again"]
    again = spawn(world.data_dir)
    try:
        assert True is again.events()[0]["erased"]
    finally:
        again.end()


def test_an_erasure_in_another_history_erases_nothing_of_the_one_that_comes_back(
    world: ServerProcess, backup: Path, tmp_path: Path
) -> None:
    receipt(world, "kept")
    newest = tmp_path / "journal-tuesday.db"
    fine("backup", str(newest), *at(world))
    world.stop()
    fine("restore", str(backup), "--new-log", *at(world))
    parted = spawn(world.data_dir)
    try:
        receipt(parted, "other")
        receipt(parted, "another")
        tx_ids = [event["tx_id"] for event in parted.events() if event["kind"] == "product"][1:]
        body = {"tx_ids": tx_ids}
        answer = parted.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
        assert 2 == answer.json()["erased"], answer.text
    finally:
        parted.end()

    said = fine("restore", str(newest), "--new-log", "--json", *at(world)).json

    assert 0 == said["erased_again"]
    again = spawn(world.data_dir)
    try:
        assert ["before", "kept"] == [event["uuid"] for event in again.events()[:2]]
    finally:
        again.end()


def test_the_same_backup_comes_back_again_under_a_further_successor(
    world: ServerProcess, backup: Path
) -> None:
    receipt(world, "later")
    world.stop()
    for successor in ("default.2", "default.3"):
        said = fine("restore", str(backup), "--new-log", "--json", *at(world)).json

        (log,) = said["logs"]
        assert ("default", successor) == (log["frozen"], log["successor"])
        again = spawn(world.data_dir)
        try:
            proof = receipt(again, "after")
            found = verify_receipt(proof, parse_policy(policy(again, successor)))
            assert Verdict.VERIFIED is found.verdict
        finally:
            again.end()
        assert 0 == call("audit", str(world.data_dir), XDG_STATE_HOME=str(backup.parent)).code


def test_the_newest_journal_of_a_frozen_log_comes_back_under_a_successor(
    world: ServerProcess, backup: Path, tmp_path: Path
) -> None:
    receipt(world, "later")
    newest = tmp_path / "journal-tuesday.db"
    fine("backup", str(newest), *at(world))
    world.stop()
    fine("restore", str(backup), "--new-log", *at(world))

    assert_refused(call("restore", str(newest), *at(world)), 3, "log_key_missing")
    said = fine("restore", str(newest), "--new-log", "--json", *at(world)).json

    assert 2 == said["logs"][0]["kept"]
    again = spawn(world.data_dir)
    try:
        assert ["before", "later"] == [event["uuid"] for event in again.events()[:2]]
    finally:
        again.end()


def test_a_damaged_journal_is_replaced_and_what_it_knew_of_erasures_is_said_to_be_unknown(
    world: ServerProcess, backup: Path
) -> None:
    world.stop()
    journal = apsw.Connection(str(world.data_dir / "journal.db"))
    page = journal.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event_1'").get
    size = int(journal.pragma("page_size"))
    journal.close()
    with (world.data_dir / "journal.db").open("r+b") as file:
        file.seek((int(page) - 1) * size)
        file.write(b"\xff" * size)

    said = fine("restore", str(backup), *at(world))

    assert "erase again what must be gone" in said.err
    again = spawn(world.data_dir)
    try:
        assert ["before"] == [event["uuid"] for event in again.events()]
    finally:
        again.end()
