"""The witness's own log: what a server says, and nothing that was sent."""

import json
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from indelible.ledger.format.tree import leaf_hash
from indelible.ledger.witness.rules import Refused
from tests import nursery
from tests.cli.command import assert_refused, run, surroundings
from tests.edge.lines import Line, exchange, post
from tests.edge.wire import eventually
from tests.ledger.format import worked
from tests.ledger.witness.witnesses import Book, WitnessProcess, spawn
from tests.unread import FullPipe
from tests.world import a_free_port, plain_client

NAME = "witness.example/w1"
SECRET = "s3cr3t-4111111111111111"
LOG = Book.of(worked.SIGNER, "0123456789")


def refused_requests(process: WitnessProcess) -> Iterator[str]:
    """Requests of every kind that is refused; the code of each."""
    add, http = process.add, process.http
    other = Book(LOG.signer, (leaf_hash(b"x"), *LOG.leaves[1:]))
    assert 200 == add(LOG.body(0, 5)).status_code
    assert 400 == add(f"{SECRET}\n\n{LOG.note(5)}").status_code
    yield Refused.MALFORMED
    assert 413 == add(SECRET * 10_000).status_code
    yield Refused.TOO_LARGE
    assert 404 == add(LOG.body(5, 6).replace(LOG.origin, f"log.example/{SECRET}")).status_code
    yield Refused.UNKNOWN_ORIGIN
    assert 403 == add(other.body(5, 6).replace("\n6\n", "\n7\n")).status_code
    yield Refused.NOT_SIGNED
    assert 400 == add(LOG.body(5, 6).replace("old 5", "old 9")).status_code
    yield Refused.OLD_ABOVE_SIZE
    assert 409 == add(LOG.body(4, 6)).status_code
    yield Refused.OTHER_OLD_SIZE
    assert 422 == add(other.body(5, 6)).status_code
    yield Refused.NOT_CONTINUED
    assert 404 == http.get(f"/{SECRET}").status_code
    assert 404 == http.get(f"/{'0' * 64}/checkpoint").status_code
    yield from [Refused.NOT_FOUND] * 2
    assert 405 == http.delete("/healthz").status_code
    yield Refused.METHOD_NOT_ALLOWED
    assert 400 == exchange(process.url, f"GET /{SECRET} HTTP/1.1\r\n\r\n".encode()).status
    yield "malformed_request"
    with Line(process.url) as line:  # cut off in the middle of a body
        line.send(post("/add-checkpoint", SECRET.encode() * 10)[:-50])
        line.half_close()
        assert 400 == line.read().status
    yield "incomplete_body"


@pytest.fixture(scope="module")
def spoken(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Counter[str], WitnessProcess, list[dict[str, Any]]]:
    """The codes of all refusals, the witness that refused, and its log as JSON."""
    folder = tmp_path_factory.mktemp("witness")
    more = ("--log-format", "json", "--log-level", "debug")
    with (folder / "log").open("w") as said:
        process = spawn(folder / "w", [LOG.signer.key], new=NAME, more=more, stderr=said.fileno())
        codes = Counter(refused_requests(process))
        assert 0 == process.stop()
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    return codes, process, lines


def test_start_and_stop_have_a_line_each(
    spoken: tuple[Counter[str], WitnessProcess, list[dict[str, Any]]],
) -> None:
    _, process, (first, *_, last) = spoken

    assert ("started", process.url, 1) == (first["event"], first["url"], first["logs"])
    assert (NAME, process.policy_line) == (first["witness"], first["policy_line"])
    assert ("stopped", "SIGTERM", 0) == (last["event"], last["why"], last["cut_off"])


def test_every_refusal_is_counted_by_its_code(
    spoken: tuple[Counter[str], WitnessProcess, list[dict[str, Any]]],
) -> None:
    codes, _, lines = spoken
    counted: Counter[str] = Counter()
    for line in lines:
        if line.get("event") == "refused":
            counted[line["code"]] += line["count"]

    assert codes == counted
    assert set(Refused) <= set(codes)


def test_what_is_kept_as_evidence_is_an_error(
    spoken: tuple[Counter[str], WitnessProcess, list[dict[str, Any]]],
) -> None:
    (kept,) = [line for line in spoken[2] if line["level"] == "error"]

    assert ("evidence", LOG.origin) == (kept["event"], kept["origin"])


def test_no_line_has_anything_that_was_sent(
    spoken: tuple[Counter[str], WitnessProcess, list[dict[str, Any]]],
) -> None:
    assert all(SECRET not in json.dumps(line) for line in spoken[2])
    routes = {line["route"] for line in spoken[2] if line.get("event") == "refused"}
    assert {"/add-checkpoint", "/healthz", None} <= routes
    assert len(routes) <= 4


def test_every_code_is_in_the_manual() -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/witnesses.md").read_text()

    assert [] == [why for why in Refused if f"`{why}`" not in page]


def test_a_start_that_fails_is_a_line_too_and_makes_no_witness(tmp_path: Path) -> None:
    listening = ("--listen", "192.0.2.1", "--data", str(tmp_path / "w"), "--new", NAME)
    command = ("witness", "serve", "--log", worked.LOG_VKEY, *listening)

    as_text, as_json = run(*command), run(*command, INDELIBLE_LOG_FORMAT="json")

    assert_refused(as_text, 3, "address_in_use")
    assert "address_in_use" == json.loads(as_json.err)["code"]
    assert not (tmp_path / "w").exists()


def test_a_witness_whose_log_no_one_reads_starts_answers_and_ends(tmp_path: Path) -> None:
    port = a_free_port()
    arguments = ["--data", str(tmp_path / "w"), "--new", NAME, "--port", str(port)]
    with FullPipe() as pipe:
        process = nursery.start(
            ["witness", "serve", "--log", worked.LOG_VKEY, "--log-level", "debug", *arguments],
            env=surroundings(),
            stdout=pipe.end.fileno(),
            stderr=pipe.end.fileno(),
        )
        http = plain_client(f"http://127.0.0.1:{port}")
        eventually(lambda: answers(http))
        assert 404 == http.get("/nothing").status_code
        assert 200 == http.post("/add-checkpoint", content=LOG.body(0, 5)).status_code
        http.close()
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(60)


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").is_success
    except httpx.ConnectError:
        time.sleep(0.02)
        return False


@pytest.mark.parametrize("variable", ["INDELIBLE_LOG_FORMAT", "INDELIBLE_LOG_LEVEL"])
def test_a_variable_that_cannot_be_read_is_named(variable: str, tmp_path: Path) -> None:
    command = ("witness", "serve", "--log", worked.LOG_VKEY, "--data", str(tmp_path / "w"))

    env: dict[str, Any] = {variable: "loud"}
    ran = run(*command, "--port", "0", **env)

    assert_refused(ran, 2, "setting_invalid")
    assert f"{variable}=loud" in ran.err
