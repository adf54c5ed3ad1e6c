"""An event by its members: as it is shown, and as a condition tests it.

Both have the same names and the same values. What is shown is whole, and JSON. The facts are those
that a condition looks at: most events that a search walks along are not found, so the rest of their
records is skipped, not read. A fact that an event doesn't have is missing; a time is a `Moment`.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from indelible.clock import rfc3339
from indelible.condition import Moment
from indelible.event import Kind, tx_text, tx_uuid
from indelible.journal.contract import Entry
from indelible.leaf import Leaf, decode
from indelible.moment import parse_time_ms
from indelible.record import member_reader, record_members

View = dict[str, Any]
"""An event as JSON members; see `view`."""
Facts = dict[str, Any]
"""Facts of an event by their names; see `indelible.condition.FACTS`."""

IN_PAYLOAD: Final = frozenset({"properties", "payload", "facts"})
IN_LEAF: Final = frozenset({"index", "tx_id", "kind", "received_at"})
_FROM_LEAF: Final = IN_LEAF | {"uuid"}
_MADE: Final = _FROM_LEAF | {"event", "timestamp"}
_EMPTY: Final[View] = {"$set": {}, "$set_once": {}, "$unset": []}


def view(entry: Entry) -> View:
    """An event as it was sent, with what the log knows of it.

    Always: `index`, `tx_id`, `kind`, `received_at`. A product event has `event`, `distinct_id`,
    `uuid` and `properties`; an audit event `payload`, `meta` and `idempotency_key`; an
    administration event `event` and `facts`. An erased one has `erased` and nothing of its content.
    An empty list or null that was sent in place of an object is shown as an empty object.
    """
    leaf = entry.leaf
    shown: View = {
        "index": entry.index,
        "tx_id": tx_text(leaf.tx),
        "kind": leaf.kind.word,
        "received_at": rfc3339(leaf.received_at_ms),
    }
    if entry.record is None or entry.payload is None:
        return {**shown, "erased": True}
    record = record_members(entry.record)
    match leaf.kind:
        case Kind.PRODUCT:
            shown["uuid"] = _uuid(leaf, record)
            record.pop("uuid", None)
            shown.update(record)
            for name in _EMPTY.keys() & record.keys():
                shown[name] = record[name] or _EMPTY[name]
        case Kind.AUDIT:
            shown["idempotency_key"] = record.pop("idempotency_key", None)
            shown.update(record)
        case Kind.ADMINISTRATION | Kind.ERASURE | Kind.LOSS:
            shown.update(record)
    name, content = _content(leaf.kind, entry.payload)
    shown[name] = content
    return shown


class FactReader:
    """Reads the facts of certain names, and no others, from leaves, records and payloads."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        in_record = names - IN_LEAF - IN_PAYLOAD
        self._reads_records = bool(in_record)
        self._reads_leaves = bool(names & _FROM_LEAF)
        self._as_they_are = not names & _MADE
        self._members = member_reader(in_record | {"meta"} if "event" in in_record else in_record)

    def of_run(
        self, indexes: Sequence[int], leaves: Sequence[bytes], records: Sequence[bytes | None]
    ) -> Iterable[Facts]:
        """The facts of events but for their payloads, from leaf entries and records.

        A record is None once its event has been erased; there may be none at all if every name is
        `IN_LEAF`.
        """
        if not self._reads_records:
            return map(self._made, indexes, leaves, [{} for _ in indexes])
        found = [{"erased": True} if each is None else each for each in self._members(records)]
        return found if self._as_they_are else map(self._made, indexes, leaves, found)

    def of(self, entry: Entry) -> Facts:
        """The facts of one event, its payload included."""
        (facts,) = self.of_run([entry.index], [entry.leaf_entry], [entry.record])
        if entry.payload is not None:
            name, value = _content(entry.leaf.kind, entry.payload)
            if name in self._names:
                is_json = isinstance(value, msgspec.Raw)
                facts[name] = msgspec.json.decode(value) if is_json else value
        return facts

    def _made(self, index: int, entry: bytes, facts: Facts) -> Facts:
        """`facts` of leaf entry and record, with those that are not simply there."""
        names = self._names
        if "event" in names and "meta" in facts and "event_name" in facts["meta"]:
            facts["event"] = facts["meta"]["event_name"]
        if "timestamp" in facts:
            at_ms = parse_time_ms(facts.pop("timestamp"))
            if at_ms is not None:
                facts["timestamp"] = Moment(at_ms)
        if not self._reads_leaves:
            return facts
        leaf = decode(entry)
        if "uuid" in names and leaf.kind is Kind.PRODUCT and "erased" not in facts:
            facts["uuid"] = _uuid(leaf, facts)
        if "index" in names:
            facts["index"] = index
        if "tx_id" in names:
            facts["tx_id"] = tx_text(leaf.tx)
        if "kind" in names:
            facts["kind"] = leaf.kind.word
        if "received_at" in names:
            facts["received_at"] = Moment(leaf.received_at_ms)
        return facts


def _uuid(leaf: Leaf, members: Facts) -> object:
    """The client's id of a product event, or one made from the transaction id."""
    sent = members.get("uuid")
    return tx_uuid(leaf.tx) if sent is None else sent


def _content(kind: Kind, payload: bytes) -> tuple[str, Any]:
    """The member that a payload is: its name, and its text, or its JSON, still to be read."""
    match kind:
        case Kind.PRODUCT:
            is_object = payload.startswith(b"{")  # else null or PHP's empty list
            return "properties", msgspec.Raw(payload) if is_object else {}
        case Kind.AUDIT:
            return "payload", payload.decode()
        case Kind.ADMINISTRATION | Kind.ERASURE | Kind.LOSS:
            return "facts", msgspec.Raw(payload)
