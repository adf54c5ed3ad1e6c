"""A journal in a few lines of memory, and a machine that holds the real one to it."""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from indelible.event import Kind, Lane
from indelible.journal.contract import Draft, Duplicate, Outcome, OverLimit, Stored
from tests.journal.contract import DAY_MS, Rig, a_draft, assert_holds, erase, whole_log

Fate = tuple[str, int | None, bool | None]
"""What becomes of a draft: the outcome's name, the index, and `conflict` or `same_content`."""


@dataclass
class Kept:
    """An entry of the model; `tx` is what the journal chose."""

    draft: Draft
    tx: bytes = b""
    erased: bool = False


class Model:
    """What the contract says, for one process that never dies."""

    def __init__(self) -> None:
        self.logs: dict[int, list[Kept]] = {}
        self.known: dict[tuple[object, ...], int] = {}
        self.used: Counter[tuple[int, Lane, str]] = Counter()

    def take(self, draft: Draft, month: str) -> Fate:
        name = (draft.project_id, draft.lane, draft.client_id)
        if draft.client_id is None:
            return self._add(draft, None, month, conflict=False)
        if name not in self.known:
            return self._add(draft, name, month, conflict=False)
        fate = self._meet(name, draft)
        if fate[2] is False and draft.new_entry_on_conflict:
            beside = (*name, *_content(draft))
            if beside not in self.known:
                return self._add(draft, beside, month, conflict=True)
            fate = self._meet(beside, draft)
        return fate

    def _meet(self, name: tuple[object, ...], draft: Draft) -> Fate:
        index = self.known[name]
        first = self.logs[draft.project_id][index]
        same = None if first.erased else _content(first.draft) == _content(draft)
        return ("Duplicate", index, same)

    def _add(
        self, draft: Draft, name: tuple[object, ...] | None, month: str, *, conflict: bool
    ) -> Fate:
        if draft.kind in (Kind.PRODUCT, Kind.AUDIT):
            used = self.used[draft.project_id, draft.lane, month]
            if draft.monthly_limit is not None and used >= draft.monthly_limit:
                return ("OverLimit", None, None)
            self.used[draft.project_id, draft.lane, month] += 1
        log = self.logs[draft.project_id]
        log.append(Kept(draft))
        if name is not None:
            self.known[name] = len(log) - 1
        return ("Stored", len(log) - 1, conflict)


def _content(draft: Draft) -> tuple[bytes, str]:
    record = json.loads(draft.record)
    record.pop("request", None)
    return draft.payload, json.dumps(record, sort_keys=True)


def _fate(outcome: Outcome) -> Fate:
    match outcome:
        case Stored(index, _, conflict):
            return ("Stored", index, conflict)
        case Duplicate(index, _, same_content):
            return ("Duplicate", index, same_content)
        case OverLimit():
            return ("OverLimit", None, None)


IDS = ["a", "b", "c", "é\x00"]

some_drafts = st.lists(
    st.builds(
        a_draft,
        st.integers(0, 2),
        st.sampled_from([None, *IDS]),
        payload=st.sampled_from([b"1", b'{"a": 1}']),
        record=st.sampled_from(
            [b'{"event":"x"}', b'{"event":"x","request":{"r":1}}', b'{"event":"y"}']
        ),
        kind=st.sampled_from([Kind.PRODUCT, Kind.AUDIT, Kind.ADMINISTRATION]),
        lane=st.sampled_from(Lane),
        received_at_ms=st.integers(0, 2**63 - 1),
        new_entry_on_conflict=st.booleans(),
        monthly_limit=st.sampled_from([None, None, 0, 3, 10]),
    ),
    max_size=12,
)


def machine_for(make: Callable[[], Rig]) -> type[RuleBasedStateMachine]:
    """A state machine that does anything to a journal from `make`, and to the model."""

    class JournalMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.rig = make()
            self.model = Model()

        @initialize(count=st.integers(1, 3))
        def make_projects(self, count: int) -> None:
            for _ in range(count):
                self.model.logs[self.rig.new_project()] = []

        @rule(drafts=some_drafts)
        def append(self, drafts: list[Draft]) -> None:
            projects = list(self.model.logs)
            placed = [_placed(d, projects[d.project_id % len(projects)]) for d in drafts]
            month = f"{datetime.fromtimestamp(self.rig.clock.now_ms / 1000, UTC):%Y-%m}"

            outcomes = self.rig.journal.append(placed)

            assert [self.model.take(draft, month) for draft in placed] == [*map(_fate, outcomes)]
            for draft, outcome in zip(placed, outcomes, strict=True):
                if isinstance(outcome, Stored):
                    self.model.logs[draft.project_id][outcome.index].tx = outcome.tx
                if isinstance(outcome, Duplicate):
                    first = self.model.logs[draft.project_id][outcome.index]
                    assert first.tx == outcome.tx

        @rule(step_ms=st.sampled_from([1, 40, -7, -DAY_MS, 20 * DAY_MS, -40 * DAY_MS]))
        def turn_the_clock(self, step_ms: int) -> None:
            self.rig.clock.now_ms += step_ms

        @rule()
        def reopen(self) -> None:
            self.rig.reopen()

        @rule()
        def lose_power(self) -> None:
            self.rig.lose_power()

        @rule(data=st.data())
        def erase(self, data: Any) -> None:
            places = [
                (project, index)
                for project, log in self.model.logs.items()
                for index, kept in enumerate(log)
                if kept.draft.kind in (Kind.PRODUCT, Kind.AUDIT)
            ]
            if places:
                project, index = data.draw(st.sampled_from(places))
                done = erase(self.rig.journal, project, index)
                log = self.model.logs[project]
                assert log[index].erased is (done.erased == 0)
                assert done.swept
                log[index].erased = True
                log += [Kept(_erasure(project, index), entry.tx) for entry in done.entries]

        @invariant()
        def both_say_the_same(self) -> None:
            journal, txs = self.rig.journal, []
            for project, log in self.model.logs.items():
                assert len(log) == journal.next_index(project)
                entries = whole_log(journal, project)
                for index, (kept, entry) in enumerate(zip(log, entries, strict=True)):
                    if kept.erased:
                        assert (index, kept.tx) == (entry.index, entry.leaf.tx)
                        assert entry.payload is entry.record is entry.payload_salt is None
                        assert entry.record_salt is None
                    else:
                        assert_holds(entry, kept.draft, Stored(index, kept.tx))
                txs.append([kept.tx for kept in log])
                for lane in Lane:
                    for client_id in IDS:
                        found = journal.find(project, lane, client_id)
                        index_found = None if found is None else found.index
                        assert self.model.known.get((project, lane, client_id)) == index_found
            assert [sorted(set(log)) for log in txs] == txs

        def teardown(self) -> None:
            self.rig.close()

    return JournalMachine


def _erasure(project_id: int, index: int) -> Draft:
    said = (
        f'{{"at":"2026-01-01T00:00:00.000Z","erased":[[{index},{index + 1}]],"reason":"request"}}'
    )
    record = b'{"event":"erasure"}'
    return a_draft(project_id, payload=said.encode(), record=record, kind=Kind.ERASURE)


def _placed(draft: Draft, project_id: int) -> Draft:
    return Draft(project_id, *(getattr(draft, f) for f in Draft.__struct_fields__[1:]))
