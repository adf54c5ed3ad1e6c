"""How a server starts: what refuses it comes before its first write, and a full disk does not."""

import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.command import assert_refused, run
from tests.edge.disk import a_disk
from tests.edge.wire import eventually, first
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    World,
    inside,
    product,
    started,
)

KEYS = {
    "INDELIBLE_SERVER_TOKEN": TOKEN,
    "INDELIBLE_SERVER_API_KEY": API_KEY,
    "INDELIBLE_SERVER_ADMIN_KEY": ADMIN_KEY,
}

OTHER_KEY = "iml_live_other-key-0123456789"


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a data folder but the lock of the process, and its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "serve.lock"
    }


def refused(folder: Path, code: str, *, exit_code: int = 3, port: int = 0, **env: str) -> None:
    """Starting is refused and leaves everything as it was."""
    before = content(folder)
    existed = folder.exists()
    fixed: dict[str, Any] = {**KEYS, **env}
    ran = run("serve", "--data", str(folder), "--port", str(port), **fixed)
    assert_refused(ran, exit_code, code)
    assert before == content(folder)
    assert existed or not folder.exists()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a server that stored events, and was stopped."""
    folder = tmp_path_factory.mktemp("used") / "data"
    with inside(folder) as world:
        world.send(product(), params={"wait": "sealed", "timeout": "10s"})
    return folder


@pytest.fixture
def data(used: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(used, tmp_path / "data"))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that something else listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


# What is refused


def test_a_port_in_use_is_found_before_a_folder_is_made(tmp_path: Path, taken: int) -> None:
    refused(tmp_path / "new", "address_in_use", port=taken)


def test_a_policy_that_cannot_be_read_is_found_before_a_folder_is_made(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    policy.write_text("quorum of what\n")
    refused(tmp_path / "new", "setting_invalid", exit_code=2, INDELIBLE_WITNESS_POLICY=str(policy))


def test_one_secret_for_two_keys_is_found_before_a_folder_is_made(tmp_path: Path) -> None:
    refused(tmp_path / "new", "setting_invalid", exit_code=2, INDELIBLE_SERVER_ADMIN_KEY=API_KEY)


def without_journal(data: Path) -> None:
    (data / "journal.db").unlink()


def with_an_empty_journal(data: Path) -> None:
    (data / "journal.db").write_bytes(b"")


def with_the_wal_alone(data: Path) -> None:
    for path in data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (data / "journal.db-wal").write_bytes(b"what was acknowledged last")


@pytest.mark.parametrize("harm", [without_journal, with_an_empty_journal, with_the_wal_alone])
def test_no_journal_is_begun_where_one_is_missing(data: Path, harm: Callable[[Path], None]) -> None:
    harm(data)
    refused(data, "log_exists")


def test_a_missing_lock_is_found_before_a_key_is_changed(data: Path) -> None:
    (data / "lock.db").unlink()
    refused(
        data,
        "lock_missing",
        INDELIBLE_SERVER_TOKEN="another-token",
        INDELIBLE_SERVER_ADMIN_KEY=OTHER_KEY,
    )


def test_a_secret_of_another_key_is_found_before_one_is_changed(data: Path) -> None:
    refused(
        data,
        "already_exists",
        exit_code=2,
        INDELIBLE_SERVER_API_KEY=OTHER_KEY,
        INDELIBLE_SERVER_ADMIN_KEY=API_KEY,
    )


def test_the_same_folder_untouched_is_not_refused(data: Path) -> None:
    with inside(data) as world:
        assert 1 == len(world.events())


# A full disk


def assert_reads(world: World, tx_id: str) -> None:
    """Events, export, one event and health answer."""
    for path in ("/v1/events", f"/v1/events/{tx_id}", "/v1/export", "/v1/where?id=kept"):
        answer = world.http.get(path, headers=AS_APPLICATION)
        assert 200 == answer.status_code, answer.text
        assert "kept" in answer.text
    assert world.http.get("/healthz").json()["status"] in ("ok", "degraded", "failing")
    assert 200 == world.http.get("/metrics", headers=AS_ADMIN).status_code


def test_a_journal_that_cannot_be_written_at_the_start_is_served_for_reading(
    tmp_path: Path,
) -> None:
    with inside(tmp_path) as world:
        kept = first(world.send(product(uuid="kept")))
    with a_disk() as disk:
        disk.is_full = True
        with inside(tmp_path, vfs=disk.name) as world:
            assert_reads(world, kept["tx_id"])
            assert 503 == world.send(product(uuid="late")).status_code
            assert 503 == world.http.get("/healthz").status_code
            disk.is_full = False
            eventually(lambda: world.http.get("/healthz").json()["status"] == "ok")
            assert 200 == world.send(product(uuid="late")).status_code


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_a_server_starts_on_a_disk_without_a_free_byte_and_serves_what_it_has(
    small_disk: Path, is_killed: bool
) -> None:
    data, filler = small_disk / "data", small_disk / "filler"
    with started(data) as server:
        kept = first(server.send(product(uuid="kept")))
        eventually((data / "reserve").exists)
        server.kill() if is_killed else server.stop()
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    assert 0 == shutil.disk_usage(small_disk).free

    with started(data) as server:
        assert_reads(server, kept["tx_id"])
        filler.unlink()
        eventually(lambda: server.http.get("/healthz").json()["status"] == "ok")
        eventually(lambda: server.send(product(uuid="late")).status_code == 200)
        assert {"kept", "late"} <= {event.get("uuid") for event in server.events()}
        eventually((data / "reserve").exists)
