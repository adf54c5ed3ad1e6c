"""What any reader of a journal must do, as tests: `ReadingContract`.

To run it, derive a class `Test…` from it and give it the fixture `make_rig`, as for
`tests.journal.contract.JournalContract`. The rig's `reader` is the journal itself, or a reader that
another process might have beside it.
"""

import itertools
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.errors import NotFound
from indelible.event import Lane
from indelible.journal.contract import Entry, Size
from tests.journal.contract import (
    DAY_MS,
    NEW_YEAR_MS,
    MakeRig,
    Rig,
    a_draft,
    assert_holds,
    erase,
    numbered,
    stored,
    whole_log,
)


class ReadingContract:
    """Every promise of `indelible.journal.contract.JournalReader`, one test each."""

    @pytest.fixture
    def rig(self, make_rig: MakeRig) -> Rig:
        return make_rig()

    def test_an_empty_project_has_no_entries_and_next_index_0(self, rig: Rig) -> None:
        project = rig.new_project()

        assert [] == rig.journal.append([])
        assert 0 == rig.reader.next_index(project)
        assert [] == rig.reader.read(project, 0, 10)
        assert [] == rig.reader.received_between(project, 0, None)
        assert rig.reader.find(project, Lane.PRODUCT, "e0") is None
        assert rig.reader.find_tx(project, bytes(16)) is None

    def test_a_subkey_is_the_projects_own_for_each_use_and_never_changes(self, rig: Rig) -> None:
        one, other = rig.new_project(), rig.new_project()
        subkeys = [
            rig.reader.subkey(project, use) for project in (one, other) for use in ("a", "b")
        ]
        assert 4 == len(set(subkeys))
        assert [32] * 4 == [len(subkey) for subkey in subkeys]
        rig.journal.append(numbered(one, 3))
        assert subkeys[0] == rig.reader.subkey(one, "a") == rig.journal.subkey(one, "a")
        with pytest.raises(NotFound):
            rig.reader.subkey(1_000_000, "a")

    def test_the_sizes_of_a_range_are_those_of_what_is_read(self, rig: Rig) -> None:
        before, project, behind = (rig.new_project() for _ in range(3))
        for neighbour in (before, behind):
            rig.journal.append(numbered(neighbour, 3))
        drafts = [
            a_draft(project, payload=payload, record=record)
            for payload, record in (
                (b"", b"{}"),
                ('"é\x00"'.encode(), b'{"event":"e"}'),
                (b"x" * 70_000, b'{"event":"' + b"y" * 70_000 + b'"}'),
                (b"null", b"{}"),
            )
        ]
        rig.journal.append(drafts)
        erase(rig.journal, project, 3)
        wanted = [Size(len(draft.record), len(draft.payload)) for draft in drafts[:3]]
        wanted += [Size(0, 0), *rig.reader.sizes(project, 4, 5)]
        assert rig.reader.next_index(project) == len(wanted)
        for start, end in itertools.product(range(-1, 8), [*range(-1, 8), 2**40, 2**62]):
            assert wanted[max(start, 0) : max(end, 0)] == rig.reader.sizes(project, start, end)

    def test_a_range_is_half_open_and_may_reach_beyond_the_log(self, rig: Rig) -> None:
        before, project, behind = (rig.new_project() for _ in range(3))
        for neighbour in (before, behind):
            rig.journal.append(numbered(neighbour, 3))
        rig.journal.append(numbered(project, 5))
        far = [2**39, 2**40 - 1, 2**40, 2**40 + 1, 2**41, 2**62]
        bounds = [*range(-2, 8), *far]
        for start, end in itertools.product(bounds, bounds):
            read = [entry.index for entry in rig.reader.read(project, start, end)]
            assert [i for i in range(5) if start <= i < end] == read, (start, end)

    def test_the_records_of_a_range_are_those_of_its_entries_in_their_order(self, rig: Rig) -> None:
        before, project, behind = (rig.new_project() for _ in range(3))
        for log in (before, behind, project):
            drafts = [
                a_draft(
                    log,
                    payload=bytes(range(256)) * (n % 3),
                    record=json.dumps({"n": n, "of": log, "é": "]}\x00"}).encode(),
                )
                for n in range(300)
            ]
            rig.journal.append(drafts)
        erase(rig.journal, project, 7, 8, 299)

        for start, end in [(0, 302), (5, 9), (7, 8), (0, 0), (9, 3), (299, 2**41), (400, 500)]:
            entries = rig.reader.read(project, start, end)
            found = rig.reader.rows(project, start, end)
            assert b"".join(entry.leaf_entry for entry in entries) == found.leaves
            assert found.leaves == rig.reader.leaf_run(project, start, end)
            assert [entry.record for entry in entries] == found.records
            assert [entry.payload for entry in entries] == found.payloads
            known = [None if e.record is None else json.loads(e.record) for e in entries]
            assert known == json.loads(found.records_json)
            without = rig.reader.rows(project, start, end, with_payloads=False)
            assert (found.leaves, found.records, []) == (
                without.leaves,
                without.records,
                without.payloads,
            )

    def test_each_entry_is_found_by_its_client_id_and_by_its_transaction_id(self, rig: Rig) -> None:
        project, other = rig.new_project(), rig.new_project()
        drafts = numbered(project, 20)
        outcomes = stored(rig.journal.append(drafts))
        for draft, outcome in zip(drafts, outcomes, strict=True):
            assert draft.client_id is not None
            for found in (
                rig.reader.find(project, Lane.PRODUCT, draft.client_id),
                rig.reader.find_tx(project, outcome.tx),
            ):
                assert found is not None
                assert_holds(found, draft, outcome)
            assert rig.reader.find(project, Lane.AUDIT, draft.client_id) is None
            assert rig.reader.find(other, Lane.PRODUCT, draft.client_id) is None
            assert rig.reader.find_tx(other, outcome.tx) is None

    def test_an_unknown_id_is_not_found(self, rig: Rig) -> None:
        project = rig.new_project()
        (outcome,) = stored(rig.journal.append([a_draft(project, "e")]))
        number = int.from_bytes(outcome.tx, "big")
        for near in (0, number - 1, number + 1, 2**128 - 1):
            assert rig.reader.find_tx(project, near.to_bytes(16, "big")) is None
        for name in ("", "E", "e ", "\ud800"):
            assert rig.reader.find(project, Lane.PRODUCT, name) is None

    @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def test_what_was_received_within_a_time_is_found_whatever_the_clock_did(
        self, rig: Rig, data: st.DataObject
    ) -> None:
        project, other = rig.new_project(), rig.new_project()
        rig.clock.now_ms = NEW_YEAR_MS
        steps = st.one_of(st.integers(-5, 5), st.integers(-DAY_MS, DAY_MS), st.just(40 * DAY_MS))
        runs = st.lists(st.tuples(steps, st.integers(1, 300)), min_size=1, max_size=12)
        for step_ms, count in data.draw(runs):
            rig.clock.now_ms = max(rig.clock.now_ms + step_ms, 0)
            at_ms = rig.clock.now_ms
            rig.journal.append([a_draft(other, received_at_ms=at_ms)])
            rig.journal.append([a_draft(project, received_at_ms=at_ms + n) for n in range(count)])
        times = [entry.leaf.received_at_ms for entry in whole_log(rig.reader, project)]
        moments = st.one_of(
            st.builds(
                lambda index, off: times[index] + off,
                st.integers(0, len(times) - 1),
                st.integers(-1, 1),
            ),
            st.sampled_from([-1, 0, 2**48, 2**63, 2**64, 2**70]),
        )
        for _ in range(5):
            from_ms, to_ms = data.draw(moments), data.draw(st.none() | moments)
            start = data.draw(st.integers(0, len(times)))
            wanted = [
                index
                for index, at_ms in enumerate(times)
                if index >= start and from_ms <= at_ms and (to_ms is None or at_ms < to_ms)
            ]

            found = rig.reader.received_between(project, from_ms, to_ms, start=start)

            indexes = [index for first, behind in found for index in range(first, behind)]
            assert set(wanted) <= set(indexes)
            assert sorted(set(indexes)) == indexes
            assert all(behind < first for (_, behind), (first, _) in itertools.pairwise(found))
            assert all({first, behind - 1} <= set(wanted) for first, behind in found)

    def test_what_was_received_within_a_time_is_found_in_a_long_log_and_after_a_restart(
        self, rig: Rig
    ) -> None:
        project = rig.new_project()
        for _ in range(20):  # 20,000 entries, one a millisecond
            drafts = []
            for _ in range(1_000):
                rig.clock.now_ms += 1
                drafts.append(a_draft(project, received_at_ms=rig.clock.now_ms))
            rig.journal.append(drafts)
        ahead_ms = rig.clock.now_ms + 40 * DAY_MS
        rig.journal.append([a_draft(project, received_at_ms=ahead_ms)])
        first_ms = NEW_YEAR_MS + 1
        for _ in range(2):
            for start in (0, 1, 4_095, 4_096, 8_191, 12_345, 19_999):
                at_ms = first_ms + start
                assert [(start, start + 1)] == rig.reader.received_between(
                    project, at_ms, at_ms + 1
                )
                assert [(start, 20_001)] == rig.reader.received_between(project, at_ms, None)
            assert [(0, 20_001)] == rig.reader.received_between(project, 0, None)
            assert [(0, 20_000)] == rig.reader.received_between(project, 0, ahead_ms)
            assert [(20_000, 20_001)] == rig.reader.received_between(project, ahead_ms, None)
            rig.reopen()

    def test_the_next_indexes_of_many_projects_are_those_of_each(self, rig: Rig) -> None:
        projects = [rig.new_project() for _ in range(5)]
        for count, project in enumerate(projects):
            rig.journal.append(numbered(project, count))
        found = rig.reader.next_indexes(projects)
        assert {project: count for count, project in enumerate(projects)} == found
        assert {} == rig.reader.next_indexes([])
        rig.journal.append(numbered(projects[0], 3) + numbered(projects[4], 1, prefix="more"))
        rig.journal.erase(projects[0], [1], reason="asked", received_at_ms=NEW_YEAR_MS)
        assert [4, 1, 2, 3, 5] == list(rig.reader.next_indexes(projects).values())
        rig.reopen()
        assert [4, 1, 2, 3, 5] == list(rig.reader.next_indexes(projects).values())

    def test_the_next_indexes_are_never_behind_what_was_acknowledged(self, rig: Rig) -> None:
        projects = [rig.new_project() for _ in range(4)]
        acknowledged = dict.fromkeys(projects, 0)
        done = threading.Event()
        behind: list[str] = []

        def ask(wanted: list[int]) -> None:
            while not (behind or done.is_set()):
                before = {project: acknowledged[project] for project in wanted}
                found = rig.reader.next_indexes(wanted)
                if any(found[project] < before[project] for project in wanted):
                    behind.append(f"{found} after {before}")

        with ThreadPoolExecutor(3) as others:
            asking = [others.submit(ask, some) for some in (projects, projects[:2], projects[1:])]
            for turn in range(400):
                project = projects[turn % 3]
                rig.journal.append(numbered(project, 1, prefix=f"{turn}-"))
                acknowledged[project] += 1
            done.set()
            for one in asking:
                one.result()
        assert [] == behind
        assert acknowledged == rig.reader.next_indexes(projects)

    def test_readers_see_whole_appends_while_a_writer_adds(self, rig: Rig) -> None:
        project, size, rounds = rig.new_project(), 7, 60
        done = threading.Event()

        def look() -> int:
            seen, looks, is_last = 0, 0, False
            while not is_last:
                is_last = done.is_set()
                count = rig.reader.next_index(project)
                assert 0 == count % size
                assert seen <= count
                seen, first = count, max(0, count - size)
                entries = rig.reader.read(project, first, seen)
                assert list(range(first, seen)) == [entry.index for entry in entries]
                for entry in entries[-1:]:
                    assert entry == rig.reader.find_tx(project, entry.leaf.tx)
                    found = rig.reader.find(project, Lane.PRODUCT, f"{seen // size - 1}-6")
                    assert entry == found
                looks += 1
            assert size * rounds == seen
            return looks

        with ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(look) for _ in range(3)]
            try:
                for n in range(rounds):
                    stored(rig.journal.append(numbered(project, size, prefix=f"{n}-")))
            finally:
                done.set()
            assert all(reader.result(30) > 0 for reader in readers)

    def test_an_erased_entry_keeps_its_place_and_its_ids_and_loses_its_content(
        self, rig: Rig
    ) -> None:
        project = rig.new_project()
        drafts = numbered(project, 3)
        outcomes = stored(rig.journal.append(drafts))
        (_, before, _) = whole_log(rig.reader, project)

        erase(rig.journal, project, 1)

        for entry in (
            whole_log(rig.reader, project)[1],
            rig.reader.find(project, Lane.PRODUCT, "e1"),
            rig.reader.find_tx(project, outcomes[1].tx),
        ):
            assert (
                Entry(project, 1, before.leaf_entry, before.leaf, None, None, None, None) == entry
            )
        for index in (0, 2):
            entry = whole_log(rig.reader, project)[index]
            assert_holds(entry, drafts[index], outcomes[index])

    def test_the_projects_are_listed_in_the_order_in_which_they_were_made(self, rig: Rig) -> None:
        assert [] == rig.reader.projects()
        made = [rig.new_project() for _ in range(3)]
        assert made == rig.reader.projects()
        rig.reopen()
        made.append(rig.new_project())
        assert made == rig.reader.projects()

    # Waiting

    def test_whoever_waits_goes_on_when_something_is_committed(self, rig: Rig) -> None:
        project = rig.new_project()
        seen = rig.reader.wait(0, timeout_s=0)
        with ThreadPoolExecutor(3) as pool:
            for n in range(5):
                waiting = [pool.submit(rig.reader.wait, seen, timeout_s=60) for _ in range(3)]
                rig.journal.append(numbered(project, 1, prefix=f"{n}-"))
                after = [one.result(50) for one in waiting]
                assert all(now > seen for now in after)
                assert n + 1 == rig.reader.next_index(project)
                seen = max(after)

    def test_what_was_committed_before_the_wait_began_is_not_waited_for(self, rig: Rig) -> None:
        project = rig.new_project()
        seen = rig.reader.wait(0, timeout_s=0)
        rig.journal.append(numbered(project, 1))
        began = time.monotonic()
        assert rig.reader.wait(seen, timeout_s=300) > seen
        assert time.monotonic() - began < 60

    def test_an_erasure_is_a_commit(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.journal.append(numbered(project, 1))
        seen = rig.reader.wait(0, timeout_s=0)
        erase(rig.journal, project, 0)
        assert rig.reader.wait(seen, timeout_s=60) > seen

    def test_a_wait_ends_though_nothing_is_committed(self, rig: Rig) -> None:
        seen = rig.reader.wait(0, timeout_s=0)
        assert seen == rig.reader.wait(seen, timeout_s=0.05)
        assert seen == rig.reader.wait(seen, timeout_s=0)

    def test_whoever_waits_can_be_woken(self, rig: Rig) -> None:
        seen = rig.reader.wait(0, timeout_s=0)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(rig.reader.wait, seen, timeout_s=300)
            rig.reader.wake()
            assert waiting.result(60) > seen

    def test_a_sound_journal_has_no_failure(self, rig: Rig) -> None:
        rig.journal.append(numbered(rig.new_project(), 1))
        assert rig.reader.failure is None
