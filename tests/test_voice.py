"""The server's log: every line is one object, nothing in it was sent by a caller, none is missing.

A real `indelible serve` gets odd and hostile requests through every door that can refuse. Each
refusal that a caller was answered with is counted in some line, by its code.
"""

import asyncio
import json
import logging
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.clock import now_ms
from indelible.errors import IndelibleError, Overloaded, Unavailable, catalogue
from indelible.refusals import Refusals
from indelible.voice import JsonLines, TextLines, restarted
from tests.cli.command import PROGRAM, run, surroundings
from tests.edge.lines import Line, chunked, exchange, post
from tests.edge.wire import eventually
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_ADMIN,
    TOKEN,
    ServerProcess,
    a_free_port,
    audit,
    product,
    started,
)

SECRET = "s3cr3t-4111111111111111"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = chunked(SECRET.encode() * 1_000_000)
FORGED = '\n{"ts": "2026-01-01T00:00:00.000Z", "level": "info", "message": "forged"}\x1b[2J'


def lines_of(server: ServerProcess) -> list[dict[str, Any]]:
    """Every line that a server has written, each of which must be an object."""
    lines = [json.loads(line) for line in server.output().splitlines()]
    assert all({"ts", "level", "logger", "message"} <= line.keys() for line in lines)
    return lines


def counted(lines: list[dict[str, Any]]) -> Counter[str]:
    """How many requests were refused, by code, as the lines tell it."""
    counts: Counter[str] = Counter()
    for line in lines:
        if line.get("event") == "refused":
            counts[line["code"]] += line["count"]
    return counts


# What a server is sent


def of_client(server: ServerProcess) -> Iterator[httpx.Response]:
    """What an HTTP client can send: with secrets and forged lines wherever something fits."""
    http, secret, forged = server.http, SECRET, SECRET + FORGED
    wrong_key = {"Authorization": f"Bearer {secret}"}
    for token in (secret, forged, API_KEY, ADMIN_KEY):
        yield server.send({**product(), "api_key": token})
    yield server.send({"event": secret, "distinct_id": forged})
    yield server.send({**product(), "token": forged})
    yield server.send(None, content=f'{{"api_key":"{TOKEN}","event":"{secret}'.encode())
    yield server.send(None, content=secret.encode(), headers={"Content-Encoding": "gzip"})
    yield server.send(None, content=secret.encode(), headers={"Content-Type": "text/xml"})
    yield server.send({"api_key": TOKEN, "batch": []})
    yield server.send({"api_key": TOKEN, "batch": [{"event": "", "distinct_id": secret}]})
    yield http.post("/batch/", json={**product(), "event": None, "properties": {forged: secret}})
    yield http.put("/api/e", content=secret)
    yield http.get("/api/e", params={"data": forged})
    yield http.get("/api/e", params={f"{secret}{n}": "" for n in range(600)})
    yield server.send_audit({**audit(), "meta": {forged: secret}})
    yield server.send_audit({**audit(), secret: forged}, headers=wrong_key)
    yield server.send_audit({**audit(), "payload": secret * 10_000})
    yield http.post("/v1/events/batch", json={"events": [{}]}, headers=wrong_key)
    yield http.get("/v1/events", headers=wrong_key)
    yield http.get("/v1/events", headers={"Authorization": f"Basic {secret}"})
    yield http.get("/v1/events", params={secret: forged}, headers=AS_ADMIN)
    yield http.get("/v1/events", params={"from": forged}, headers=AS_ADMIN)
    yield http.get("/v1/events", params={"project": forged}, headers=AS_ADMIN)
    yield http.get(f"/v1/events/{secret}", headers=AS_ADMIN)
    yield http.get("/v1/where", params={"id": forged, "x": secret}, headers=AS_ADMIN)
    yield http.post("/v1/projects", json={secret: forged}, headers=AS_ADMIN)
    yield http.post("/v1/projects", content=f'{{"{secret}'.encode(), headers=AS_ADMIN)
    yield http.post("/v1/projects", json={"name": "x" * 70_000 + secret}, headers=AS_ADMIN)
    yield http.post("/v1/erasures", json={"tx_ids": [forged]}, headers=AS_ADMIN)
    yield http.delete(f"/v1/keys/{secret}", headers=AS_ADMIN)
    yield http.get(f"/{secret}%0A%1B%5B2J")
    yield http.get(f"/ledger/{secret}/checkpoint")
    yield http.delete("/healthz")


