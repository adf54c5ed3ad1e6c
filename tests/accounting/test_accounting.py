"""The follower that keeps the accounts: exact over replays, crashes, damage and other journals."""

import json
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from indelible.accounting.account import Account
from indelible.accounting.accounting import KEPT_DAYS, Accounting
from indelible.accounting.accounts import ACCOUNTS_FILE, Rest
from indelible.errors import Unavailable, UnknownVersion
from indelible.event import Kind, Lane
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.registry.registry import Registry
from tests.journal.contract import DAY_MS, NEW_YEAR_MS, ManualClock

ONE, OTHER = "1" * 32, "2" * 32


def event(process: str, number: int, lane: Lane = Lane.PRODUCT, at_ms: int = NEW_YEAR_MS) -> Draft:
    """An event that its process numbered, as the edge stores it."""
    place: dict[str, Any] = {"process_id": process, "sequence": number}
    if lane is Lane.AUDIT:
        place = {"meta": {"process_id": process, "sequence": str(number), "type": "info"}}
    return Draft(
        project_id=0,
        kind=Kind.AUDIT if lane is Lane.AUDIT else Kind.PRODUCT,
        received_at_ms=at_ms,
        payload=b"{}",
        record=json.dumps({"event": "e", **place}).encode(),
        lane=lane,
    )


def loss(process: str, lane: Lane = Lane.PRODUCT, at_ms: int = NEW_YEAR_MS, **counts: int) -> Draft:
    """A report, as the edge stores it."""
    said = {"uuid": str(uuid.uuid4()), "process_id": process, "counts": counts}
    return Draft(
        project_id=0,
        kind=Kind.LOSS,
        received_at_ms=at_ms,
        payload=json.dumps(said).encode(),
        record=json.dumps({"event": "loss", "lane": lane.value}).encode(),
        lane=lane,
    )


@dataclass
class Office:
    """A journal with one project, and its accounting, in a folder."""

    folder: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(NEW_YEAR_MS))

    def __post_init__(self) -> None:
        self.journal = SqliteJournal(Database(self.folder / "journal.db"), clock=self.clock)
        registry = Registry(RegistryTables(self.journal), clock=self.clock)
        self.project, self.neighbour = (
            (registry.snapshot.projects.get(name) or registry.projects.create(name)).id
            for name in ("p", "q")
        )
        self.open()

    def open(self) -> None:
        self.accounting = Accounting(
            self.folder,
            journal=self.journal,
            projects=lambda: [self.project, self.neighbour],
            clock=self.clock,
        )

    def store(self, drafts: Sequence[Draft], project: int | None = None) -> None:
        mine = [
            Draft(project or self.project, d.kind, d.received_at_ms, d.payload, d.record, d.lane)
            for d in drafts
        ]
        self.journal.append(mine)

    def count(self) -> None:
        """Let the follower take all that is stored."""
        self.accounting._follower.catch_up()

    def reopen(self) -> None:
        """What a restart of the process does."""
        self.accounting.close()
        self.open()

    def accounts(self) -> dict[tuple[str, str], Account]:
        found = self.accounting.accounts.page(
            self.project, process_id=None, missing=False, before=None, limit=1_000
        )
        return {(key.lane.value, key.process_id): account for key, account in found}

    def one(self, process: str = ONE, lane: Lane = Lane.PRODUCT) -> Account:
        return self.accounts()[lane.value, process]

    def rest(self, lane: Lane = Lane.PRODUCT) -> Rest:
        return self.accounting.accounts.rest(self.project).get(lane, Rest())

    def close(self) -> None:
        self.accounting.close()
        self.journal.close()


@contextmanager
def opened(folder: Path) -> Iterator[Office]:
    office = Office(folder)
    try:
        yield office
    finally:
        office.close()


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    with opened(tmp_path) as office:
        yield office


