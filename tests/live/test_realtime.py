"""The realtime figures: equal to a naive count over the export, whatever happens in between."""

import json
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from indelible.edge.notice import Notices
from indelible.event import Kind
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.live import live as room
from indelible.live.live import Live
from indelible.live.windows import WINDOW_MS
from indelible.registry.registry import Registry
from tests.journal.contract import NEW_YEAR_MS, ManualClock
from tests.live import naive
from tests.world import AS_ADMIN, AS_APPLICATION, TOKEN, World, audit, inside, product, started

PATH = "/api/analytics/realtime"


def realtime(world: World) -> dict[str, Any]:
    answer = world.http.get(PATH, headers=AS_APPLICATION)
    assert 200 == answer.status_code, answer.text
    found: dict[str, Any] = answer.json()
    return found


def assert_naive(found: dict[str, Any], events: list[dict[str, Any]]) -> None:
    wanted = naive.figures(events, found["as_of"])
    assert wanted == {name: found[name] for name in wanted}
    assert wanted["active_users"] == found["active_persons"]
    assert {"events": 0, "pages": 0, "ids": 0} == found["unlisted"]


def wait_for(world: World, count: int) -> dict[str, Any]:
    """The figures once this many events are in them."""
    deadline = time.monotonic() + 30
    while True:
        found = realtime(world)
        if count == sum(minute["count"] for minute in found["events_per_minute"]):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


PROPERTIES: list[dict[str, Any]] = [
    {},
    {"$pathname": "/a/"},
    {"$pathname": "", "$current_url": "https://shop.example/b?c=d#e"},
    {"$current_url": "https://shop.example"},
    {"$pathname": 7, "$current_url": "/c#d"},
    {"$pathname": "/a/", "$current_url": "https://shop.example/b"},
    {"nested": {"$pathname": "/no"}},
    {"$current_url": ["https://shop.example/no"]},
    {"text": "$pathname and $current_url"},
]


def test_the_figures_are_those_of_a_naive_count_over_the_export_at_any_instant(
    tmp_path: Path,
) -> None:
    chance = random.Random(7)
    stopping = threading.Event()

    with started(tmp_path / "data") as server:

        def load() -> None:
            while not stopping.is_set():
                batch = [
                    product(
                        f"event-{int(chance.expovariate(0.2))}",
                        distinct_id=f"user-{chance.randrange(50)}",
                        properties=chance.choice(PROPERTIES),
                    )
                    for _ in range(chance.randrange(1, 40))
                ]
                server.send({"api_key": TOKEN, "batch": [*batch, product("")]})
                server.send_audit(audit())
                stopping.wait(0.02)

        sender = threading.Thread(target=load)
        sender.start()
        instants = []
        try:
            for _ in range(5):
                time.sleep(chance.random())
                instants.append(realtime(server))
        finally:
            stopping.set()
            sender.join()
        events = server.events()

    assert any(found["top_pages"] for found in instants)
    for found in instants:
        assert_naive(found, events)
        assert (0, None) == (found["late"], found["complete_from"])


def test_an_empty_project_has_thirty_zeros(tmp_path: Path) -> None:
    with inside(tmp_path) as world:
        found = realtime(world)
    assert [0] * 30 == [minute["count"] for minute in found["events_per_minute"]]
    assert found["events_per_minute"][-1]["minute"] <= found["as_of"]
    assert ([], [], 0, 0) == (
        found["top_events"],
        found["top_pages"],
        found["active_users"],
        found["active_persons"],
    )


def test_after_a_restart_the_windows_are_what_they_were(tmp_path: Path) -> None:
    for turn in (1, 2):
        with started(tmp_path / "data") as server:
            server.send({"api_key": TOKEN, "batch": [product(properties=p) for p in PROPERTIES]})
            found = wait_for(server, turn * len(PROPERTIES))
            assert_naive(found, server.events())
            assert found["complete_from"] is None


