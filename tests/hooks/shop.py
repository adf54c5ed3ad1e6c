"""The application that every framework's tests wire to routes; see `tests.hooks.contract`.

In a module of its own, so that a server in a process of its own starts with little else.
"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import ClassVar, Final

from indelible.client import Indelible
from indelible.client import context as contexts

CARD: Final = "4111 1111 1111 1111"
SECRET: Final = f"the card number is {CARD}"  # what an exception says, and no event may
CHUNK: Final = b"chunk\n"
CHUNK_S: Final = 0.05
LATER_S: Final = 0.2
PAUSE_S: Final = 0.02
WAIT_S: Final = 60.0


class Shop:
    """The application itself; frameworks only wire it to routes.

    Attributes:
        may_end: whether what goes on in the background may come to its end.
    """

    may_end: ClassVar = threading.Event()

    def __init__(self, client: Indelible) -> None:
        self.client = client

    def hello(self) -> str:
        return "hello"

    def item(self, item_id: str) -> str:
        return f"item {item_id}"

    def order(self, body: bytes | str) -> str:
        """Raises ValueError for any body that is not ``{"quantity": <whole number>}``."""
        return f"{int(json.loads(body)['quantity'])} ordered"

    def raises(self) -> str:
        raise RuntimeError(SECRET)

    def chunks(self) -> Iterator[bytes]:
        """Three chunks with a pause before each; an event is captured in the middle of it."""
        self.client.identify("streamer")
        for _ in range(3):
            time.sleep(CHUNK_S)
            yield CHUNK
        self.client.capture("streamed")

    async def achunks(self) -> AsyncIterator[bytes]:
        self.client.identify("streamer")
        for _ in range(3):
            await asyncio.sleep(CHUNK_S)
            yield CHUNK
        self.client.capture("streamed")

    def endless(self) -> Iterator[bytes]:
        """More than any buffer takes, for as long as somebody reads; ends by itself one day."""
        for _ in range(2_000):
            time.sleep(0.005)
            yield CHUNK * 10_000

    async def aendless(self) -> AsyncIterator[bytes]:
        for _ in range(2_000):
            await asyncio.sleep(0.005)
            yield CHUNK * 10_000

    def later(self) -> None:
        """Takes `LATER_S`, and longer until the test lets it end."""
        begun_s = time.monotonic()
        time.sleep(LATER_S)
        self.may_end.wait(WAIT_S)
        self.client.capture("done_later", properties={"begun_s": begun_s})

    def me(self, name: str) -> str:
        """Says who it is, lets others run, and tells whom the request belongs to then."""
        self.client.identify(name)
        time.sleep(PAUSE_S)
        return self.whoami()

    async def ame(self, name: str) -> str:
        self.client.identify(name)
        await asyncio.sleep(PAUSE_S)
        return self.whoami()

    def whoami(self) -> str:
        here = contexts.current()
        return json.dumps(None if here is None else here.distinct_id)

    def named(self) -> str:
        contexts.set_event_name("order.created")
        return "named"

    def ignored(self) -> str:
        contexts.ignore()
        return "ignored"
