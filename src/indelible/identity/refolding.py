"""Folding again what is connected, after a decision or an erasure.

What one fact can change ends at what no fact connects it to: claims of any fate, and decisions that
name two ids. So these ids are found (`connected`), their facts are loaded, folded, and what they
are now is written over what they were. Everything in here reads facts from the tables and keeps
nothing else, so it comes to what a rebuild comes to.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import apsw
import msgspec

from indelible.identity.facts import DecisionFact, MergedFact
from indelible.identity.fold import (
    NEVER,
    REST,
    Claim,
    Decision,
    Facts,
    Fold,
    Group,
    Merged,
    Node,
    Unmerged,
)
from indelible.identity.person import MergeKind
from indelible.identity.tables import ALIAS, REFUSED_ONE, change_rows, rows_in

DECISION: Final[msgspec.msgpack.Decoder[DecisionFact]] = msgspec.msgpack.Decoder(DecisionFact)

_KINDS: Final = {False: MergeKind.IDENTIFY, True: MergeKind.ALIAS}


@dataclass(slots=True)
class Known:
    """An id's row, as far as the fold and what is counted of a person need it."""

    number: int
    person: int
    identified_at: int
    first: int
    last_index: int
    events: int
    is_named: bool

    @property
    def rank(self) -> tuple[int, int]:
        """The id with the lowest rank names the person."""
        return self.identified_at, self.first


@dataclass(slots=True)
class Hull:
    """Ids that facts connect, and those facts."""

    ids: dict[int, Known]
    claims: list[Claim] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)

    def facts(self) -> Facts:
        """What there is to fold."""
        identified: dict[Node, int] = {
            n: k.identified_at for n, k in self.ids.items() if k.identified_at != NEVER
        }
        return Facts(self.claims, self.decisions, identified, self.ids)


def connected(connection: apsw.Connection, numbers: Iterable[int]) -> set[int]:
    """These ids, and all that facts of any fate connect them to."""
    found = set(numbers)
    frontier: Collection[int] = found
    has_decisions = bool(connection.execute("SELECT EXISTS (SELECT 1 FROM named)").get)
    while frontier:
        reached = {b for (b,) in rows_in(connection, "SELECT b FROM edge WHERE a", frontier)}
        if has_decisions:
            reached |= _named_together(connection, frontier)
        frontier = reached - found
        found |= frontier
    return found


def load(connection: apsw.Connection, numbers: Collection[int], *, every_claim: bool) -> Hull:
    """The facts of ids that `connected` found.

    Without `every_claim`, of the claims on a pair only the first of each kind, where nothing was
    decided: the later ones have the same fate.
    """
    hull = Hull({known.number: known for known in known_ids(connection, numbers)})
    hull.decisions = _decisions(connection, numbers)
    columns = "other, one, at, kind FROM claim WHERE one > 1 AND other"
    grouped = ""
    if not hull.decisions and not every_claim:
        columns, grouped = columns.replace("at,", "min(at),"), "GROUP BY other, one, kind"
    for other, one, at, kind in rows_in(connection, f"SELECT {columns}", numbers, grouped):
        hull.claims.append(Claim(at, _KINDS[kind == ALIAS], one, other))
    return hull


def known_ids(connection: apsw.Connection, numbers: Iterable[int]) -> list[Known]:
    """The rows of these ids; those that only a decision names have no first index."""
    rows = rows_in(
        connection,
        "SELECT number, person, identified_at, first, last_index, events, text IS NOT NULL"
        " FROM id JOIN seen USING (number) WHERE number",
        numbers,
    )
    return [
        Known(
            number,
            person,
            NEVER if identified_at is None else identified_at,
            NEVER if first is None else first,
            -1 if last is None else last,
            events,
            bool(is_named),
        )
        for number, person, identified_at, first, last, events, is_named in rows
    ]


def refused_claims(connection: apsw.Connection, numbers: Iterable[int]) -> list[Claim]:
    """The claims of these ids on a refused id, which no fold has: the first of each kind."""
    rows = rows_in(
        connection,
        f"SELECT other, min(at), kind FROM claim WHERE one = {REFUSED_ONE} AND other",  # noqa: S608
        numbers,
        "GROUP BY other, kind",
    )
    return [Claim(at, _KINDS[kind == ALIAS], REFUSED_ONE, other) for other, at, kind in rows]


