"""A stretch of the log as accounts: who captured its events, and what their senders lost. Pure."""

import re
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from indelible.accounting.account import Account, account_of, merge
from indelible.event import Kind, Lane, LossReason, is_process_id, is_sequence
from indelible.journal.contract import Rows
from indelible.record import captures, loss_report

OTHER: Final = "other"

_KIND_AND_TIME: Final = struct.Struct(">xB6xQ80x")  # of a leaf entry; see indelible.leaf
_LANES: Final = {Kind.PRODUCT.value: Lane.PRODUCT, Kind.AUDIT.value: Lane.AUDIT}
_DIGITS: Final = re.compile(r"[0-9]{1,16}", re.ASCII)
_KNOWN: Final = frozenset(LossReason)


@dataclass(slots=True)
class Facts:
    """What a stretch of one project's log says.

    `accounts` has the processes by lane and id; `erased` how many events of each lane have no
    record any more, so that nobody knows whose they were.
    """

    accounts: dict[tuple[Lane, str], Account] = field(default_factory=dict)
    erased: Counter[Lane] = field(default_factory=Counter)

    def add(self, more: "Facts") -> None:
        """Take in what another stretch says."""
        for whose, account in more.accounts.items():
            known = self.accounts.get(whose)
            self.accounts[whose] = account if known is None else merge(known, account)
        self.erased.update(more.erased)


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
    seen: dict[tuple[Lane, str], _Seen] = {}
    leaves = _KIND_AND_TIME.iter_unpack(rows.leaves)
    read = captures(rows.records_json)
    for at, ((kind, at_ms), record) in enumerate(zip(leaves, read, strict=True)):
        lane = _LANES.get(kind)
        if record is None:
            if lane is not None:
                facts.erased[lane] += 1
            continue
        if kind == Kind.PRODUCT:
            # The edge has looked at both: what is none of the kind stands under `$extra`.
            if record.process_id is not None and record.sequence is not None:
                _of(seen, Lane.PRODUCT, record.process_id, at_ms).numbers.add(record.sequence)
        elif kind == Kind.AUDIT:
            if (place := _of_meta(record.meta)) is not None:
                _of(seen, Lane.AUDIT, place[0], at_ms).numbers.add(place[1])
        elif kind == Kind.LOSS:
            report = loss_report(report_at(at))
            one = _of(seen, Lane(record.lane), report.process_id, at_ms)
            one.announced = max(one.announced, report.captured)
            for reason, count in report.counts.items():
                one.lost[reason if reason in _KNOWN else OTHER] += count
    facts.accounts = {
        whose: account_of(
            one.numbers,
            one.lost,
            first_seen_ms=one.first_ms,
            last_seen_ms=one.last_ms,
            announced=one.announced,
        )
        for whose, one in seen.items()
    }
    return facts


def _of_meta(meta: Any) -> tuple[str, int] | None:
    """The process and the number that `meta` of an audit event has: text, as all in it."""
    if not isinstance(meta, dict):
        return None
    process_id, digits = str(meta.get("process_id")), str(meta.get("sequence"))
    if not is_process_id(process_id) or not _DIGITS.fullmatch(digits):
        return None
    number = int(digits)
    return (process_id, number) if is_sequence(number) else None


def _of(seen: dict[tuple[Lane, str], _Seen], lane: Lane, process_id: str, at_ms: int) -> _Seen:
    one = seen.get((lane, process_id))
    if one is None:
        one = seen[lane, process_id] = _Seen(at_ms, at_ms)
    elif at_ms > one.last_ms:
        one.last_ms = at_ms
    elif at_ms < one.first_ms:
        one.first_ms = at_ms
    return one
