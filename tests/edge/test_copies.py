"""Many copies of one event at once: one is stored, and every other one is told where."""

import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.world import TOKEN, ServerProcess, audit, product, started

COPIES = 1_001
"""More than a group of requests holds, and than one look-up asks for."""


def batch(uuids: list[str]) -> dict[str, Any]:
    events = [product(uuid=uuid) for uuid in uuids]
    for event in events:
        del event["api_key"]
    return {"api_key": TOKEN, "batch": events}


def outcomes(server: ServerProcess, uuids: list[str]) -> list[tuple[int, bool]]:
    """Of each event of a batch: its index, and whether it was there before."""
    answer = server.send(batch(uuids))
    assert 200 == answer.status_code, answer.text
    assert {"ok"} == {event["result"] for event in answer.json()["events"]}
    return [(event["index"], event.get("duplicate", False)) for event in answer.json()["events"]]


def test_of_1_001_copies_in_one_batch_one_is_stored_and_1_000_are_told_where(
    tmp_path: Path,
) -> None:
    with started(tmp_path / "data") as server:
        first = outcomes(server, ["once", *["copy"] * COPIES, "last"])
        assert [(0, False), (1, False), *[(1, True)] * (COPIES - 1), (2, False)] == first
        assert [(1, True)] * COPIES == outcomes(server, ["copy"] * COPIES)
    with started(tmp_path / "data") as server:
        assert [(1, True)] * COPIES == outcomes(server, ["copy"] * COPIES)
        mixed = [f"new-{n}" if n % 2 else "copy" for n in range(2 * COPIES)]
        found = outcomes(server, mixed)
        assert Counter({True: COPIES, False: COPIES}) == Counter(there for _, there in found)
        assert list(range(3, 3 + COPIES)) == [index for index, there in found if not there]
        assert {1} == {index for index, there in found if there}
        assert ["once", "copy", "last", *mixed[1::2]] == [e["uuid"] for e in server.events()]


def test_of_1_001_copies_in_as_many_requests_one_is_stored(world: ServerProcess) -> None:
    """Product and audit events at once, so that a group holds copies of both."""

    def send(number: int) -> tuple[int, bool]:
        if number % 2:
            answer = world.send(product(uuid="same"))
            (event,) = answer.json()["events"]
        else:
            answer = world.send_audit(audit(), key="same")
            event = answer.json()
        assert answer.is_success, answer.text
        return event["index"], bool(event.get("duplicate", False))

    with ThreadPoolExecutor(16) as senders:
        found = Counter(senders.map(send, range(2 * COPIES)))

    assert {("audit", 1), ("product", 1)} == set(
        Counter(event["kind"] for event in world.events()).items()
    )
    assert {0, 1} == {index for index, _ in found}
    assert 2 == sum(count for (_, there), count in found.items() if not there)
    assert 2 * COPIES - 2 == sum(count for (_, there), count in found.items() if there)


@pytest.mark.parametrize("size", [255, 256, 257, 999, 1_000])
def test_a_copy_is_known_on_both_sides_of_every_step_in_which_keys_are_looked_up(
    shared: ServerProcess, size: int
) -> None:
    run = uuid.uuid4().hex
    uuids = [f"{run}-{n}" for n in range(size)]
    outcomes(shared, uuids)
    found = outcomes(shared, [*uuids, f"{run}-new", *uuids])
    assert Counter({True: 2 * size, False: 1}) == Counter(there for _, there in found)
    indexes = [index for index, _ in found]
    assert indexes[:size] == indexes[size + 1 :] == list(range(indexes[0], indexes[0] + size))
