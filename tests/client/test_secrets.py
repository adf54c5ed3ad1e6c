"""A secret of the process is in nothing that the client shows, raises, logs, keeps or sends."""

import base64
import json
import subprocess
import sys
from pathlib import Path

from tests.client.stub import Line, Request, Stub, answers, stalls, takes
from tests.world import client_environment

FOREIGN = {
    "AWS_SECRET_ACCESS_KEY": "aws-0f3c-of-somebody-else",
    "DATABASE_URL": "postgres://shop:pw-7d1e-of-the-shop@db/shop",
}
OWN = {
    "INDELIBLE_TOKEN": "ind_pub_t0k3n-9a8b7c",
    "INDELIBLE_API_KEY": "iml_live_k3y-6d5e4f",
    "INDELIBLE_PII_KEY": "p11-3c2b1a",
    "INDELIBLE_HEADERS": "X-Pass=h34d3r-5566",
}
PROXY = {
    "PROXY_PASSWORD": "pr0xy-7788",
    "PROXY_CREDENTIALS": base64.b64encode(b"user:pr0xy-7788").decode(),
}
TEXTS = {**FOREIGN, **OWN, **PROXY, "INDELIBLE_HEADERS": "h34d3r-5566"}


def takes_or_knows_nothing(line: Line, request: Request) -> None:
    kind = takes() if request.method == "POST" else answers(404)
    kind(line, request)


def found_in(text: str) -> list[str]:
    return [name for name, secret in TEXTS.items() if secret in text]


def test_no_secret_of_the_environment_is_in_anything_that_the_client_shows_or_keeps(
    stub: Stub, tmp_path: Path
) -> None:
    """One program opens every door: help, signatures, reprs, frames of errors, log, spool, wire."""
    state = tmp_path / "state"
    stub.usual = takes_or_knows_nothing
    with Stub() as silent:
        silent.usual = stalls()
        program = subprocess.run(
            [sys.executable, "-X", "dev", "-m", "tests.client.leaks", silent.url],
            env=client_environment(
                **FOREIGN,
                **OWN,
                **PROXY,
                INDELIBLE_HOST=stub.url,
                XDG_STATE_HOME=str(state),
            ),
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert 0 == program.returncode, program.stderr
    doors = json.loads(program.stdout)

    assert {} == {door: found_in(text) for door, text in doors.items() if found_in(text)}
    assert [] == found_in(program.stderr), "the log"
    calm = {door: text for door, text in doors.items() if text.startswith("no error")}
    assert all("doctor" in name for name in calm), calm
    files = [path for path in state.rglob("*") if path.is_file()]
    kept = "".join(f"{path} {path.read_bytes().decode('latin-1')}" for path in files)
    lanes = {path.parent.parent.name.rpartition("-")[2] for path in files}
    assert {"product", "audit"} == lanes
    assert [] == found_in(kept), "the spool"
    assert stub.requests
    assert [] == [name for one in stub.requests for name in found_in(beside_credentials(one))]


def beside_credentials(request: Request) -> str:
    """A request, but for the places that are made for our own secrets."""
    headers = dict(request.headers)
    key = headers.pop("authorization", f"Bearer {OWN['INDELIBLE_API_KEY']}")
    assert f"Bearer {OWN['INDELIBLE_API_KEY']}" == key
    assert "h34d3r-5566" == headers.pop("x-pass")
    proxy = f"Basic {PROXY['PROXY_CREDENTIALS']}"  # the stub stands for the proxy, too
    assert proxy == headers.pop("proxy-authorization", proxy)
    body = request.body if request.text else {}
    assert body.pop("api_key", OWN["INDELIBLE_TOKEN"]) == OWN["INDELIBLE_TOKEN"]
    return f"{request.path} {headers} {body}"