RAW = {
    "no HTTP": f"{SECRET}\r\n\r\n".encode(),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no Host": f"GET /{SECRET} HTTP/1.1\r\n\r\n".encode(),
    "a line break in the target": f"GET /{SECRET}\n HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "a long target": b"GET /" + SECRET.encode() * 8_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long head": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 20_000 + b"\r\n",
    "many fields": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 500 + b"\r\n",
    "two lengths": post("/api/e", SECRET.encode(), "Content-Length: 3"),
    "length and chunks": post("/api/e", b"a", "Content-Length: 3", "Transfer-Encoding: chunked"),
    "an unknown coding": post("/api/e", b"", f"Transfer-Encoding: {SECRET}"),
    "broken chunks": post("/api/e", SECRET.encode(), "Transfer-Encoding: chunked"),
    "an expectation": post("/api/e", b"", f"Expect: {SECRET}"),
    "two keys": post("/v1/events", b"{}", "Authorization: a", f"Authorization: Bearer {SECRET}"),
    "a body too large": post("/v1/events", LARGE, "Transfer-Encoding: chunked"),
}


def of_raw_connections(server: ServerProcess) -> Iterator[str]:
    """The codes that connections which speak no proper HTTP are answered with."""
    for request in RAW.values():
        yield json.loads(exchange(server.url, request).body)["code"]
    with Line(server.url) as line:  # cut off in the middle of a body
        line.send(post("/api/e", b"x" * 100, "Content-Type: application/json")[:-50])
        line.half_close()
        yield json.loads(line.read().body)["code"]


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Counter[str], ServerProcess]:
    """The codes that callers were answered with, and the server that refused them, ended."""
    loud = {"INDELIBLE_LOG_FORMAT": "json", "INDELIBLE_LOG_LEVEL": "debug"}
    with started(tmp_path_factory.mktemp("voice"), **loud) as server:
        answered: Counter[str] = Counter()
        for _ in range(3):
            for answer in of_client(server):
                if answer.status_code >= 400:
                    answered[answer.json()["code"]] += 1
            answered.update(of_raw_connections(server))
        server.send(product(SECRET, properties={"card": SECRET}))
        assert 0 == server.stop()
    return answered, server


def test_every_line_is_an_object_and_none_was_written_by_a_caller(
    spoken: tuple[Counter[str], ServerProcess],
) -> None:
    lines = lines_of(spoken[1])

    assert "forged" not in {line["message"] for line in lines}
    assert all(line["level"] in ("info", "warning", "error") for line in lines)
    assert all(text.isprintable() for text in spoken[1].output().splitlines())


def test_no_line_has_a_secret_or_what_somebody_sent(
    spoken: tuple[Counter[str], ServerProcess],
) -> None:
    output = spoken[1].output()
    for secret in (SECRET, "forged", TOKEN, API_KEY, ADMIN_KEY):
        assert secret not in output
    assert max(map(len, output.splitlines())) < 1_000


def test_every_refusal_is_counted_in_some_line(
    spoken: tuple[Counter[str], ServerProcess],
) -> None:
    answered, server = spoken

    assert answered == counted(lines_of(server))
    assert len(answered) >= 20, answered


def test_a_code_has_a_line_at_once_and_one_with_the_rest(
    spoken: tuple[Counter[str], ServerProcess],
) -> None:
    lines = [line for line in lines_of(spoken[1]) if line.get("event") == "refused"]

    # The process that accepts requests and the one that answers those of the API tell their own.
    assert 4 >= max(Counter(line["code"] for line in lines).values())
    routes = {line["route"] for line in lines}
    assert {None, "/api/e", "/batch/", "/v1/events", "/v1/events/{tx_id}", "/v1/where"} <= routes
    assert len(routes) <= 15


def test_start_and_stop_have_a_line_each(spoken: tuple[Counter[str], ServerProcess]) -> None:
    first, *_, last = lines_of(spoken[1])

    assert ("started", spoken[1].url, 1) == (first["event"], first["url"], first["projects"])
    assert str(spoken[1].data_dir.resolve()) == first["data_dir"]
    assert ("stopped", "SIGTERM", 0) == (last["event"], last["why"], last["cut_off"])


def test_a_stop_says_how_many_requests_were_finished(tmp_path: Path) -> None:
    request = post("/api/e", json.dumps(product()).encode(), "Content-Type: application/json")
    with started(tmp_path, INDELIBLE_LOG_FORMAT="json") as server, Line(server.url) as line:
        line.send(request[:-10])
        eventually(lambda: server.count("indelible_request_bytes_held") > 0)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: b"unavailable" in exchange(server.url, HEALTH).body)
        line.send(request[-10:])
        assert 200 == line.read().status
        assert 0 == server.process.wait(60)
        last = lines_of(server)[-1]

    assert ("stopped", 0) == (last["event"], last["cut_off"])
    assert last["finished"] in (1, 2)  # a question for the health may have been under way too


