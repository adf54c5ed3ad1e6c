"""The follower loop: every entry in order, from the position that the handler itself keeps."""

import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.journal.follow import Follower, Run
from indelible.journal.sqlite import SqliteJournal
from indelible.metrics import REGISTRY
from tests.journal.contract import numbered
from tests.journal.rig import MakeRigOf, SqliteRig

LARGEST_BATCH = 100


class HandlerFailed(Exception):
    """What the far side of a handler does now and then."""


class Recorder:
    """A handler that notes the indexes that it was given, and fails when it is told to.

    `taken` has those of the batches that it handled: it is the sink, and the position is where it
    ends. `offered` also has those that it failed on. `before` is called with each batch and may
    raise.
    """

    def __init__(self, name: str = "recorder") -> None:
        self.name = name
        self.batch = LARGEST_BATCH
        self.taken: defaultdict[int, list[int]] = defaultdict(list)
        self.offered: list[tuple[int, list[int]]] = []
        self.before: Callable[[int, list[int]], None] = lambda _project, _indexes: None

    def next_index(self, project_id: int) -> int:
        return len(self.taken[project_id])

    def handle(self, project_id: int, start: int, end: int) -> None:
        assert self.next_index(project_id) == start
        assert 1 <= end - start <= LARGEST_BATCH
        indexes = list(range(start, end))
        self.offered.append((project_id, indexes))
        self.before(project_id, indexes)
        self.taken[project_id] += indexes


def follower(
    rig: SqliteRig,
    handler: Recorder,
    projects: Callable[[], Iterable[int]] | list[int],
    *,
    pace_s: float = 0.0,
) -> Follower:
    """A follower of these projects, as the server wires one."""
    asked = (lambda: projects) if isinstance(projects, list) else projects
    return Follower(rig.reader, handler, projects=asked, pace_s=pace_s)


@contextmanager
def running(what: Follower) -> Iterator[Follower]:
    what.start()
    try:
        yield what
    finally:
        what.stop()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.002)


def failing(times: int) -> Callable[[int, list[int]], None]:
    """Raises the first `times` times."""
    left = itertools.count(times, -1)

    def fail(_project: int, _indexes: list[int]) -> None:
        if next(left) > 0:
            raise HandlerFailed

    return fail


def test_every_entry_of_every_project_is_handled_once_while_nothing_fails(
    sqlite: SqliteRig,
) -> None:
    projects = [sqlite.new_project() for _ in range(3)]
    counts = [250, 0, 3]
    for project, count in zip(projects, counts, strict=True):
        sqlite.journal.append(numbered(project, count))
    recorder = Recorder()
    one = follower(sqlite, recorder, projects)
    assert 253 == one.lag()

    one.catch_up()
    one.catch_up()

    assert 0 == one.lag()
    for project, count in zip(projects, counts, strict=True):
        assert list(range(count)) == recorder.taken[project]
        assert count == recorder.next_index(project)


def test_an_entry_is_handled_again_until_the_handler_takes_it(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 5))
    recorder = Recorder()
    recorder.before = failing(2)
    one = follower(sqlite, recorder, [project])

    for _ in range(2):
        with pytest.raises(HandlerFailed):
            one.catch_up()
        assert 0 == recorder.next_index(project)
        assert 5 == one.lag()
    sqlite.journal.append(numbered(project, 2, prefix="later"))
    one.catch_up()

    assert [[0, 1, 2, 3, 4]] * 2 == [indexes for _, indexes in recorder.offered[:2]]
    assert list(range(7)) == recorder.taken[project]


def test_a_failure_in_a_later_batch_keeps_what_earlier_ones_did(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 250))
    recorder = Recorder()

    def fail_at_the_second(_project: int, indexes: list[int]) -> None:
        if indexes[0] >= LARGEST_BATCH:
            raise HandlerFailed

    recorder.before = fail_at_the_second
    with pytest.raises(HandlerFailed):
        follower(sqlite, recorder, [project]).catch_up()

    assert len(recorder.taken[project]) == recorder.next_index(project)
    assert 0 < recorder.next_index(project) < 250