def test_each_lane_of_a_process_has_an_account_of_its_own(office: Office) -> None:
    office.store([event(ONE, 0), event(ONE, 0, Lane.AUDIT), event(ONE, 3, Lane.AUDIT)])
    office.store([loss(ONE, exit=2), loss(ONE, Lane.AUDIT, expired=1), event(OTHER, 1)])
    office.count()

    found = {
        whose: (a.captured, a.stored, dict(a.lost), a.missing, a.gaps())
        for whose, a in office.accounts().items()
    }

    assert {
        ("product", ONE): (3, 1, {"exit": 2}, 0, []),
        ("audit", ONE): (4, 2, {"expired": 1}, 1, [(1, 3)]),
        ("product", OTHER): (2, 1, {}, 1, [(0, 1)]),
    } == found


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"process_id": ONE},
        {"sequence": 1},
        {"$extra": {"process_id": ONE, "sequence": 1}},
        {"meta": {"process_id": ONE, "sequence": "1"}},
        {"meta": 7},
    ],
)
def test_an_event_that_is_not_numbered_is_in_no_account(office: Office, record: Any) -> None:
    draft = event(ONE, 0)
    office.store([Draft(0, draft.kind, 1, b"{}", json.dumps(record).encode())])
    office.count()

    assert {} == office.accounts()


@pytest.mark.parametrize("digits", ["", "-1", "1.0", "²", "9" * 17, "9" * 16, "one"])
def test_an_audit_event_whose_number_is_none_is_in_no_account(office: Office, digits: str) -> None:
    meta = {"meta": {"process_id": ONE, "sequence": digits}}
    office.store([Draft(0, Kind.AUDIT, 1, b"{}", json.dumps(meta).encode(), Lane.AUDIT)])
    office.count()

    assert {} == office.accounts()


def test_an_event_of_a_later_form_is_refused_though_nobody_numbers_it(office: Office) -> None:
    later = replace(event(ONE, 0), record=b'{"event":"e","v":2,"whose":"%b"}' % ONE.encode())
    office.store([later])

    with pytest.raises(UnknownVersion):
        office.count()

    assert {} == office.accounts()


def test_a_report_among_events_that_nobody_numbers_is_counted(office: Office) -> None:
    plain = replace(event(ONE, 0), record=b'{"event":"e"}')
    office.store([plain, plain, loss(ONE, exit=3), plain])

    office.count()

    assert {"exit": 3} == office.one().lost


def test_events_that_nobody_numbers_are_counted_if_they_were_erased(office: Office) -> None:
    office.store([replace(event(ONE, 0), record=b'{"event":"e"}')] * 3)
    office.journal.erase(office.project, [1], reason="asked", received_at_ms=NEW_YEAR_MS)

    office.count()

    assert 1 == office.rest().erased


def test_the_times_are_those_of_the_first_and_the_last_word_received(office: Office) -> None:
    times = [NEW_YEAR_MS + 5, NEW_YEAR_MS, NEW_YEAR_MS + 9]
    office.store([event(ONE, n, at_ms=at_ms) for n, at_ms in enumerate(times)])
    office.store([loss(ONE, at_ms=NEW_YEAR_MS + 20, exit=1)])
    office.count()

    assert (NEW_YEAR_MS, NEW_YEAR_MS + 20) == (
        office.one().first_seen_ms,
        office.one().last_seen_ms,
    )


facts = st.lists(
    st.builds(
        event,
        st.sampled_from([ONE, OTHER]),
        st.integers(0, 12),
        st.sampled_from(Lane),
        st.integers(NEW_YEAR_MS, NEW_YEAR_MS + 99),
    )
    | st.builds(
        lambda process, lane, reason, count: loss(process, lane, **{reason: count}),
        st.sampled_from([ONE, OTHER]),
        st.sampled_from(Lane),
        st.sampled_from(["exit", "gremlins"]),
        st.integers(1, 5),
    ),
    max_size=25,
)
INCIDENTS = ("count", "count twice", "restart", "forget the last stretch", "lose the file")