def shape(sentence: str) -> str:
    """A sentence without its numbers and names, to compare it with another one."""
    sentence = re.sub(r"data folder [^,]+", "data folder X", sentence)
    return re.sub(r"(project|request)s\b", r"\1", re.sub(r"\d[\d.,:]*", "0 ", sentence))


def test_the_lines_of_the_manual_are_those_that_a_server_writes(
    spoken: tuple[Counter[str], ServerProcess],
) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/monitor.md").read_text()
    (text,) = re.findall(r"```\n(2026.*?)```", page, re.DOTALL)
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    written = {shape(line["message"]): line for line in lines_of(spoken[1])}

    for line in text.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO     ", line), line
        assert shape(line[34:]) in written, line[34:]
    assert list(json.loads(example)) == list(written[shape(json.loads(example)["message"])])


# One line a minute


async def told(caplog: pytest.LogCaptureFixture, count: int) -> list[str]:
    """The lines that have been written, once there are so many."""
    async with asyncio.timeout(60):
        while len(caplog.messages) < count:
            await asyncio.sleep(0.01)
    return caplog.messages


def test_the_first_refusal_is_told_at_once_and_the_rest_after_a_while(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        refusals = Refusals(every_s=0.2)
        for _ in range(1_000):
            refusals.refused(Unavailable("The disk is full"), "/api/e")
        assert 1 == len(caplog.messages)
        refusals.refused(Unavailable("The disk is gone"), "/v1/events")
        first, second = await told(caplog, 2)
        assert "refused 1 request to /api/e: unavailable: The disk is full" == first
        assert "refused 1,000 requests mostly to /api/e: unavailable: The disk is gone" == second

        await asyncio.sleep(0.5)  # a quiet while: nothing is told, and the next is told at once
        assert 2 == len(caplog.messages)
        refusals.refused(Unavailable("The disk is full"), None)
        assert "refused 1 request: unavailable: The disk is full" == caplog.messages[2]

        refusals.closed("silent", "It did not send its first byte in time.")
        refusals.closed("silent", "It did not send its first byte in time.")
        refusals.close()
        assert ["closed 1 connection: silent: It did not send its first byte in time."] * 2 == (
            caplog.messages[3:]
        )

    with caplog.at_level(logging.INFO, "indelible"):
        asyncio.run(story())


def test_each_place_that_breaks_is_told_by_itself_and_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        refusals = Refusals()
        for broken in (int, json.loads, int):
            try:
                broken(SECRET)
            except ValueError as error:
                refusals.failed(error, "/api/e")
        refusals.close()

    asyncio.run(story())

    assert 3 == len(caplog.messages)
    assert all("internal_error: " in line and " in " in line for line in caplog.messages)
    assert SECRET not in caplog.text


@pytest.mark.parametrize("error", sorted(set(catalogue()), key=str))
def test_whatever_is_refused_is_told_without_what_was_sent(
    error: type[IndelibleError], caplog: pytest.LogCaptureFixture
) -> None:
    has_own_words = error.__init__ is not IndelibleError.__init__
    if has_own_words or issubclass(error, Unavailable | Overloaded):
        return

    async def story() -> None:
        refusals = Refusals()
        refusals.refused(error(SECRET), "/api/e")
        refusals.close()

    with caplog.at_level(logging.INFO, "indelible"):
        asyncio.run(story())

    (line,) = caplog.messages
    assert error.code in line
    assert SECRET not in line


# Lines


def record(message: str, error: BaseException | None = None) -> logging.LogRecord:
    """A record of ours as the log gets it."""
    caught = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord("indelible.x", logging.ERROR, "", 0, "%s", (message,), caught)


@given(st.text())
def test_whatever_a_message_has_its_line_is_one(message: str) -> None:
    text, as_json = TextLines().format(record(message)), JsonLines().format(record(message))

    assert text.isprintable()
    assert as_json.isascii()
    assert as_json.isprintable()
    assert "error" == json.loads(as_json)["level"]


def test_a_line_of_text_has_time_level_and_sentence() -> None:
    line = TextLines().format(record("a sentence"))
    assert line[24:] == " ERROR    a sentence"
    assert abs(now_ms() - json_ms(line[:24])) < 60_000


def json_ms(text: str) -> int:
    """Milliseconds since 1970 of a time as the log writes it."""
    return round(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1000)


def test_a_restart_is_a_line_with_its_cause(caplog: pytest.LogCaptureFixture) -> None:
    restarted("edge 1", why="killed by SIGKILL", after_s=0.25)

    assert ["edge 1 ended (killed by SIGKILL) and was started again after 0.2 s"] == caplog.messages
    (line,) = [json.loads(JsonLines().format(each)) for each in caplog.records]
    assert ("restarted", "edge 1", 0.25) == (line["event"], line["child"], line["after_s"])


NOISE = f"""
import asyncio, logging, sys, threading, warnings
from indelible.voice import Format, Level, configure

configure(Format.JSON, Level.INFO)
logging.getLogger("indelible.somewhere").info("ours")
logging.getLogger("indelible.somewhere").debug("{SECRET}")
logging.getLogger("httpx").info("{SECRET}")
logging.getLogger("httpcore").debug("{SECRET}")
logging.getLogger("litestar").warning("first line\\n{SECRET}")
warnings.warn("first line\\n{SECRET}", RuntimeWarning)

def breaks(secret="{SECRET}"):
    raise ValueError(secret)

thread = threading.Thread(target=breaks)
thread.start()
thread.join()

class Dying:
    def __del__(self):
        breaks()

Dying()

async def main():
    asyncio.get_running_loop().call_soon(breaks, "{SECRET}")
    task = asyncio.ensure_future(asyncio.to_thread(breaks))
    await asyncio.wait([task])
    del task
    await asyncio.sleep(0.1)

import uvloop
for run in (asyncio.run, uvloop.run):
    run(main())
logging.getLogger("indelible.somewhere").error("a fault", exc_info=ValueError("{SECRET}"))
"""


def test_what_libraries_threads_and_destructors_say_is_heard_in_the_same_form() -> None:
    noise = subprocess.run(
        [sys.executable, "-c", NOISE], capture_output=True, text=True, timeout=60, check=True
    )
    lines = [json.loads(line) for line in noise.stderr.splitlines()]

    assert "" == noise.stdout
    assert SECRET not in noise.stderr
    assert {"indelible.somewhere", "litestar", "py.warnings", "asyncio", "indelible.server"} == {
        line["logger"] for line in lines
    }
    faults = [line["message"] for line in lines if "ValueError in breaks" in line["message"]]
    assert 6 == len(faults), lines


def test_a_log_that_nobody_reads_any_more_stops_nothing(tmp_path: Path) -> None:
    program = """
import logging, os
from indelible.voice import Format, Level, configure
configure(Format.TEXT, Level.INFO)
read, write = os.pipe()
os.dup2(write, 2)
os.close(read)
logging.getLogger("indelible").error("into the void")
print("alive")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert "alive\n" == done.stdout


# Starts that fail, and levels


@pytest.mark.parametrize(
    ("arguments", "env", "code"),
    [
        (["--log-format", "json", "--port", "none"], {}, "called_wrongly"),
        (["--log-format=json"], {"INDELIBLE_MAX_BATCH": "many"}, "setting_invalid"),
        ([], {"INDELIBLE_LOG_FORMAT": "json", "INDELIBLE_MAX_BACH": "1"}, "setting_invalid"),
        (["--log-format", "json", "--listen", "192.0.2.1"], {}, "address_in_use"),
    ],
    ids=["usage", "value", "variable", "address"],
)
def test_a_start_that_fails_is_a_line_too(
    arguments: list[str], env: dict[str, Any], code: str, tmp_path: Path
) -> None:
    ran = run("serve", *arguments, cwd=tmp_path, **env)

    (line,) = map(json.loads, ran.err.splitlines())
    assert (code, "error", "") == (line["code"], line["level"], ran.out)
    assert {"ts", "logger", "message", "hint"} <= line.keys()


def test_a_machine_that_is_set_up_for_a_client_hears_which_names_fix_nothing(
    tmp_path: Path,
) -> None:
    """And the keys of its server are the server's own."""
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--port", str(a_free_port()), "--log-format", "json"],
        env=surroundings(INDELIBLE_TOKEN=SECRET, INDELIBLE_API_KEY=SECRET),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    warning, welcome = (process.stderr.readline() for _ in range(2))
    process.terminate()
    out, rest = process.communicate(timeout=60)

    assert ("", 0) == (out, process.returncode)
    assert SECRET not in warning + welcome + rest
    assert "warning" == json.loads(warning)["level"]
    for name in ("INDELIBLE_TOKEN", "INDELIBLE_SERVER_TOKEN", "INDELIBLE_SERVER_API_KEY"):
        assert name in json.loads(warning)["message"]
    keys = Path(json.loads(welcome)["keys_file"]).read_text()
    assert {"token", "API key", "admin key"} == json.loads(keys).keys()
    assert SECRET not in keys


def test_at_level_warning_a_server_is_silent_while_all_is_well(tmp_path: Path) -> None:
    quiet = {"INDELIBLE_LOG_FORMAT": "json", "INDELIBLE_LOG_LEVEL": "warning"}
    with started(tmp_path, **quiet) as server:
        assert 401 == server.send({**product(), "api_key": "nobody's"}).status_code
        assert 0 == server.stop()
        assert "" == server.output()
