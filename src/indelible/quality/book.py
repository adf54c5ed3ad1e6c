"""The schema of one project while a stretch of its log is learned.

States are read from the file when their name is first met, and written back together by `save`. So
memory is what one stretch touches, whatever the number of projects.

A stretch is learned in two steps, since most events are counted only and their payloads are never
read: `count` goes through the names, and returns the places of those events that are to be looked
into; `look` takes them one by one.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from indelible.event import Kind
from indelible.quality.contract import Contract, misfits
from indelible.quality.schema import (
    CHECKED_OF_LANE,
    LARGEST_LOOKED_BYTES,
    MAX_EVENTS,
    MAX_PROPERTIES,
    MAX_PROPERTIES_OF_EVENT,
    EventSchema,
    Held,
    Lane,
    Moment,
    Property,
)
from indelible.quality.shape import name_of
from indelible.quality.walk import Walk, walk_event
from indelible.record import Named

MAX_CONTRACTS: Final = 200
"""Most contracts of a project."""

_ENCODE: Final = msgspec.msgpack.Encoder().encode
EVENT: Final = msgspec.msgpack.Decoder(EventSchema).decode
LANE: Final = msgspec.msgpack.Decoder(Lane).decode
HELD: Final = msgspec.msgpack.Decoder(Held).decode
_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any]).decode

# Members of an enumeration take their time to look up: 0.15 us each, in Python 3.11.
_PRODUCT_KIND: Final = Kind.PRODUCT
_AUDIT_KIND: Final = Kind.AUDIT
_PRODUCT: Final = Kind.PRODUCT.value
_AUDIT: Final = Kind.AUDIT.value


class Wanted(NamedTuple):
    """An event that is to be looked into: where, and of which names.

    `is_learned` and `is_checked`: for the schema, and against the contract.
    """

    at: int
    kind: Kind
    name: str
    is_learned: bool
    is_checked: bool


class _Known:
    """An event name, with its contract; `state` is None if there was no room for it."""

    __slots__ = ("count", "held", "last", "name", "passed", "state")

    def __init__(self, name: str, state: EventSchema | None, held: Held | None) -> None:
        self.name = name
        self.state = state
        self.held = held
        # Of the run under way: how many, where the last one is, and when it had its share.
        self.count, self.last, self.passed = 0, 0, -1


class Book:
    """What a stretch of one project's log touches of its schema."""

    def __init__(self, connection: apsw.Connection, project_id: int) -> None:
        self._connection = connection
        self._project_id = project_id
        self._lanes: dict[Kind, Lane] = {}
        self._known: dict[tuple[Kind, str], _Known] = {}
        self._contracts: dict[tuple[Kind, str], Held | bytes] | None = None
        for kind in (Kind.PRODUCT, Kind.AUDIT):
            found = connection.execute(
                "SELECT state FROM lane WHERE project_id = ? AND kind = ?", (project_id, kind.word)
            ).get
            self._lanes[kind] = Lane() if found is None else LANE(found)

    def count(
        self, first: int, kinds: bytes, times: Sequence[int], names: Sequence[Named | None]
    ) -> list[Wanted]:
        """Count events from index `first` on, and choose those that are to be looked into."""
        wanted: list[Wanted] = []
        products: dict[str, _Known] = {}
        audits: dict[str, _Known] = {}
        turn = 0  # grows with each second: what has had its share has it until the next one
        lanes = self._lanes[_PRODUCT_KIND], self._lanes[_AUDIT_KIND]
        for at, (kind, at_ms, named) in enumerate(zip(kinds, times, names, strict=True)):
            if kind == _PRODUCT:
                lane, by_name = lanes[0], products
                sent = None if named is None else named.event
            elif kind == _AUDIT:
                lane, by_name = lanes[1], audits
                sent = None if named is None else named.of_audit
            else:
                continue
            if sent is None:
                lane.erased += 1
                continue
            known = by_name.get(sent)
            if known is None:
                known = by_name[sent] = self._meet(Kind(kind), sent, Moment(first + at, at_ms))
            known.count += 1
            known.last = at
            second = at_ms // 1000
            if lane.second != second:
                lane.second, lane.looked, lane.checked = second, 0, 0
                turn += 1
            if known.passed == turn:
                continue
            is_learned = known.state is not None and known.state.takes(second, lane)
            is_checked = known.held is not None and lane.checked < CHECKED_OF_LANE
            if is_checked:
                lane.checked += 1
            if is_learned or is_checked:
                wanted.append(Wanted(at, Kind(kind), known.name, is_learned, is_checked))
            else:
                known.passed = turn
        for lane, by_name in zip(lanes, (products, audits), strict=True):
            for known in set(by_name.values()):
                if known.state is None:
                    lane.left_out += known.count
                else:
                    known.state.count += known.count
                    known.state.last = Moment(first + known.last, times[known.last])
                known.count, known.passed = 0, -1
        return wanted

    def look(self, wanted: Wanted, at: Moment, tx: bytes, payload: bytes, record: bytes) -> None:
        """Look into an event that `count` has chosen."""
        known = self._known[wanted.kind, wanted.name]
        if len(payload) + len(record) > LARGEST_LOOKED_BYTES:
            if wanted.is_learned and known.state is not None:
                known.state.too_large += 1
            return
        walked = walk_event(wanted.kind, payload, _MEMBERS(record))
        if wanted.is_learned and known.state is not None:
            self._learn(known.state, self._lanes[wanted.kind], walked, at)
        if wanted.is_checked and known.held is not None and not walked.is_cut:
            known.held.add(misfits(known.held.contract, walked), at, tx)

    def set_contract(self, kind: Kind, name: str, contract: Contract | None, since: Moment) -> None:
        """Hold events of this name to a contract from here on, or to none."""
        contracts = self._contracts_by_name()
        key = kind, name
        if contract is None:
            contracts.pop(key, None)
        elif key in contracts or len(contracts) < MAX_CONTRACTS:
            contracts[key] = Held(contract, since)
        self._connection.execute(
            "DELETE FROM contract WHERE project_id = ? AND kind = ? AND name = ?",
            (self._project_id, kind.word, name),
        )
        held = self._held(key)
        if held is not None:
            self._save_contract(key, held)
        if key in self._known:
            self._known[key].held = held

    def save(self) -> None:
        """Write back what was touched."""
        for kind, lane in self._lanes.items():
            if lane != Lane():
                self._connection.execute(
                    "INSERT OR REPLACE INTO lane (project_id, kind, state) VALUES (?, ?, ?)",
                    (self._project_id, kind.word, _ENCODE(lane)),
                )
        for key, known in self._known.items():
            if known.state is not None:
                self._save_event(key, known.state)
            if known.held is not None:
                self._save_contract(key, known.held)

    def _save_event(self, key: tuple[Kind, str], state: EventSchema) -> None:
        kind, name = key
        self._connection.execute(
            "INSERT OR REPLACE INTO event (project_id, kind, name, count, first_ms, last_ms,"
            " properties, looked, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                self._project_id,
                kind.word,
                name,
                state.count,
                state.first.at_ms,
                state.last.at_ms,
                len(state.properties),
                state.looked,
                _ENCODE(state),
            ),
        )

    def _save_contract(self, key: tuple[Kind, str], held: Held) -> None:
        kind, name = key
        self._connection.execute(
            "INSERT OR REPLACE INTO contract (project_id, kind, name, checked, unfit, state)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (self._project_id, kind.word, name, held.checked, held.unfit, _ENCODE(held)),
        )

    def _meet(self, kind: Kind, sent: str, at: Moment) -> _Known:
        """What is known of a name, under which it may be kept."""
        key = kind, name_of(sent)
        known = self._known.get(key)
        if known is None:
            state = self._read(key)
            lane = self._lanes[kind]
            if state is None and lane.events < MAX_EVENTS:
                lane.events += 1
                state = EventSchema(at, at)
            known = self._known[key] = _Known(key[1], state, self._held(key))
        return known

    def _read(self, key: tuple[Kind, str]) -> EventSchema | None:
        kind, name = key
        found = self._connection.execute(
            "SELECT state FROM event WHERE project_id = ? AND kind = ? AND name = ?",
            (self._project_id, kind.word, name),
        ).get
        return None if found is None else EVENT(found)

    def _contracts_by_name(self) -> dict[tuple[Kind, str], Held | bytes]:
        if self._contracts is None:
            rows: Any = self._connection.execute(
                "SELECT kind, name, state FROM contract WHERE project_id = ?", (self._project_id,)
            )
            self._contracts = {(Kind[kind.upper()], name): state for kind, name, state in rows}
        return self._contracts

    def _held(self, key: tuple[Kind, str]) -> Held | None:
        contracts = self._contracts_by_name()
        held = contracts.get(key)
        if isinstance(held, bytes):  # most are not met in a stretch
            held = contracts[key] = HELD(held)
        return held

    def _learn(self, state: EventSchema, lane: Lane, walked: Walk, at: Moment) -> None:
        state.looked += 1
        state.cut += walked.is_cut
        properties = state.properties
        for path, seen in walked.paths.items():
            known = properties.get(path)
            if known is None:
                if len(properties) >= MAX_PROPERTIES_OF_EVENT or lane.properties >= MAX_PROPERTIES:
                    state.left_out += 1
                    continue
                lane.properties += 1
                known = properties[path] = Property(at, at)
            known.add(seen, at)
