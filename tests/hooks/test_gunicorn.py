"""Under gunicorn, in processes of its own: every kind of worker, forked, and told to stop."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from indelible.testing import Recorder
from tests.hooks import contract
from tests.hooks.contract import requests, until
from tests.world import client_environment, plain_client

WORKERS = [
    ["--worker-class=sync", "--workers=2"],
    ["--worker-class=sync", "--workers=2", "--preload"],
    ["--worker-class=gthread", "--threads=8"],
    ["--worker-class=gevent"],
]


@pytest.mark.parametrize("options", WORKERS, ids=lambda options: " ".join(options[::2]))
def test_under_gunicorn_every_request_is_recorded_until_it_is_told_to_stop(
    options: list[str], events: Recorder, tmp_path: Path
) -> None:
    people = [f"person-{number}" for number in range(20)]
    with gunicorn(events, tmp_path, options) as browser:
        for name in people:
            assert name == browser.get(f"/me/{name}").json()
            assert browser.get("/whoami").json() is None
        assert Path(contract.__file__).read_bytes() == browser.get("/file").content
        assert b"chunk\n" * 3 == browser.get("/stream").read()
        assert 500 == browser.get("/raises").status_code
    seen = requests(events, 43)
    assert people == sorted(
        (one.distinct_id for one in seen if one.properties["route"] == "/me/<name>"),
        key=lambda name: int(str(name).rpartition("-")[2]),
    )
    assert {("/whoami", 200), ("/file", 200), ("/stream", 200), ("/raises", 500)} == {
        (one.properties["route"], one.properties["status"])
        for one in seen
        if one.properties["route"] != "/me/<name>"
    }
    assert 43 == len(events.audited)
    assert [] == events.server.losses


@contextmanager
def gunicorn(events: Recorder, folder: Path, options: list[str]) -> Iterator[httpx.Client]:
    """A browser on `tests.hooks.gunicorn_site`; leaving the block stops the server by SIGTERM."""
    address = folder / "socket"
    variables = client_environment(
        INDELIBLE_HOST=events.server.url,
        INDELIBLE_TOKEN=events.server.token,
        INDELIBLE_API_KEY=events.server.api_key,
        INDELIBLE_SPOOL_DIR=str(folder / "spool"),
    )
    command = [sys.executable, "-m", "gunicorn", "tests.hooks.gunicorn_site:app"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, f"--bind=unix:{address}", *options],
            env=variables,
            cwd=Path(__file__).parents[2],
            stdout=log,
            stderr=log,
        )
    transport = httpx.HTTPTransport(uds=str(address), verify=False)
    try:
        until(lambda: _listens(address) or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()
        with plain_client("http://site", transport=transport) as browser:
            yield browser
        server.send_signal(signal.SIGTERM)
        assert 0 == server.wait(60)
    finally:
        server.kill()
        server.wait()


def _listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(address)) == 0
