"""Turns at reading: many exports of one project keep no other project waiting."""

import asyncio
import threading

from indelible.api.reading import MADE_AT_ONCE, Reading


def test_a_project_that_reads_much_takes_no_turn_of_another() -> None:
    made: list[str] = []
    all_wait = threading.Event()

    def page(of: str) -> None:
        assert all_wait.wait(60)
        made.append(of)

    async def read() -> None:
        reading = Reading()
        asked = [asyncio.ensure_future(reading.made(1, lambda: page("busy"))) for _ in range(30)]
        await asyncio.sleep(0)
        asked.append(asyncio.ensure_future(reading.made(2, lambda: page("other"))))
        for _ in range(10):
            await asyncio.sleep(0)
        all_wait.set()
        await asyncio.gather(*asked)

    asyncio.run(read())
    assert 31 == len(made)
    # Those that run, and one that may overtake on the other thread while it is its turn.
    assert made.index("other") <= MADE_AT_ONCE + 1
