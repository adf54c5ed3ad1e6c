"""A client of the debug stream, as a browser's EventSource reads it."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.world import AS_APPLICATION, World, plain_client

PATH = "/api/debug/stream"
LIMIT_S = 60.0


@dataclass
class Look:
    """What one client has been sent."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    is_open: threading.Event = field(default_factory=threading.Event)
    has_ended: threading.Event = field(default_factory=threading.Event)
    error: Exception | None = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in list(self.messages) if message["kind"] == kind]

    @property
    def names(self) -> list[str]:
        """Of the events that were shown."""
        return [message["event"].get("event", "") for message in self.of("event")]

    @property
    def total(self) -> int:
        """For how many events this stands: shown, not taken, left out."""
        rejects = sum(int(message["count"]) for message in self.of("reject"))
        missed = sum(int(message["missed"] or 0) for message in self.of("gap"))
        return len(self.of("event")) + rejects + missed

    def wait(self, holds: Callable[["Look"], bool]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not holds(self):
            assert time.monotonic() < deadline, self.messages[-5:]
            time.sleep(0.01)

    def take(self, line: str) -> None:
        self.lines.append(line)
        name, _, value = line.partition(": ")
        if name == "id":
            self.ids.append(value)
        elif name == "data":
            message = json.loads(value)
            assert isinstance(message, dict)
            self.messages.append(message)


@contextlib.contextmanager
def looking(
    world: World, headers: dict[str, str] | None = None, **parameters: Any
) -> Iterator[Look]:
    """A stream that is read by a thread for the time of a `with`."""
    look = Look()
    closing: list[httpx.Response] = []

    def read() -> None:
        try:
            with (
                plain_client(world.url) as http,
                http.stream("GET", PATH, params=parameters, headers=headers or AS_APPLICATION) as s,
            ):
                assert 200 == s.status_code, s.read()
                closing.append(s)
                for line in s.iter_lines():
                    look.take(line)
                    look.is_open.set()
        except Exception as error:
            look.error = error
        look.has_ended.set()
        look.is_open.set()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert look.is_open.wait(LIMIT_S)
    try:
        yield look
    finally:
        for stream in closing:
            with contextlib.suppress(OSError, KeyError):
                stream.extensions["network_stream"].get_extra_info("socket").shutdown(2)
        thread.join(LIMIT_S)


def shown(world: World, headers: dict[str, str] | None = None, **parameters: Any) -> Look:
    """What a stream has that ends as soon as all is sent that is there."""
    with looking(world, headers, seconds=0, **parameters) as look:
        assert look.has_ended.wait(LIMIT_S)
    assert look.error is None
    return look