def test_what_was_erased_leaves_the_lists_and_stays_in_the_minutes(tmp_path: Path) -> None:
    with inside(tmp_path) as world:
        sent = world.send(
            product("secret", distinct_id="Ada", properties={"$pathname": "/users/ada"})
        ).json()
        world.send(product("kept"))
        wait_for(world, 2)
        wanted = {"tx_ids": [sent["events"][0]["tx_id"]], "reason": "asked", "project": "default"}
        assert world.http.post("/v1/erasures", json=wanted, headers=AS_ADMIN).is_success
        deadline = time.monotonic() + 30
        while "secret" in json.dumps(found := realtime(world)):
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert_naive(found, world.events())
    assert 1 == found["active_users"]
    assert 2 == sum(minute["count"] for minute in found["events_per_minute"])


class Followed:
    """A journal with one project, and what follows it, on a clock of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NEW_YEAR_MS)
        self.journal = SqliteJournal(Database(folder / "journal.db"), clock=self.clock)
        registry = Registry(RegistryTables(self.journal), clock=self.clock)
        self.project = registry.projects.create("p").id
        self.follow()

    def follow(self) -> None:
        self.live = Live(
            self.journal,
            projects=lambda: [self.project],
            notices=Notices(self.clock),
            clock=self.clock,
        )

    def store(self, name: str, at_ms: int, count: int = 1) -> None:
        record = json.dumps({"distinct_id": f"of {name}", "event": name, "request": {}}).encode()
        draft = Draft(self.project, Kind.PRODUCT, at_ms, b"{}", record)
        self.journal.append([draft] * count)

    def catch_up(self) -> None:
        start = self.live.next_index(self.project)
        if (end := self.journal.next_index(self.project)) > start:
            self.live.handle(self.project, start, end)

    def names(self) -> dict[str, int]:
        figures = self.live.figures(self.project).figures
        return {each.name: each.count for each in figures.names}

    def close(self) -> None:
        self.journal.close()


@pytest.fixture
def followed(tmp_path: Path) -> Any:
    one = Followed(tmp_path)
    yield one
    one.close()


def test_an_answer_does_not_get_ahead_of_what_is_followed(followed: Followed) -> None:
    followed.catch_up()
    followed.store("waits", NEW_YEAR_MS + 2_000)
    followed.clock.now_ms = NEW_YEAR_MS + 60_000

    behind = followed.live.figures(followed.project).figures
    assert NEW_YEAR_MS + 2_000 == behind.as_of_ms
    followed.catch_up()
    assert followed.live.figures(followed.project).figures.as_of_ms >= NEW_YEAR_MS + 59_000
    assert {"waits": 1} == followed.names()


def test_a_clock_that_steps_back_has_the_windows_filled_again(followed: Followed) -> None:
    hour = 2 * WINDOW_MS
    followed.store("before", NEW_YEAR_MS - hour)
    followed.store("now", NEW_YEAR_MS - 1_000)
    followed.catch_up()
    assert {"now": 1} == followed.names()

    followed.clock.now_ms = NEW_YEAR_MS - hour + 10_000
    assert {"before": 1} == followed.names()
    followed.store("again", followed.clock.now_ms)
    followed.clock.now_ms += 1_000
    followed.catch_up()
    assert {"again": 1, "before": 1} == followed.names()
    followed.clock.now_ms = NEW_YEAR_MS
    assert {"now": 1} == followed.names()


def test_a_clock_that_steps_forward_empties_the_windows(followed: Followed) -> None:
    followed.store("before", NEW_YEAR_MS)
    followed.catch_up()
    followed.clock.now_ms += WINDOW_MS + 1_000
    assert {} == followed.names()


def test_a_start_reads_a_bounded_part_of_a_long_log_and_says_from_when_it_is_complete(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "MOST_REFILLED", 100)
    for minute in range(20):
        followed.store(f"{minute}", NEW_YEAR_MS - (20 - minute) * 60_000, count=10)
    followed.follow()
    followed.catch_up()

    found = followed.live.figures(followed.project)
    assert 100 == sum(count for _, count in found.figures.minutes)
    assert NEW_YEAR_MS - 10 * 60_000 == found.complete_from_ms
    followed.clock.now_ms += 21 * 60_000
    assert followed.live.figures(followed.project).complete_from_ms is None
