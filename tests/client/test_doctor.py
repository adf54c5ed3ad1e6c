"""The doctor: where on its way an event stops, and what to do about it."""

import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from indelible.client import AsyncIndelible, Indelible
from indelible.client.doctor import Diagnosis, Hop
from tests.cli.command import assert_refused, call, run, surroundings
from tests.client.stub import Stub, answers, garbage, stalls
from tests.world import API_KEY, AS_APPLICATION, TOKEN, ServerProcess, a_free_port

WAY = ["options", "address", "connection", "answer", "stored"]


def _names(diagnosis: Diagnosis, lane: str) -> list[str]:
    return [hop.name for hop in diagnosis.hops if hop.lane == lane]


def _last(diagnosis: Diagnosis) -> Hop:
    return diagnosis.hops[-1]


def test_a_healthy_way_is_followed_to_the_receipt_in_both_lanes(shared: ServerProcess) -> None:
    with Indelible(TOKEN, api_key=API_KEY, host=shared.url) as client:
        diagnosis = client.doctor()

        assert diagnosis.ok, str(diagnosis)
        assert [*WAY, "sealed", "receipt"] == _names(diagnosis, "product")
        assert [*WAY, "sealed", "receipt"] == _names(diagnosis, "audit")
        assert 0 == client.counts().captured == client.audit.counts().captured
    assert all(hop.cure is None and hop.ms >= 0 for hop in diagnosis.hops)
    assert API_KEY not in str(diagnosis)
    assert TOKEN not in str(diagnosis)
    for hop in diagnosis.hops:
        if hop.name == "stored":
            tx_id = hop.detail.split(", ")[1]
            entry = shared.http.get(f"/v1/events/{tx_id}", headers=AS_APPLICATION).json()
            assert ("$doctor" if hop.lane == "product" else "indelible.doctor") in str(entry)


def test_with_a_token_alone_the_way_ends_where_a_token_may_look(shared: ServerProcess) -> None:
    with Indelible(TOKEN, host=shared.url) as client:
        diagnosis = client.doctor()

    assert diagnosis.ok, str(diagnosis)
    assert WAY == [hop.name for hop in diagnosis.hops]