def test_after_a_restart_a_follower_goes_on_where_its_sink_says(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 5))
    recorder, stranger = Recorder(), Recorder(name="stranger")
    follower(sqlite, recorder, [project]).catch_up()
    sqlite.journal.append(numbered(project, 3, prefix="later"))

    sqlite.lose_power()

    assert 3 == follower(sqlite, recorder, [project]).lag()
    follower(sqlite, recorder, [project]).catch_up()
    follower(sqlite, stranger, [project]).catch_up()
    assert [(project, [0, 1, 2, 3, 4]), (project, [5, 6, 7])] == recorder.offered
    assert list(range(8)) == stranger.taken[project]


def test_a_sink_that_lost_its_last_stretch_is_given_it_again(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 5))
    recorder = Recorder()
    follower(sqlite, recorder, [project]).catch_up()
    del recorder.taken[project][3:]  # with the power

    assert 2 == follower(sqlite, recorder, [project]).catch_up()
    assert list(range(5)) == recorder.taken[project]


def test_after_a_failure_the_position_is_that_of_the_sink_again(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 5))
    recorder = Recorder()
    one = follower(sqlite, recorder, [project])

    def take_two_and_fail(project: int, _indexes: list[int]) -> None:
        recorder.before = lambda _project, _indexes: None
        recorder.taken[project] += [0, 1]
        raise HandlerFailed

    recorder.before = take_two_and_fail
    with pytest.raises(HandlerFailed):
        one.catch_up()

    assert 3 == one.catch_up()
    assert [[0, 1, 2, 3, 4], [2, 3, 4]] == [indexes for _, indexes in recorder.offered]


Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 40)),
        st.tuples(st.just("append"), st.just(120)),
        st.tuples(st.just("catch up, failing at call"), st.integers(0, 3)),
        st.tuples(st.just("restart"), st.just(0)),
        st.tuples(st.just("power cut"), st.just(0)),
        st.tuples(st.just("lose the end of a sink"), st.integers(1, 60)),
    ),
    max_size=12,
)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps)
def test_whatever_fails_a_sink_gets_every_entry_in_order(
    make_rig_of: MakeRigOf, steps: list[Step]
) -> None:
    rig = make_rig_of(SqliteJournal)
    projects = [rig.new_project(), rig.new_project()]
    recorder = Recorder()
    one = follower(rig, recorder, projects)
    for turn, (what, number) in enumerate(steps):
        match what:
            case "append":
                rig.journal.append(numbered(projects[turn % 2], number, prefix=f"{turn}-"))
            case "restart":
                rig.reopen()
                one = follower(rig, recorder, projects)
            case "power cut":
                rig.lose_power()
                one = follower(rig, recorder, projects)
            case "lose the end of a sink":
                del recorder.taken[projects[turn % 2]][-number:]
                one = follower(rig, recorder, projects)
            case _:
                recorder.before = failing_at(number)
                with suppress(HandlerFailed):
                    one.catch_up()
                recorder.before = lambda _project, _indexes: None

    one.catch_up()

    for project in projects:
        assert list(range(rig.journal.next_index(project))) == recorder.taken[project]


def failing_at(call: int) -> Callable[[int, list[int]], None]:
    """Raises at the call with this number."""
    calls = itertools.count()

    def fail(_project: int, _indexes: list[int]) -> None:
        if next(calls) == call:
            raise HandlerFailed

    return fail


def test_a_running_follower_sees_what_is_added_and_projects_made_later(sqlite: SqliteRig) -> None:
    projects = [sqlite.new_project()]
    recorder = Recorder()
    with running(follower(sqlite, recorder, lambda: list(projects))) as one:
        for n in range(20):
            sqlite.journal.append(numbered(projects[0], 3, prefix=f"{n}-"))
        projects.append(sqlite.new_project())
        sqlite.journal.append(numbered(projects[1], 4))
        until(lambda: one.lag() == 0, "the follower did not catch up")
    assert list(range(60)) == recorder.taken[projects[0]]
    assert list(range(4)) == recorder.taken[projects[1]]


