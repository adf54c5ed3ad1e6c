"""Which ids are one person: a fold over facts of the log. Pure.

A fact stands at an index of the log. The fold takes facts in that order, whatever order they are
handed over in, so persons are a function of the set of facts that are left. `persons_at(n)` is the
fold of the facts below n. Nothing is remembered between two folds: a fact that was erased never
was.

    Claim      an event says that two ids are one person: anonymous and user id of an `$identify`,
               alias and id of a `$create_alias`
    Merged     somebody decided that persons are one
    Unmerged   somebody decided that a person is not one

**Claims** come from the public, so they are judged (`refusal`), and the earlier one wins:

1. A refused id (`null`, `guest`, …) is no node here. It never gets this far.
2. Two ids that an unmerge took apart are not joined again. Otherwise the next page load would undo
   the decision: `$identify` comes with every one.
3. An alias that is itself identified stays what it is.
4. Two persons who are both identified stay two.

Claims that have none of these conflicts give the same persons in any order of the log: they are
edges of a graph, and persons its components.

**Decisions** are always taken. An unmerge comes in three forms. Of a whole person: every id is a
person by itself. Of some ids P: the others stay one person, and those of P keep what joined them
among themselves. Of one merge: every edge between its two ids up to then is void, and the fold
takes the log as if it had never been there. So what had been refused because of it may be accepted
now: unmerge after merge is as if never merged.

**Sides.** What an unmerge took apart gets a side of that unmerge, one for each part. Persons whose
sides of one unmerge have nothing in common are not joined by a claim, however long the way round.
A merge on request gives a person the sides of both parts, and so lifts the ban between them. An
unmerge also lists ids (`apart`): they get their sides even if what joined them is erased.

**Cost.** Groups are sets, the smaller is poured into the larger, nothing is recursive: n facts cost
n log n. The follower does not fold a whole log again for each batch. It keeps the groups, judges
new claims by `refusal` on two of them, and folds again what is connected (`indelible.identity.
store`) only when something was decided or erased.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from indelible.identity.person import MergeKind, MergeState, Refusal

Node = Hashable
"""What stands for an id: its number, its key, or the id itself."""

NEVER: Final = 1 << 62
"""An index that no log reaches."""

REST: Final = ("rest",)
"""The side of those that stay when others are taken out: equal to no node."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An event at `index` says that `one`, an anonymous or alias id, and `other` are a person."""

    index: int
    kind: MergeKind
    one: Node
    other: Node


@dataclass(frozen=True, slots=True)
class Merged:
    """Somebody decided that the persons of these nodes are one."""

    index: int
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unmerged:
    """Somebody decided that the person of a node is not one.

    Attributes:
        apart: nodes that stay apart whatever is left of what joined them.
        taken_out: only these leave the person; None if every id is one by itself.
        pair: only the edges between these two are void; `taken_out` is None.
    """

    index: int
    node: Node
    apart: tuple[Node, ...] = ()
    taken_out: tuple[Node, ...] | None = None
    pair: tuple[Node, Node] | None = None


