"""What any journal must do, as tests: `JournalContract` holds an implementation to its Protocol.

To run it, derive a class `Test…` from `JournalContract` and give it the fixture `make_rig`, which
builds a `Rig` over a new and empty journal each time it is called; `rig` is one of them.
"""

import json
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from indelible import leaf
from indelible.errors import JournalUnwritable, NotErasable, NotFound
from indelible.event import Kind, Lane
from indelible.journal.contract import (
    Draft,
    Duplicate,
    Entry,
    Erased,
    Journal,
    JournalReader,
    Outcome,
    OverLimit,
    Stored,
)

NEW_YEAR_MS = 1_767_225_600_000  # 2026-01-01T00:00:00Z
MODEL_SETTINGS = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
DAY_MS = 24 * 60 * 60 * 1000


class ManualClock:
    """A clock that moves when it is told to."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class Disk(Protocol):
    """What the journal writes to, with the faults that a disk has.

    Attributes:
        writes_left: how many more writes succeed; None is no end.
        sync_fails: every sync fails.
    """

    writes_left: int | None
    sync_fails: bool


class Rig(Protocol):
    """A journal on the bench. All that it stores goes to `disk`; its only clock is `clock`."""

    clock: ManualClock

    @property
    def journal(self) -> Journal:
        """The journal as it is open now."""
        ...

    @property
    def reader(self) -> JournalReader:
        """The same log as its readers see it."""
        ...

    @property
    def disk(self) -> Disk: ...

    def new_project(self) -> int:
        """Make a project with an empty log; returns its id."""
        ...

    def reopen(self) -> None:
        """Close the journal and open it again, as a restart of the process does."""
        ...

    def lose_power(self) -> None:
        """Open the journal again on what the disk has of it after a power cut."""
        ...

    def files(self) -> bytes:
        """Every byte of every file that the journal has now."""
        ...

    def close(self) -> None: ...


MakeRig = Callable[[], Rig]


def a_draft(
    project_id: int,
    client_id: str | None = None,
    *,
    payload: bytes = b'{"n":1}',
    record: bytes = b'{"event":"seen"}',
    kind: Kind = Kind.PRODUCT,
    lane: Lane = Lane.PRODUCT,
    received_at_ms: int = NEW_YEAR_MS,
    new_entry_on_conflict: bool = False,
    monthly_limit: int | None = None,
) -> Draft:
    """A draft of which only what matters to the story is said."""
    return Draft(
        project_id=project_id,
        kind=kind,
        received_at_ms=received_at_ms,
        payload=payload,
        record=record,
        lane=lane,
        client_id=client_id,
        new_entry_on_conflict=new_entry_on_conflict,
        monthly_limit=monthly_limit,
    )


def numbered(project_id: int, count: int, *, prefix: str = "e") -> list[Draft]:
    """`count` drafts with a client id and a payload of their own each."""
    return [
        a_draft(project_id, f"{prefix}{n}", payload=b'{"n":%d}' % n, received_at_ms=NEW_YEAR_MS + n)
        for n in range(count)
    ]


def erase(journal: Journal, project_id: int, *indexes: int) -> Erased:
    """Erase these entries, for a reason that does not matter."""
    return journal.erase(project_id, indexes, reason="request", received_at_ms=NEW_YEAR_MS)


def whole_log(journal: JournalReader, project_id: int) -> list[Entry]:
    """Every entry of the project."""
    return journal.read(project_id, 0, journal.next_index(project_id))


def stored(outcomes: Iterable[Outcome]) -> list[Stored]:
    """The outcomes, all of which must be `Stored`."""
    outcomes = list(outcomes)
    assert [] == [outcome for outcome in outcomes if not isinstance(outcome, Stored)]
    return [outcome for outcome in outcomes if isinstance(outcome, Stored)]


def assert_holds(entry: Entry, draft: Draft, outcome: Stored) -> None:
    """`entry` is `draft` as it was stored, and its leaf and commitments can be recomputed."""
    assert (draft.project_id, outcome.index) == (entry.project_id, entry.index)
    assert (draft.payload, draft.record) == (entry.payload, entry.record)
    assert entry.payload_salt is not None
    assert entry.record_salt is not None
    assert leaf.SALT_SIZE == len(entry.payload_salt) == len(entry.record_salt)
    recomputed = leaf.encode(
        draft.kind,
        received_at_ms=draft.received_at_ms,
        tx=outcome.tx,
        payload=leaf.commit(entry.payload_salt, leaf.PAYLOAD, draft.payload),
        record=leaf.commit(entry.record_salt, leaf.RECORD, draft.record),
    )
    assert recomputed == entry.leaf_entry
    assert leaf.decode(recomputed) == entry.leaf


class JournalContract:
    """Every promise of `indelible.journal.contract.Journal`, one test each."""

    @pytest.fixture
    def rig(self, make_rig: MakeRig) -> Rig:
        return make_rig()

    # Order and index

    def test_the_indexes_of_each_project_are_contiguous_from_0(self, rig: Rig) -> None:
        projects = [rig.new_project() for _ in range(3)]
        expected = dict.fromkeys(projects, 0)
        for sizes in ((1, 0, 2), (0, 3, 0), (2, 1, 1), (5, 5, 5)):
            mixed = [p for p, n in zip(projects, sizes, strict=True) for _ in range(n)]
            mixed = mixed[::2] + mixed[1::2]
            for project, outcome in zip(
                mixed, stored(rig.journal.append([a_draft(p) for p in mixed])), strict=True
            ):
                assert expected[project] == outcome.index
                expected[project] += 1
        for project in projects:
            assert expected[project] == rig.journal.next_index(project)
            log = rig.journal.read(project, 0, 1000)
            assert list(range(expected[project])) == [entry.index for entry in log]
            assert {project} == {entry.project_id for entry in log}

    def test_outcomes_come_in_the_order_of_the_drafts(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.journal.append([a_draft(project, "known")])

        outcomes = rig.journal.append(
            [
                a_draft(project, "x"),
                a_draft(project, "known"),
                a_draft(project, "y", monthly_limit=2),
                a_draft(project, "x"),
                a_draft(project, "z"),
            ]
        )

        assert [Stored, Duplicate, OverLimit, Duplicate, Stored] == [type(o) for o in outcomes]
        assert [1, 0, 1, 2] == [o.index for o in outcomes if not isinstance(o, OverLimit)]

    @pytest.mark.parametrize("size", [1, 2, 3, 255, 256, 257, 1_000])
    def test_a_batch_of_any_size_is_stored_in_order(self, rig: Rig, size: int) -> None:
        project = rig.new_project()
        drafts = numbered(project, size)

        outcomes = stored(rig.journal.append(drafts))

        entries = whole_log(rig.journal, project)
        assert size == len(entries)
        for entry, draft, outcome in zip(entries, drafts, outcomes, strict=True):
            assert_holds(entry, draft, outcome)
        again = rig.journal.append(drafts)
        assert [Duplicate(o.index, o.tx, same_content=True) for o in outcomes] == again

    # Once

    def test_a_client_id_is_stored_once_however_often_it_is_sent(self, rig: Rig) -> None:
        project = rig.new_project()
        (first,) = stored(rig.journal.append([a_draft(project, "e1")]))
        expected = Duplicate(first.index, first.tx, same_content=True)

        for _ in range(3):
            assert [expected] == rig.journal.append([a_draft(project, "e1")])
        assert 1 == rig.journal.next_index(project)

    def test_a_client_id_that_stands_twice_in_one_append_is_stored_once(self, rig: Rig) -> None:
        project = rig.new_project()

        one, two, other, three = rig.journal.append(
            [a_draft(project, client_id) for client_id in ("e1", "e1", "e2", "e1")]
        )

        assert isinstance(one, Stored)
        assert isinstance(other, Stored)
        assert [Duplicate(one.index, one.tx, same_content=True)] * 2 == [two, three]
        assert 2 == rig.journal.next_index(project)

    def test_an_event_without_client_id_is_never_a_duplicate(self, rig: Rig) -> None:
        project = rig.new_project()
        for _ in range(2):
            stored(rig.journal.append([a_draft(project), a_draft(project)]))
        assert 4 == rig.journal.next_index(project)

    def test_the_lanes_never_collide(self, rig: Rig) -> None:
        project = rig.new_project()
        product = a_draft(project, "id", lane=Lane.PRODUCT, kind=Kind.PRODUCT, payload=b'"p"')
        audit = a_draft(project, "id", lane=Lane.AUDIT, kind=Kind.AUDIT, payload=b'"a"')

        one, two = stored(rig.journal.append([product, audit]))

        for lane, outcome in ((Lane.PRODUCT, one), (Lane.AUDIT, two)):
            found = rig.journal.find(project, lane, "id")
            assert found is not None
            assert outcome.index == found.index
        again = rig.journal.append([audit, product])
        expected = [Duplicate(two.index, two.tx, True), Duplicate(one.index, one.tx, True)]
        assert expected == again

    def test_the_same_client_id_in_two_projects_is_two_events(self, rig: Rig) -> None:
        one, two = rig.new_project(), rig.new_project()
        stored(rig.journal.append([a_draft(one, "id"), a_draft(two, "id")]))
        stored(rig.journal.append([a_draft(rig.new_project(), "id")]))

    def test_client_ids_are_compared_to_the_letter(self, rig: Rig) -> None:
        project = rig.new_project()
        names = ["", " ", "a", "A", "a ", "é", "e\u0301", "a\x00b", "product\x00a", "😀", "x" * 255]

        outcomes = stored(rig.journal.append([a_draft(project, name) for name in names]))

        for name, outcome in zip(names, outcomes, strict=True):
            found = rig.journal.find(project, Lane.PRODUCT, name)
            assert found is not None
            assert outcome.index == found.index

    def test_a_duplicate_says_whether_its_content_is_that_of_the_first(self, rig: Rig) -> None:
        project = rig.new_project()
        first = a_draft(
            project, "id", payload=b'{"a":1}', record=b'{"event":"x","request":{"r":1}}'
        )
        stored(rig.journal.append([first]))

        for payload, record, same in (
            (b'{"a":1}', b'{"event":"x","request":{"r":1}}', True),
            (b'{"a":1}', b'{"event":"x","request":{"r":2,"s":3}}', True),
            (b'{"a":1}', b'{"event":"x"}', True),
            (b'{"a":1}', b'{"event":"y","request":{"r":1}}', False),
            (b'{"a":1}', b'{"event":"x","more":1}', False),
            (b'{"a": 1}', b'{"event":"x","request":{"r":1}}', False),
            (b"", b'{"event":"x","request":{"r":1}}', False),
        ):
            draft = a_draft(project, "id", payload=payload, record=record, received_at_ms=1)
            (outcome,) = rig.journal.append([draft])
            assert isinstance(outcome, Duplicate)
            assert same is outcome.same_content, (payload, record)
        assert 1 == rig.journal.next_index(project)
        (entry,) = whole_log(rig.journal, project)
        assert first.payload == entry.payload

    def test_a_client_renews_meta_request_id_for_each_attempt(self, rig: Rig) -> None:
        project = rig.new_project()
        first, second = (
            rig.journal.append([_audit(project, "id", meta)])[0]
            for meta in ('{"request_id":"1","type":"info"}', '{"request_id":"2","type":"info"}')
        )
        assert isinstance(first, Stored)
        assert Duplicate(first.index, first.tx, same_content=True) == second

    # A new entry on conflict

    def test_other_content_under_a_known_id_is_stored_beside_it_on_request(self, rig: Rig) -> None:
        project = rig.new_project()
        first, other, third = (_beside(project, payload) for payload in (b"1", b"2", b"3"))

        (one,) = stored(rig.journal.append([first]))
        (two,) = stored(rig.journal.append([other]))
        (three,) = stored(rig.journal.append([third]))

        assert [False, True, True] == [one.conflict, two.conflict, three.conflict]
        assert [0, 1, 2] == [one.index, two.index, three.index]
        found = rig.journal.find(project, Lane.AUDIT, "0123")
        assert found is not None
        assert one.index == found.index
        self._assert_only_duplicates(rig, [first, other, third], [one, two, three])
        rig.reopen()
        self._assert_only_duplicates(rig, [third, first, other], [three, one, two])

    def test_two_that_collide_within_one_append_are_both_stored(self, rig: Rig) -> None:
        project = rig.new_project()
        first, other = _beside(project, b"1"), _beside(project, b"2")

        one, two, three, four = rig.journal.append([first, other, other, first])

        assert isinstance(one, Stored)
        assert isinstance(two, Stored)
        assert [False, True] == [one.conflict, two.conflict]
        assert Duplicate(two.index, two.tx, same_content=True) == three
        assert Duplicate(one.index, one.tx, same_content=True) == four
        self._assert_only_duplicates(rig, [first, other], [one, two])

    def _assert_only_duplicates(
        self, rig: Rig, drafts: Sequence[Draft], outcomes: Sequence[Stored]
    ) -> None:
        expected = [Duplicate(o.index, o.tx, same_content=True) for o in outcomes]
        assert expected == rig.journal.append(drafts)
        assert expected == [rig.journal.append([draft])[0] for draft in drafts]

    # The monthly limit

    @pytest.mark.parametrize("limit", [0, 1, 5])
    def test_the_monthly_limit_is_exact_within_one_append(self, rig: Rig, limit: int) -> None:
        project = rig.new_project()
        outcomes = rig.journal.append(_limited(project, range(8), limit))
        assert [Stored] * limit + [OverLimit] * (8 - limit) == [type(o) for o in outcomes]
        assert limit == rig.journal.next_index(project)

    def test_the_monthly_limit_is_exact_over_many_appends_and_a_restart(self, rig: Rig) -> None:
        project = rig.new_project()
        outcomes: list[Outcome] = []
        for n in range(8):
            outcomes += rig.journal.append(_limited(project, [n], 5))
            if n == 3:
                rig.reopen()
        assert [Stored] * 5 + [OverLimit] * 3 == [type(o) for o in outcomes]

    def test_a_duplicate_uses_nothing_of_the_month_and_is_known_when_it_is_used_up(
        self, rig: Rig
    ) -> None:
        project = rig.new_project()
        for _ in range(4):
            rig.journal.append(_limited(project, [0, 0], 2))
        stored(rig.journal.append(_limited(project, [1], 2)))

        outcomes = rig.journal.append(_limited(project, [0, 2, 1], 2))

        assert [Duplicate, OverLimit, Duplicate] == [type(o) for o in outcomes]

    def test_an_event_over_the_limit_leaves_its_id_free(self, rig: Rig) -> None:
        project = rig.new_project()
        assert [OverLimit()] == rig.journal.append(_limited(project, [1], 0))
        assert rig.journal.find(project, Lane.PRODUCT, "m1") is None
        stored(rig.journal.append(_limited(project, [1], 1)))

    def test_each_project_has_a_month_of_its_own(self, rig: Rig) -> None:
        one, two = rig.new_project(), rig.new_project()
        drafts = [d for n in range(3) for p in (one, two) for d in _limited(p, [n], 2)]
        outcomes = rig.journal.append(drafts)
        assert [Stored] * 4 + [OverLimit] * 2 == [type(o) for o in outcomes]

    def test_each_lane_has_a_month_of_its_own(self, rig: Rig) -> None:
        limits = {Lane.PRODUCT: 3, Lane.AUDIT: 1}
        for at_once in (True, False):
            project = rig.new_project()
            drafts = [
                a_draft(project, kind=Kind[lane.name], lane=lane, monthly_limit=limits[lane])
                for _ in range(5)
                for lane in Lane
            ]
            runs = [drafts] if at_once else [[draft] for draft in drafts]
            outcomes = [outcome for run in runs for outcome in rig.journal.append(run)]
            for lane, limit in limits.items():
                mine = [type(o) for d, o in zip(drafts, outcomes, strict=True) if d.lane is lane]
                assert [Stored] * limit + [OverLimit] * (5 - limit) == mine

    def test_each_month_begins_with_nothing_used(self, rig: Rig) -> None:
        project = rig.new_project()
        for first_day_ms in (NEW_YEAR_MS, NEW_YEAR_MS + 31 * DAY_MS):
            rig.clock.now_ms = first_day_ms
            month = rig.journal.next_index(project)
            stored(rig.journal.append(_limited(project, range(month, month + 2), 3)))
            rig.clock.now_ms = first_day_ms + 28 * DAY_MS - 1
            outcomes = rig.journal.append(_limited(project, range(month + 2, month + 4), 3))
            assert [Stored, OverLimit] == [type(o) for o in outcomes]

    def test_the_last_millisecond_of_a_month_belongs_to_it(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.clock.now_ms = NEW_YEAR_MS - 1
        stored(rig.journal.append(_limited(project, [0], 1)))
        assert [OverLimit()] == rig.journal.append(_limited(project, [1], 1))
        rig.clock.now_ms = NEW_YEAR_MS
        stored(rig.journal.append(_limited(project, [1], 1)))

    def test_only_product_and_audit_events_are_counted(self, rig: Rig) -> None:
        project = rig.new_project()
        uncounted = [Kind.ADMINISTRATION, Kind.ERASURE, Kind.LOSS]
        stored(rig.journal.append([a_draft(project, kind=k, monthly_limit=1) for k in uncounted]))
        stored(rig.journal.append([a_draft(project, kind=Kind.AUDIT, monthly_limit=1)]))
        stored(rig.journal.append([a_draft(project, kind=k, monthly_limit=1) for k in uncounted]))
        for kind in (Kind.PRODUCT, Kind.AUDIT):
            draft = a_draft(project, kind=kind, monthly_limit=1)
            assert [OverLimit()] == rig.journal.append([draft])

    def test_what_was_stored_without_a_limit_counts_when_one_is_set(self, rig: Rig) -> None:
        project = rig.new_project()
        stored(rig.journal.append([a_draft(project), a_draft(project)]))
        outcomes = rig.journal.append([a_draft(project, monthly_limit=3)] * 2)
        assert [Stored, OverLimit] == [type(o) for o in outcomes]

    def test_an_entry_beside_a_conflict_counts(self, rig: Rig) -> None:
        project = rig.new_project()
        drafts = [_beside(project, payload, monthly_limit=2) for payload in (b"1", b"2", b"3")]
        assert [Stored, Stored, OverLimit] == [type(o) for o in rig.journal.append(drafts)]

    # Reading

    def test_transaction_ids_grow_with_the_index_whatever_the_clock_does(self, rig: Rig) -> None:
        one, two = rig.new_project(), rig.new_project()
        made: list[bytes] = []
        for step_ms in (0, 0, 1, -1, -DAY_MS, 0, 2 * DAY_MS, 1, -1, -5 * DAY_MS):
            rig.clock.now_ms += step_ms
            drafts = [a_draft(one), a_draft(two), a_draft(one)]
            made += [outcome.tx for outcome in stored(rig.journal.append(drafts))]
            rig.reopen()
        assert sorted(set(made)) == made
        for project in (one, two):
            log = [entry.leaf.tx for entry in whole_log(rig.journal, project)]
            assert sorted(set(log)) == log

    def test_an_id_is_greater_than_every_projects_before_a_clock_that_was_set_back(
        self, rig: Rig
    ) -> None:
        projects = [rig.new_project() for _ in range(3)]
        made: list[bytes] = []
        for project in projects:
            for reopened in (False, True):
                rig.clock.now_ms += DAY_MS
                made += [o.tx for o in stored(rig.journal.append([a_draft(project)]))]
                rig.clock.now_ms -= 5 * DAY_MS
                if reopened:
                    rig.reopen()
                for other in reversed(projects):
                    made += [o.tx for o in stored(rig.journal.append([a_draft(other)]))]
        assert sorted(set(made)) == made

    # Leaves and salts

    def test_leaf_and_commitments_are_recomputed_from_what_is_read(self, rig: Rig) -> None:
        project = rig.new_project()
        drafts = [
            a_draft(project, payload=payload, record=record, kind=kind, received_at_ms=at_ms)
            for kind in Kind
            for at_ms, payload, record in (
                (0, b"", b"{}"),
                (NEW_YEAR_MS, b'{"a": 1 }', b'{"event":"x"}'),
                (2**48, bytes(range(256)), b'{"event":"\xc3\xa9"}'),
                (2**63 - 1, b"x" * (1 << 20), b'{"event":"' + b"y" * 5_000 + b'"}'),
            )
        ]
        outcomes = stored(rig.journal.append(drafts))
        entries = whole_log(rig.journal, project)
        for entry, draft, outcome in zip(entries, drafts, outcomes, strict=True):
            assert_holds(entry, draft, outcome)

    def test_no_salt_is_ever_used_twice(self, rig: Rig) -> None:
        project = rig.new_project()
        for _ in range(3):
            rig.journal.append([a_draft(project)] * 100)
        rig.reopen()
        rig.journal.append([a_draft(project)] * 100)
        salts = [
            s for e in whole_log(rig.journal, project) for s in (e.payload_salt, e.record_salt)
        ]
        assert 800 == len(set(salts))
        assert {leaf.SALT_SIZE} == {len(salt) for salt in salts if salt is not None}

    # Erasure

    @pytest.mark.parametrize("new_entry_on_conflict", [False, True])
    def test_a_late_resend_of_an_erased_event_brings_nothing_back(
        self, rig: Rig, new_entry_on_conflict: bool
    ) -> None:
        project = rig.new_project()
        draft = a_draft(project, "e", new_entry_on_conflict=new_entry_on_conflict)
        (first,) = stored(rig.journal.append([draft]))
        erase(rig.journal, project, first.index)

        (outcome,) = rig.journal.append([draft])

        assert Duplicate(first.index, first.tx, same_content=None) == outcome
        assert 2 == rig.journal.next_index(project)

    def test_an_erasure_is_an_entry_that_says_what_was_erased(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.journal.append(numbered(project, 8))
        rig.clock.now_ms += 5

        done = rig.journal.erase(
            project, [6, 2, 3, 6, 4], reason="contract_end", received_at_ms=rig.clock.now_ms
        )

        (entry,) = rig.journal.read(project, 8, 99)
        assert Erased((Stored(8, entry.leaf.tx),), erased=4, already=0, swept=True) == done
        said = b'{"at":"2026-01-01T00:00:00.005Z","erased":[[2,5],[6,7]],"reason":"contract_end"}'
        draft = a_draft(
            project,
            payload=said,
            record=b'{"event":"erasure"}',
            kind=Kind.ERASURE,
            received_at_ms=rig.clock.now_ms,
        )
        assert_holds(entry, draft, done.entries[0])
        kept = [e.index for e in whole_log(rig.journal, project) if e.record is not None]
        assert [0, 1, 5, 7, 8] == kept

    def test_what_was_erased_before_is_passed_over(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.journal.append(numbered(project, 4))
        first = erase(rig.journal, project, 0, 1)

        again = erase(rig.journal, project, 0, 1)
        more = erase(rig.journal, project, 1, 2)

        assert (2, 0) == (first.erased, first.already)
        assert Erased((), erased=0, already=2, swept=True) == again
        assert (1, 1) == (more.erased, more.already)
        (entry,) = rig.journal.read(project, more.entries[0].index, 99)
        assert entry.payload is not None
        assert b'"erased":[[2,3]]' in entry.payload
        assert 6 == rig.journal.next_index(project)

    def test_a_large_erasure_is_made_in_steps_that_each_say_what_they_erased(
        self, rig: Rig
    ) -> None:
        project = rig.new_project()
        for start in range(0, 4_500, 500):
            rig.journal.append([a_draft(project) for _ in range(start, start + 500)])

        done = rig.journal.erase(
            project, range(4_500), reason="request", received_at_ms=NEW_YEAR_MS
        )

        assert (4_500, 0, True) == (done.erased, done.already, done.swept)
        entries = rig.journal.read(project, 4_500, 9_999)
        assert [e.index for e in entries] == [s.index for s in done.entries]
        runs = [
            (start, end)
            for entry in entries
            for start, end in json.loads(entry.payload or b"")["erased"]
        ]
        assert len(entries) == len(runs) > 1
        assert list(range(4_500)) == [i for start, end in runs for i in range(start, end)]
        assert {None} == {e.payload for e in rig.journal.read(project, 0, 4_500)}

    @pytest.mark.parametrize("kind", [Kind.ERASURE, Kind.ADMINISTRATION, Kind.LOSS])
    def test_an_entry_of_the_logs_own_is_never_erased(self, rig: Rig, kind: Kind) -> None:
        project = rig.new_project()
        rig.journal.append([a_draft(project), a_draft(project, kind=kind), a_draft(project)])
        before = whole_log(rig.journal, project)

        with pytest.raises(NotErasable, match=kind.word):
            erase(rig.journal, project, 0, 1, 2)

        assert before == whole_log(rig.journal, project)

    @pytest.mark.parametrize("unknown", [3, -1, 2**40, 2**70])
    def test_an_index_that_is_not_there_keeps_everything(self, rig: Rig, unknown: int) -> None:
        other, project, another = rig.new_project(), rig.new_project(), rig.new_project()
        rig.journal.append([a_draft(p) for p in (other, project, another) for _ in range(3)])
        before = [whole_log(rig.journal, p) for p in (other, project, another)]

        with pytest.raises(NotFound):
            erase(rig.journal, project, 0, unknown)

        assert before == [whole_log(rig.journal, p) for p in (other, project, another)]

    def test_erasing_nothing_adds_nothing(self, rig: Rig) -> None:
        project = rig.new_project()
        assert Erased((), erased=0, already=0, swept=True) == erase(rig.journal, project)
        assert 0 == rig.journal.next_index(project)

    def test_erased_bytes_are_in_no_file(self, rig: Rig) -> None:
        project = rig.new_project()
        sizes = [0, 10, 300, 4_000, 5_000, 70_000] * 5
        marks = [f"mark-{n:04d}-".encode() for n in range(len(sizes))]
        for mark, size in zip(marks, sizes, strict=True):
            record = b'{"distinct_id":"d%s"}' % mark
            payload = b'{"p%s":"%s"}' % (mark, mark * (size // 10))
            rig.journal.append([a_draft(project, payload=payload, record=record)])
        assert all(mark in rig.files() for mark in marks)
        salts = [e.payload_salt or b"" for e in whole_log(rig.journal, project)]

        done = erase(rig.journal, project, *range(5, 25))

        assert done.swept
        for _ in range(2):
            found = rig.files()
            assert [*marks[:5], *marks[25:]] == [mark for mark in marks if mark in found]
            assert [*salts[:5], *salts[25:]] == [salt for salt in salts if salt in found]
            rig.reopen()

    def test_an_erasure_survives_a_power_cut_at_once(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.journal.append([a_draft(project, payload=b'"mark-%d-"' % n) for n in range(5)])
        for n in range(5):
            erase(rig.journal, project, n)

            rig.lose_power()

            kept = [e.index for e in rig.journal.read(project, 0, 5) if e.payload is not None]
            assert list(range(n + 1, 5)) == kept
            found = rig.files()
            assert kept == [m for m in range(5) if b"mark-%d-" % m in found]

    @pytest.mark.parametrize("writes", [0, 1, 2, 3, 10])
    def test_an_erasure_without_space_erases_all_or_nothing(self, rig: Rig, writes: int) -> None:
        project = rig.new_project()
        rig.journal.append(
            [a_draft(project, f"e{n}", payload=b'"%s"' % (b"x" * 5_000)) for n in range(300)]
        )
        before = whole_log(rig.journal, project)

        rig.disk.writes_left = writes
        with pytest.raises(JournalUnwritable):
            erase(rig.journal, project, *range(300))
        rig.disk.writes_left = None

        assert before == whole_log(rig.journal, project)
        assert 300 == erase(rig.journal, project, *range(300)).erased

    def test_events_sent_again_while_they_are_erased_are_never_stored_twice(self, rig: Rig) -> None:
        project = rig.new_project()
        drafts = numbered(project, 40)
        first = {o.index for o in stored(rig.journal.append(drafts))}
        begin = threading.Barrier(2)

        def send_again() -> list[Outcome]:
            begin.wait()
            return [o for _ in range(20) for o in rig.journal.append(drafts)]

        with ThreadPoolExecutor(1) as pool:
            again = pool.submit(send_again)
            begin.wait()
            for index in range(40):
                erase(rig.journal, project, index)
            outcomes = again.result(60)

        assert {Duplicate} == {type(o) for o in outcomes}
        assert first == {o.index for o in outcomes if isinstance(o, Duplicate)}
        assert {None} == {e.payload for e in rig.journal.read(project, 0, 40)}

    # Threads

    def test_writers_on_many_threads_share_one_contiguous_log(self, rig: Rig) -> None:
        project, ids = rig.new_project(), [f"id{n}" for n in range(60)]

        def write(turn: int) -> list[Outcome]:
            mine = ids[turn * 10 :] + ids[: turn * 10]
            return [rig.journal.append([a_draft(project, client_id)])[0] for client_id in mine]

        with ThreadPoolExecutor(4) as pool:
            outcomes = [o for part in pool.map(write, range(4)) for o in part]

        made = [o.index for o in outcomes if isinstance(o, Stored)]
        assert list(range(len(ids))) == sorted(made)
        assert 3 * len(ids) == sum(isinstance(o, Duplicate) for o in outcomes)
        log = whole_log(rig.journal, project)
        assert sorted({e.leaf.tx for e in log}) == [e.leaf.tx for e in log]

    # What survives

    def test_everything_is_there_after_a_restart(self, rig: Rig) -> None:
        one, two = rig.new_project(), rig.new_project()
        rig.journal.append(numbered(one, 30) + numbered(two, 3))
        rig.journal.append([_beside(one, b"1"), _beside(one, b"2")])
        erase(rig.journal, one, 4)
        before = [whole_log(rig.journal, project) for project in (one, two)]

        rig.reopen()

        assert before == [whole_log(rig.journal, project) for project in (one, two)]
        assert {Duplicate} == {type(o) for o in rig.journal.append(numbered(one, 30))}
        (next_one,) = stored(rig.journal.append([a_draft(one)]))
        assert 33 == next_one.index

    def test_what_was_answered_survives_a_power_cut_at_once(self, rig: Rig) -> None:
        project = rig.new_project()
        for n in range(5):
            drafts = numbered(project, 3, prefix=f"{n}-")
            outcomes = stored(rig.journal.append(drafts))

            rig.lose_power()

            entries = whole_log(rig.journal, project)
            assert 3 * (n + 1) == len(entries)
            for entry, draft, outcome in zip(entries[-3:], drafts, outcomes, strict=True):
                assert_holds(entry, draft, outcome)

    @pytest.mark.parametrize("writes", [0, 1, 2, 3, 10])
    def test_an_append_that_fails_half_way_adds_all_or_nothing(self, rig: Rig, writes: int) -> None:
        project = rig.new_project()
        kept = stored(rig.journal.append(numbered(project, 2, prefix="kept")))
        drafts = numbered(project, 400)

        rig.disk.writes_left = writes
        with pytest.raises(JournalUnwritable):
            rig.journal.append(drafts)
        rig.disk.writes_left = None

        for _ in range(2):
            assert rig.journal.next_index(project) in (2, 402)
            rig.reopen()
        outcomes = rig.journal.append(drafts)
        indexes = [o.index for o in outcomes if not isinstance(o, OverLimit)]
        assert list(range(2, 402)) == indexes
        assert 402 == rig.journal.next_index(project)
        assert [o.tx for o in kept] == [e.leaf.tx for e in rig.journal.read(project, 0, 2)]

    def test_a_failed_append_uses_nothing_of_the_month(self, rig: Rig) -> None:
        project = rig.new_project()
        rig.disk.writes_left = 1
        with pytest.raises(JournalUnwritable):
            rig.journal.append(_limited(project, range(400), 400))
        rig.disk.writes_left = None
        rig.reopen()
        outcomes = rig.journal.append(_limited(project, range(401), 400))
        assert 400 == rig.journal.next_index(project)
        assert OverLimit() == outcomes[-1]

    def test_after_a_failed_sync_nothing_is_stored_until_the_restart(self, rig: Rig) -> None:
        project = rig.new_project()
        stored(rig.journal.append([a_draft(project, "before")]))
        rig.disk.sync_fails = True
        with pytest.raises(JournalUnwritable):
            rig.journal.append([a_draft(project, "x"), a_draft(project, "y")])
        rig.disk.sync_fails = False

        with pytest.raises(JournalUnwritable):
            rig.journal.append([a_draft(project, "later")])
        with pytest.raises(JournalUnwritable):
            rig.journal.probe()
        assert 1 == rig.journal.next_index(project)

        rig.reopen()
        assert rig.journal.next_index(project) in (1, 3)
        assert rig.journal.find(project, Lane.PRODUCT, "later") is None
        names = ["before", "x", "y", "later"]
        outcomes = rig.journal.append([a_draft(project, name) for name in names])
        assert [0, 1, 2, 3] == [o.index for o in outcomes if not isinstance(o, OverLimit)]

    # All of it at once

    def test_whatever_is_appended_it_agrees_with_a_simple_model(self, make_rig: MakeRig) -> None:
        from tests.journal.model import machine_for

        run_state_machine_as_test(machine_for(make_rig), settings=MODEL_SETTINGS)

    @pytest.mark.slow(minutes=3)
    def test_it_agrees_with_the_model_at_length(self, make_rig: MakeRig) -> None:
        from tests.journal.model import machine_for

        long = settings(MODEL_SETTINGS, max_examples=1_000, stateful_step_count=50)
        run_state_machine_as_test(machine_for(make_rig), settings=long)


def _audit(project_id: int, client_id: str, meta: str) -> Draft:
    record = b'{"idempotency_key":"%s","meta":%s}' % (client_id.encode(), meta.encode())
    return a_draft(project_id, client_id, record=record, kind=Kind.AUDIT, lane=Lane.AUDIT)


def _beside(project_id: int, payload: bytes, *, monthly_limit: int | None = None) -> Draft:
    return a_draft(
        project_id,
        "0123",
        payload=payload,
        kind=Kind.AUDIT,
        lane=Lane.AUDIT,
        new_entry_on_conflict=True,
        monthly_limit=monthly_limit,
    )


def _limited(project_id: int, numbers: Iterable[int], limit: int) -> list[Draft]:
    return [a_draft(project_id, f"m{n}", monthly_limit=limit) for n in numbers]