@pytest.mark.clocked
def test_a_new_event_is_handled_at_once(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    recorder = Recorder()
    with running(follower(sqlite, recorder, [project])) as one:
        sqlite.journal.append(numbered(project, 1))
        until(lambda: one.lag() == 0, "the first event was not handled")
        time.sleep(0.1)  # it waits now; without a signal it would do so for a second
        began = time.monotonic()
        sqlite.journal.append(numbered(project, 1, prefix="second"))
        until(lambda: one.lag() == 0, "the second event was not handled")
        assert time.monotonic() - began < 0.7


@pytest.mark.clocked
def test_a_paced_follower_takes_the_first_event_at_once_and_those_behind_it_together(
    sqlite: SqliteRig,
) -> None:
    project = sqlite.new_project()
    recorder = Recorder()
    with running(follower(sqlite, recorder, [project], pace_s=0.4)) as one:
        began = time.monotonic()
        sqlite.journal.append(numbered(project, 1))
        until(lambda: one.lag() == 0, "the first event was not handled")
        assert time.monotonic() - began < 0.3
        for n in range(20):
            sqlite.journal.append(numbered(project, 1, prefix=f"{n}-"))
        until(lambda: one.lag() == 0, "the others were not handled")
        assert time.monotonic() - began > 0.35
    assert len(recorder.offered) <= 3


def test_a_follower_that_drains_handles_all_that_is_stored_before_it_ends(
    sqlite: SqliteRig,
) -> None:
    project = sqlite.new_project()
    recorder = Recorder()
    one = follower(sqlite, recorder, [project], pace_s=30.0)
    one.start()
    sqlite.journal.append(numbered(project, 1))
    until(lambda: one.lag() == 0, "the first event was not handled")
    sqlite.journal.append(numbered(project, 250, prefix="later"))
    one.stop(drain=True)
    assert list(range(251)) == recorder.taken[project]


def test_an_idle_follower_rests(sqlite: SqliteRig) -> None:
    project, rounds = sqlite.new_project(), itertools.count()
    sqlite.journal.append(numbered(project, 3))
    recorder = Recorder()

    def projects() -> list[int]:
        next(rounds)
        return [project]

    with running(follower(sqlite, recorder, projects)):
        until(lambda: len(recorder.taken[project]) == 3, "nothing was handled")
        before, began = next(rounds), time.monotonic()
        time.sleep(0.5)
    assert next(rounds) - before < 5 + time.monotonic() - began  # one a second, and the way out


def test_a_handler_that_fails_is_called_again_after_a_pause_and_counted(
    sqlite: SqliteRig, caplog: pytest.LogCaptureFixture
) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 3))
    recorder = Recorder(name="stumbling")
    recorder.before = failing(1)
    began = time.monotonic()
    with running(follower(sqlite, recorder, [project])) as one:
        until(lambda: one.lag() == 0, "the follower gave up")
    assert time.monotonic() - began >= 0.9
    assert [[0, 1, 2]] * 2 == [indexes for _, indexes in recorder.offered]
    failures = REGISTRY.get_sample_value(
        "indelible_follower_failures_total", {"follower": "stumbling"}
    )
    assert 1.0 == failures
    assert [f"follower stumbling: HandlerFailed; project {project} again in 1 s"] == caplog.messages


def test_stopping_mid_way_finishes_the_batch_under_way_and_no_other(sqlite: SqliteRig) -> None:
    projects = [sqlite.new_project(), sqlite.new_project()]
    sqlite.journal.append(numbered(projects[0], 250) + numbered(projects[1], 5))
    recorder = Recorder()
    inside, go_on = threading.Event(), threading.Event()

    def hold(_project: int, _indexes: list[int]) -> None:
        inside.set()
        assert go_on.wait(60)

    recorder.before = hold
    one = follower(sqlite, recorder, projects)
    one.start()
    assert inside.wait(60)
    stopping = threading.Thread(target=one.stop)
    stopping.start()
    until(one._stopping.is_set, "nobody asked it to stop")
    stopping.join(0.05)
    assert stopping.is_alive()
    go_on.set()
    stopping.join(60)

    assert not stopping.is_alive()
    assert 1 == len(recorder.offered)
    handled = len(recorder.taken[projects[0]])
    assert handled == recorder.next_index(projects[0])
    assert 0 == recorder.next_index(projects[1])

    recorder.before = lambda _project, _indexes: None
    follower(sqlite, recorder, projects).catch_up()
    assert list(range(250)) == recorder.taken[projects[0]]
    assert list(range(5)) == recorder.taken[projects[1]]


