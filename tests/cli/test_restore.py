"""`indelible restore`: a backup comes back, and no second history is ever signed."""

import contextlib
import functools
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import parse_note
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.verify import Verdict, verify_receipt
from tests.cli.command import assert_refused, at, begin, call, fine
from tests.edge.wire import eventually
from tests.world import AS_ADMIN, ServerProcess, product, started


def receipt(server: ServerProcess, uuid: str) -> str:
    """The sealed receipt of a new event."""
    answer = server.http.post("/api/e?wait=sealed&timeout=30s", json=product(uuid=uuid))
    return str(answer.json()["events"][0]["receipt"])


def policy(server: ServerProcess, log: str = "default") -> str:
    return server.http.get(f"/ledger/{log}/policy", headers=AS_ADMIN).text


def checkpoint(data_dir: Path, log: str) -> Checkpoint:
    note = (data_dir / "ledger" / log / "checkpoint").read_text()
    return Checkpoint.parse(parse_note(note).text)


@dataclass(frozen=True)
class Stopped:
    """A data folder that no server runs on, with the backups that were taken of it beside it."""

    root: Path

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def here(self) -> tuple[str, str]:
        """The arguments that name it."""
        return "--data", str(self.data)

    def kept(self, name: str) -> str:
        """The path of a backup, or of a text that was written down."""
        return str(self.root / name)

    def restored(self, name: str, *arguments: str) -> Any:
        """What `restore` says of a backup of this name."""
        return fine("restore", self.kept(name), *arguments, "--json", *self.here).json


MONDAY, TUESDAY = "journal-monday.db", "journal-tuesday.db"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Stopped:
    """A server's folder on Tuesday, and in `monday` as it was on Monday, with an event less."""
    made = Stopped(tmp_path_factory.mktemp("restore"))
    with started(made.data) as server:
        receipt(server, "before")
        fine("backup", made.kept(MONDAY), *at(server))
    shutil.copytree(made.data, made.kept("monday"))
    with started(made.data) as server:
        Path(made.kept("policy")).write_text(policy(server))
        Path(made.kept("later")).write_text(receipt(server, "later"))
        fine("backup", made.kept(TUESDAY), *at(server))
    return made


@pytest.fixture
def tuesday(made: Stopped, tmp_path: Path) -> Stopped:
    """A folder whose log has one event more than its backup of Monday."""
    return Stopped(shutil.copytree(made.root, tmp_path / "tuesday"))


@pytest.fixture
def monday(tuesday: Stopped) -> Stopped:
    """A folder whose log has the one event of its backup."""
    shutil.rmtree(tuesday.data)
    Path(tuesday.kept("monday")).rename(tuesday.data)
    return tuesday


def test_a_backup_as_new_as_the_signed_log_goes_on_with_it(monday: Stopped) -> None:
    signed = checkpoint(monday.data, "default")

    said = monday.restored(MONDAY)

    assert [] == said["logs"]
    assert Path(said["kept"]).exists()
    assert Path(said["kept"]).name not in call("doctor", *monday.here).out
    with started(monday.data) as again:
        receipt(again, "after")
        assert signed.origin == checkpoint(monday.data, "default").origin
        assert 2 == checkpoint(monday.data, "default").size


def test_a_backup_older_than_the_signed_log_is_refused_and_nothing_is_changed(
    tuesday: Stopped,
) -> None:
    journal = (tuesday.data / "journal.db").read_bytes()

    ran = call("restore", tuesday.kept(MONDAY), *tuesday.here)

    assert_refused(ran, 3, "journal_shorter")
    assert "--new-log" in ran.err
    assert journal == (tuesday.data / "journal.db").read_bytes()
    assert [] == list(tuesday.data.glob(".restore-*"))


