"""Reading the persons of a project. Any thread of the reader process may call it."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from indelible.identity.person import (
    Id,
    IdPage,
    IndexPage,
    MergePage,
    Person,
    PersonPage,
    UnitPage,
    WritePage,
)
from indelible.journal.contract import JournalReader

PERSONS_FILE: Final = "persons.db"

LOOKED_AT: Final = 1_000
"""Most persons that one page with a choice looks at."""


class Persons:
    """The persons of every project, as far as the follower has come.

    `at` is an index of the project's log: the answer is the fold of the entries below it. None is
    the fold of all that the follower has taken, at the cost of a look-up. `who` names a person by
    the person id or the distinct id of any member; a text in the form of a person id is looked up
    as that first, and then as a distinct id.

    Every method raises `Unavailable` if the file is damaged; the next start makes it again.
    """

    def __init__(self, path: Path, journal: JournalReader) -> None:
        self._path = path
        self._journal = journal

    def next_index(self, project_id: int) -> int:
        """How far the fold is: every entry below has been taken."""
        raise NotImplementedError

    def person_id(self, project_id: int, distinct_id: str) -> str:
        """The person id of a distinct id, whether it was ever seen or not."""
        raise NotImplementedError

    def find(self, project_id: int, who: str, *, at: int | None = None) -> Person | None:
        """The person, or None if no entry that is left names it."""
        raise NotImplementedError

    def find_id(self, project_id: int, who: str, *, at: int | None = None) -> Id | None:
        """The one id that `who` names, or None if no entry that is left does."""
        raise NotImplementedError

    def ids(
        self,
        project_id: int,
        who: str,
        *,
        after: int | None = None,
        limit: int,
        at: int | None = None,
    ) -> IdPage:
        """The ids of a person, the principal first, then in the order in which they were seen.

        `after` is that of the page before. Empty if the person is not known.
        """
        raise NotImplementedError

    def all_ids(self, project_id: int, who: str) -> Iterator[Id]:
        """Every id of a person, however many there are; none if the person is not known."""
        raise NotImplementedError

    def page(
        self,
        project_id: int,
        *,
        chosen: Callable[[Person], bool] | None = None,
        last_seen_from_ms: int | None = None,
        before: int | None = None,
        limit: int,
    ) -> PersonPage:
        """Persons, last seen first; only those that are `chosen`.

        Looks at `LOOKED_AT` persons at most, and returns how to go on. `last_seen_from_ms`: only
        those seen then or later. `before` is that of the page before.
        """
        raise NotImplementedError

    def merges(
        self,
        project_id: int,
        who: str,
        *,
        before: int | None = None,
        limit: int,
        at: int | None = None,
    ) -> MergePage:
        """The facts that joined, would have joined, or parted ids of the person, newest first.

        A fact that has one side in the person belongs to it. Reads the facts of all ids that were
        ever named together with one of the person's.
        """
        raise NotImplementedError

    def history(
        self,
        project_id: int,
        who: str,
        *,
        before: int | None = None,
        limit: int,
        at: int | None = None,
    ) -> WritePage:
        """What was written of the person's properties, newest first; read from the journal."""
        raise NotImplementedError

    def timeline(
        self,
        project_id: int,
        who: str,
        *,
        before: int | None = None,
        limit: int,
        at: int | None = None,
        with_audit: bool = True,
    ) -> IndexPage:
        """The places of the person's product events, newest first.

        `with_audit`: also those of audit events whose payload has one of the person's ids as its
        `actor` (a text, or an object's `id`).
        """
        raise NotImplementedError

    def indexes_of_ids(self, project_id: int, distinct_ids: Collection[str]) -> Iterator[int]:
        """The places of all product events of these ids, ascending, as far as the fold is.

        Only the ids given: for all of a person, pass `all_ids`.
        """
        raise NotImplementedError

    def indexes_of_actors(self, project_id: int, actors: Collection[str]) -> Iterator[int]:
        """The places of all audit events with one of these actors, ascending."""
        raise NotImplementedError

    def count(self, project_id: int, distinct_ids: Collection[str]) -> int:
        """How many persons these ids are; thousands of ids in a few ms.

        An id that is not known yet counts as a person; a refused id (`null`, `guest`, …) as none.
        """
        raise NotImplementedError

    def units(self, project_id: int, *, before: int | None = None, limit: int) -> UnitPage:
        """The groups (`$groups`) and tenants (audit `meta`) that events name, last seen first."""
        raise NotImplementedError

    def merge_facts(self, project_id: int, who: Sequence[str]) -> dict[str, Any]:
        """The facts of the administration event `persons_merged` that makes these one person.

        Raises:
            NotFound: one of them is not known.
            NotMergeable: they are one person already, or fewer than two.
        """
        raise NotImplementedError

    def unmerge_facts(
        self,
        project_id: int,
        who: str,
        *,
        taken_out: Sequence[str] | None = None,
        merge: int | None = None,
    ) -> dict[str, Any]:
        """The facts of the administration event `persons_unmerged`.

        Every id becomes a person by itself; or only the ids `taken_out` (distinct ids, or person
        ids made from them) leave the person; or the merge at the index `merge` is undone.

        Raises:
            NotFound: the person, an id to take out, or the merge is not known.
            NotUnmergeable: there is nothing to take apart.
        """
        raise NotImplementedError
