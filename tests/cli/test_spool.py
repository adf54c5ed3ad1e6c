"""`indelible spool`: what was refused is seen, sent again, or deleted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from indelible.client import Indelible
from indelible.client.spool import HEAD, frame
from tests.cli.command import Ran, assert_refused, call
from tests.client.stub import API_KEY, TOKEN, Stub, answers, takes


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        yield server


@pytest.fixture
def spools(stub: Stub, tmp_path: Path) -> Path:
    """The spools of a client whose events were refused: three audit events and two others."""
    stub.usual = answers(400, {"ok": False, "reason": "invalid_event"})
    folder = tmp_path / "spools"
    with client(stub, folder) as refused:
        for name in ("row.read", "row.read", "row.written"):
            refused.audit.send_async(name, "secret words")
        for _ in range(2):
            refused.capture("tick")
        assert refused.flush(60)
    stub.usual = takes()
    return folder


def client(stub: Stub, folder: Path) -> Indelible:
    return Indelible(TOKEN, api_key=API_KEY, host=stub.url, spool=True, spool_dir=folder)


def spool(*arguments: str, folder: Path) -> Ran:
    return call("spool", *arguments, INDELIBLE_SPOOL_DIR=str(folder))


def test_the_list_names_what_was_refused_without_its_payload(spools: Path) -> None:
    ran = spool("list", folder=spools)

    assert 0 == ran.code
    assert f"spool    {spools / 'audit'}\n" in ran.out
    assert "refused  3 events in 1 file" in ran.out
    assert "row.read (2), row.written (1)\n" in ran.out
    assert "refused  2 events in 1 file" in ran.out
    assert 2 == ran.out.count("waiting  nothing\n")
    assert "secret words" not in ran.out
    assert max(map(len, ran.out.splitlines())) <= 80 + len(str(spools))


def test_the_list_for_machines_has_the_same(spools: Path) -> None:
    ran = spool("list", "--json", folder=spools)

    audit, product = ran.json["spools"]
    assert {"row.read": 2, "row.written": 1} == audit["refused"][0]["names"]
    assert {"files": 0, "bytes": 0} == product["waiting"]
    name, _, file = audit["refused"][0]["file"].partition("/")
    assert (spools / name / "refused" / file).is_file()


def test_what_is_sent_again_arrives_with_the_next_client(stub: Stub, spools: Path) -> None:
    ran = spool("resend", folder=spools)

    assert (0, "5 events in 2 files to be sent again\n") == (ran.code, ran.out)
    with client(stub, spools) as heir:
        assert heir.flush(60)
    assert 5 == len(stub.stored)
    assert "refused  nothing\n" in spool("list", folder=spools).out
    assert "nothing to be sent again\n" == spool("resend", folder=spools).out


def test_one_file_can_be_named(spools: Path) -> None:
    audit, _ = spool("list", "--json", folder=spools).json["spools"]
    ran = spool("drop", "--yes", audit["refused"][0]["file"], "--json", folder=spools)

    assert {"dropped": {"files": 1, "events": 3}} == ran.json
    audit, product = spool("list", "--json", folder=spools).json["spools"]
    assert ([], 1) == (audit["refused"], len(product["refused"]))


def test_nothing_is_deleted_without_a_yes(spools: Path) -> None:
    assert_refused(spool("drop", folder=spools), 2, "called_wrongly")

    assert 2 == len(list(spools.rglob("*.batch")))


def test_a_damaged_file_stays_when_others_are_sent_again(spools: Path) -> None:
    damaged = spools / "audit" / "refused" / "1-x-damaged.batch"
    damaged.write_bytes(HEAD + frame(b"no JSON") + b"torn")

    assert "5 events in 2 files to be sent again\n" == spool("resend", folder=spools).out
    assert damaged.is_file()
    assert "? (1) (damaged)\n" in spool("list", folder=spools).out


def test_where_nothing_was_ever_spooled_the_list_says_so(tmp_path: Path) -> None:
    for folder in ("none", ""):
        ran = spool("list", folder=tmp_path / folder)
        assert 0 == ran.code
        assert ran.out.endswith(": nothing waits, and nothing was refused\n")
    assert "nothing deleted\n" == spool("drop", folder=tmp_path).out


def test_a_folder_or_file_that_is_not_there_is_named(spools: Path) -> None:
    missing = str(spools / "missing")
    assert_refused(call("spool", "list", "--spool", missing), 2, "called_wrongly")
    assert_refused(spool("resend", "no.batch", folder=spools), 2, "called_wrongly")