def test_with_new_log_the_old_one_is_frozen_and_a_successor_follows_it(tuesday: Stopped) -> None:
    old_policy = parse_policy(Path(tuesday.kept("policy")).read_text())
    lost = Path(tuesday.kept("later")).read_text()
    frozen = checkpoint(tuesday.data, "default")

    said = fine("restore", tuesday.kept(MONDAY), "--new-log", *tuesday.here)

    assert "default.2" in said.fact("log")
    before_its_start = call("audit", str(tuesday.data), XDG_STATE_HOME=str(tuesday.root))
    assert 0 == before_its_start.code, before_its_start.out
    with started(tuesday.data) as again:
        new_policy = parse_policy(policy(again, "default.2"))
        proof = receipt(again, "after")
        # The old log is as it was, to the byte of its checkpoint; the new one is another log.
        assert frozen == checkpoint(tuesday.data, "default")
        assert Verdict.VERIFIED is verify_receipt(lost, old_policy).verdict
        assert Verdict.VERIFIED is verify_receipt(proof, new_policy).verdict
        assert Verdict.UNVERIFIABLE is verify_receipt(proof, old_policy).verdict
        _, succeeded, _ = again.events()
        assert "log.succeeded" == succeeded["event"]
        assert frozen.root.hex() == succeeded["facts"]["frozen_root"]
        assert {"frozen": frozen.origin, "frozen_size": 2, "kept": 1} == {
            name: succeeded["facts"][name] for name in ("frozen", "frozen_size", "kept")
        }
        assert not (tuesday.data / "keys" / "default.key").exists()


def test_a_journal_that_is_only_copied_into_place_does_not_start(tuesday: Stopped) -> None:
    for name in ("journal.db", "unique.db"):
        for end in ("", "-wal", "-shm"):
            (tuesday.data / f"{name}{end}").unlink(missing_ok=True)
    shutil.copyfile(tuesday.kept(MONDAY), tuesday.data / "journal.db")

    assert_refused(call("serve", "--port", "0", *tuesday.here), 3, "journal_shorter")


@contextlib.contextmanager
def unreadable(backup: str) -> Iterator[None]:
    """Whoever reads it waits, for some seconds."""
    with contextlib.closing(apsw.Connection(backup)) as held:
        held.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE")
        yield


def test_a_restore_that_was_killed_leaves_no_copy_behind_once_it_is_made_again(
    monday: Stopped,
) -> None:
    def begun() -> list[Path]:
        return [*monday.data.glob(".restore-*")]

    with unreadable(monday.kept(MONDAY)):  # else it might be done before it is killed
        killed = begin("restore", monday.kept(MONDAY), *monday.here)
        try:
            eventually(lambda: begun() != [] or killed.poll() is not None)
        finally:
            killed.kill()
            killed.communicate()
    assert 1 == len(begun())

    monday.restored(MONDAY)

    assert [] == begun()


def test_a_folder_in_use_and_a_missing_backup_are_refused(monday: Stopped) -> None:
    with started(monday.data):
        in_use = call("restore", monday.kept(MONDAY), *monday.here)

    assert_refused(in_use, 3, "data_folder_in_use")
    assert_refused(call("restore", "nothing.db", *monday.here), 2, "no_journal")


@pytest.mark.parametrize("is_put_aside", [False, True])
def test_an_erasure_that_the_replaced_journal_knows_is_made_again(
    monday: Stopped, is_put_aside: bool
) -> None:
    with started(monday.data) as server:
        (event,) = server.events()
        body = {"tx_ids": [event["tx_id"]]}
        answer = server.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
        assert answer.is_success, answer.text
    if is_put_aside:  # where a restore that lost its power has left it
        journal = monday.data / "journal.db"
        journal.rename(monday.data / "journal.db.before-20261121T113857.000000Z")

    said = monday.restored(MONDAY, "--new-log")

    assert 1 == said["erased_again"]
    with started(monday.data) as again:
        assert True is again.events()[0]["erased"]


