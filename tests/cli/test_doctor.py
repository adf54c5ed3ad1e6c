"""`indelible doctor`."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.journal.outside import Log, sample
from tests.cli.command import Ran, at, call, fine
from tests.world import AS_ADMIN, TOKEN, ServerProcess, a_free_port, product, started

LOCAL = ["python", "settings", "folder", "lock", "journal", "schema", "integrity", "indexes"]
ALL = [*LOCAL, "leaves", "disk", "server", "clock", "event"]


def _states(ran: Ran) -> dict[str, str]:
    return {check["name"]: check["state"] for check in ran.json["checks"]}


def _details(ran: Ran) -> dict[str, str]:
    return {check["name"]: check["detail"] for check in ran.json["checks"]}


def test_a_healthy_server_passes_every_check(shared: ServerProcess) -> None:
    said = fine("doctor", *at(shared))
    found = call("doctor", "--full", "--json", *at(shared))

    assert [["ok", name] for name in ALL] == [line.split()[:2] for line in said.out.splitlines()]
    assert dict.fromkeys(ALL, "ok") == _states(found)
    assert "ok" == found.json["state"]
    assert str(shared.process.pid) in _details(found)["lock"]
    own_id = _details(found)["event"].split()[0]
    found_by_id = shared.http.get("/v1/where", params={"id": own_id}, headers=AS_ADMIN).json()
    assert ["$doctor"] == [event["event"] for event in found_by_id["events"]]


def test_no_send_sends_nothing(shared: ServerProcess) -> None:
    ran = call("doctor", "--no-send", "--json", *at(shared))

    assert ALL[:-1] == list(_states(ran))


def test_without_a_server_or_a_folder_it_says_what_cannot_be_checked(
    world: ServerProcess, tmp_path: Path
) -> None:
    world.stop()

    stopped = call("doctor", "--json", *at(world))
    nothing = call("doctor", "--no-send", "--json", "--data", str(tmp_path / "nothing"))

    assert (3, "cannot check") == (stopped.code, stopped.json["state"])
    unsure = [name for name, state in _states(stopped).items() if state == "cannot check"]
    assert ["server", "event"] == unsure
    assert "free" in _details(stopped)["lock"]
    assert (3, "cannot check") == (nothing.code, nothing.json["state"])
    assert "failed" not in _states(nothing).values()
    assert not (tmp_path / "nothing").exists()


def test_a_server_that_should_answer_and_does_not_has_failed(tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{a_free_port()}"

    ran = call(
        "doctor",
        "--json",
        cwd=tmp_path,
        INDELIBLE_HOST=nowhere,
        INDELIBLE_API_KEY="iml_live_0123456789abcdef",
    )

    assert (1, "failed", "failed") == (ran.code, _states(ran)["server"], _states(ran)["event"])
    assert "server_unreachable" in _details(ran)["server"]


def test_a_bad_setting_or_an_open_folder_has_failed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)

    ran = call("doctor", "--no-send", "--json", "--data", str(tmp_path), INDELIBLE_MAX_BATCH="many")

    assert 1 == ran.code
    assert ("failed", "failed") == (_states(ran)["settings"], _states(ran)["folder"])
    assert "INDELIBLE_MAX_BATCH" in _details(ran)["settings"]


def _flip_payload(journal: Path) -> None:
    content = journal.read_bytes()
    assert 1 == content.count(b"marked-3-payload")
    journal.write_bytes(content.replace(b"marked-3-payload", b"marked-3-pavload"))


def _flip_record(journal: Path) -> None:
    content = journal.read_bytes()
    assert 1 == content.count(b"marked-3-name")
    journal.write_bytes(content.replace(b"marked-3-name", b"marked-3-mane"))


def _sql(statement: str) -> Callable[[Path], None]:
    def change(journal: Path) -> None:
        with sqlite3.connect(journal) as connection:
            connection.execute(statement)
        connection.close()

    return change


@pytest.mark.parametrize(
    ("damage", "check", "says"),
    [
        (_flip_payload, "leaves", "index 3: its payload differs from what its leaf commits to"),
        (_flip_record, "leaves", "index 3: its record differs from what its leaf commits to"),
        (
            _sql("UPDATE event_1 SET salts = NULL WHERE id = (1 << 40) + 3"),
            "leaves",
            "index 3: a part of it is missing",
        ),
        (
            _sql("UPDATE event_1 SET payload = CAST(x'ff' AS TEXT) WHERE id = (1 << 40) + 3"),
            "leaves",
            "index 3: a part of it is missing, or is not what was stored",
        ),
        (
            _sql(
                "UPDATE event_1 SET leaf = (SELECT leaf FROM event_1 WHERE id = 1 << 40),"
                " salts = NULL, record = NULL, payload = NULL WHERE id = (1 << 40) + 3"
            ),
            "leaves",
            "index 3: its transaction id is not above those before it",
        ),
        (
            _sql("DELETE FROM event_1 WHERE id = (1 << 40) + 3"),
            "indexes",
            "misses 1 of its indexes",
        ),
        (_sql("DELETE FROM event_1 WHERE id = 1 << 40"), "indexes", "begins at index 1"),
        (_sql("PRAGMA user_version = 99"), "schema", "version 99"),
        (lambda journal: journal.write_bytes(b"x" * 8192), "journal", "not a database"),
        (
            lambda journal: journal.write_bytes(journal.read_bytes()[:-4096]),
            "integrity",
            "malformed",
        ),
    ],
    ids=[
        "payload",
        "record",
        "salts",
        "no UTF-8",
        "order",
        "gap",
        "start",
        "schema",
        "no database",
        "cut",
    ],
)
def test_a_damaged_journal_is_found(
    healthy: Path, tmp_path: Path, damage: Callable[[Path], None], check: str, says: str
) -> None:
    tmp_path.chmod(0o700)
    journal = tmp_path / "journal.db"
    journal.write_bytes(healthy.read_bytes())
    damage(journal)

    ran = call("doctor", "--no-send", "--json", "--data", str(tmp_path))

    assert 1 == ran.code, ran.out
    assert "failed" == _states(ran)[check]
    assert says in _details(ran)[check]


def test_an_event_that_is_stored_twice_is_found_by_a_full_look(
    healthy: Path, tmp_path: Path
) -> None:
    journal = tmp_path / "journal.db"
    journal.write_bytes(healthy.read_bytes())
    _sql("UPDATE event_1 SET unique_key = zeroblob(32) WHERE id > 1 << 40 AND id < (1 << 40) + 3")(
        journal
    )

    ran = call("doctor", "--no-send", "--full", "--json", "--data", str(tmp_path))

    assert (1, "failed") == (ran.code, _states(ran)["integrity"])
    assert "1 unique keys stand in more than one row" == _details(ran)["integrity"]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of six events, in one file; the fourth is marked."""
    folder = tmp_path_factory.mktemp("healthy")
    with started(folder / "data") as server:
        events = [product() for _ in range(6)]
        events[3] = product("marked-3-name", properties={"p": "marked-3-payload"})
        assert 200 == server.send({"api_key": TOKEN, "batch": events}).status_code
        fine("backup", str(folder / "journal.db"), *at(server))
    found = call("doctor", "--no-send", "--json", "--data", str(folder))
    assert "ok" == _states(found)["leaves"]
    return folder / "journal.db"


@given(entries=st.integers(0, 5_000), count=st.integers(1, 1_000))
def test_a_sample_ascends_within_the_log_and_has_the_newest(entries: int, count: int) -> None:
    log = Log(1, "p", entries, 0 if entries else None, entries - 1 if entries else None)

    chosen = sample(log, count)

    assert min(entries, count) == len(set(chosen))
    assert sorted(chosen) == chosen
    assert set(chosen) <= set(range(entries))
    assert set(range(max(entries - count // 2, 0), entries)) <= set(chosen)