Decision = Merged | Unmerged


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of one log, in any order.

    Attributes:
        identified: the index of the first `$identify` of each id that has one.
        nodes: ids that need no fact to be there.
    """

    claims: Sequence[Claim] = ()
    decisions: Sequence[Decision] = ()
    identified: Mapping[Node, int] = field(default_factory=dict)
    nodes: Iterable[Node] = ()

    def below(self, index: int) -> "Facts":
        """The facts below an index."""
        return Facts(
            [claim for claim in self.claims if claim.index < index],
            [decision for decision in self.decisions if decision.index < index],
            {node: at for node, at in self.identified.items() if at < index},
            self.nodes,
        )


class Fate(NamedTuple):
    """What became of a fact; see `indelible.identity.person.MergeFact`."""

    state: MergeState
    reason: Refusal | None = None
    void_since: int | None = None


class Group:
    """Nodes that are one person.

    Attributes:
        identified_at: the index of the first `$identify` of any of them, or `NEVER`.
        sides: by the index of an unmerge, on which sides of it they are.
    """

    __slots__ = ("identified_at", "nodes", "sides")

    def __init__(self, node: Node, identified_at: int = NEVER) -> None:
        self.nodes: list[Node] = [node]
        self.identified_at = identified_at
        self.sides: dict[int, set[Node]] = {}


def refusal(
    kind: MergeKind, at: int, *, alias_at: int, one_at: int, other_at: int, apart: bool
) -> Refusal | None:
    """Judge a claim at the index `at` that would join two persons; None if it is accepted.

    `alias_at`, `one_at`, `other_at`: from which index on the claim's first id, its person, and the
    person of its second id are identified; or `NEVER`. `apart`: an unmerge took the two apart.
    """
    if apart:
        return Refusal.TAKEN_APART
    if kind is MergeKind.ALIAS and alias_at <= at:
        return Refusal.ALIAS_IDENTIFIED
    if one_at <= at and other_at <= at:
        return Refusal.OTHER_PERSON
    return None


def are_apart(one: Mapping[int, set[Node]], other: Mapping[int, set[Node]]) -> bool:
    """Whether two persons, given by their sides, have nothing in common of some unmerge.

    >>> are_apart({7: {"a"}}, {7: {"b"}}), are_apart({7: {"a"}}, {8: {"b"}})
    (True, False)
    >>> are_apart({7: {"a", "b"}}, {7: {"b"}})
    False
    """
    if len(other) < len(one):
        one, other = other, one
    return any(at in other and sides.isdisjoint(other[at]) for at, sides in one.items())


class Fold:
    """The persons of some facts.

    Attributes:
        group_of: the person of each node that a fact names.
        fates: what became of each claim and decision, by its index.

    >>> facts = Facts([Claim(4, MergeKind.IDENTIFY, "anon", "u1")], identified={"u1": 4})
    >>> Fold(facts).persons()
    [['anon', 'u1']]
    >>> Fold(Facts(facts.claims, [Unmerged(9, "u1")], facts.identified)).persons()
    [['anon'], ['u1']]
    """

    def __init__(self, facts: Facts) -> None:
        self.group_of: dict[Node, Group] = {}
        self.fates: dict[int, Fate] = {}
        self._identified = facts.identified
        self._voided = _voided(facts.decisions)
        self._side_of: dict[Node, dict[int, Node]] = {}
        # What joins each node to which, and by which fact: only an unmerge asks.
        self._edges: dict[Node, list[tuple[Node, int]]] = {}
        self._keeps_edges = any(isinstance(d, Unmerged) and not d.pair for d in facts.decisions)
        for node in facts.nodes:
            self._group(node)
        for node in facts.identified:
            self._group(node)
        for fact in sorted((*facts.claims, *facts.decisions), key=lambda fact: fact.index):
            match fact:
                case Claim():
                    self._claim(fact)
                case Merged():
                    self._merge(fact)
                case Unmerged():
                    self._unmerge(fact)

    def groups(self) -> list[Group]:
        """Every person, once."""
        return list({id(group): group for group in self.group_of.values()}.values())

    def persons(self) -> list[list[Node]]:
        """The nodes of every person, in order; for nodes that have one."""
        return sorted(sorted(group.nodes) for group in self.groups())  # type: ignore[type-var]

    def _group(self, node: Node) -> Group:
        group = self.group_of.get(node)
        if group is None:
            group = self.group_of[node] = Group(node, self._identified.get(node, NEVER))
        return group

    def _claim(self, claim: Claim) -> None:
        one, other = self._group(claim.one), self._group(claim.other)
        since = self._voided.get(frozenset((claim.one, claim.other)), -1)
        if since > claim.index:
            self.fates[claim.index] = Fate(MergeState.VOID, void_since=since)
            return
        if one is other:
            self.fates[claim.index] = Fate(MergeState.REPEATED)
        else:
            reason = refusal(
                claim.kind,
                claim.index,
                alias_at=self._identified.get(claim.one, NEVER),
                one_at=one.identified_at,
                other_at=other.identified_at,
                apart=are_apart(one.sides, other.sides),
            )
            if reason is not None:
                self.fates[claim.index] = Fate(MergeState.REFUSED, reason)
                return
            self._join(one, other)
            self.fates[claim.index] = Fate(MergeState.ACCEPTED)
        self._tie(claim.one, claim.other, claim.index)

    def _merge(self, merged: Merged) -> None:
        first, *others = merged.nodes
        self._group(first)
        states = set()
        since = -1
        for node in others:
            voided = self._voided.get(frozenset((first, node)), -1)
            if voided > merged.index:
                self._group(node)
                states.add(MergeState.VOID)
                since = max(since, voided)
                continue
            one, other = self._group(first), self._group(node)
            states.add(MergeState.REPEATED if one is other else MergeState.ACCEPTED)
            self._join(one, other)
            self._tie(first, node, merged.index)
        if MergeState.ACCEPTED in states:
            self.fates[merged.index] = Fate(MergeState.ACCEPTED)
        elif MergeState.VOID in states:
            self.fates[merged.index] = Fate(MergeState.VOID, void_since=since)
        else:
            self.fates[merged.index] = Fate(MergeState.REPEATED)

    def _unmerge(self, unmerged: Unmerged) -> None:
        group = self._group(unmerged.node)
        if unmerged.pair is not None:
            parted = self._undo(unmerged.index, *unmerged.pair)
        elif unmerged.taken_out is None:
            parted = len(group.nodes) > 1
            alone: dict[Node, Node] = {node: node for node in (*unmerged.apart, *group.nodes)}
            self._part(unmerged.index, [[node] for node in group.nodes], alone)
        else:
            parted = self._take_out(unmerged, group, unmerged.taken_out)
        self.fates[unmerged.index] = Fate(MergeState.ACCEPTED if parted else MergeState.REPEATED)

    def _undo(self, at: int, one: Node, other: Node) -> bool:
        """Put two ids, whose edges are void, on two sides; unless something else joins them."""
        ours, theirs = self._group(one), self._group(other)
        if ours is theirs:
            return False
        for group, side in ((ours, one), (theirs, other)):
            for node in group.nodes:
                self._side_of.setdefault(node, {})[at] = side
            group.sides.setdefault(at, set()).add(side)
        return True

    def _take_out(self, unmerged: Unmerged, group: Group, taken_out: Sequence[Node]) -> bool:
        out = set(taken_out)
        leaving = [node for node in group.nodes if node in out]
        staying = [node for node in group.nodes if node not in out]
        parts = self._connected(leaving)
        if staying:
            parts.append(staying)
        sides: dict[Node, Node] = dict.fromkeys((*unmerged.apart, *staying), REST)
        sides |= {node: node for node in taken_out}
        for part in parts:
            if part is not staying:
                sides |= dict.fromkeys(part, part[0])
        self._part(unmerged.index, parts, sides)
        return len(parts) > 1

    def _connected(self, nodes: Sequence[Node]) -> list[list[Node]]:
        """The nodes in the parts that edges among them alone make."""
        left = set(nodes)
        parts: list[list[Node]] = []
        for start in nodes:
            if start not in left:
                continue
            left.discard(start)
            part = [start]
            for node in part:  # it grows
                for neighbour, _ in self._edges.get(node, ()):
                    if neighbour in left:
                        left.discard(neighbour)
                        part.append(neighbour)
            parts.append(part)
        return parts

    def _part(self, at: int, parts: Sequence[list[Node]], sides: Mapping[Node, Node]) -> None:
        """Make each part a person; edges between two of them are void."""
        for node, side in sides.items():
            self._group(node)
            self._side_of.setdefault(node, {})[at] = side
        for part in parts:
            for node in part:
                self.group_of[node] = Group(node, self._identified.get(node, NEVER))
            for node in part[1:]:
                self._join(self.group_of[part[0]], self.group_of[node])
        for node in sides:
            self._mark(node)
        for part in parts:
            for node in part:
                self._cut(at, node)
                self._mark(node)

    def _cut(self, at: int, node: Node) -> None:
        """Void the edges of a node that lead out of its person."""
        kept = []
        for neighbour, index in self._edges.get(node, ()):
            if self.group_of[neighbour] is self.group_of[node]:
                kept.append((neighbour, index))
            elif self.fates[index].state is MergeState.ACCEPTED:
                self.fates[index] = Fate(MergeState.VOID, void_since=at)
        if kept:
            self._edges[node] = kept
        else:
            self._edges.pop(node, None)

    def _mark(self, node: Node) -> None:
        """Give a node's person the sides of the node."""
        group = self.group_of[node]
        for at, side in self._side_of.get(node, {}).items():
            group.sides.setdefault(at, set()).add(side)

    def _tie(self, one: Node, other: Node, index: int) -> None:
        if self._keeps_edges:
            self._edges.setdefault(one, []).append((other, index))
            self._edges.setdefault(other, []).append((one, index))

    def _join(self, one: Group, other: Group) -> None:
        if one is other:
            return
        if len(one.nodes) < len(other.nodes):
            one, other = other, one
        for node in other.nodes:
            self.group_of[node] = one
        one.nodes += other.nodes
        one.identified_at = min(one.identified_at, other.identified_at)
        for at, sides in other.sides.items():
            one.sides.setdefault(at, set()).update(sides)


def _voided(decisions: Iterable[Decision]) -> dict[frozenset[Node], int]:
    """By the pairs that unmerges name, the index up to which their edges are void."""
    voided: dict[frozenset[Node], int] = {}
    for decision in decisions:
        if isinstance(decision, Unmerged) and decision.pair is not None:
            pair = frozenset(decision.pair)
            voided[pair] = max(decision.index, voided.get(pair, -1))
    return voided
