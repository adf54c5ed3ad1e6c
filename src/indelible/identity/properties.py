"""What is known of an id: its properties, as its own events wrote them in log order.

Of each name the last write is kept: a value that was set, one that was set once, or that it was
removed. `$set_once` counts while there is no value. Within one event `$set_once` comes first, then
`$set`, then `$unset`.

A person's value (`of_person`) comes from the identified ids, and only what those say nothing about
from the others. Among the ids of one sort, the last `$set` in the log wins; where none has any, the
first `$set_once`; and an `$unset` removes what was written before it, by any of them.

An id keeps `PROPERTIES_KEPT` names and `PROPERTY_BYTES_KEPT` bytes. A write for which there is no
room is counted; if the name is known, its old value goes, for it is not the value any more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from indelible.identity.facts import Change
from indelible.identity.person import PROPERTIES_KEPT, PROPERTY_BYTES_KEPT
from indelible.identity.tables import LEFT_OUT, SET, SET_ONCE, UNSET


@dataclass(slots=True)
class Last:
    """The last write of one property of an id.

    Attributes:
        kind: `SET`, `SET_ONCE`, `UNSET` or `LEFT_OUT`.
        at: its index.
        size: the bytes of name and value.
        unset_at: the last `$unset`, also if something was written since; None if there was none.
        value: in JSON; None unless `kind` is one of the first two, and where it was not read.
        owner: the number of the id; 0 where that is known.
    """

    kind: int
    at: int
    size: int
    unset_at: int | None = None
    value: bytes | None = None
    owner: int = 0


@dataclass(slots=True)
class Kept:
    """The properties of one id: `last` by name; `left_out` counts writes without room, of which
    the table knows `left_out_before`."""

    last: dict[str, Last] = field(default_factory=dict)
    left_out: int = 0
    left_out_before: int = 0
    size: int = 0
    changed: set[str] = field(default_factory=set)

    def apply(self, at: int, change: Change) -> None:
        """Write what the event at an index writes; it is later than all before."""
        for name, value in change.set_once.items():
            known = self.last.get(name)
            if known is None or known.kind == UNSET:
                self._put(name, SET_ONCE, at, value)
        for name, value in change.set.items():
            self._put(name, SET, at, value)
        for name in change.unset:
            self._put(name, UNSET, at, None)

    def _put(self, name: str, kind: int, at: int, value: bytes | None) -> None:
        known = self.last.get(name)
        bare = len(name.encode("utf-8", "surrogatepass"))
        before = 0 if known is None else known.size
        room = PROPERTY_BYTES_KEPT - self.size + before
        if known is None and (len(self.last) >= PROPERTIES_KEPT or bare > room):
            self.left_out += 1
            return
        size = bare + len(value or b"")
        if size > room:
            self.left_out += 1
            kind, value, size = LEFT_OUT, None, bare
        unset_at = at if kind == UNSET else None if known is None else known.unset_at
        self.last[name] = Last(kind, at, size, unset_at, value)
        self.size += size - before
        self.changed.add(name)


def of_person(
    identified: Iterable[Mapping[str, Last]], others: Iterable[Mapping[str, Last]]
) -> dict[str, Last]:
    """The writes that a person's values come from, by name; out of the properties of its ids.

    >>> user = {"plan": Last(SET, 5, 9), "mail": Last(UNSET, 7, 4, 7)}
    >>> before = {"plan": Last(SET, 9, 9), "mail": Last(SET, 1, 9), "ref": Last(SET_ONCE, 2, 6)}
    >>> {name: write.at for name, write in of_person([user], [before]).items()}
    {'plan': 5, 'ref': 2}
    """
    found: dict[str, Last] = {}
    removed: dict[str, int] = {}
    for group in (identified, others):
        best: dict[str, Last] = {}
        ids = list(group)
        for last in ids:
            for name, write in last.items():
                if write.unset_at is not None:
                    removed[name] = max(write.unset_at, removed.get(name, -1))
        for last in ids:
            for name, write in last.items():
                if write.kind == UNSET or write.at <= removed.get(name, -1) or name in found:
                    continue
                rival = best.get(name)
                if rival is None or _is_better(write, rival):
                    best[name] = write
        found |= best
    return dict(sorted(found.items()))


def _is_better(one: Last, rival: Last) -> bool:
    """Whether a write wins over another one of the same name."""
    if (one.kind == SET_ONCE) != (rival.kind == SET_ONCE):
        return rival.kind == SET_ONCE
    return one.at < rival.at if one.kind == SET_ONCE else one.at > rival.at
