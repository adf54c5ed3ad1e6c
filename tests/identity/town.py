"""A journal with two projects and the follower that keeps their persons, in a folder."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from indelible.event import Kind, Lane
from indelible.identity.decisions import PERSONS_MERGED, PERSONS_UNMERGED
from indelible.identity.identity import Identity
from indelible.identity.person import Person
from indelible.identity.persons import Persons
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.record import Administration, encode_record
from indelible.registry.registry import Registry
from tests.journal.contract import NEW_YEAR_MS, ManualClock


def event(distinct_id: str, name: str = "viewed", /, **properties: Any) -> Draft:
    """A product event as the edge stores it; `of_record` has further members of the record."""
    more = properties.pop("of_record", {})
    record = {"distinct_id": distinct_id, "event": name, "request": {}, **more}
    return _draft(Kind.PRODUCT, json.dumps(properties), record)


def identify(user: str, anonymous: str | None = None, /, **properties: Any) -> Draft:
    if anonymous is not None:
        properties["$anon_distinct_id"] = anonymous
    return event(user, "$identify", **properties)


def alias(one: str, other: str) -> Draft:
    return event(other, "$create_alias", alias=one)


def audit(payload: Any, **meta: str) -> Draft:
    record = {"meta": {"type": "info", **meta}, "request": {}}
    return _draft(Kind.AUDIT, payload if isinstance(payload, str) else json.dumps(payload), record)


def decision(name: str, facts: dict[str, Any]) -> Draft:
    return Draft(
        project_id=0,
        kind=Kind.ADMINISTRATION,
        received_at_ms=NEW_YEAR_MS,
        payload=json.dumps(facts).encode(),
        record=encode_record(Administration(name)),
    )


def _draft(kind: Kind, payload: str, record: dict[str, Any]) -> Draft:
    return Draft(
        project_id=0,
        kind=kind,
        received_at_ms=NEW_YEAR_MS,
        payload=payload.encode(),
        record=json.dumps(record, sort_keys=True).encode(),
        lane=Lane.AUDIT if kind is Kind.AUDIT else Lane.PRODUCT,
    )


@dataclass
class Town:
    """A journal with one project and a neighbour, and its persons, in a folder."""

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

    def open(self, folder: Path | None = None) -> None:
        self.identity = Identity(
            folder or self.folder,
            journal=self.journal,
            projects=lambda: [self.project, self.neighbour],
            clock=self.clock,
        )

    @property
    def persons(self) -> Persons:
        return self.identity.persons

    @property
    def end(self) -> int:
        """The index that the next entry gets."""
        return self.journal.next_index(self.project)

    def store(self, *drafts: Draft, project: int | None = None) -> int:
        """Store entries; the index of the first."""
        first = self.journal.next_index(project or self.project)
        self.journal.append(
            [
                Draft(
                    project or self.project, d.kind, d.received_at_ms, d.payload, d.record, d.lane
                )
                for d in drafts
            ]
        )
        return first

    def take(self, *drafts: Draft) -> int:
        """Store entries and let the follower take all that is stored."""
        first = self.store(*drafts)
        self.identity.catch_up()
        return first

    def merge(self, *who: str) -> int:
        return self.take(decision(PERSONS_MERGED, self.persons.merge_facts(self.project, who)))

    def unmerge(self, who: str, **how: Any) -> int:
        facts = self.persons.unmerge_facts(self.project, who, **how)
        return self.take(decision(PERSONS_UNMERGED, facts))

    def erase(self, *indexes: int, take: bool = True) -> None:
        self.journal.erase(self.project, indexes, reason="r", received_at_ms=self.clock())
        if take:
            self.identity.catch_up()

    def reopen(self) -> None:
        """What a restart of the process does."""
        self.identity.close()
        self.open()

    def find(self, who: str, at: int | None = None) -> Person:
        person = self.persons.find(self.project, who, at=at)
        assert person is not None
        return person

    def ids(self, who: str, at: int | None = None) -> list[str]:
        page = self.persons.ids(self.project, who, limit=10_000, at=at)
        return sorted(one.distinct_id for one in page.ids)

    def answers(self, who: Sequence[str], at: int | None = None) -> list[object]:
        """All that can be read of these ids, in a form that can be compared."""
        persons, project = self.persons, self.project
        return [
            *self.known(who, at),
            *(list(persons.indexes_of_ids(project, [one])) for one in who),
            *(list(persons.indexes_of_actors(project, [one])) for one in who),
            persons.page(project, limit=100),
            persons.units(project, limit=100),
            persons.count(project, who),
            persons.next_index(project),
        ]

    def known(self, who: Sequence[str], at: int | None = None) -> list[object]:
        """What can be asked as of an index of these ids."""
        persons, project = self.persons, self.project
        return [
            (
                persons.find(project, one, at=at),
                persons.find_id(project, one, at=at),
                persons.ids(project, one, limit=100, at=at),
                persons.merges(project, one, limit=100, at=at),
                persons.history(project, one, limit=100, at=at),
                persons.timeline(project, one, limit=1_000, at=at),
            )
            for one in who
        ]

    def rebuilt(self, who: Sequence[str], at: int | None = None) -> list[object]:
        """The same, from a file that was made again out of what the journal has now."""
        folder = self.folder / "again"
        folder.mkdir(exist_ok=True)
        kept = self.identity
        self.open(folder)
        try:
            self.identity.begin_again()
            self.identity.catch_up()
            return self.answers(who, at)
        finally:
            self.identity.close()
            self.identity = kept

    def close(self) -> None:
        self.identity.close()
        self.journal.close()


@contextmanager
def opened(folder: Path) -> Iterator[Town]:
    town = Town(folder)
    try:
        yield town
    finally:
        town.close()