def test_a_legal_hold_of_the_replaced_journal_is_kept_and_one_of_the_backup_keeps_its_events(
    monday: Stopped,
) -> None:
    def hold(server: ServerProcess, is_held: bool) -> None:
        body = {"legal_hold": is_held}
        answer = server.http.patch("/v1/projects/default", json=body, headers=AS_ADMIN)
        assert answer.is_success, answer.text

    def erase(server: ServerProcess) -> int:
        body = {"tx_ids": [server.events()[0]["tx_id"]]}
        return server.http.post("/v1/erasures", json=body, headers=AS_ADMIN).status_code

    held = monday.kept("held.db")
    with started(monday.data) as server:
        hold(server, True)
    assert 0 == monday.restored(MONDAY, "--new-log")["erased_again"]
    with started(monday.data) as server:
        assert 409 == erase(server)
        fine("backup", held, *monday.here)
        hold(server, False)
        assert 200 == erase(server)

    assert 0 == monday.restored("held.db", "--new-log")["erased_again"]

    with started(monday.data) as again:
        assert "erased" not in again.events()[0]
        assert 409 == erase(again)


def test_an_erasure_in_another_history_erases_nothing_of_the_one_that_comes_back(
    tuesday: Stopped,
) -> None:
    tuesday.restored(MONDAY, "--new-log")
    with started(tuesday.data) as parted:
        receipt(parted, "other")
        receipt(parted, "another")
        tx_ids = [event["tx_id"] for event in parted.events() if event["kind"] == "product"][1:]
        body = {"tx_ids": tx_ids}
        answer = parted.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
        assert 2 == answer.json()["erased"], answer.text

    said = tuesday.restored(TUESDAY, "--new-log")

    assert 0 == said["erased_again"]
    with started(tuesday.data) as again:
        assert ["before", "later"] == [event["uuid"] for event in again.events()[:2]]


def test_an_erasure_is_repeated_for_its_events_and_not_for_others_at_the_same_indexes(
    tuesday: Stopped,
) -> None:
    """The backup has events at every index that was erased, and they are others."""
    wednesday = "journal-wednesday.db"
    with started(tuesday.data) as server:
        for name in ("third", "fourth", "fifth"):
            receipt(server, name)
        fine("backup", tuesday.kept(wednesday), *at(server))
    tuesday.restored(MONDAY, "--new-log")
    with started(tuesday.data) as parted:
        for name in ("other", "another"):
            receipt(parted, name)
        events = [event for event in parted.events() if event["kind"] == "product"]
        assert ["before", "other", "another"] == [event["uuid"] for event in events]
        body = {"tx_ids": [event["tx_id"] for event in events]}
        answer = parted.http.post("/v1/erasures", json=body, headers=AS_ADMIN)
        assert 3 == answer.json()["erased"], answer.text
        assert [0, 2, 3] == [event["index"] for event in parted.events() if event.get("erased")]

    said = tuesday.restored(wednesday, "--new-log")

    assert 1 == said["erased_again"], "the one event that both have"
    with started(tuesday.data) as again:
        first, *others = again.events()[:5]
        assert True is first["erased"]
        assert ["later", "third", "fourth", "fifth"] == [event["uuid"] for event in others]


@pytest.mark.parametrize("longer", [0, 2])
def test_a_backup_of_another_history_is_refused_and_comes_back_under_a_successor(
    tuesday: Stopped, longer: int
) -> None:
    """It has the log's name and key, and as many events as were signed here, or more."""
    other = "journal-other.db"
    with started(Path(tuesday.kept("monday"))) as parted:
        for number in range(1 + longer):
            receipt(parted, f"other-{number}")
        fine("backup", tuesday.kept(other), *at(parted))
    before = {path: path.read_bytes() for path in tuesday.data.rglob("*") if path.is_file()}

    refused = call("restore", tuesday.kept(other), *tuesday.here)

    assert_refused(refused, 3, "journal_differs")
    after = {path: path.read_bytes() for path in tuesday.data.rglob("*") if path.is_file()}
    assert {path: before[path] for path in before if path.name != "serve.lock"} == {
        path: after[path] for path in after if path.name != "serve.lock"
    }
    (log,) = tuesday.restored(other, "--new-log")["logs"]
    assert ("default", "default.2", 2 + longer, 2) == (
        log["frozen"],
        log["successor"],
        log["kept"],
        log["signed"],
    )
    lost = Path(tuesday.kept("later")).read_text()
    with started(tuesday.data) as again:
        assert ["before", "other-0"] == [event["uuid"] for event in again.events()[:2]]
        old_policy = parse_policy(Path(tuesday.kept("policy")).read_text())
        assert Verdict.VERIFIED is verify_receipt(lost, old_policy).verdict


