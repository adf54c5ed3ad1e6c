"""Find stored events by a condition, reading no more of each than the condition looks at.

A record is small, a payload may be a megabyte. So a condition is taken apart at its outermost
`and`: the terms that look at leaf and record alone are tested first, and the payload is read only
of the events that pass them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from indelible.condition import (
    All,
    Condition,
    InCohort,
    InvalidCondition,
    Moment,
    Predicate,
    leaves,
    prepared,
    roots,
)
from indelible.event import Kind, tx_text, tx_uuid
from indelible.journal.contract import Entry
from indelible.leaf import Leaf
from indelible.moment import parse_time_ms

Facts = dict[str, Any]

_RECORD: Final = msgspec.json.Decoder(Facts)
_IN_PAYLOAD: Final = frozenset({"properties", "payload", "facts"})


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
        late = [term for term in _terms(condition) if roots(term) & _IN_PAYLOAD]
        self._late = list(map(prepared, late))
        self._late_needs_record = any(roots(term) - _IN_PAYLOAD for term in late)
        early = (term for term in _terms(condition) if not roots(term) & _IN_PAYLOAD)
        self._early = list(map(prepared, early))

    @property
    def reads_payloads(self) -> bool:
        """Whether leaf and record alone do not decide."""
        return bool(self._late)

    def narrow(
        self,
        found: Sequence[bool],
        start: int,
        run: Sequence[Leaf],
        records: Sequence[bytes | None],
    ) -> list[bool]:
        """Of the events from index `start` on that are `found`, which may match.

        As far as leaf and record tell; a record is None once its event has been erased.
        """
        if not self._early:
            return list(found)
        return [
            held and _are_true(self._early, _facts(index, leaf, record))
            for index, (held, leaf, record) in enumerate(
                zip(found, run, records, strict=True), start
            )
        ]

    def finds(self, entry: Entry) -> bool:
        """Whether an event that may match does, by its payload."""
        facts: Facts = {}
        if self._late_needs_record:
            facts = _facts(entry.index, entry.leaf, entry.record)
        if entry.payload is not None:
            name, value = _content(entry.leaf.kind, entry.payload)
            facts[name] = value
        return _are_true(self._late, facts)


def _are_true(terms: Sequence[Predicate], facts: Facts) -> bool:
    return all(term(facts, ()) for term in terms)


def _terms(condition: Condition) -> Iterator[Condition]:
    """The terms that must all be true."""
    if isinstance(condition, All):
        for term in condition.terms:
            yield from _terms(term)
    else:
        yield condition


def _facts(index: int, leaf: Leaf, record: bytes | None) -> Facts:
    """The facts of an event but for its payload; see `indelible.condition.FACTS`."""
    facts: Facts = {"erased": True} if record is None else _RECORD.decode(record)
    facts["index"] = index
    facts["tx_id"] = tx_text(leaf.tx)
    facts["kind"] = leaf.kind.word
    facts["received_at"] = Moment(leaf.received_at_ms)
    if record is None:
        return facts
    match leaf.kind:
        case Kind.PRODUCT:
            if facts.get("uuid") is None:
                facts["uuid"] = tx_uuid(leaf.tx)
            at_ms = parse_time_ms(facts.pop("timestamp", None))
            if at_ms is not None:
                facts["timestamp"] = Moment(at_ms)
        case Kind.AUDIT:
            if "event_name" in facts["meta"]:
                facts["event"] = facts["meta"]["event_name"]
    return facts


def _content(kind: Kind, payload: bytes) -> tuple[str, object]:
    """The fact that a payload is, by its name."""
    match kind:
        case Kind.PRODUCT:
            is_object = payload.startswith(b"{")  # else null or PHP's empty list
            return "properties", msgspec.json.decode(payload) if is_object else {}
        case Kind.AUDIT:
            return "payload", payload.decode()
        case Kind.ADMINISTRATION | Kind.ERASURE | Kind.LOSS:
            return "facts", msgspec.json.decode(payload)
