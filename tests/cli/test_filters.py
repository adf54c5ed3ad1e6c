"""`--filter`, `--since` and `--format` of `indelible export` and `tail`."""

import csv
import http.server
import io
import json
import re
import signal
import threading
from pathlib import Path

import pytest

from indelible.cli.filters import excerpt
from indelible.query.table import COLUMNS
from tests.cli.command import Ran, assert_refused, begin, call, fine
from tests.cli.conftest import Shop
from tests.world import ADMIN_KEY


def indexes(ran: Ran) -> list[int]:
    assert 0 == ran.code, ran.err
    return [event["index"] for event in ran.lines]


def test_an_export_has_the_events_that_a_filter_finds(shop: Shop, tmp_path: Path) -> None:
    shop.send("purchase", properties={"amount": 120})
    shop.send("purchase", properties={"amount": 80})
    shop.send(*(["opened"] * 1_000))
    shop.send("purchase", properties={"amount": 300})
    large = 'event = "purchase" and properties.amount >= 100'
    file = tmp_path / "large.ndjson"

    assert [0, 1002] == indexes(call("export", "--filter", large, *shop.here))
    assert [1002] == indexes(call("export", "--filter", large, "--start", "1", *shop.here))
    assert [0] == indexes(call("export", "--filter", large, "--end", "9", *shop.here))
    said = fine("export", "--filter", large, "-o", str(file), *shop.here)
    assert "2   (found in index 0 to 1002)" == said.fact("events")
    assert 2 == len(file.read_text().splitlines())
    nothing = call("export", "--filter", "properties.amount > 900", *shop.here)
    assert (0, "", "no event matches\n") == (nothing.code, nothing.out, nothing.err)


def test_an_export_takes_the_time_since_and_until(shop: Shop) -> None:
    shop.send("first")
    (event,) = call("export", *shop.here).lines

    assert [0] == indexes(call("export", "--since", "1h", *shop.here))
    assert [0] == indexes(call("export", "--since", event["received_at"], *shop.here))
    assert [] == indexes(call("export", "--until", event["received_at"], *shop.here))
    assert [] == indexes(call("export", "--until", "1h", *shop.here))
    for wrong in ("soon", "1y", "-1h", "1 h", "1e999"):
        assert_refused(call("export", f"--since={wrong}", *shop.here), 2, "called_wrongly")


def test_an_export_as_csv_has_a_header_and_a_row_an_event(shop: Shop, tmp_path: Path) -> None:
    shop.send("=cmd", properties={"a": 'x"y,\n'}, distinct_id="-1")
    call("send", "order.paid", "--audit", "--payload", "{}\n@x", *shop.here)
    file = tmp_path / "log.csv"

    printed = call("export", "--format", "csv", *shop.here)
    fine("export", "--format", "csv", "--filter", "index >= 0", "-o", str(file), *shop.here)

    rows = list(csv.DictReader(io.StringIO(printed.out, newline="")))
    assert list(COLUMNS) == printed.out.splitlines()[0].split(",")
    assert ["'=cmd", "order.paid"] == [row["event"] for row in rows]
    assert ["'-1", ""] == [row["distinct_id"] for row in rows]
    assert {"a": 'x"y,\n'} == json.loads(rows[0]["properties"])
    assert "{}\n@x" == rows[1]["payload"]
    assert printed.out == file.read_bytes().decode()
    empty = call("export", "--format", "csv", "--until", "2000-01-01", *shop.here)
    assert [list(COLUMNS)] == list(csv.reader(empty.out.splitlines()))


def test_head_takes_what_it_wants_of_a_filtered_csv(shop: Shop) -> None:
    shop.send(*(f"e{n}" for n in range(1_500)), properties={"x": "x" * 100})

    wanted = ("export", "--format", "csv", "--filter", "index >= 0")
    with begin(*wanted, *shop.here) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        assert export.stdout.readline().startswith("index,received_at,kind,")
        export.stdout.close()
        assert (0, "") == (export.wait(60), export.stderr.read())