class Died(BaseException):
    """What a process that is killed does not live to see."""


Step = Callable[[str, tuple[Any, ...]], bool]
_last_steps: list[Step] = []


def _die(event: str, arguments: tuple[Any, ...], steps: list[Step] = _last_steps) -> None:
    """A hook that is called to the very end, when a module's names are gone: it has its own."""
    for step in steps:
        if step(event, arguments):
            raise Died(event)


@contextlib.contextmanager
def dying_before(step: Step) -> Iterator[None]:
    """What this process is about to ask of the system is never done, if it is this step."""
    _watch_steps()
    _last_steps.append(step)
    try:
        with pytest.raises(Died):
            yield
    finally:
        _last_steps.remove(step)


@functools.cache
def _watch_steps() -> None:
    sys.addaudithook(_die)  # for good: Python takes none away again


def test_a_restore_that_dies_before_its_journal_is_in_place_has_put_no_key_out_of_use(
    tuesday: Stopped,
) -> None:
    """Else no server would start on either journal: the old one asks for the key."""
    journal, key = tuesday.data / "journal.db", tuesday.data / "keys" / "default.key"

    def puts_it_in_place(event: str, arguments: tuple[Any, ...]) -> bool:
        return event == "os.rename" and str(arguments[1]) == str(journal)

    with dying_before(puts_it_in_place):
        call("restore", tuesday.kept(MONDAY), "--new-log", *tuesday.here)

    assert key.exists()
    assert not journal.exists()
    saved = shutil.copytree(tuesday.data, tuesday.root / "saved")
    for aside in saved.glob("journal.db.before-*"):
        _, dash, end = aside.name.partition("Z-")
        aside.rename(saved / f"journal.db{'-' if dash else ''}{end}")
    with started(saved) as as_before:
        assert ["before", "later"] == [event["uuid"] for event in as_before.events()]

    tuesday.restored(MONDAY, "--new-log")

    assert not key.exists()
    with started(tuesday.data) as again:
        assert "before" == again.events()[0]["uuid"]


def test_the_same_backup_comes_back_again_under_a_further_successor(tuesday: Stopped) -> None:
    for successor in ("default.2", "default.3"):
        said = tuesday.restored(MONDAY, "--new-log")

        (log,) = said["logs"]
        assert ("default", successor) == (log["frozen"], log["successor"])
        with started(tuesday.data) as again:
            proof = receipt(again, "after")
            found = verify_receipt(proof, parse_policy(policy(again, successor)))
            assert Verdict.VERIFIED is found.verdict
        assert 0 == call("audit", str(tuesday.data), XDG_STATE_HOME=str(tuesday.root)).code


def test_the_newest_journal_of_a_frozen_log_comes_back_under_a_successor(tuesday: Stopped) -> None:
    tuesday.restored(MONDAY, "--new-log")

    refused = call("restore", tuesday.kept(TUESDAY), *tuesday.here)
    assert_refused(refused, 3, "log_key_missing")
    said = tuesday.restored(TUESDAY, "--new-log")

    assert 2 == said["logs"][0]["kept"]
    with started(tuesday.data) as again:
        assert ["before", "later"] == [event["uuid"] for event in again.events()[:2]]


def test_a_damaged_journal_is_replaced_and_what_it_knew_of_erasures_is_said_to_be_unknown(
    monday: Stopped,
) -> None:
    journal = apsw.Connection(str(monday.data / "journal.db"))
    page = journal.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'event_1'").get
    size = int(journal.pragma("page_size"))
    journal.close()
    with (monday.data / "journal.db").open("r+b") as file:
        file.seek((int(page) - 1) * size)
        file.write(b"\xff" * size)

    said = fine("restore", monday.kept(MONDAY), *monday.here)

    assert "erase again what must be gone" in said.err
    with started(monday.data) as again:
        assert ["before"] == [event["uuid"] for event in again.events()]
