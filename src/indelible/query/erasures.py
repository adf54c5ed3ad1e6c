"""Erasures as a caller wants them: by transaction id, distinct id, person, or actor.

A person's product events are found through merges: all events of all its ids. Its audit events are
not. Anyone who has the public project token can send an `$identify` or an alias and so merge ids,
and must not be able to destroy evidence in that way: audit events are erased only if the request
itself names their actor.

What would be erased has a *preview*: a text that ends in a hash over exactly that. An erasure by
person or actor must be confirmed by it; an erasure that is confirmed erases what the preview showed
or nothing. The preview names the end of the log that was looked at, so events that come after it
do not change it: they are left, and counted.

Persons are followed, and a moment behind the log. So what is decided about them is decided once the
follower has come to the end that the log had when the request came, one decision at a time in each
project (`Turns`), and the places that the follower names are compared with the journal before
anything is erased.
"""

import hashlib
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from heapq import merge
from typing import Final, Literal

import msgspec

from indelible.clock import monotonic_s
from indelible.erasure.erase import Certificate, Eraser, Selection, of_ids, of_payloads
from indelible.errors import (
    ConfirmMissing,
    LegalHold,
    NotFound,
    PreviewChanged,
    Unavailable,
)
from indelible.identity.decisions import PERSONS_UNMERGED, undo_facts
from indelible.identity.facts import actor_of
from indelible.identity.person import MergeKind, MergeState
from indelible.identity.persons import Persons
from indelible.journal.contract import JournalReader
from indelible.journal.erasing import runs_of
from indelible.leaf import decode
from indelible.registry.registry import Registry
from indelible.registry.store import Told
from indelible.registry.values import Project

CAUGHT_UP_WITHIN_S: Final = 10.0
"""How long a decision about persons waits for their follower, and for one before it."""
SWEPT_WITHIN_S: Final = 5.0
"""How long an erasure waits until its events are gone from the file of persons."""
_LOOK_S: Final = 0.02
_ALL: Final = 1 << 30
# A repeated merge joins as soon as what had joined the two before it is gone.
_IN_FORCE: Final = frozenset({MergeState.ACCEPTED, MergeState.REPEATED})

