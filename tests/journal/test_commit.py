"""Group commit: many requests, few syncs, and no answer before its sync."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from indelible.errors import JournalUnwritable, Overloaded, StoringSlow
from indelible.event import Lane
from indelible.journal.commit import Committer, Result
from indelible.journal.contract import Draft, Duplicate, Journal, Outcome
from indelible.journal.database import Database
from indelible.journal.sqlite import SqliteJournal
from indelible.pulse import BEAT_S
from tests.journal.contract import ManualClock, a_draft, numbered, stored, whole_log
from tests.journal.rig import MakeRigOf, SqliteRig

T = TypeVar("T")
Submission = asyncio.Task[list[Outcome]]

ROOMY_BYTES = 64 << 20


class SlowJournal(SqliteJournal):
    """A journal whose appends can be held up, so that a test can say what arrives meanwhile.

    `appended` has the number of drafts in each append that was begun.
    """

    def __init__(self, database: Database, *, clock: ManualClock) -> None:
        super().__init__(database, clock=clock)
        self.is_open = threading.Event()
        self.is_open.set()
        self.appended: list[int] = []

    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        self.appended.append(len(drafts))
        assert self.is_open.wait(60)
        return super().append(drafts)

    @contextmanager
    def held_up(self) -> Iterator[None]:
        self.is_open.clear()
        yield
        self.is_open.set()

    async def until_begun(self, appends: int) -> None:
        while len(self.appended) < appends:
            await asyncio.sleep(0.001)


class BrokenJournal(SqliteJournal):
    """A journal with a fault of its own: it cannot take the client id `cursed`."""

    def append(self, drafts: Sequence[Draft]) -> list[Outcome]:
        for draft in drafts:
            if draft.client_id == "cursed":
                raise ZeroDivisionError(draft.payload)
        return super().append(drafts)


@asynccontextmanager
async def committing(
    journal: Journal, *, max_waiting_bytes: int = ROOMY_BYTES
) -> AsyncIterator[Committer]:
    committer = Committer(journal, max_waiting_bytes=max_waiting_bytes)
    committer.start()
    try:
        yield committer
    finally:
        await committer.stop()


def run(story: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asyncio.wait_for(story, 60))


async def submitted(committer: Committer, *requests: Sequence[Draft]) -> list[Submission]:
    """Submit the requests at once, in this order; none is waited for."""
    tasks = [asyncio.create_task(committer.submit(drafts)) for drafts in requests]
    await asyncio.sleep(0)
    return tasks


@pytest.fixture
def slow(make_rig_of: MakeRigOf) -> SqliteRig:
    return make_rig_of(SlowJournal)


def slow_journal(rig: SqliteRig) -> SlowJournal:
    assert isinstance(rig.journal, SlowJournal)
    return rig.journal


def test_requests_that_arrive_while_a_sync_is_under_way_share_the_next_one(
    slow: SqliteRig,
) -> None:
    journal, project = slow_journal(slow), slow.new_project()

    async def story() -> None:
        async with committing(journal) as committer:
            with journal.held_up():
                first = await submitted(committer, numbered(project, 1, prefix="first"))
                await journal.until_begun(1)
                others = await submitted(
                    committer, *(numbered(project, 3, prefix=f"{n}-") for n in range(20))
                )
            await asyncio.gather(*first, *others)

    run(story())
    assert [1, 60] == journal.appended


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(st.sampled_from([None, "a", "b", "c", "d"]), max_size=5), max_size=30))
def test_each_request_gets_its_own_outcomes_in_its_own_order(
    make_rig_of: MakeRigOf, requests: list[list[str | None]]
) -> None:
    rig = make_rig_of(SqliteJournal)
    project = rig.new_project()
    drafts = [
        [a_draft(project, name, payload=b'"%d.%d"' % (i, j)) for j, name in enumerate(names)]
        for i, names in enumerate(requests)
    ]

    async def story() -> list[list[Outcome]]:
        async with committing(rig.journal) as committer:
            return await asyncio.gather(*await submitted(committer, *drafts))

    answers = run(story())

    # As if they had been appended one after the other, in the order of arrival.
    twin = make_rig_of(SqliteJournal)
    assert project == twin.new_project()
    expected = [twin.journal.append(request) for request in drafts]
    assert [[_but_for_tx(o) for o in outcomes] for outcomes in expected] == [
        [_but_for_tx(o) for o in outcomes] for outcomes in answers
    ]
    payloads = [entry.payload for entry in whole_log(rig.journal, project)]
    assert [entry.payload for entry in whole_log(twin.journal, project)] == payloads


def _but_for_tx(outcome: Outcome) -> tuple[str, int | None]:
    return type(outcome).__name__, getattr(outcome, "index", None)


def test_an_answer_comes_after_the_sync(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()

    async def story(name: str) -> list[Outcome]:
        async with committing(sqlite.journal) as committer:
            outcomes = await committer.submit([a_draft(project, name)])
            # Whatever was not synced when the answer came is lost here.
            sqlite.disk.cut_power(sqlite.folder, sqlite.folder / name)
            return outcomes

    for n in range(3):
        (outcome,) = stored(run(story(f"e{n}")))
        after = SqliteJournal(Database(sqlite.folder / f"e{n}" / "journal.db"))
        found = after.find(project, Lane.PRODUCT, f"e{n}")
        after.close()
        assert found is not None
        assert (outcome.index, outcome.tx) == (found.index, found.leaf.tx)


def test_an_empty_request_is_answered_with_no_outcomes(sqlite: SqliteRig) -> None:
    async def story() -> list[Outcome]:
        async with committing(sqlite.journal) as committer:
            return await committer.submit([])

    assert [] == run(story())


def test_a_failure_of_the_journal_reaches_every_waiting_request_and_stores_none(
    slow: SqliteRig,
) -> None:
    journal, project = slow_journal(slow), slow.new_project()

    async def story() -> None:
        async with committing(journal) as committer:
            with journal.held_up():
                first = await submitted(committer, numbered(project, 2, prefix="first"))
                await journal.until_begun(1)
                others = await submitted(
                    committer, *(numbered(project, 200, prefix=f"{n}-") for n in range(4))
                )
                slow.disk.writes_left = 3
            results = await asyncio.gather(*first, *others, return_exceptions=True)
            failures = [isinstance(result, JournalUnwritable) for result in results]
            assert failures[1:] == [True] * 4
            kept = 0 if failures[0] else 2
            assert kept == journal.next_index(project)

            slow.disk.writes_left = None
            again = await committer.submit(numbered(project, 200, prefix="2-"))
            assert list(range(kept, kept + 200)) == [outcome.index for outcome in stored(again)]

    run(story())


def test_a_request_is_stored_whole_or_not_at_all(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()

    async def story(writes: int) -> bool:
        async with committing(sqlite.journal) as committer:
            sqlite.disk.writes_left = writes
            try:
                await committer.submit(numbered(project, 300, prefix=f"{writes}-"))
            except JournalUnwritable:
                return False
            finally:
                sqlite.disk.writes_left = None
            return True

    told = [run(story(writes)) for writes in range(0, 100, 9)]

    assert {True, False} == set(told)
    assert 300 * sum(told) == sqlite.journal.next_index(project)


def test_a_fault_inside_the_journal_is_answered_and_logged_and_the_next_request_is_taken(
    make_rig_of: MakeRigOf, caplog: pytest.LogCaptureFixture
) -> None:
    rig = make_rig_of(BrokenJournal)
    project = rig.new_project()

    async def story() -> None:
        async with committing(rig.journal) as committer:
            with pytest.raises(JournalUnwritable) as caught:
                await committer.submit([a_draft(project, "cursed", payload=b'"secret"')])
            assert "ZeroDivisionError while writing a group" == caught.value.message
            assert isinstance(caught.value.__cause__, ZeroDivisionError)
            stored(await committer.submit([a_draft(project, "fine")]))

    run(story())
    assert 1 == rig.journal.next_index(project)
    # What went wrong and where; what somebody sent is in no log.
    assert "ZeroDivisionError in append (test_commit.py:" in caplog.text
    assert "secret" not in caplog.text
    assert ["ERROR", "ERROR"] == [record.levelname for record in caplog.records]


def test_what_waits_beyond_the_limit_is_refused_and_not_stored(slow: SqliteRig) -> None:
    journal, project = slow_journal(slow), slow.new_project()
    limit_bytes = 14_000

    async def story() -> None:
        async with committing(journal, max_waiting_bytes=limit_bytes) as committer:
            with journal.held_up():
                taken = await submitted(committer, [_weighing(project, "first", 4_000)])
                await journal.until_begun(1)
                taken += await submitted(committer, [_weighing(project, "second", 4_000)])
                for name in ("third", "fourth"):
                    with pytest.raises(Overloaded):
                        await committer.submit([_weighing(project, name, 4_000)])
            for outcomes in await asyncio.gather(*taken):
                stored(outcomes)
            # What was answered waits no more.
            with journal.held_up():
                taken = await submitted(committer, [_weighing(project, "fifth", 4_000)])
                await journal.until_begun(3)
                taken += await submitted(committer, [_weighing(project, "sixth", 4_000)])
            for outcomes in await asyncio.gather(*taken):
                stored(outcomes)

    run(story())
    names = ["first", "second", "third", "fourth", "fifth", "sixth"]
    found = [journal.find(project, Lane.PRODUCT, name) is not None for name in names]
    assert [True, True, False, False, True, True] == found


def test_product_events_that_wait_leave_room_for_audit_events(slow: SqliteRig) -> None:
    journal, project = slow_journal(slow), slow.new_project()

    async def story() -> None:
        async with committing(journal, max_waiting_bytes=20_000) as committer:
            with journal.held_up():
                taken = await submitted(committer, [_weighing(project, "first", 14_000)])
                await journal.until_begun(1)
                with pytest.raises(Overloaded):
                    await committer.submit([_weighing(project, "flood", 2_000)])
                audit = replace(_weighing(project, "kept", 2_000), lane=Lane.AUDIT)
                taken += await submitted(committer, [audit])
            for outcomes in await asyncio.gather(*taken):
                stored(outcomes)

    run(story())
    assert journal.find(project, Lane.PRODUCT, "flood") is None
    assert journal.find(project, Lane.AUDIT, "kept") is not None


def test_nobody_waits_for_all_the_batches_that_another_has_sent(slow: SqliteRig) -> None:
    journal, flooded, other = slow_journal(slow), slow.new_project(), slow.new_project()
    batches = [numbered(flooded, 100, prefix=f"{n}-") for n in range(80)]
    honest = [
        [a_draft(flooded, "a single one")],
        [replace(a_draft(flooded, "to be proved"), lane=Lane.AUDIT)],
        numbered(other, 100),
    ]

    async def story() -> list[int]:
        async with committing(journal) as committer:
            with journal.held_up():
                first = await submitted(committer, batches[0])
                await journal.until_begun(1)
                flood = await submitted(committer, *batches[1:])
                late = await submitted(committer, *honest)
            stored_before = []
            for request in late:
                await request
                stored_before.append(sum(batch.done() for batch in flood))
            await asyncio.gather(*first, *flood)
            return stored_before

    assert all(batches_before <= 20 for batches_before in run(story()))


def test_a_flood_leaves_room_to_wait_for_the_events_of_other_projects(slow: SqliteRig) -> None:
    journal, flooded, other = slow_journal(slow), slow.new_project(), slow.new_project()

    async def story() -> None:
        async with committing(journal, max_waiting_bytes=100_000) as committer:
            with journal.held_up():
                taken = await submitted(committer, [_weighing(flooded, "first", 1_000)])
                await journal.until_begun(1)
                for n in range(80):
                    taken += await submitted(committer, [_weighing(flooded, f"flood {n}", 1_000)])
                taken += await submitted(committer, [_weighing(other, "kept", 4_000)])
            answers = await asyncio.gather(*taken, return_exceptions=True)
            assert isinstance(answers[-2], Overloaded)

    run(story())
    assert journal.find(other, Lane.PRODUCT, "kept") is not None


def test_a_request_that_alone_is_over_the_limit_is_taken_when_nothing_waits(
    slow: SqliteRig,
) -> None:
    journal, project = slow_journal(slow), slow.new_project()

    async def story() -> None:
        async with committing(journal, max_waiting_bytes=1_000) as committer:
            stored(await committer.submit([_weighing(project, "large", 50_000)]))
            with journal.held_up():
                small = await submitted(committer, [a_draft(project, "small")])
                with pytest.raises(Overloaded):
                    await committer.submit([_weighing(project, "too much", 50_000)])
            stored(await small[0])

    run(story())


def test_a_failed_request_waits_no_more(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()

    async def story() -> None:
        async with committing(sqlite.journal, max_waiting_bytes=5_000) as committer:
            for _ in range(5):
                sqlite.disk.writes_left = 0
                with pytest.raises(JournalUnwritable):
                    await committer.submit([_weighing(project, "large", 4_000)])
            sqlite.disk.writes_left = None
            stored(await committer.submit([_weighing(project, "large", 4_000)]))

    run(story())


def test_stopping_writes_and_answers_what_was_submitted(slow: SqliteRig) -> None:
    journal, project = slow_journal(slow), slow.new_project()
    requests = [numbered(project, 7, prefix=f"{n}-") for n in range(50)]

    async def story() -> list[list[Outcome]]:
        committer = Committer(journal, max_waiting_bytes=ROOMY_BYTES)
        committer.start()
        with journal.held_up():
            tasks = await submitted(committer, *requests)
            await journal.until_begun(1)
            stopping = asyncio.create_task(committer.stop())
            await asyncio.sleep(0.01)
            assert not stopping.done()
        await stopping
        assert all(task.done() for task in tasks)
        return [task.result() for task in tasks]

    outcomes = [outcome for answer in run(story()) for outcome in stored(answer)]
    assert list(range(350)) == [outcome.index for outcome in outcomes]
    assert 350 == journal.next_index(project)


def test_a_client_that_went_away_loses_no_event_and_holds_up_nobody(slow: SqliteRig) -> None:
    journal, project = slow_journal(slow), slow.new_project()

    async def story() -> None:
        async with committing(journal) as committer:
            with journal.held_up():
                first = await submitted(committer, [a_draft(project, "first")])
                await journal.until_begun(1)
                names = ("before", "gone", "after")
                before, gone, after = await submitted(
                    committer, *([a_draft(project, name)] for name in names)
                )
                first[0].cancel()
                gone.cancel()
            assert [1] == [outcome.index for outcome in stored(await before)]
            assert [3] == [outcome.index for outcome in stored(await after)]
            assert gone.cancelled()
            assert first[0].cancelled()
            again = await committer.submit([a_draft(project, "gone"), a_draft(project, "first")])
            assert [Duplicate, Duplicate] == [type(outcome) for outcome in again]
            assert [2, 0] == [o.index for o in again if isinstance(o, Duplicate)]

    run(story())
    assert 4 == journal.next_index(project)


def test_who_is_told_of_a_slow_sync_is_told_nothing_when_it_ends(slow: SqliteRig) -> None:
    journal, project = slow_journal(slow), slow.new_project()
    told: list[Result] = []

    async def story() -> None:
        async with committing(journal) as committer:
            with journal.held_up():
                committer.hand_over([a_draft(project, "slow")], told.append)
                while not told:
                    await asyncio.sleep(0.01)
                await asyncio.sleep(5 * BEAT_S)  # in which it is looked for the late ones again
            while committer.under_way_s is not None:
                await asyncio.sleep(0.01)
            await committer.submit([a_draft(project, "next")])

    run(story())
    assert [StoringSlow] == [type(result) for result in told]
    assert 2 == journal.next_index(project)


def _weighing(project_id: int, client_id: str, size_bytes: int) -> Draft:
    return a_draft(project_id, client_id, payload=b"x" * size_bytes)
