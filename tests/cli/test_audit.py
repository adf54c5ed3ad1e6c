"""`indelible audit` of a data folder: what a reader sees last is what matters."""

from pathlib import Path

import pytest

from tests.cli.command import Ran, call
from tests.world import AS_ADMIN, product, started

FORMED = ("log ", "origin", "believed", "events", "tiles", "root", "verdict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of a stopped server: events in one project, none in seven others."""
    data = tmp_path_factory.mktemp("audited") / "data"
    with started(data) as server:
        for number in range(7):
            made = server.http.post("/v1/projects", json={"name": f"p{number}"}, headers=AS_ADMIN)
            assert made.is_success
        assert 200 == server.send(product(), params={"wait": "sealed"}).status_code
    return data


def audited(folder: Path, state: Path, *more: str) -> Ran:
    return call("audit", str(folder), "--state", str(state), *more)


def test_the_last_lines_are_the_verdict_and_empty_logs_are_one_line(
    folder: Path, tmp_path: Path
) -> None:
    ran = audited(folder, tmp_path)
    *block, verified, empty, whole = ran.out.splitlines()

    assert 0 == ran.code
    assert "verified  default" == verified
    assert "empty     p0, p1, p2, p3, p4, 3 more" == empty
    assert "all logs  verified" == whole
    assert [] == [line for line in block if line and not line.startswith(FORMED)]


def test_for_machines_every_log_is_there(folder: Path, tmp_path: Path) -> None:
    ran = audited(folder, tmp_path, "--json").json

    assert ["verdict", "logs"] == list(ran)
    assert 9 == len(ran["logs"])


def test_what_is_wrong_is_named_before_what_is_right(folder: Path, tmp_path: Path) -> None:
    checkpoint = folder / "ledger" / "p3" / "checkpoint"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-20])
    try:
        ran = audited(folder, tmp_path)
    finally:
        checkpoint.write_bytes(content)

    assert ran.code in (1, 3)
    word = {1: "tampered", 3: "cannot be checked"}[ran.code]
    *_, first, _, _, whole = ran.out.splitlines()
    assert (word, "p3") == (first[: len(word)], first.split()[-1])
    assert word == whole.removeprefix("all logs").strip()
