"""The follower: whatever happened to the log, it knows what a rebuild would know."""

import contextlib
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from indelible.errors import NotFound, NotMergeable, NotUnmergeable
from indelible.event import Kind
from tests.identity.town import Town, alias, audit, event, identify

IDS = ("a", "A", "é", "e\u0301", "u", "v", "guest")
ids = st.sampled_from(IDS)
names = st.sampled_from(("plan", "mail"))
changes = st.dictionaries(
    st.sampled_from(("$set", "$set_once")), st.dictionaries(names, st.integers(0, 9), max_size=2)
)


class Machine(RuleBasedStateMachine):
    """Entries of every kind, in any order; taken in any pieces, with restarts in between."""

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.town = Town(Path(self.folder.name))
        self.is_taken = True
        self.remembered: tuple[int, list[object]] | None = None

    @rule(who=ids, change=changes, unset=st.lists(names, max_size=1))
    def act(self, who: str, change: dict[str, dict[str, int]], unset: list[str]) -> None:
        self.town.store(event(who, "viewed", **change, **({"$unset": unset} if unset else {})))
        self.is_taken = False

    @rule(who=ids, change=changes)
    def write_beside_properties(self, who: str, change: dict[str, dict[str, int]]) -> None:
        self.town.store(event(who, "viewed", of_record=change))
        self.is_taken = False

    @rule(user=ids, anonymous=st.none() | ids, again=st.integers(1, 3))
    def identify(self, user: str, anonymous: str | None, again: int) -> None:
        self.town.store(*[identify(user, anonymous)] * again)
        self.is_taken = False

    @rule(one=ids, other=ids)
    def alias(self, one: str, other: str) -> None:
        self.town.store(alias(one, other))
        self.is_taken = False

    @rule(actor=ids, tenant=st.sampled_from(("acme", "x" * 300)))
    def act_by_the_book(self, actor: str, tenant: str) -> None:
        self.town.store(audit({"actor": {"id": actor}}, tenant=tenant))
        self.is_taken = False

    @rule(who=ids, company=st.sampled_from(("acme", "zeta")))
    def act_for_a_company(self, who: str, company: str) -> None:
        self.town.store(event(who, "viewed", **{"$groups": {"company": company}}))
        self.is_taken = False

    @rule()
    def take(self) -> None:
        self.town.identity.catch_up()
        self.is_taken = True

    @rule()
    def restart(self) -> None:
        self.town.reopen()

    @precondition(lambda self: self.is_taken)
    @rule(who=st.lists(ids, min_size=2, max_size=3))
    def merge(self, who: list[str]) -> None:
        with contextlib.suppress(NotFound, NotMergeable):
            self.town.merge(*who)

    @precondition(lambda self: self.is_taken)
    @rule(who=ids, out=st.none() | st.lists(ids, min_size=1, max_size=2))
    def unmerge(self, who: str, out: list[str] | None) -> None:
        with contextlib.suppress(NotFound, NotUnmergeable):
            self.town.unmerge(who, taken_out=out)

    @precondition(lambda self: self.is_taken)
    @rule(who=ids, data=st.data())
    def undo(self, who: str, data: st.DataObject) -> None:
        facts = self.town.persons.merges(self.town.project, who, limit=50).facts
        if facts:
            fact = data.draw(st.sampled_from(facts))
            with contextlib.suppress(NotFound, NotUnmergeable):
                self.town.unmerge(who, merge=fact.index)

    @rule(data=st.data(), take=st.booleans())
    def erase(self, data: st.DataObject, take: bool) -> None:
        town = self.town
        entries = town.journal.read(town.project, 0, town.end)
        erasable = [e.index for e in entries if e.leaf.kind in (Kind.PRODUCT, Kind.AUDIT)]
        if erasable:
            chosen = data.draw(st.lists(st.sampled_from(erasable), min_size=1, max_size=5))
            town.erase(*chosen, take=take)
            self.is_taken, self.remembered = take, None

    @precondition(lambda self: self.is_taken)
    @rule()
    def remember(self) -> None:
        self.remembered = self.town.end, self.town.known(IDS)

    @precondition(lambda self: self.is_taken and self.remembered is not None)
    @rule()
    def what_was_known_at_an_index_is_known_of_it_later(self) -> None:
        """Now persons are kept as they go; of an index, the facts below it are folded again."""
        assert self.remembered is not None
        at, known = self.remembered
        assert known == self.town.known(IDS, at)

    @precondition(lambda self: self.is_taken)
    @rule()
    def a_rebuild_gives_equal_answers(self) -> None:
        self.compare()

    def compare(self) -> None:
        town = self.town
        kept, again = town.answers(IDS), town.rebuilt(IDS)
        assert again == kept

    def teardown(self) -> None:
        if hasattr(self, "town"):
            try:
                self.town.identity.catch_up()
                self.compare()
            finally:
                self.town.close()
            self.folder.cleanup()


def test_after_any_history_a_rebuild_gives_equal_answers() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