def test_tail_shows_the_events_that_a_filter_finds(shop: Shop) -> None:
    shop.send("purchase", properties={"amount": 120})
    shop.send("purchase", properties={"amount": 80})
    large = ("--filter", "properties.amount >= 100")

    assert [0] == indexes(call("tail", "--no-follow", "--json", *large, *shop.here))
    assert [] == indexes(call("tail", "--no-follow", "--json", *large, "--event", "x", *shop.here))
    with begin("tail", "--json", *large, *shop.here) as process:
        try:
            assert process.stdout is not None
            assert 0 == json.loads(process.stdout.readline())["index"]
            shop.send("opened")
            shop.send("purchase", properties={"amount": 500})
            assert 3 == json.loads(process.stdout.readline())["index"]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert 0 == process.returncode


@pytest.mark.parametrize("command", [("export",), ("tail", "--no-follow")])
def test_a_filter_that_cannot_be_read_is_shown_with_its_place(
    shop: Shop, command: tuple[str, ...]
) -> None:
    ran = call(*command, "--filter", "event = purchase", *shop.here)

    message, line, caret, hint = ran.err.splitlines()
    assert (2, "") == (ran.code, ran.out)
    assert message.startswith("invalid_condition: Expected a value")
    assert ("  event = purchase", "  " + " " * 8 + "^") == (line, caret)
    assert hint == 'try: Write text in quotes: "purchase".'
    machine = call(*command, "--filter", "event = purchase", "--json", *shop.here)
    assert "invalid_condition" == json.loads(machine.err)["code"]
    whole = call(*command, "--filter", '{"all":[]}', *shop.here)
    assert_refused(whole, 2, "invalid_condition")  # has no one place


def test_an_excerpt_is_short_and_its_caret_stands_below_the_place() -> None:
    long = "x" * 300
    for source, position, char in (
        ("event = a", 8, "a"),
        ("index = 1 and\nevent = ?", 22, "?"),
        (f"{long}?{long}", 300, "?"),
        (f"{'文' * 300}?", 300, "?"),
        ("\x1b[31m?", 5, "?"),
    ):
        line, caret = excerpt(source, position)
        place = len(caret) - 1
        # Wide characters take two columns.
        columns = "".join(c + " " * (ord(c) > 0x2E80) for c in line)
        assert char == columns[place]
        assert len(columns) < 80
        assert line.isprintable()


class Dripping(http.server.ThreadingHTTPServer):
    """A server whose log has 5 entries; after two of them it falls silent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Drip)
        self.has_sent = threading.Event()
        self.may_end = threading.Event()


class Drip(http.server.BaseHTTPRequestHandler):
    server: Dripping

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        if self.path.startswith("/v1/events"):
            self.wfile.write(b'{"events":[{"index":4}],"next":null,"position":0}')
            return
        self.wfile.write(b'{"index":0}\n{"index":1}\n')
        self.wfile.flush()
        self.server.has_sent.set()
        self.server.may_end.wait(60)

    def log_message(self, *args: object) -> None:
        pass


@pytest.mark.parametrize("wanted", [(), ("--filter", "index >= 0")], ids=["all", "filtered"])
@pytest.mark.parametrize("is_file", [False, True])
def test_an_interrupted_export_says_how_far_it_came(
    tmp_path: Path, wanted: tuple[str, ...], is_file: bool
) -> None:
    data, file = tmp_path / "data", tmp_path / "log.ndjson"
    data.mkdir()
    output = ("-o", str(file)) if is_file else ()
    with Dripping() as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        access = data / "cli.json"
        access.write_text(json.dumps({"host": url, "admin_key": ADMIN_KEY}))
        access.chmod(0o600)
        try:
            with begin("export", *wanted, *output, "--data", str(data)) as export:
                assert server.has_sent.wait(60)
                export.send_signal(signal.SIGINT)
                out, err = export.communicate(timeout=60)
        finally:
            server.may_end.set()
            server.shutdown()

    found = re.fullmatch(r"interrupted before index (\d), after (\d) events; (.*)\n", err)
    assert found is not None, err
    assert (130, found[1]) == (export.returncode, found[2])
    if is_file:
        assert f"nothing was written to {file}" == found[3]
        assert [data] == list(tmp_path.iterdir())
    else:
        assert int(found[1]) == len(out.splitlines())
        assert f"go on with --start {found[1]}" == found[3]