What = Literal["other_actors", "since_preview", "log_entries", "mentions", "backups"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a caller wants to be erased: `tx_ids`, or `distinct_id`, or `person` and `actors`."""

    tx_ids: Sequence[str] = ()
    distinct_id: str | None = None
    person: str | None = None
    actors: Sequence[str] = ()
    reason: str

    @property
    def needs_confirm(self) -> bool:
        """Whether it must be confirmed by its preview."""
        return self.person is not None or bool(self.actors)


class Left(msgspec.Struct):
    """Something that an erasure leaves, and why; `events` says how many, null if not counted."""

    what: What
    events: int | None
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What would be erased, and what would not.

    `until` is the end of the log that was looked at. Of a person: its id, and all of its distinct
    ids, the principal first.
    """

    selection: Selection
    until: int
    person: str | None
    ids: tuple[str, ...]
    left: tuple[Left, ...]
    preview: str


@dataclass(frozen=True, slots=True)
class Done:
    """What was erased: what had been found, the certificate, and the unmerges before it.

    `swept` is that of the certificate, and whether the file of persons has nothing left of it.
    """

    found: Found
    certificate: Certificate
    unmerged: tuple[Told, ...]
    swept: bool


class Turns:
    """Decisions about the persons of a project, one at a time, on an up-to-date state."""

    def __init__(self, journal: JournalReader, persons: Persons) -> None:
        self._journal = journal
        self._persons = persons
        self._locks: dict[int, threading.Lock] = {}
        self._making = threading.Lock()

    @contextmanager
    def turn(self, project_id: int) -> Iterator[int]:
        """Wait for the turn, and for the follower; the index up to which persons are known.

        Raises:
            Unavailable: another decision takes too long, or the follower is behind.
        """
        with self._making:
            lock = self._locks.setdefault(project_id, threading.Lock())
        if not lock.acquire(timeout=CAUGHT_UP_WITHIN_S):
            raise Unavailable("Another merge, unmerge or erasure of this project is under way")
        try:
            end = self._journal.next_index(project_id)
            self.catch_up(project_id, end)
            yield end
        finally:
            lock.release()

    def catch_up(self, project_id: int, end: int) -> None:
        """Wait until the follower has taken every entry below `end`.

        Raises:
            Unavailable: it has not within `CAUGHT_UP_WITHIN_S`.
        """
        if not self.reaches(project_id, end, within_s=CAUGHT_UP_WITHIN_S):
            behind = end - self._persons.next_index(project_id)
            raise Unavailable(
                f"The persons are {behind:,} events behind the log",
                hint="Send it again later; /healthz shows how far the persons are.",
            )

    def reaches(self, project_id: int, end: int, *, within_s: float) -> bool:
        """Wait until the follower has taken every entry below `end`; whether it has in time."""
        until_s = monotonic_s() + within_s
        while self._persons.next_index(project_id) < end:
            if monotonic_s() >= until_s:
                return False
            time.sleep(_LOOK_S)
        return True


class Erasures:
    """Finds what a caller means, shows it, and erases it."""

    def __init__(
        self,
        journal: JournalReader,
        eraser: Eraser,
        persons: Persons,
        registry: Registry,
        turns: Turns,
    ) -> None:
        self._journal = journal
        self._eraser = eraser
        self._persons = persons
        self._registry = registry
        self._turns = turns

    def preview(self, project: Project, wanted: Wanted) -> Found:
        """What would be erased now. Changes nothing.

        Raises:
            LegalHold, NotErasable; NotFound: there is no such person; Unavailable.
        """
        _refuse_held(project)
        end = self._journal.next_index(project.id)
        if wanted.needs_confirm:
            self._turns.catch_up(project.id, end)
        return self._find(project, wanted, end)

    def erase(self, project: Project, wanted: Wanted, *, confirm: str | None) -> Done:
        """Erase what is wanted, if it is what `confirm` has shown.

        Raises:
            ConfirmMissing: it must be confirmed; PreviewChanged: it is not what was confirmed.
            LegalHold, NotErasable, NotFound, Unavailable: nothing was erased.
            JournalUnwritable: a part may be erased; ask again.
        """
        _refuse_held(project)
        if not wanted.needs_confirm:
            end = self._journal.next_index(project.id)
            found = self._find(project, wanted, _confirmed_end(confirm, end))
            _compare(found, confirm)
            return self._swept(found, self._eraser.erase(found.selection, reason=wanted.reason))
        if confirm is None:
            raise ConfirmMissing
        with self._turns.turn(project.id) as end:
            found = self._find(project, wanted, _confirmed_end(confirm, end))
            _compare(found, confirm)
            unmerged = self._take_apart(project, found.person)
            certificate = self._eraser.erase(found.selection, reason=wanted.reason)
            done = self._swept(found, certificate)
        return replace(done, unmerged=tuple(unmerged))

    def _find(self, project: Project, wanted: Wanted, until: int) -> Found:
        person: str | None = None
        ids: tuple[str, ...] = ()
        left: list[Left] = []
        if wanted.needs_confirm:
            if wanted.person is not None:
                person, ids = self._person(project, wanted.person)
            selection, since = self._of_persons(project.id, ids, wanted.actors, until)
            others = frozenset(ids).difference(wanted.actors)
            left += _counted("other_actors", self._audit_events_of(project.id, others, until))
            left += _counted("since_preview", since)
        elif wanted.distinct_id is not None:
            selection = self._eraser.with_distinct_id(project.id, wanted.distinct_id, until=until)
        else:
            selection = self._eraser.with_tx_ids(project.id, wanted.tx_ids)
        left += [Left(what, None, _WHY[what]) for what in ("log_entries", "mentions", "backups")]
        preview = f"{until}-{self._hash(project, wanted, until, person, ids, selection)}"
        return Found(selection, until, person, ids, tuple(left), preview)

    def _person(self, project: Project, who: str) -> tuple[str, tuple[str, ...]]:
        person = self._persons.find(project.id, who)
        if person is None:
            raise NotFound(
                "This project has no such person",
                hint="`indelible persons list` shows those that there are; a person whose events "
                "are all erased is none any more.",
            )
        return person.person_id, ids_of(self._persons, project.id, person.person_id)

    def _of_persons(
        self, project_id: int, ids: Collection[str], actors: Sequence[str], until: int
    ) -> tuple[Selection, int]:
        """Product events of these ids and audit events of these actors below `until`; and how many
        there are from there on."""
        product, since_product = _until(self._persons.indexes_of_ids(project_id, ids), until)
        audit, since_audit = _until(self._persons.indexes_of_actors(project_id, actors), until)
        named = frozenset(actors)
        products = self._eraser.among(project_id, product, of_ids(frozenset(ids)))
        audits = list(
            self._eraser.among(
                project_id,
                audit,
                of_payloads(lambda payload: actor_of(payload) in named),
                with_payloads=True,
            )
        )
        due = tuple(merge(products, audits))
        return Selection(project_id, due, len(audits)), since_product + since_audit

    def _audit_events_of(self, project_id: int, actors: Collection[str], until: int) -> int:
        if not actors:
            return 0
        indexes, since = _until(self._persons.indexes_of_actors(project_id, actors), until)
        return len(indexes) + since

    def _take_apart(self, project: Project, who: str | None) -> list[Told]:
        """Undo the merges on request that have an id of the person.

        Their facts are never erased, so a late `$identify` would find the erased ids joined.
        """
        if who is None:
            return []
        facts = [
            undo_facts(who, apart=(), merge=fact.index, pair=(one, other))
            for fact in self._persons.merges(project.id, who, limit=_ALL).facts
            if fact.kind is MergeKind.MERGE and fact.state in _IN_FORCE and fact.other is not None
            if (one := fact.one.person_id) and (other := fact.other.person_id)
        ]
        return self._registry.tell(PERSONS_UNMERGED, facts, log=project.log) if facts else []

    def _swept(self, found: Found, certificate: Certificate) -> Done:
        """Wait until persons are followed past the erasure: then nothing of it is in their file."""
        last = max((entry.index for entry in certificate.entries), default=None)
        project_id = found.selection.project_id
        is_swept = last is None or self._turns.reaches(
            project_id, last + 1, within_s=SWEPT_WITHIN_S
        )
        return Done(found, certificate, (), certificate.swept and is_swept)

    def _hash(
        self,
        project: Project,
        wanted: Wanted,
        until: int,
        person: str | None,
        ids: Sequence[str],
        selection: Selection,
    ) -> str:
        # The last transaction id tells the log from any other, of another project or server.
        leaves = self._journal.leaves(project.id, until - 1, until) if until else []
        last_tx = decode(leaves[0]).tx.hex() if leaves else ""
        shown = [
            project.name,
            last_tx,
            wanted.reason,
            person,
            sorted(ids),
            sorted(set(wanted.actors)),
            runs_of(selection.due),
        ]
        return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()


_WHY: Final[dict[What, str]] = {
    "other_actors": "Audit events with an id of the person as their actor that the request did not "
    "name: merges are claims of whoever has the public token, and destroy no evidence. Name those "
    "actors to erase their audit events.",
    "since_preview": "Events that came after the preview; ask for a new one.",
    "log_entries": "The log's own entries: administration, erasures, losses. They name no person.",
    "mentions": "Ids that events of others only mention, in an alias, a property or a payload.",
    "backups": "Backups, receipts, exports and whatever was copied or forwarded before.",
}


def ids_of(persons: Persons, project_id: int, who: str) -> tuple[str, ...]:
    """Every distinct id of a person, the principal first."""
    page = persons.ids(project_id, who, limit=_ALL)  # in one pass, unlike pages of them
    return tuple(each.distinct_id for each in page.ids)


def _refuse_held(project: Project) -> None:
    # Before the log is walked; the journal looks again, in the transaction that erases.
    if project.legal_hold:
        raise LegalHold.of(project.name)


def _counted(what: What, events: int) -> list[Left]:
    return [Left(what, events, _WHY[what])] if events else []


def _until(indexes: Iterator[int], until: int) -> tuple[list[int], int]:
    """Those below `until`, and how many are not."""
    below: list[int] = []
    since = 0
    for index in indexes:
        if index < until:
            below.append(index)
        else:
            since += 1
    return below, since


def _confirmed_end(confirm: str | None, end: int) -> int:
    """The end of the log that the confirmed preview has looked at; `end` without one."""
    return end if confirm is None else min(int(confirm.partition("-")[0]), end)


def _compare(found: Found, confirm: str | None) -> None:
    """
    Raises:
        PreviewChanged: it is not what was confirmed.
    """
    if confirm is not None and confirm != found.preview:
        raise PreviewChanged