def test_it_says_which_variable_an_option_came_from(
    shared: ServerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VTILT_HOST", shared.url)
    with Indelible(TOKEN) as client:
        (options, *_) = client.doctor().hops

    assert f"token from an argument, host {shared.url} from VTILT_HOST" == options.detail


@pytest.mark.parametrize(
    ("arguments", "hop", "says", "cure"),
    [
        ({}, "options", "no api_key", "Set INDELIBLE_API_KEY"),
        ({"token": TOKEN}, "options", "no host", "Set INDELIBLE_HOST"),
        (
            {"token": TOKEN, "host": "http://events.example.com"},
            "options",
            "in the clear",
            "Use https://",
        ),
        ({"token": TOKEN, "host": "STUB", "enabled": False}, "options", "disabled", "enabled"),
        (
            {"token": TOKEN, "host": "https://nowhere.invalid"},
            "address",
            "nobody knows",
            "spelling",
        ),
        ({"token": TOKEN, "host": "STOPPED"}, "connection", "refused", "Start the server"),
    ],
)
def test_a_way_that_is_barred_before_the_server_says_where(
    stub: Stub, arguments: dict[str, Any], hop: str, says: str, cure: str
) -> None:
    places = {"STUB": stub.url, "STOPPED": f"http://127.0.0.1:{a_free_port()}"}
    host = arguments.get("host", "")
    client = Indelible(**{**arguments, "host": places.get(host, host) or None})

    diagnosis = client.doctor()
    client.shutdown(0)

    last = _last(diagnosis)
    assert (False, hop, False) == (diagnosis.ok, last.name, last.ok), str(diagnosis)
    assert says in last.detail.lower() or says in last.detail
    assert cure in str(last.cure)
    assert [] == stub.requests


@pytest.mark.parametrize(
    ("arguments", "lane", "reason"),
    [
        ({"token": "ind_pub_wrong"}, "product", "unknown_token"),
        ({"api_key": "iml_live_wrong-0123456789"}, "audit", "invalid_api_key"),
    ],
)
def test_a_wrong_token_or_key_is_named_with_the_servers_own_cure(
    shared: ServerProcess, arguments: dict[str, Any], lane: str, reason: str
) -> None:
    with Indelible(host=shared.url, **arguments) as client:
        last = _last(client.doctor())

    assert (lane, "answer", False) == (last.lane, last.name, last.ok)
    assert f"401 {reason}" == last.detail
    assert last.cure
    assert all(secret not in str(last) for secret in arguments.values())


@pytest.mark.parametrize(
    ("behaviour", "hop", "ok", "says"),
    [
        (answers(404, b"<html>"), "answer", False, "404"),
        (answers(503, {}), "answer", False, "503"),
        (answers(204, b""), "answer", False, "crawler"),
        (answers(200, b"<html>"), "stored", False, "something else answers"),
        (answers(200, {"events": [{"result": "drop", "reason": "bot"}]}), "stored", False, "bot"),
        (answers(200, {"status": 1}), "stored", None, "does not say where"),
        (garbage(), "answer", False, "no answer"),
    ],
)
def test_an_answer_that_is_none_says_so(
    stub: Stub, behaviour: Any, hop: str, ok: bool | None, says: str
) -> None:
    stub.usual = behaviour
    with Indelible(TOKEN, host=stub.url) as client:
        diagnosis = client.doctor()

    last = _last(diagnosis)
    assert (hop, ok, ok) == (last.name, last.ok, diagnosis.ok), str(diagnosis)
    assert says in last.detail
    assert last.cure


def test_an_event_that_nobody_seals_is_found_there(stub: Stub) -> None:
    with Indelible(TOKEN, api_key=API_KEY, host=stub.url) as client:
        # Taken, with a place; then the question for the receipt is refused.
        stub.usual = lambda line, request: (
            line.answer(404, {"ok": False, "reason": "not_sealed", "hint": "Look at /healthz."})
            if request.method == "GET"
            else line.answer(200, {**line.stub.take(request)})
        )
        diagnosis = client.doctor()

    sealed = [hop for hop in diagnosis.hops if hop.name == "sealed"]
    assert [(False, "Look at /healthz.")] * 2 == [(hop.ok, hop.cure) for hop in sealed]


@pytest.fixture
def self_signed(tmp_path: Path) -> Iterator[str]:
    """A TLS server whose certificate nobody trusts."""
    import socket
    import threading

    from tests.client.certificate import self_signed_certificate

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed_certificate(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
                context.wrap_socket(connection, server_side=True).close()
            except ssl.SSLError:
                connection.close()
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"https://localhost:{listener.getsockname()[1]}"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(10)


def test_a_certificate_that_nobody_trusts_is_found_at_the_tls_hop(self_signed: str) -> None:
    client = Indelible(TOKEN, host=self_signed)
    last = _last(client.doctor())
    client.shutdown(0)

    assert ("tls", False) == (last.name, last.ok)
    assert "certificate is not trusted" in last.detail
    assert "SSL_CERT_FILE" in str(last.cure)


def test_a_port_without_tls_is_found_there_too(stub: Stub) -> None:
    client = Indelible(TOKEN, host=stub.url.replace("http://", "https://"), connect_s=0.5)
    last = _last(client.doctor())
    client.shutdown(0)

    assert ("tls", False) == (last.name, last.ok)


async def _asked(twin: AsyncIndelible) -> Diagnosis:
    async with twin:
        return await twin.doctor()


def test_the_twin_has_one_too(shared: ServerProcess) -> None:
    import asyncio

    assert asyncio.run(_asked(AsyncIndelible(TOKEN, host=shared.url))).ok


# As a command.


def _run(**env: Any) -> Any:
    return call("doctor", "--client", "--json", **env)


def test_the_command_needs_no_data_folder_and_follows_both_lanes(
    shared: ServerProcess, tmp_path: Path
) -> None:
    known: dict[str, Any] = {
        "INDELIBLE_HOST": shared.url,
        "INDELIBLE_TOKEN": TOKEN,
        "INDELIBLE_API_KEY": API_KEY,
    }
    ran = run("doctor", "--client", cwd=tmp_path, **known)
    machine = run("doctor", "--client", "--json", cwd=tmp_path, **known)

    assert (0, 0) == (ran.code, machine.code), ran.out
    assert "ok" == machine.json["state"]
    assert 14 == len(ran.out.splitlines()) == len(machine.json["checks"])
    first = machine.json["checks"][0]
    assert ("product", "options", "ok") == (first["lane"], first["name"], first["state"])
    assert [] == list(tmp_path.iterdir())


def test_the_commands_exit_code_says_how_it_went(shared: ServerProcess, stub: Stub) -> None:
    stopped = f"http://127.0.0.1:{a_free_port()}"
    stub.usual = answers(200, {"status": 1})

    assert 1 == _run(INDELIBLE_HOST=stopped, INDELIBLE_TOKEN=TOKEN).code
    assert 1 == _run(INDELIBLE_HOST=shared.url, INDELIBLE_API_KEY="iml_live_wrong-01234567").code
    assert 1 == _run().code
    assert 3 == _run(INDELIBLE_HOST=stub.url, INDELIBLE_TOKEN=TOKEN).code
    assert_refused(call("doctor", "--client", INDELIBLE_HOST="nowhere"), 2, "called_wrongly")
    assert_refused(call("doctor", "--client", "--full"), 2, "called_wrongly")


def test_it_runs_without_the_parts_of_the_command_line(shared: ServerProcess, stub: Stub) -> None:
    def bare(**env: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "indelible.client.doctor"],
            env=surroundings(**env),
            capture_output=True,
            text=True,
        )

    fine = bare(INDELIBLE_HOST=shared.url, INDELIBLE_TOKEN=TOKEN)
    assert (0, 5, "") == (fine.returncode, len(fine.stdout.splitlines()), fine.stderr)
    assert 2 == bare(INDELIBLE_HOST="nowhere").returncode
    assert 1 == bare(INDELIBLE_HOST=shared.url, INDELIBLE_TOKEN="wrong").returncode


def test_a_stalled_server_ends_the_walk_in_time(stub: Stub) -> None:
    stub.usual = stalls()
    with Indelible(TOKEN, host=stub.url, total_s=0.3) as client:
        last = _last(client.doctor())

    assert ("answer", False) == (last.name, last.ok)
    assert "no answer in time" in last.detail