@pytest.mark.clocked
def test_stopping_does_not_wait_for_the_pause_after_a_failure(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 1))
    recorder = Recorder(name="hopeless")
    recorder.before = failing(10**6)
    with running(follower(sqlite, recorder, [project])):
        until(lambda: recorder.offered != [], "the handler was not called")
        began = time.monotonic()
    assert time.monotonic() - began < 0.7
    assert 0 == recorder.next_index(project)


def test_followers_do_not_know_each_other(sqlite: SqliteRig) -> None:
    project = sqlite.new_project()
    sqlite.journal.append(numbered(project, 50))
    stuck, quick = Recorder(name="stuck"), Recorder(name="quick")
    stuck.before = failing(10**6)
    one, two = (follower(sqlite, recorder, [project]) for recorder in (stuck, quick))
    with running(one), running(two):
        until(lambda: two.lag() == 0, "one follower held up another")
        assert 50 == one.lag()
    assert list(range(50)) == quick.taken[project]


def test_an_entry_that_one_project_cannot_hand_over_holds_up_no_other_project(
    sqlite: SqliteRig,
) -> None:
    stuck, well = sqlite.new_project(), sqlite.new_project()
    sqlite.journal.append(numbered(stuck, 1) + numbered(well, 3))
    recorder = Recorder()

    def fail_for_one(project: int, _indexes: list[int]) -> None:
        if project == stuck:
            raise HandlerFailed

    recorder.before = fail_for_one
    with pytest.raises(HandlerFailed):
        follower(sqlite, recorder, [stuck, well]).catch_up()
    assert [0, 1, 2] == recorder.taken[well]
    assert 0 == recorder.next_index(stuck)


def stuck_at(stuck: int) -> Callable[[int, list[int]], None]:
    """Fails for this project, always."""

    def fail(project: int, _indexes: list[int]) -> None:
        if project == stuck:
            raise HandlerFailed

    return fail


@pytest.mark.clocked
def test_a_project_that_fails_again_and_again_never_delays_another(sqlite: SqliteRig) -> None:
    stuck, well = sqlite.new_project(), sqlite.new_project()
    sqlite.journal.append(numbered(stuck, 1))
    recorder = Recorder()
    recorder.before = stuck_at(stuck)
    with running(follower(sqlite, recorder, [stuck, well])):
        until(lambda: recorder.offered != [], "the handler was not called")
        for n in range(8):
            began = time.monotonic()
            sqlite.journal.append(numbered(well, 1, prefix=f"{n}-"))
            until(lambda n=n: len(recorder.taken[well]) > n, "the other project waits")  # type: ignore[misc]
            assert time.monotonic() - began < 0.5
            time.sleep(0.3)


@pytest.mark.clocked
def test_a_project_that_fails_is_tried_less_and_less_often_however_busy_the_others_are(
    sqlite: SqliteRig,
) -> None:
    stuck, well = sqlite.new_project(), sqlite.new_project()
    sqlite.journal.append(numbered(stuck, 1))
    recorder = Recorder()
    recorder.before = stuck_at(stuck)
    with running(follower(sqlite, recorder, [stuck, well])):
        ends = time.monotonic() + 3.7  # after 1 s, and 2 s later
        for n in itertools.count():
            if time.monotonic() > ends:
                break
            sqlite.journal.append(numbered(well, 1, prefix=f"{n}-"))
            time.sleep(0.05)
    assert 3 == [project for project, _ in recorder.offered].count(stuck)


def test_a_project_that_failed_goes_on_where_it_stood_once_the_fault_is_over(
    sqlite: SqliteRig,
) -> None:
    stuck, well = sqlite.new_project(), sqlite.new_project()
    sqlite.journal.append(numbered(stuck, 3) + numbered(well, 3))
    recorder = Recorder()
    recorder.before = stuck_at(stuck)
    with running(follower(sqlite, recorder, [stuck, well])) as one:
        until(lambda: len(recorder.taken[well]) == 3, "the other project waits")
        recorder.before = lambda _project, _indexes: None
        until(lambda: one.lag() == 0, "the project was given up")
    assert [0, 1, 2] == recorder.taken[stuck]


