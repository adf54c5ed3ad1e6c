"""What happens now: how soon a client of the debug stream sees an event, what following costs, and
what the figures of hundreds of projects take in memory."""

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.world import API_KEY, TOKEN, product

from bench import rows
from indelible.clock import now_ms
from indelible.edge.notice import Notices
from indelible.journal.reader import open_reader
from indelible.live.budget import Budget
from indelible.live.facts import Stretch
from indelible.live.live import Live
from indelible.live.windows import TICK_MS, WINDOW_MS, Windows

RATE: Final = 2_000
SIZE: Final = 20  # events of a request
PROJECTS: Final = 500
_CONNECTIONS: Final = 8
_SETTLES_S: Final = 2.0


class Seen(NamedTuple):
    """From the answer of an event to its message, ms, sorted; and what was told besides."""

    latencies_ms: list[float]
    sent: int
    shown: int
    missed: int


def seen(port: int, *, seconds: float, rate: int = RATE) -> Seen:
    """Send at a steady rate, and watch the stream."""
    return asyncio.run(_seen(port, seconds, rate))


async def _seen(port: int, seconds: float, rate: int) -> Seen:
    answered: dict[str, float] = {}
    told: dict[str, float] = {}
    missed = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    writer.write(
        b"GET /api/debug/stream HTTP/1.1\r\nHost: x\r\n"
        b"Authorization: Bearer %b\r\n\r\n" % API_KEY.encode()
    )
    await reader.readuntil(b"\r\n\r\n")

    async def watch() -> None:
        nonlocal missed
        while line := await reader.readline():
            if line.startswith(b"data: "):
                at, message = time.monotonic(), json.loads(line[6:])
                if message["kind"] == "event":
                    told[message["event"]["uuid"]] = at
                elif message["kind"] == "gap":
                    missed += message["missed"]

    queue: asyncio.Queue[list[str] | None] = asyncio.Queue()
    watching = asyncio.ensure_future(watch())
    senders = [asyncio.ensure_future(_send(port, queue, answered)) for _ in range(_CONNECTIONS)]
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        while sent < passed * rate:
            queue.put_nowait([f"event-{sent + place}" for place in range(SIZE)])
            sent += SIZE
        await asyncio.sleep(0.005)
    for _ in senders:
        queue.put_nowait(None)
    await asyncio.gather(*senders)
    await asyncio.sleep(_SETTLES_S)
    watching.cancel()
    writer.close()
    latencies = sorted(1e3 * (told[each] - answered[each]) for each in told.keys() & answered)
    return Seen(latencies, len(answered), len(told), missed)


async def _send(
    port: int, queue: "asyncio.Queue[list[str] | None]", answered: dict[str, float]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (uuids := await queue.get()) is not None:
        batch = [product(uuid=uuid) for uuid in uuids]
        body = json.dumps({"api_key": TOKEN, "batch": batch}).encode()
        writer.write(
            b"POST /api/e HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        (length,) = [line[15:] for line in head.split(b"\r\n") if line[:15] == b"content-length:"]
        await reader.readexactly(int(length))
        at = time.monotonic()
        answered |= dict.fromkeys(uuids, at)
    writer.close()


def us_per_event(folder: Path, events: int, at_once: int) -> float:
    """CPU of taking a log into ring and windows, this many events at a time; the best of three."""
    project_id = rows.fill(folder / "journal.db", events)
    journal = open_reader(folder / "journal.db")
    best = float("inf")
    for _ in range(3):
        live = Live(journal, projects=lambda: [project_id], notices=Notices(now_ms), clock=now_ms)
        start = live.next_index(project_id)
        began = time.process_time()
        for first in range(start, events, at_once):
            live.handle(project_id, first, min(first + at_once, events))
        best = min(best, time.process_time() - began)
        live.figures(project_id)
    journal.close()
    return best / events * 1e6


def mib_of_windows(projects: int, per_tick: int, ids: int) -> float:
    """What full windows of projects take, MiB: `per_tick` events every half second of each.

    In a process of its own: it is the growth of the largest resident size.
    """
    before = _resident()
    budget = Budget()
    each = [Windows(budget) for _ in range(projects)]
    start = now_ms() // TICK_MS
    names = [f"event_{n}" for n in range(20)]
    pages = [f"/page/{n}" for n in range(50)]
    for tick in range(WINDOW_MS // TICK_MS + 2):
        for number, windows in enumerate(each):
            if per_tick == 0 and (tick + number) % 2:  # an event a second
                continue
            count = max(1, per_tick)
            at = tick * count + number
            windows.take(
                Stretch(
                    start + tick,
                    count,
                    [names[(at + n) % 20] for n in range(count)],
                    [f"user-{(at + n) % ids}" for n in range(count)],
                    [pages[(at + n) % 50] for n in range(count)],
                )
            )
            windows.settle((start + tick) * TICK_MS)
    for windows in each:
        windows.figures()
    return _resident() - before


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    what, *given = sys.argv[1:]
    if what == "cost":
        print(f"{us_per_event(Path(given[0]), int(given[1]), int(given[2])):.2f}")
    else:
        print(f"{mib_of_windows(*map(int, given)):.1f}")


if __name__ == "__main__":
    main()
