"""The server's front door without a socket: the same application, asked from this thread.

Building the framework's part of it takes longer than all the rest of a start. What is checked ten
thousand times over sends events through the edge and reads the log where the framework would.
"""

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest

from indelible import app
from indelible.app import following
from indelible.errors import IndelibleError
from indelible.query.facts import view
from indelible.settings import Settings

_T = TypeVar("_T")
_encode = msgspec.json.Encoder().encode

SETTINGS: dict[str, Any] = {
    "ledger_origin": "log.example",
    "seal_interval_ms": 1,
    "product_min_free_percent": 0.0,
    "audit_min_free_percent": 0.0,
}


class Door:
    """A running server; use `opened`. Keys are those of its first start."""

    def __init__(self, house: app.House, loop: asyncio.AbstractEventLoop) -> None:
        self.house = house
        self._loop = loop
        self._http = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=house.edge),
            base_url="http://server",
            timeout=60,
        )

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request and its answer."""
        if "key" in more:
            more["headers"] = {
                "Authorization": f"Bearer {more.pop('key')}",
                **more.get("headers", {}),
            }
        return self.wait(self._http.request(method, path, **more))

    def export(self, key: str) -> list[dict[str, Any]]:
        """The whole log of the key's project.

        Raises:
            InvalidApiKey.
        """
        gate, journal = self.house.following.gate, self.house.storing.journal
        project = gate.project_of(gate.caller(f"Bearer {key}", lambda: None), None)
        entries = journal.read(project.id, 0, journal.next_index(project.id))
        return [json.loads(_encode(view(entry))) for entry in entries]

    def opens(self, role: str, secret: str) -> bool:
        """Whether a key is valid."""
        gate = self.house.following.gate
        try:
            if role == "token":
                return gate.is_token(secret)
            return gate.caller(f"Bearer {secret}", lambda: None).key.role == role
        except IndelibleError:
            return False

    def wait(self, what: Coroutine[Any, Any, _T]) -> _T:
        return self._loop.run_until_complete(what)

    def write_cli_file(self) -> None:
        """As `indelible serve` does before it says that it answers."""
        self.house.following.write_cli_file("http://server")


@contextlib.contextmanager
def opened(data: Path, *, whole: bool = True, **settings: Any) -> Iterator[Door]:
    """A server over a data folder, stopped cleanly in the end; one that is not `whole` has the
    routes of ingest alone."""
    with contextlib.nullcontext() if whole else _without_framework():
        house = app.House(Settings(data_dir=data, **{**SETTINGS, **settings}))
    loop = asyncio.new_event_loop()
    try:
        door = Door(house, loop)
        door.wait(_started(house))
        try:
            yield door
        finally:
            door.wait(door._http.aclose())
            door.wait(house.stop())
            door.wait(loop.shutdown_default_executor())
    finally:
        house.close()
        loop.close()


@contextlib.contextmanager
def _without_framework() -> Iterator[None]:
    """What is built within has none of the framework's routes."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError(f"{scope['path']} is a route of the framework")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "make_api", lambda *_, **__: refuse)
        yield


async def _started(house: app.House) -> None:
    house.start()
