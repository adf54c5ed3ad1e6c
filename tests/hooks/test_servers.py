"""Real servers in processes of their own: what they send by themselves, and how they end."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from indelible.testing import Recorder
from tests.hooks import contract
from tests.hooks.contract import the_audit, the_request, until, what
from tests.hooks.shop import CHUNK
from tests.world import client_environment, plain_client

UVICORN = "-m uvicorn tests.hooks.asgi_site:app --uds={address} --timeout-graceful-shutdown"
SHORT, LONG = f"{UVICORN}=1", f"{UVICORN}=60"  # how long it lets a request that is under way finish
GRANIAN = "-m granian tests.hooks.asgi_site:app --interface=asgi --uds={address}"
GUNICORN = "-m gunicorn tests.hooks.gunicorn_site:app --bind=unix:{address}"
WERKZEUG = "-m tests.hooks.werkzeug_server {address}"


@contextmanager
def running(
    command: str, events: Recorder, folder: Path
) -> Iterator[tuple[httpx.Client, "subprocess.Popen[bytes]"]]:
    """A browser on a server that sends to the recorder's; and the server, which may be stopped."""
    address = folder / "socket"
    variables = client_environment(
        INDELIBLE_HOST=events.server.url,
        INDELIBLE_TOKEN=events.server.token,
        INDELIBLE_API_KEY=events.server.api_key,
        INDELIBLE_SPOOL_DIR=str(folder / "spool"),
    )
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, *command.format(address=address).split()],
            env=variables,
            cwd=Path(__file__).parents[2],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: _listens(address) or server.poll() is not None)
        assert server.poll() is None, (folder / "log").read_text()
        transport = httpx.HTTPTransport(uds=str(address), verify=False)
        with plain_client("http://site", transport=transport) as browser:
            yield browser, server
    finally:
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(10)
        server.kill()
        server.wait()


def _listens(address: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(address)) == 0


@pytest.mark.parametrize("command", [SHORT, GRANIAN], ids=["uvicorn", "granian"])
def test_a_file_is_a_whole_answer_whoever_sends_it(
    command: str, events: Recorder, tmp_path: Path
) -> None:
    """Granian takes the file's name, and sends it itself."""
    content = Path(contract.__file__).read_bytes()
    with running(command, events, tmp_path) as (browser, _):
        assert content == browser.get("/file").content
        seen = the_request(events)
    assert ("GET", "/file", 200) == what(seen)
    assert len(content) == seen.properties["response_bytes"]
    assert "aborted" not in seen.properties


@pytest.mark.parametrize("command", [SHORT, WERKZEUG], ids=["uvicorn", "werkzeug"])
def test_a_request_that_the_end_of_the_server_cuts_off_is_a_499(
    command: str, events: Recorder, tmp_path: Path
) -> None:
    with (
        running(command, events, tmp_path) as (browser, server),
        browser.stream("GET", "/endless") as answer,
    ):
        parts = answer.iter_raw()
        next(parts)
        server.send_signal(signal.SIGTERM)
        with suppress(httpx.TransportError):
            for _ in parts:
                continue
        assert -signal.SIGTERM == server.wait(60)
    seen = the_request(events)
    assert ("GET", "/endless", 499) == what(seen)
    assert seen.properties["aborted"] is True
    assert "info" == the_audit(events, "http.GET./endless").meta["type"]


@pytest.mark.parametrize("command", [LONG, GUNICORN], ids=["uvicorn", "gunicorn"])
def test_a_request_that_a_stopping_server_lets_finish_is_whole(
    command: str, events: Recorder, tmp_path: Path
) -> None:
    with (
        running(command, events, tmp_path) as (browser, server),
        browser.stream("GET", "/stream") as answer,
    ):
        parts = answer.iter_raw()
        received = next(parts)
        server.send_signal(signal.SIGTERM)
        assert CHUNK * 3 == received + b"".join(parts)
        server.wait(60)
    seen = the_request(events)
    assert ("GET", "/stream", 200) == what(seen)
    assert "aborted" not in seen.properties
