"""Find stored events by a condition, reading no more of each than the condition looks at.

A record is small, a payload may be a megabyte. So a condition is taken apart at its outermost
`and`: the terms that look at the leaf alone are tested first, then those that look at the record;
the payload is read only of the events that pass both.
"""

from collections.abc import Iterator, Sequence

from indelible.condition import (
    All,
    Condition,
    InCohort,
    InvalidCondition,
    leaves,
    prepared,
    roots,
)
from indelible.journal.contract import Entry
from indelible.query.facts import IN_LEAF, IN_PAYLOAD, FactReader, Facts


class Filter:
    """A condition, ready to be tested on many events of one log."""

    def __init__(self, condition: Condition) -> None:
        """
        Raises:
            InvalidCondition: it names a cohort; a search knows none.
        """
        for leaf in leaves(condition):
            if isinstance(leaf, InCohort):
                raise InvalidCondition(
                    f"There is no cohort {leaf.cohort!r}", hint="Test the facts of the event."
                )
        in_leaf: list[Condition] = []
        in_record: list[Condition] = []
        in_payload: list[Condition] = []
        for term in _terms(condition):
            names = roots(term)
            if names & IN_PAYLOAD:
                in_payload.append(term)
            else:
                (in_leaf if names <= IN_LEAF else in_record).append(term)
        self._in_leaf = _Part(in_leaf)
        self._in_record = _Part(in_record)
        self._in_payload = _Part(in_payload)

    @property
    def reads_records(self) -> bool:
        """Whether `narrow` needs more than leaves."""
        return bool(self._in_record)

    @property
    def reads_payloads(self) -> bool:
        """Whether leaf and record alone do not decide."""
        return bool(self._in_payload)

    def narrow(
        self,
        found: Sequence[bool],
        start: int,
        leaves: Sequence[bytes],
        records: Sequence[bytes | None],
    ) -> list[bool]:
        """Of the events from index `start` on that are `found`, which may match.

        As far as leaf entry and record tell. A record is None once its event has been erased; there
        may be none at all unless `reads_records`.
        """
        left = [at for at, held in enumerate(found) if held]
        left = self._in_leaf.narrow(left, start, leaves, [])
        left = self._in_record.narrow(left, start, leaves, records)
        narrowed = [False] * len(found)
        for at in left:
            narrowed[at] = True
        return narrowed

    def finds(self, entry: Entry) -> bool:
        """Whether an event that may match does, by its payload."""
        return self._in_payload.holds(entry)


class _Part:
    """Terms that must all be true, and what reads the facts that they look at."""

    def __init__(self, terms: Sequence[Condition]) -> None:
        self._tests = list(map(prepared, terms))
        self._facts = FactReader(frozenset().union(*map(roots, terms)))

    def __bool__(self) -> bool:
        return bool(self._tests)

    def narrow(
        self,
        places: list[int],
        start: int,
        leaves: Sequence[bytes],
        records: Sequence[bytes | None],
    ) -> list[int]:
        """Those of `places`, counted from the index `start`, at which all terms are true."""
        if not self._tests or not places:
            return places
        facts = self._facts.of_run(
            [start + at for at in places],
            [leaves[at] for at in places],
            [records[at] for at in places] if records else records,
        )
        if len(self._tests) == 1:
            (test,) = self._tests
            return [at for at, each in zip(places, facts, strict=True) if test(each, ())]
        return [at for at, each in zip(places, facts, strict=True) if self._are_true(each)]

    def holds(self, entry: Entry) -> bool:
        """Whether all terms are true of this event."""
        return self._are_true(self._facts.of(entry))

    def _are_true(self, facts: Facts) -> bool:
        return all(test(facts, ()) for test in self._tests)


def _terms(condition: Condition) -> Iterator[Condition]:
    """The terms that must all be true."""
    if isinstance(condition, All):
        for term in condition.terms:
            yield from _terms(term)
    else:
        yield condition
