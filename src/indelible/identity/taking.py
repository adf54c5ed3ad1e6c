"""Taking a stretch of a log into `persons.db`, in one transaction.

Most of it is postings and counts, gathered in dictionaries before and written in sorted runs. Who
is one person is kept as it was, and new claims are judged one after the other by what is known of
the two persons. Only where something was decided or erased, what is connected is folded again.

One thread calls this: the follower's. What it remembers of ids between two stretches is bounded,
and dropped whenever a transaction fails or persons are folded again.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import apsw
import msgspec

from indelible.derived import Mark, set_mark
from indelible.identity.facts import ClaimFact, DecisionFact, Stretch, Unit
from indelible.identity.fold import NEVER, Node, are_apart, refusal
from indelible.identity.forgetting import forget
from indelible.identity.keys import key_of
from indelible.identity.person import MergeKind
from indelible.identity.refolding import (
    connected,
    fold_again,
    keys_in,
    known_ids,
    members_of,
    settle,
)
from indelible.identity.stored import kept_of, write_kept
from indelible.identity.tables import (
    ACTOR,
    ALIAS,
    ID,
    IDENTIFY,
    LOW_MASK,
    NO_ONE,
    REFUSED_ONE,
    SEGMENT_BITS,
    STEP,
    UNIT,
    WRITES,
    change_rows,
    rows_in,
    update_rows,
)
from indelible.journal.contract import JournalReader

IDS_REMEMBERED: Final = 150_000
"""Most ids whose numbers are kept in memory, over all projects."""

_encode = msgspec.msgpack.Encoder().encode


class Numbers:
    """The numbers of ids, and the persons of those that are one of several; the follower's own.

    `roots` has the number that stands for the person of each id that is not a person by itself, as
    it was when the id was met; `moved` where persons went since.
    """

    def __init__(self) -> None:
        self._of: dict[int, dict[str, int]] = {}
        self.roots: dict[int, int] = {}
        self._moved: dict[int, int] = {}
        self.identified: set[int] = set()
        self.next = {ID: STEP, ACTOR: STEP + ACTOR, UNIT: STEP + UNIT}
        self._count = 0

    def begin(self, connection: apsw.Connection) -> None:
        """Go on after the highest numbers of the file."""
        for kind, table in ((ID, "id"), (ACTOR, "actor"), (UNIT, "unit")):
            highest = connection.execute(f"SELECT max(number) FROM {table}").get  # noqa: S608
            if highest is not None:
                self.next[kind] = max(self.next[kind], highest + STEP)

    def drop(self) -> None:
        """Remember nothing."""
        self._of, self.roots, self._moved, self._count = {}, {}, {}, 0
        self.identified = set()

    def of(self, project_id: int) -> dict[str, int]:
        """The numbers that are remembered, by id."""
        if self._count > IDS_REMEMBERED:
            self.drop()
        return self._of.setdefault(project_id, {})

    def remember(self, numbers: dict[str, int], text: str, number: int, root: int | None) -> None:
        """Keep the number of an id, and its root if the person has several ids."""
        numbers[text] = number
        self._count += 1
        if root is not None:
            self.roots[number] = root

    def make(self, kind: int) -> int:
        """A new number."""
        number = self.next[kind]
        self.next[kind] = number + STEP
        return number

    def root(self, number: int) -> int | None:
        """What stands for the person of an id; None if that is the id alone."""
        root = self.roots.get(number)
        if root is None or root not in self._moved:
            return root
        while root in self._moved:
            root = self._moved[root]
        self.roots[number] = root
        return root

    def move(self, root: int, to: int) -> None:
        """Note that a person is part of another one now."""
        if root != to:
            self._moved[root] = to

    def settle(self, number: int, root: int) -> None:
        """Note that an id, a person by itself until now, is one of several."""
        self.roots[number] = root


@dataclass(slots=True)
class Side:
    """One of the two persons of a claim, as far as they are judged and added up."""

    root: int
    ids: int
    events: int
    first: int
    last: int
    identified_at: int
    principal: int
    principal_first: int
    sides: dict[int, set[Node]]
    is_changed: bool = False


class Taking:
    """One stretch of one project, within a transaction on `connection`."""

    def __init__(
        self,
        connection: apsw.Connection,
        journal: JournalReader,
        numbers: Numbers,
        project_id: int,
        subkey: bytes,
    ) -> None:
        self._connection = connection
        self._journal = journal
        self._numbers = numbers
        self._project_id = project_id
        self._subkey = subkey
        self._of = numbers.of(project_id)

    def take(self, stretch: Stretch, mark: Mark) -> bool:
        """Add what it says; whether something was erased."""
        self._take_seen(stretch)
        self._take_subjects(stretch)
        self._take_claims(stretch.claims)
        self._take_writes(stretch)
        erased = False
        if stretch.decisions:
            self._take_decisions(stretch.decisions)
        if stretch.erased:
            erased = forget(self._connection, self._journal, self._project_id, stretch.erased)
        if erased or stretch.decisions:
            self._numbers.drop()
        set_mark(self._connection, self._project_id, mark)
        return erased

    # Who was seen

    def _take_seen(self, stretch: Stretch) -> None:
        numbers, seen = self._of, stretch.seen
        named: dict[str, int] = {}
        for claim in stretch.claims:
            if claim.one is not None:
                named.setdefault(claim.one, claim.index)
        missing = [text for text in seen if text not in numbers]
        missing += [text for text in named if text not in numbers and text not in seen]
        fresh, bare = self._find(missing)
        added: list[object] = []
        begun: list[int | None] = []
        more: list[int] = []
        in_persons: defaultdict[int, list[int]] = defaultdict(lambda: [0, -1])
        roots, root_of = self._numbers.roots, self._numbers.root
        postings: list[tuple[int, list[int]]] = []
        for text, places in seen.items():
            if text in fresh:
                continue
            number = numbers[text]
            more += (number, places[-1], len(places))
            postings.append((number, places))
            if number in roots:
                person = in_persons[root_of(number) or number]
                person[0] += len(places)
                person[1] = max(person[1], places[-1])
        for text in fresh:
            own, at = seen.get(text, []), named.get(text)
            number = self._numbers.make(ID)
            ranks = [own[0] << 1] if own else []
            ranks += [] if at is None else [(at << 1) + 1]
            last = own[-1] if own else at
            key = key_of(text, self._subkey)
            added += (number, self._project_id, key, text, number, min(ranks))
            begun += (number, last, len(own))
            self._numbers.remember(numbers, text, number, None)
            if own:
                postings.append((number, own))
        change_rows(
            self._connection,
            "INSERT INTO id (number, project_id, key, text, person, first)",
            added,
            6,
        )
        change_rows(self._connection, "INSERT INTO seen (number, last_index, events)", begun, 3)
        change_rows(
            self._connection,
            "WITH more (number, last, events) AS (",
            more,
            3,
            ") UPDATE seen SET last_index = more.last, events = seen.events + more.events"
            " FROM more WHERE seen.number = more.number",
        )
        self._add_postings(postings)
        for number, text in bare.items():
            self._name(number, text, seen.get(text), named.get(text))
        of_persons = [v for root, counts in in_persons.items() for v in (root, *counts)]
        change_rows(
            self._connection,
            "WITH more (root, events, last) AS (",
            of_persons,
            3,
            ") UPDATE person SET last_index = more.last, events = person.events + more.events"
            " FROM more WHERE person.root = more.root",
        )
        for root in {self._numbers.root(number) or number for number in bare}:
            members = members_of(self._connection, root)
            settle(self._connection, root, known_ids(self._connection, members))

    def _name(self, number: int, text: str, own: list[int] | None, at: int | None) -> None:
        """Fill in an id that only a decision named so far."""
        ranks = [own[0] << 1] if own else []
        ranks += [] if at is None else [(at << 1) + 1]
        last = own[-1] if own else at
        self._connection.execute(
            "UPDATE id SET text = ?, first = ? WHERE number = ?", (text, min(ranks), number)
        )
        self._connection.execute("UPDATE seen SET last_index = ? WHERE number = ?", (last, number))

    def _find(self, texts: Sequence[str]) -> tuple[dict[str, None], dict[int, str]]:
        """Remember the ids that the file has; which it has not, and which have no text there."""
        keys = {key_of(text, self._subkey): text for text in texts}
        found = rows_in(
            self._connection,
            "SELECT id.key, id.number, person.root, id.text IS NULL"
            " FROM id LEFT JOIN person ON person.root = id.person WHERE id.key",
            keys,
        )
        fresh: dict[str, None] = dict.fromkeys(texts)
        bare: dict[int, str] = {}
        for key, number, root, is_bare in found:
            text = keys[key]
            del fresh[text]
            self._numbers.remember(self._of, text, number, root)
            if is_bare:
                bare[number] = text
        return fresh, bare

    def _add_postings(self, postings: list[tuple[int, list[int]]]) -> None:
        postings.sort()
        flat: list[int] = []
        for number, places in postings:
            for index in places:
                flat += (index >> SEGMENT_BITS, number, index & LOW_MASK)
        change_rows(self._connection, "INSERT INTO posting (segment, subject, low)", flat, 3)

    # Actors and units

    def _take_subjects(self, stretch: Stretch) -> None:
        postings = self._take_actors(stretch.actors) if stretch.actors else []
        if stretch.units:
            postings += self._take_units(stretch.units)
        self._add_postings(postings)

    def _take_actors(self, actors: Mapping[str, list[int]]) -> list[tuple[int, list[int]]]:
        keys = {key_of(text, self._subkey): places for text, places in actors.items()}
        known = dict(rows_in(self._connection, "SELECT key, number FROM actor WHERE key", keys))
        flat: list[object] = []
        postings = []
        for key, places in keys.items():
            number = known.get(key) or self._numbers.make(ACTOR)
            flat += (number, self._project_id, key, places[0], places[-1], len(places))
            postings.append((number, places))
        change_rows(
            self._connection,
            "INSERT INTO actor (number, project_id, key, first_index, last_index, events)",
            flat,
            6,
            "ON CONFLICT (number) DO UPDATE SET last_index = excluded.last_index,"
            " events = events + excluded.events",
        )
        return postings

    def _take_units(self, units: Mapping[Unit, list[int]]) -> list[tuple[int, list[int]]]:
        postings = []
        for (kind, name), places in units.items():
            number = self._connection.execute(
                "SELECT number FROM unit WHERE project_id = ? AND type = ? AND name = ?",
                (self._project_id, kind, name),
            ).get
            if number is None:
                number = self._numbers.make(UNIT)
            self._connection.execute(
                "INSERT INTO unit"
                " (number, project_id, type, name, first_index, last_index, events)"
                " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET"
                " last_index = excluded.last_index, events = events + excluded.events",
                (number, self._project_id, kind, name, places[0], places[-1], len(places)),
            )
            postings.append((number, places))
        return postings

    # Who is who

    def _take_claims(self, claims: Sequence[ClaimFact]) -> None:
        if not claims:
            return
        numbers = self._of
        flat: list[int] = []
        pairs: dict[tuple[int, int], None] = {}
        identified: dict[int, int] = {}
        for claim in claims:
            other = numbers[claim.other]
            one = REFUSED_ONE if claim.is_refused else NO_ONE
            if claim.one is not None:
                one = numbers[claim.one]
                pairs[one, other] = None
            is_identify = claim.kind is MergeKind.IDENTIFY
            if is_identify and other not in self._numbers.identified:
                identified.setdefault(other, claim.index)
            flat += (other, one, claim.index, IDENTIFY if is_identify else ALIAS)
        change_rows(self._connection, "INSERT INTO claim (other, one, at, kind)", flat, 4)
        edges = [number for one, other in pairs for number in (one, other, other, one)]
        change_rows(self._connection, "INSERT OR IGNORE INTO edge (a, b)", edges, 2)
        self._identify(identified)
        self._judge(claims)

    def _identify(self, identified: Mapping[int, int]) -> None:
        """Note the first `$identify` of each id, and of its person."""
        self._numbers.identified.update(identified)
        flat = [value for each in identified.items() for value in each]
        update_rows(
            self._connection, "id", ("identified_at",), flat, where="AND id.identified_at IS NULL"
        )
        # The earliest of each person comes first, and the others find that it is taken.
        firsts: dict[int, tuple[int, int]] = {}
        for number, at in identified.items():
            root = self._numbers.root(number)
            if root is not None:
                firsts.setdefault(root, (at, number))
        change_rows(
            self._connection,
            "WITH new (root, at, number) AS (",
            [value for root, first in firsts.items() for value in (root, *first)],
            3,
            ") UPDATE person SET identified_at = new.at, principal = new.number, principal_first ="
            " (SELECT first FROM id WHERE id.number = new.number)"
            " FROM new WHERE person.root = new.root AND person.identified_at IS NULL",
        )

    def _judge(self, claims: Sequence[ClaimFact]) -> None:
        numbers, root_of = self._of, self._numbers.root
        open_claims: list[tuple[ClaimFact, int, int]] = []
        for claim in claims:
            if claim.one is not None:
                one, other = numbers[claim.one], numbers[claim.other]
                if (root_of(one) or one) != (root_of(other) or other):
                    open_claims.append((claim, one, other))
        if not open_claims:
            return
        touched = {number for _, one, other in open_claims for number in (one, other)}
        persons = self._persons({root_of(number) or number for number in touched})
        aliases = {one for claim, one, _ in open_claims if claim.kind is MergeKind.ALIAS}
        alias_at = dict(
            rows_in(self._connection, "SELECT number, identified_at FROM id WHERE number", aliases)
        )
        for claim, one, other in open_claims:
            ours = persons[root_of(one) or one]
            theirs = persons[root_of(other) or other]
            if ours is theirs:
                continue
            known_at = alias_at.get(one)
            reason = refusal(
                claim.kind,
                claim.index,
                alias_at=NEVER if known_at is None else known_at,
                one_at=ours.identified_at,
                other_at=theirs.identified_at,
                apart=are_apart(ours.sides, theirs.sides),
            )
            if reason is None:
                self._join(ours, theirs)
        self._write(person for person in persons.values() if person.is_changed)

    def _persons(self, roots: Iterable[int]) -> dict[int, Side]:
        found: dict[int, Side] = {}
        for root, ids, events, first, last, at, principal, rank in rows_in(
            self._connection,
            "SELECT root, ids, events, first_index, last_index, identified_at, principal,"
            " principal_first FROM person WHERE root",
            roots,
        ):
            known_at = NEVER if at is None else at
            found[root] = Side(root, ids, events, first, last, known_at, principal, rank, {})
        alone = [root for root in roots if root not in found]
        for number, events, first, last, at in rows_in(
            self._connection,
            "SELECT number, events, first, last_index, identified_at"
            " FROM id JOIN seen USING (number) WHERE number",
            alone,
        ):
            known_at = NEVER if at is None else at
            found[number] = Side(number, 1, events, first >> 1, last, known_at, number, first, {})
        for root, at, side in rows_in(
            self._connection, "SELECT root, unmerge, side FROM side WHERE root", roots
        ):
            found[root].sides.setdefault(at, set()).add(side)
        return found

    def _join(self, one: Side, other: Side) -> None:
        """Pour the smaller person into the larger."""
        if (one.ids, -one.root) < (other.ids, -other.root):
            one, other = other, one
        execute, numbers = self._connection.execute, self._numbers
        if other.ids > 1:
            execute(
                "UPDATE id SET person = ? WHERE person = ? AND person != number",
                (one.root, other.root),
            )
        else:
            numbers.settle(other.root, other.root)
        if one.ids == 1:
            numbers.settle(one.root, one.root)
        numbers.move(other.root, one.root)
        execute("UPDATE id SET person = ? WHERE number = ?", (one.root, other.root))
        if (other.identified_at, other.principal_first) < (one.identified_at, one.principal_first):
            one.principal, one.principal_first = other.principal, other.principal_first
        one.identified_at = min(one.identified_at, other.identified_at)
        one.ids += other.ids
        one.events += other.events
        one.first, one.last = min(one.first, other.first), max(one.last, other.last)
        one.is_changed, other.is_changed = True, False
        execute("DELETE FROM person WHERE root = ?", (other.root,))
        if other.sides:
            for at, sides in other.sides.items():
                one.sides.setdefault(at, set()).update(sides)
            execute("UPDATE OR REPLACE side SET root = ? WHERE root = ?", (one.root, other.root))

    def _write(self, persons: Iterable[Side]) -> None:
        flat: list[object] = []
        for person in persons:
            at = None if person.identified_at == NEVER else person.identified_at
            flat += (person.root, person.ids, person.events, person.first, person.last, at)
            flat += (person.principal, person.principal_first)
        change_rows(
            self._connection,
            "INSERT OR REPLACE INTO person (root, ids, events, first_index, last_index,"
            " identified_at, principal, principal_first)",
            flat,
            8,
        )

    # What was written of persons

    def _take_writes(self, stretch: Stretch) -> None:
        if not stretch.writes:
            return
        numbers = self._of
        kept = kept_of(self._connection, {numbers[text] for _, text, _ in stretch.writes})
        places: defaultdict[int, list[int]] = defaultdict(list)
        for at, text, change in stretch.writes:
            number = numbers[text]
            kept[number].apply(at, change)
            places[number | WRITES].append(at)
        write_kept(self._connection, kept)
        self._add_postings(list(places.items()))

    # What was decided

    def _take_decisions(self, decisions: Sequence[DecisionFact]) -> None:
        named: set[int] = set()
        for decision in decisions:
            keys = keys_in(decision)
            known = dict(rows_in(self._connection, "SELECT key, number FROM id WHERE key", keys))
            for key in sorted(keys - known.keys()):
                number = known[key] = self._numbers.make(ID)
                self._connection.execute(
                    "INSERT INTO id (number, project_id, key, person) VALUES (?, ?, ?, ?)",
                    (number, self._project_id, key, number),
                )
                self._connection.execute(
                    "INSERT INTO seen (number, events) VALUES (?, 0)", (number,)
                )
            self._connection.execute(
                "INSERT INTO decision (project_id, at, facts) VALUES (?, ?, ?)",
                (self._project_id, decision.index, _encode(decision)),
            )
            flat = [v for n in known.values() for v in (n, self._project_id, decision.index)]
            change_rows(self._connection, "INSERT INTO named (number, project_id, at)", flat, 3)
            named |= set(known.values())
        fold_again(self._connection, connected(self._connection, named))
