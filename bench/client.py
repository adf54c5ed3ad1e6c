"""The client beside its peers: what a capture costs, and what arrives however the process ends.

Each measurement is a process of its own, which sends to a stub in another:

    python -m bench.client stub                      serves, prints its port
    python -m bench.client capture SDK PORT CALLS    times each call; prints one JSON object
    python -m bench.client begin SDK PORT            times import, client and first capture; JSON
    python -m bench.client end SDK PORT END          captures, then ends by exit, SIGTERM or fork
"""

import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple
from urllib.request import urlopen

SDKS: Final = ("indelible", "posthog", "segment")
ENDS: Final = {"exit": 1_000, "SIGTERM": 1_000, "fork": 100}
TIMED: Final = "timed"
LIMIT_S: Final = 20.0
_PROPERTIES: Final = {"amount": 99.99, "currency": "USD", "plan": "pro", "items": 3}


class Cost(NamedTuple):
    """What one capture costs, in µs; `cpu` is that of all threads until the last is delivered."""

    p50: float
    p99: float
    most: float
    cpu: float
    delivered: int


class Begin(NamedTuple):
    """What a process waits for, in ms: the import of the class, the client, the first capture."""

    imported: float
    made: float
    first: float


class Sdk(NamedTuple):
    """A client made ready: how it captures one event, and how it delivers what waits."""

    capture: Callable[[str], object]
    flush: Callable[[], object]


@contextlib.contextmanager
def stub() -> Iterator[int]:
    """A server that takes whatever is sent, in a process of its own; its port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.client", "stub"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def cost(sdk: str, port: int, calls: int) -> Cost:
    """What a capture costs with this client, over so many calls."""
    command = [sys.executable, "-m", "bench.client", "capture", sdk, str(port), str(calls)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return Cost(**json.loads(said.stdout), delivered=_arrived(port))


def begin(sdk: str, port: int) -> Begin:
    """What the first event of a process costs with this client."""
    command = [sys.executable, "-m", "bench.client", "begin", sdk, str(port)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return Begin(**json.loads(said.stdout))


def delivered(sdk: str, end: str) -> str:
    """How many of the events that were captured arrived, in words."""
    with stub() as port:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.client", "end", sdk, str(port), end],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            process.wait(LIMIT_S)
            hangs = ""
        except subprocess.TimeoutExpired:
            hangs = ", hangs"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return f"{_arrived(port):,}{hangs}"


def _arrived(port: int) -> int:
    """How many timed events the stub has had since it was asked last."""
    with urlopen(f"http://127.0.0.1:{port}/") as answer:
        return int(answer.read())


# In a process of its own.


def _ready(sdk: str, port: int) -> Sdk:
    """One of the clients, as its guide sets it up."""
    host = f"http://127.0.0.1:{port}"
    match sdk:
        case "indelible" | "disabled":
            from indelible import Indelible

            ours = Indelible("token", host=host, enabled=sdk != "disabled")
            ours.install_signal_handlers()
            return Sdk(
                lambda name: ours.capture(name, distinct_id="user_42", properties=_PROPERTIES),
                ours.flush,
            )
        case "posthog":
            from posthog import Posthog

            posthog = Posthog("phc_token", host=host)
            return Sdk(
                lambda name: posthog.capture(name, distinct_id="user_42", properties=_PROPERTIES),
                posthog.flush,
            )
        case "segment":
            from segment.analytics.client import Client

            segment = Client("token", host=host)
            return Sdk(lambda name: segment.track("user_42", name, _PROPERTIES), segment.flush)
    raise ValueError(sdk)


def _capture(sdk: str, port: int, calls: int) -> None:
    client = _ready(sdk, port)
    client.capture("warm-up")  # begins the thread and the connection
    client.flush()
    times = []
    cpu_ns = time.process_time_ns()
    for _ in range(calls):
        began = time.perf_counter_ns()
        client.capture(TIMED)
        times.append(time.perf_counter_ns() - began)
    client.flush()
    cpu_ns = time.process_time_ns() - cpu_ns
    times.sort()
    figures = {
        "p50": times[calls // 2] / 1e3,
        "p99": times[calls * 99 // 100] / 1e3,
        "most": times[-1] / 1e3,
        "cpu": cpu_ns / calls / 1e3,
    }
    print(json.dumps(figures))


_CLASSES: Final = {
    "indelible": "from indelible import Indelible",
    "posthog": "from posthog import Posthog",
    "segment": "from segment.analytics.client import Client",
}


def _begin(sdk: str, port: int) -> None:
    times = [time.perf_counter()]
    exec(_CLASSES[sdk], {})  # the import alone
    times.append(time.perf_counter())
    client = _ready(sdk, port)
    times.append(time.perf_counter())
    client.capture("first")
    times.append(time.perf_counter())
    names = ("imported", "made", "first")
    print(json.dumps({name: (times[i + 1] - times[i]) * 1e3 for i, name in enumerate(names)}))


def _end(sdk: str, port: int, end: str) -> None:
    client = _ready(sdk, port)
    if end == "fork":
        client.capture("warm-up")
        if os.fork():
            os.wait()
            return
    for _ in range(ENDS[end]):
        client.capture(TIMED)
    if end == "SIGTERM":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(LIMIT_S)


def _serve() -> None:
    arrived: Counter[str] = Counter()
    counting = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if body[:2] == b"\x1f\x8b":
                body = gzip.decompress(body)
            with contextlib.suppress(ValueError), counting:
                arrived.update(event["event"] for event in _batch(json.loads(body)))
            self._say(b'{"status": 1}')

        def do_GET(self) -> None:
            with counting:
                self._say(b"%d" % arrived.pop(TIMED, 0))

        def _say(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):  # some peers end before they are answered
                self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing: the table is the output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _batch(body: Any) -> list[dict[str, Any]]:
    batch = body.get("batch", [])
    return [event for event in batch if "event" in event]


def main() -> None:
    match sys.argv[1:]:
        case ["stub"]:
            _serve()
        case ["capture", sdk, port, calls]:
            _capture(sdk, int(port), int(calls))
        case ["begin", sdk, port]:
            _begin(sdk, int(port))
        case ["end", sdk, port, end]:
            _end(sdk, int(port), end)
        case given:
            raise SystemExit(f"not understood: {given}\n{__doc__}")


if __name__ == "__main__":
    main()
