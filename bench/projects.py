"""Hundreds of projects on one server: what making one costs, and how soon the events of all are
sealed."""

import asyncio
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import apsw
import httpx
from tests.world import AS_ADMIN, ServerProcess, product

from indelible import durable
from indelible.event import tx_time_ms

PROJECTS: Final = 500
_CONNECTIONS: Final = 16
_THREADS: Final = 8


def made(server: ServerProcess) -> tuple[list[str], list[float]]:
    """Make the projects: their tokens, and how many seconds each took."""
    tokens, took_s = [], []
    for number in range(PROJECTS):
        began = time.perf_counter()
        body = {"name": f"shop-{number}"}
        answer = server.http.post("/v1/projects", json=body, headers=AS_ADMIN)
        took_s.append(time.perf_counter() - began)
        assert answer.status_code == 201, answer.text
        tokens.append(answer.json()["token"])
    return tokens, took_s


def an_event_a_second(server: ServerProcess, tokens: list[str], *, seconds: float) -> None:
    """Send one event a second for each token, spread evenly."""
    asyncio.run(_load(httpx.URL(server.url).port or 0, tokens, seconds))


def delays_ms(data: Path) -> list[int]:
    """From stored to sealed, of every event of a stopped server's projects; sorted."""
    return sorted(_delays_ms(data))


def checkpoints(data: Path) -> int:
    """How many checkpoints a server's logs have signed, but for those of empty logs."""
    seals = apsw.Connection(str(data / "seals.db"), flags=apsw.SQLITE_OPEN_READONLY)
    return int(seals.execute("SELECT count(*) FROM seal WHERE size > 0").get)


def files_alone_s(folder: Path) -> float:
    """The floor of one round: three small files and their folders, synced, for each project."""

    def put(number: int) -> None:
        for name in ("entries", "tile", "checkpoint"):
            place = folder / str(number) / name
            durable.write_file(place / "1", bytes(256))
            durable.sync_folder(place)

    for number in range(PROJECTS):
        for name in ("entries", "tile", "checkpoint"):
            (folder / str(number) / name).mkdir(parents=True)
    with ThreadPoolExecutor(_THREADS) as pool:
        began = time.perf_counter()
        list(pool.map(put, range(PROJECTS)))
        return time.perf_counter() - began


async def _load(port: int, tokens: list[str], seconds: float) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    senders = [asyncio.create_task(_send(port, queue)) for _ in range(_CONNECTIONS)]
    bodies = [json.dumps(product(api_key=token)).encode() for token in tokens]
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        for number in range(sent, due := int(passed * len(bodies))):
            queue.put_nowait(bodies[number % len(bodies)])
        sent = due
        await asyncio.sleep(0.005)
    for _ in senders:
        queue.put_nowait(None)
    await asyncio.gather(*senders)


async def _send(port: int, queue: "asyncio.Queue[bytes | None]") -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (body := await queue.get()) is not None:
        head = f"POST /api/e HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 " in answer.partition(b"\r\n")[0], answer
        (length,) = [line[15:] for line in answer.split(b"\r\n") if line[:15] == b"content-length:"]
        await reader.readexactly(int(length))
    writer.close()


def _delays_ms(data: Path) -> Iterator[int]:
    journal = apsw.Connection(str(data / "journal.db"), flags=apsw.SQLITE_OPEN_READONLY)
    seals = apsw.Connection(str(data / "seals.db"), flags=apsw.SQLITE_OPEN_READONLY)
    for project_id, origin in journal.execute("SELECT project_id, origin FROM log").fetchall():
        sealed = seals.execute(
            "SELECT size, sealed_at_ms FROM seal WHERE origin = ? ORDER BY size", (origin,)
        ).fetchall()
        leaves = journal.execute(f"SELECT leaf FROM event_{project_id} ORDER BY id").fetchall()
        for index, (leaf,) in enumerate(leaves):
            assert isinstance(leaf, bytes)
            at_ms = next(int(str(at)) for size, at in sealed if int(str(size)) > index)
            yield at_ms - tx_time_ms(leaf[16:32])