@given(facts=facts, data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_happens_between_the_accounts_are_those_of_the_log(
    facts: list[Draft], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Replays, restarts, power cuts that take the last stretch, and any order of arrival."""
    with opened(tmp_path_factory.mktemp("office")) as office:
        before = office.folder / "before.db"
        arrived = data.draw(st.permutations(facts))
        while arrived:
            some = data.draw(st.integers(1, len(arrived)))
            office.store(arrived[:some])
            arrived = arrived[some:]
            happen(office, data.draw(st.sampled_from(INCIDENTS)), before)
        office.count()

        expected = Counter[tuple[str, str]]()
        lost = Counter[tuple[str, str, str]]()
        seen = set()
        for draft in facts:
            record = json.loads(draft.record)
            if draft.kind is Kind.LOSS:
                said = json.loads(draft.payload)
                for reason, count in said["counts"].items():
                    known = reason if reason == "exit" else "other"
                    lost[draft.lane.value, said["process_id"], known] += count
            else:
                place = record.get("meta", record)
                seen.add((draft.lane.value, place["process_id"], int(place["sequence"])))
        for lane, process, _ in seen:
            expected[lane, process] += 1

        found = office.accounts()
        assert dict(expected) == {whose: a.stored for whose, a in found.items() if a.stored}
        assert dict(lost) == {
            (*whose, reason): count
            for whose, a in found.items()
            for reason, count in a.lost.items()
        }
        for whose, account in found.items():
            numbers = {n for lane, process, n in seen if (lane, process) == whose}
            assert max(numbers, default=-1) + 1 <= account.captured
            gaps = {n for start, end in account.gaps() for n in range(start, end)}
            assert set(range(max(numbers, default=-1) + 1)) - numbers == gaps


def happen(office: Office, incident: str, before: Path) -> None:
    file = office.folder / ACCOUNTS_FILE
    match incident:
        case "count":
            office.count()
        case "count twice":
            office.count()
            office.accounting.handle(office.project, 0, office.journal.next_index(office.project))
        case "restart":
            office.reopen()
        case "forget the last stretch":
            # What a power cut does to a file that is not synced: the journal is ahead.
            office.accounting.close()
            shutil.copy(file, before)
            office.open()
            office.count()
            office.accounting.close()
            shutil.copy(before, file)
            office.open()
        case "lose the file":
            office.accounting.close()
            file.unlink()
            office.open()


def damaged(file: Path) -> None:
    file.write_bytes(b"not a database" * 1_000)


def of_another_version(file: Path) -> None:
    import apsw

    connection = apsw.Connection(str(file))
    connection.execute("PRAGMA user_version = 99")
    connection.close()


def emptied(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize("harm", [Path.unlink, damaged, of_another_version, emptied])
def test_a_file_that_is_of_no_use_is_made_anew(
    office: Office, harm: Callable[[Path], object]
) -> None:
    office.store([event(ONE, 0), event(ONE, 2), loss(ONE, exit=1)])
    office.count()
    before = office.accounts()
    office.accounting.close()
    harm(office.folder / ACCOUNTS_FILE)

    office.open()
    office.count()

    assert before == office.accounts()


@pytest.mark.parametrize("length", [1, 4, 9])
def test_the_accounts_of_another_journal_are_not_taken_for_this_ones(
    office: Office, tmp_path_factory: pytest.TempPathFactory, length: int
) -> None:
    office.store([event(ONE, n) for n in range(4)])
    office.count()
    with opened(tmp_path_factory.mktemp("other")) as other:
        other.store([event(OTHER, n) for n in range(length)])
        for each in (office, other):
            each.accounting.close()
        shutil.copy(office.folder / ACCOUNTS_FILE, other.folder / ACCOUNTS_FILE)

        other.open()
        other.count()

        assert [("product", OTHER)] == list(other.accounts())
        assert length == other.one(OTHER).stored


def test_a_file_that_is_damaged_while_it_is_used_says_so_and_is_made_anew_at_the_next_start(
    office: Office,
) -> None:
    office.store([event(ONE, 0)])
    office.count()
    with office.accounting.accounts._file.transaction() as connection:
        connection.execute("UPDATE account SET state = x'7b'")

    with pytest.raises(Unavailable):
        office.accounts()
    assert "restart the server" in (office.accounting.accounts.failure or "")
    office.store([event(ONE, 1)])
    with pytest.raises(Unavailable):
        office.count()
    office.reopen()
    office.count()

    assert 2 == office.one().stored


def test_events_erased_after_they_were_counted_stay_counted(office: Office) -> None:
    office.store([event(ONE, n) for n in range(5)])
    office.count()
    office.journal.erase(office.project, [1, 2, 3], reason="request", received_at_ms=1)
    office.count()

    assert (5, 0) == (office.one().stored, office.one().missing)
    assert 0 == office.rest().erased


def test_events_erased_before_they_were_counted_are_nobodys(office: Office) -> None:
    office.store([event(ONE, n) for n in range(5)])
    office.store([event(ONE, 0, Lane.AUDIT)])
    first = office.journal.next_index(office.project) - 6
    erased = [first + 1, first + 2, first + 5]
    office.journal.erase(office.project, erased, reason="request", received_at_ms=1)
    office.count()

    assert (3, 2, [(1, 3)]) == (office.one().stored, office.one().missing, office.one().gaps())
    assert (2, 1) == (office.rest().erased, office.rest(Lane.AUDIT).erased)


def test_a_process_not_heard_of_for_long_is_kept_as_a_sum(office: Office) -> None:
    old = [event(ONE, n) for n in (0, 1, 4)] + [loss(ONE, exit=1)]
    late = NEW_YEAR_MS + 2 * DAY_MS
    office.store([*old, event(OTHER, 0, at_ms=late)])
    office.count()
    assert 2 == len(office.accounts())

    office.clock.now_ms = NEW_YEAR_MS + KEPT_DAYS * DAY_MS + 1
    office.store([event(OTHER, 1, at_ms=late)])
    office.count()

    assert [("product", OTHER)] == list(office.accounts())
    rest = Rest(processes=1, captured=5, stored=3, missing=1, lost={"exit": 1})
    assert rest == office.rest()


def test_nothing_is_folded_away_while_old_events_are_read(office: Office) -> None:
    office.clock.now_ms = NEW_YEAR_MS + 2 * KEPT_DAYS * DAY_MS
    office.store([event(ONE, n) for n in range(4)])
    last = office.journal.next_index(office.project)

    office.accounting.handle(office.project, 0, last - 2)
    assert 2 == office.one().stored
    office.accounting.handle(office.project, 0, last)

    assert {} == office.accounts()
    assert (1, 4, 0) == (office.rest().processes, office.rest().stored, office.rest().missing)


def test_nothing_is_folded_away_while_another_projects_log_is_at_its_end(office: Office) -> None:
    office.clock.now_ms = NEW_YEAR_MS + 2 * KEPT_DAYS * DAY_MS
    office.store([event(ONE, n) for n in range(4)])
    office.store([event(OTHER, 0)], office.neighbour)

    office.accounting.handle(office.project, 0, office.journal.next_index(office.project) - 1)
    office.accounting.handle(office.neighbour, 0, office.journal.next_index(office.neighbour))
    assert 3 == office.one().stored
    office.count()

    assert (1, 0) == (office.rest().processes, office.rest().missing)


def test_more_than_a_thousand_processes_are_folded_away_at_once(office: Office) -> None:
    office.store([event(f"{n:032x}", 0) for n in range(2_100)])
    office.clock.now_ms = NEW_YEAR_MS + KEPT_DAYS * DAY_MS + 1
    office.count()

    assert {} == office.accounts()
    assert 2_100 == office.rest().processes
