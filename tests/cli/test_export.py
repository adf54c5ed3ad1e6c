"""`indelible export`."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.cli.command import assert_refused, at, begin, call, fine
from tests.cli.conftest import Shop
from tests.world import API_KEY, ServerProcess


def test_the_log_goes_to_stdout_or_into_a_file(shop: Shop, tmp_path: Path) -> None:
    shop.send(*(f"e{n}" for n in range(1_200)))
    file = tmp_path / "log.ndjson"
    file.write_text("an older export")

    printed = fine("export", *shop.here)
    said = fine("export", "--output", str(file), *shop.here)
    part = call(
        *("export", "--output", str(tmp_path / "part"), "--json"),
        *("--start", "10", "--end", "12", *shop.here),
    )

    assert list(range(1_200)) == [event["index"] for event in printed.lines]
    assert printed.out == file.read_text()
    assert "1200   (index 0 to 1199)" == said.fact("events")
    assert (2, 10, 12) == tuple(part.json[name] for name in ("events", "start", "end"))
    assert printed.out.splitlines()[10:12] == (tmp_path / "part").read_text().splitlines()
    assert 0o600 == file.stat().st_mode & 0o777
    assert ["log.ndjson", "part"] == sorted(path.name for path in tmp_path.iterdir())
    beyond = call("export", "--start", "5000", *shop.here)
    assert ("", True) == (beyond.out, "the log has 1200" in beyond.err)


def test_head_takes_what_it_wants(shop: Shop) -> None:
    shop.send(*(f"e{n}" for n in range(1_500)))  # more than a pipe holds

    with begin("export", *shop.here) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        first = export.stdout.readline()
        export.stdout.close()
        assert (0, "") == (export.wait(60), export.stderr.read())

    assert 0 == json.loads(first)["index"]


@contextlib.contextmanager
def breaking_off(*, lines: int, cut_short: bool) -> Iterator[str]:
    """Something that says its log has 5 entries, and sends fewer."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            missing = 0
            if self.path.startswith("/v1/events"):
                body = json.dumps({"events": [{"index": 4}], "next": None, "position": 0})
            else:
                body = "".join(f'{{"index":{n}}}\n' for n in range(lines))
                missing = 100 * cut_short
            self.send_response(200)
            self.send_header("content-length", str(len(body) + missing))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_stream_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.write_text("kept")
    for cut_short in (True, False):  # the connection breaks, or the server ends too early
        with breaking_off(lines=3, cut_short=cut_short) as url:
            fresh, over, printed = (
                call("export", *arguments, INDELIBLE_HOST=url, INDELIBLE_API_KEY=API_KEY)
                for arguments in (("-o", str(tmp_path / "log")), ("-o", str(older)), ())
            )

        assert_refused(fresh, 3, "bad_answer")
        assert_refused(over, 3, "bad_answer")
        assert (3, 3) == (printed.code, len(printed.lines))
        assert "bad_answer" in printed.err
        assert [older] == list(tmp_path.iterdir())
        assert "kept" == older.read_text()


def test_a_file_that_cannot_be_written_is_a_clear_error(
    shared: ServerProcess, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "missing" / "log")

    assert_refused(call("export", "--output", nowhere, *at(shared)), 3, "io_failed")
    assert_refused(call("export", "--output", str(tmp_path), *at(shared)), 2, "called_wrongly")