def fold_again(connection: apsw.Connection, numbers: Collection[int]) -> None:
    """Write who is one person among ids that `connected` found."""
    if not numbers:
        return
    hull = load(connection, numbers, every_claim=False)
    fold = Fold(hull.facts())
    former = {known.person for known in hull.ids.values()}
    for table in ("person", "side"):
        list(rows_in(connection, f"DELETE FROM {table} WHERE root", former))  # noqa: S608
    moved: list[int] = []
    taken: set[int] = set()
    for group in fold.groups():
        members = [hull.ids[number] for number in group.nodes if isinstance(number, int)]
        root = _root(members, taken)
        taken.add(root)
        for known in members:
            if known.person != root:
                moved += (root, known.number)
                known.person = root
        write_sides(connection, root, group)
        settle(connection, root, members)
    for at in range(0, len(moved), 2):
        connection.execute("UPDATE id SET person = ? WHERE number = ?", moved[at : at + 2])


def settle(connection: apsw.Connection, root: int, members: Sequence[Known]) -> None:
    """Write what is counted of a person; `members` are all of its ids, `root` one of them."""
    known = [known for known in members if known.is_named]
    if len(members) == 1:
        connection.execute("DELETE FROM person WHERE root = ?", (root,))
        return
    principal = min(known or members, key=lambda one: (one.rank, one.number))
    at = principal.identified_at
    connection.execute(
        "INSERT OR REPLACE INTO person (root, ids, events, first_index, last_index, identified_at,"
        " principal, principal_first) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            root,
            len(known),
            sum(one.events for one in known),
            min((one.first for one in known), default=NEVER) >> 1,
            max((one.last_index for one in known), default=-1),
            None if at == NEVER else at,
            principal.number,
            principal.first,
        ),
    )


def members_of(connection: apsw.Connection, root: int) -> list[int]:
    """The numbers of the ids of a person, its root among them."""
    rows = connection.execute(
        "SELECT number FROM id WHERE person = ? AND person != number", (root,)
    )
    return [root, *(number for (number,) in rows)]


def write_sides(connection: apsw.Connection, root: int, group: Group) -> None:
    """Write on which sides of which unmerges a person is."""
    flat: list[object] = []
    for at, sides in group.sides.items():
        for side in sides:
            flat += (root, at, 0 if side == REST else side)
    change_rows(connection, "INSERT OR REPLACE INTO side (root, unmerge, side)", flat, 3)


def _root(members: Sequence[Known], taken: Collection[int]) -> int:
    """The id that stands for a person: as before, if it is free."""
    numbers = {known.number for known in members}
    for known in members:
        if known.person in numbers and known.person not in taken:
            return known.person
    return min(numbers)


def _named_together(connection: apsw.Connection, numbers: Iterable[int]) -> set[int]:
    decisions = set(
        rows_in(connection, "SELECT DISTINCT project_id, at FROM named WHERE number", numbers)
    )
    reached: set[int] = set()
    for decision in decisions:
        rows = connection.execute(
            "SELECT number FROM named WHERE project_id = ? AND at = ?", decision
        )
        reached.update(number for (number,) in rows)
    return reached


def _decisions(connection: apsw.Connection, numbers: Iterable[int]) -> list[Decision]:
    places = set(
        rows_in(connection, "SELECT DISTINCT project_id, at FROM named WHERE number", numbers)
    )
    facts = [
        DECISION.decode(
            connection.execute(
                "SELECT facts FROM decision WHERE project_id = ? AND at = ?", place
            ).get
        )
        for place in places
    ]
    keys = {key for fact in facts for key in keys_in(fact)}
    number_of = dict(rows_in(connection, "SELECT key, number FROM id WHERE key", keys))
    return [_decision(fact, number_of) for fact in facts]


def keys_in(fact: DecisionFact) -> set[bytes]:
    """The keys of all ids that a decision names."""
    if isinstance(fact, MergedFact):
        return set(fact.persons)
    return {fact.person, *fact.apart, *(fact.taken_out or ()), *(fact.pair or ())}


def _decision(fact: DecisionFact, number_of: dict[bytes, int]) -> Decision:
    if isinstance(fact, MergedFact):
        return Merged(fact.index, tuple(number_of[key] for key in fact.persons))
    taken_out, pair = fact.taken_out, fact.pair
    return Unmerged(
        fact.index,
        number_of[fact.person],
        tuple(number_of[key] for key in fact.apart),
        None if taken_out is None else tuple(number_of[key] for key in taken_out),
        None if pair is None else (number_of[pair[0]], number_of[pair[1]]),
    )
