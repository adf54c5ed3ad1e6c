"""A stretch of the log as accounts: who captured its events, and what their senders lost. Pure."""

import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from indelible import leaf
from indelible.accounting.account import Account, account_of, merge
from indelible.event import Kind, Lane, LossReason, is_process_id, is_sequence
from indelible.journal.contract import Rows
from indelible.record import captures, loss_report

OTHER: Final = "other"

_KIND_AT: Final = 1  # in a leaf entry; see indelible.leaf
_TIME: Final = struct.Struct(">8xQ80x")
_PRODUCT, _AUDIT, _LOSS = Kind.PRODUCT.value, Kind.AUDIT.value, Kind.LOSS.value
_LANES: Final = {_PRODUCT: Lane.PRODUCT, _AUDIT: Lane.AUDIT}
_MARKS: Final = (b'"process_id":', b'"v":')
"""What is in the text of a record that is numbered, or of another form than this version knows."""
_DIGITS: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_KNOWN: Final = frozenset(LossReason)
_PRODUCT_LANE, _AUDIT_LANE = Lane.PRODUCT, Lane.AUDIT


@dataclass(slots=True)
class Facts:
    """What a stretch of one project's log says.

    `accounts` has the processes by lane and id; `erased` how many events of each lane have no
    record any more, so that nobody knows whose they were; `unnumbered` how many are in no account.
    """

    accounts: dict[tuple[Lane, str], Account] = field(default_factory=dict)
    erased: Counter[Lane] = field(default_factory=Counter)
    unnumbered: Counter[Lane] = field(default_factory=Counter)

    def add(self, more: "Facts") -> None:
        """Take in what another stretch says."""
        for whose, account in more.accounts.items():
            known = self.accounts.get(whose)
            self.accounts[whose] = account if known is None else merge(known, account)
        self.erased.update(more.erased)
        self.unnumbered.update(more.unnumbered)


@dataclass(slots=True)
class _Seen:
    """One process while a stretch is read."""

    first_ms: int
    last_ms: int
    numbers: set[int] = field(default_factory=set)
    lost: Counter[str] = field(default_factory=Counter)
    announced: int = 0


def facts_of(rows: Rows, report_at: Callable[[int], bytes]) -> Facts:
    """Read a stretch; `report_at` finds the payload of the entry of kind loss at a place in it."""
    facts = Facts()
    kinds = rows.leaves[_KIND_AT :: leaf.SIZE]
    _count_erased(facts, kinds, rows)
    for kind, lane in _LANES.items():
        if events := kinds.count(kind) - facts.erased[lane]:
            facts.unnumbered[lane] = events
    text = rows.records_json
    if _LOSS not in kinds and not any(mark in text for mark in _MARKS):
        return facts  # nobody numbers these events: none of them has to be looked into
    seen: dict[Lane, dict[str, _Seen]] = {lane: {} for lane in Lane}
    products, audits = seen[Lane.PRODUCT], seen[Lane.AUDIT]
    times = _TIME.iter_unpack(rows.leaves)
    for at, (kind, (at_ms,), record) in enumerate(zip(kinds, times, captures(text), strict=True)):
        if record is None:
            continue
        if kind == _PRODUCT:
            # The edge has looked at both: what is none of the kind stands under `$extra`.
            process_id, number = record.process_id, record.sequence
            if process_id is not None and number is not None:
                _of(products, process_id, at_ms).numbers.add(number)
                facts.unnumbered[_PRODUCT_LANE] -= 1
        elif kind == _AUDIT:
            if (place := _of_meta(record.meta)) is not None:
                _of(audits, place[0], at_ms).numbers.add(place[1])
                facts.unnumbered[_AUDIT_LANE] -= 1
        elif kind == _LOSS:
            report = loss_report(report_at(at))
            one = _of(seen[Lane(record.lane)], report.process_id, at_ms)
            one.announced = max(one.announced, report.captured)
            for reason, count in report.counts.items():
                one.lost[reason if reason in _KNOWN else OTHER] += count
    for lane, processes in seen.items():
        for process_id, one in processes.items():
            facts.accounts[lane, process_id] = account_of(
                one.numbers,
                one.lost,
                first_seen_ms=one.first_ms,
                last_seen_ms=one.last_ms,
                announced=one.announced,
            )
    return facts


def _count_erased(facts: Facts, kinds: bytes, rows: Rows) -> None:
    if None not in rows.records:
        return
    for kind, record in zip(kinds, rows.records, strict=True):
        lane = _LANES.get(kind)
        if record is None and lane is not None:
            facts.erased[lane] += 1


def _of_meta(meta: Any) -> tuple[str, int] | None:
    """The process and the number that `meta` of an audit event has: text, as all in it."""
    if not isinstance(meta, dict):
        return None
    process_id, digits = str(meta.get("process_id")), str(meta.get("sequence"))
    if not is_process_id(process_id) or not _DIGITS.fullmatch(digits):
        return None
    number = int(digits)
    return (process_id, number) if is_sequence(number) else None


def _of(processes: dict[str, _Seen], process_id: str, at_ms: int) -> _Seen:
    one = processes.get(process_id)
    if one is None:
        one = processes[process_id] = _Seen(at_ms, at_ms)
    elif at_ms > one.last_ms:
        one.last_ms = at_ms
    elif at_ms < one.first_ms:
        one.first_ms = at_ms
    return one