def test_after_a_success_the_next_failure_is_the_first_again(
    sqlite: SqliteRig, caplog: pytest.LogCaptureFixture
) -> None:
    project = sqlite.new_project()
    recorder = Recorder()
    with running(follower(sqlite, recorder, [project])) as one:
        for n in range(2):
            recorder.before = failing(1)
            sqlite.journal.append(numbered(project, 1, prefix=f"{n}-"))
            until(lambda: one.lag() == 0, "the project was given up")
    assert ["1 s", "1 s"] == [said[-3:] for said in caplog.messages if "again in" in said]


def test_a_log_that_cannot_be_read_holds_up_no_other(sqlite: SqliteRig) -> None:
    broken, well = sqlite.new_project(), sqlite.new_project()
    sqlite.journal.append(numbered(broken, 1) + numbered(well, 3))
    recorder = Recorder()
    one = follower(sqlite, recorder, [broken, well])
    sqlite.journal._standing.forget()  # as after a start
    with sqlite.database.transaction() as connection:
        connection.execute(f"ALTER TABLE event_{broken} RENAME TO lost")

    with pytest.raises(apsw.SQLError):
        one.catch_up()
    assert [0, 1, 2] == recorder.taken[well]

    with sqlite.database.transaction() as connection:
        connection.execute(f"ALTER TABLE lost RENAME TO event_{broken}")
    one.catch_up()
    assert [0] == recorder.taken[broken]


def test_projects_that_fail_alike_are_told_of_in_one_line(
    sqlite: SqliteRig, caplog: pytest.LogCaptureFixture
) -> None:
    projects = [sqlite.new_project() for _ in range(4)]
    for project in projects:
        sqlite.journal.append(numbered(project, 1))
    recorder = Recorder(name="all")
    recorder.before = failing(4)
    with running(follower(sqlite, recorder, projects)) as one:
        until(lambda: one.lag() == 0, "the projects were given up")
    first = projects[0]
    assert [f"follower all: HandlerFailed; project {first} and 3 more again in 1 s"] == (
        caplog.messages
    )


class Together(Recorder):
    """Takes the runs of some projects in one step."""

    def __init__(self, together: int) -> None:
        super().__init__(name="together")
        self.together = together
        self.rounds: list[list[int]] = []

    def handle_group(self, runs: Sequence[Run]) -> dict[int, Exception]:
        self.rounds.append([run.project_id for run in runs])
        failed: dict[int, Exception] = {}
        for run in runs:
            try:
                self.handle(*run)
            except HandlerFailed as error:
                failed[run.project_id] = error
        return failed


def test_a_handler_of_groups_gets_as_many_projects_at_once_as_it_says(sqlite: SqliteRig) -> None:
    projects = [sqlite.new_project() for _ in range(4)]
    counts = [250, 0, 3, 1]
    for project, count in zip(projects, counts, strict=True):
        sqlite.journal.append(numbered(project, count))
    together = Together(2)
    together.before = stuck_at(projects[2])

    with pytest.raises(HandlerFailed):
        follower(sqlite, together, projects).catch_up()

    long, _, failing, last = projects
    assert [[long, failing], [last], [long], [long]] == together.rounds
    assert [250, 0, 0, 1] == [together.next_index(one) for one in projects]


def test_what_is_stored_before_the_turn_of_its_project_needs_no_round_of_its_own(
    sqlite: SqliteRig,
) -> None:
    first, last = sqlite.new_project(), sqlite.new_project()
    for project in (first, last):
        sqlite.journal.append(numbered(project, 1))
    together = Together(1)

    def and_meanwhile(project: int, _indexes: list[int]) -> None:
        if project == first:
            sqlite.journal.append(numbered(last, 2, prefix="meanwhile"))

    together.before = and_meanwhile

    assert 4 == follower(sqlite, together, [first, last]).catch_up()

    assert [[first], [last]] == together.rounds
    assert [0, 1, 2] == together.taken[last]


def test_following_costs_the_journal_no_commit(sqlite: SqliteRig) -> None:
    projects = [sqlite.new_project() for _ in range(20)]
    for project in projects:
        sqlite.journal.append(numbered(project, 1))
    before = sqlite.database.commits

    assert 20 == follower(sqlite, Recorder(), projects).catch_up()

    assert before == sqlite.database.commits
