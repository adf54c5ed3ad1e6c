"""The file that keeps the accounts, `DATA/accounts.db`: derived from the journal, never backed up.

A stretch of a log and the mark that says how far it reaches are written in one transaction, so a
stretch counts once however often it is handed over. The file is made anew where it is missing,
damaged, of another version, or another journal's. What has been erased by then has no record any
more, and nobody can say whose it was: it is counted as `erased`, and may be what is missing.
"""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import apsw
import msgspec
from msgspec import Struct

from indelible.accounting.account import Account, merge, sum_of
from indelible.accounting.facts import Facts
from indelible.derived import MARKS, RESTART_HINT, Derived, Mark, marks, set_mark
from indelible.errors import Unavailable
from indelible.event import MAX_COUNT, Lane

logger = logging.getLogger(__name__)

ACCOUNTS_FILE: Final = "accounts.db"

_VERSION: Final = 2
_CACHE_KIB: Final = 4 * 1024
_FOLDED_AT_ONCE: Final = 1_000

_SCHEMA: Final = f"""{MARKS}
CREATE TABLE IF NOT EXISTS account (
    project_id   INTEGER NOT NULL,
    process_id   TEXT NOT NULL,
    lane         TEXT NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    missing      INTEGER NOT NULL,
    state        BLOB NOT NULL,   -- an Account in JSON
    PRIMARY KEY (project_id, process_id, lane)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON account (project_id, last_seen_ms, process_id, lane);
CREATE INDEX IF NOT EXISTS lacking ON account (project_id, last_seen_ms, process_id, lane)
    WHERE missing > 0;

CREATE TABLE IF NOT EXISTS rest (
    project_id INTEGER NOT NULL,
    lane       TEXT NOT NULL,
    state      BLOB NOT NULL,     -- a Rest in JSON
    PRIMARY KEY (project_id, lane)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS total (
    project_id INTEGER NOT NULL,
    lane       TEXT NOT NULL,
    state      BLOB NOT NULL,     -- a Total in JSON
    PRIMARY KEY (project_id, lane)
) WITHOUT ROWID;
"""
_ENCODE: Final = msgspec.json.Encoder().encode
_ACCOUNT: Final = msgspec.json.Decoder(Account)


class Key(NamedTuple):
    """Where an account stands among those of its project, newest last."""

    last_seen_ms: int
    process_id: str
    lane: Lane


class Rest(Struct, frozen=True):
    """What stands in no account of a lane.

    Attributes:
        processes: how many were folded away, since nothing was heard of them for long.
        captured, stored, missing, lost: the sums of their accounts.
        erased: how many events had been erased before they were counted.
    """

    processes: int = 0
    captured: int = 0
    stored: int = 0
    missing: int = 0
    lost: Mapping[str, int] = {}
    erased: int = 0


class Total(Struct, frozen=True):
    """The sum of a lane, since its log began.

    Attributes:
        stored, missing, lost: the sums of all its accounts, of those that were folded away too.
        unnumbered: how many events are in no account, since their sender does not number them.
        erased: how many had been erased before they were counted.
    """

    stored: int = 0
    missing: int = 0
    lost: Mapping[str, int] = {}
    unnumbered: int = 0
    erased: int = 0


_REST: Final = msgspec.json.Decoder(Rest)
_TOTAL: Final = msgspec.json.Decoder(Total)


class Accounts:
    """The accounts of every project. One thread writes; any thread reads."""

    def __init__(self, path: Path) -> None:
        self._file = Derived(
            path,
            schema=_SCHEMA,
            version=_VERSION,
            probe="SELECT * FROM mark",
            cache_kib=_CACHE_KIB,
        )
        with self._file.watched():
            self.marks = marks(self._file.reader())

    @property
    def failure(self) -> str | None:
        """Why nothing is counted any more, or None while all is well."""
        return self._file.failure

    # Writing

    def next_index(self, project_id: int) -> int:
        """The first entry of the project that is in no account yet."""
        return self.marks[project_id].next_index if project_id in self.marks else 0

    def take(self, project_id: int, facts: Facts, mark: Mark) -> None:
        """Add what a stretch of the project's log says, which ends at `mark`; all or nothing.

        Raises:
            Unavailable: the file is damaged; the next start makes it anew.
            apsw.Error: nothing was added; it may be tried again.
        """
        with self._changing() as connection:
            totals = {
                lane: Total(unnumbered=facts.unnumbered[lane], erased=facts.erased[lane])
                for lane in {*facts.unnumbered, *facts.erased}
            }
            for (lane, process_id), account in facts.accounts.items():
                more = self._add(connection, project_id, process_id, lane, account)
                totals[lane] = _sum(totals.get(lane, Total()), more)
            for lane, count in facts.erased.items():
                self._add_rest(connection, project_id, lane, Rest(erased=count))
            for lane, total in totals.items():
                self._add_total(connection, project_id, lane, total)
            set_mark(connection, project_id, mark)
        # power lost here: the stretch may be forgotten, and its mark with it
        self.marks[project_id] = mark

    def fold_away(self, project_id: int, *, before_ms: int) -> int:
        """Keep only the sum of the project's accounts last heard of before; how many those were.

        Raises what `take` raises.
        """
        folded = 0
        while True:
            with self._changing() as connection:
                rows: list[Any] = connection.execute(
                    "SELECT process_id, lane, state FROM account"
                    " WHERE project_id = ? AND last_seen_ms < ? LIMIT ?",
                    (project_id, before_ms, _FOLDED_AT_ONCE),
                ).fetchall()
                for row in rows:
                    self._fold(connection, project_id, *row)
            folded += len(rows)
            if len(rows) < _FOLDED_AT_ONCE:
                return folded

    def begin_anew(self) -> None:
        """Forget everything."""
        with self._changing() as connection:
            connection.execute(
                "DELETE FROM account; DELETE FROM rest; DELETE FROM total; DELETE FROM mark"
            )
        self.marks = {}

    def close(self) -> None:
        """Close every connection."""
        self._file.close()

    # Reading

    def page(
        self,
        project_id: int,
        *,
        process_id: str | None,
        missing: bool,
        before: Key | None,
        limit: int,
    ) -> list[tuple[Key, Account]]:
        """At most `limit` accounts in descending order of their keys, of those below `before`.

        Only those of `process_id`, where it is given; with `missing`, only those that miss events.

        Raises:
            Unavailable: the file is damaged; the next start makes it anew.
        """
        conditions: list[str] = ["project_id = ?"]
        values: list[str | int] = [project_id]
        if process_id is not None:
            conditions.append("process_id = ?")
            values.append(process_id)
        if missing:
            conditions.append("missing > 0")
        if before is not None:
            conditions.append("(last_seen_ms, process_id, lane) < (?, ?, ?)")
            values += before
        with self._watched():
            rows = self._file.reader().execute(
                "SELECT last_seen_ms, process_id, lane, state FROM account"  # noqa: S608
                f" WHERE {' AND '.join(conditions)}"
                " ORDER BY last_seen_ms DESC, process_id DESC, lane DESC LIMIT ?",
                (*values, limit),
            )
            return [
                (Key(at_ms, process, Lane(lane)), _ACCOUNT.decode(state))
                for at_ms, process, lane, state in rows
            ]

    def rest(self, project_id: int) -> dict[Lane, Rest]:
        """What stands in no account of the project, by lane.

        Raises:
            Unavailable: the file is damaged; the next start makes it anew.
        """
        with self._watched():
            rows = self._file.reader().execute(
                "SELECT lane, state FROM rest WHERE project_id = ? ORDER BY lane", (project_id,)
            )
            return {Lane(lane): _REST.decode(state) for lane, state in rows}

    def totals(self, project_id: int) -> dict[Lane, Total]:
        """The sums of the project's lanes, at one moment.

        Raises:
            Unavailable: the file is damaged; the next start makes it anew.
        """
        with self._watched():
            rows = self._file.reader().execute(
                "SELECT lane, state FROM total WHERE project_id = ?", (project_id,)
            )
            return {Lane(lane): _TOTAL.decode(state) for lane, state in rows}

    def _add(
        self,
        connection: apsw.Connection,
        project_id: int,
        process_id: str,
        lane: Lane,
        account: Account,
    ) -> Total:
        """Add to the account of a process; by how much it grew."""
        known = connection.execute(
            "SELECT state FROM account WHERE project_id = ? AND process_id = ? AND lane = ?",
            (project_id, process_id, lane),
        ).get
        before = None if known is None else _ACCOUNT.decode(known)
        if before is not None:
            account = merge(before, account)
        connection.execute(
            "INSERT OR REPLACE INTO account"
            " (project_id, process_id, lane, last_seen_ms, missing, state)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                project_id,
                process_id,
                lane,
                account.last_seen_ms,
                account.missing,
                _ENCODE(account),
            ),
        )
        return _growth(before, account)

    def _add_total(
        self, connection: apsw.Connection, project_id: int, lane: Lane, more: Total
    ) -> None:
        known = connection.execute(
            "SELECT state FROM total WHERE project_id = ? AND lane = ?", (project_id, lane)
        ).get
        total = _sum(Total() if known is None else _TOTAL.decode(known), more)
        connection.execute(
            "INSERT OR REPLACE INTO total (project_id, lane, state) VALUES (?, ?, ?)",
            (project_id, lane, _ENCODE(total)),
        )

    def _fold(
        self, connection: apsw.Connection, project_id: int, process_id: str, lane: str, state: bytes
    ) -> None:
        self._add_rest(connection, project_id, Lane(lane), _rest_of(_ACCOUNT.decode(state)))
        connection.execute(
            "DELETE FROM account WHERE project_id = ? AND process_id = ? AND lane = ?",
            (project_id, process_id, lane),
        )

    def _add_rest(
        self, connection: apsw.Connection, project_id: int, lane: Lane, more: Rest
    ) -> None:
        known = connection.execute(
            "SELECT state FROM rest WHERE project_id = ? AND lane = ?", (project_id, lane)
        ).get
        rest = more if known is None else _add(_REST.decode(known), more)
        connection.execute(
            "INSERT OR REPLACE INTO rest (project_id, lane, state) VALUES (?, ?, ?)",
            (project_id, lane, _ENCODE(rest)),
        )

    @contextmanager
    def _changing(self) -> Iterator[apsw.Connection]:
        with self._watched(), self._file.transaction() as connection:
            yield connection

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """As `Derived.watched`; an account that cannot be decoded is damage as well."""
        try:
            with self._file.watched():
                yield
        except msgspec.DecodeError as error:
            self._file.give_up(f"{self._file.path.name} is damaged ({error})")
            raise Unavailable("The accounts are damaged", hint=RESTART_HINT) from error


def _rest_of(account: Account) -> Rest:
    return Rest(
        processes=1,
        captured=account.captured,
        stored=account.stored,
        missing=account.missing,
        lost=account.lost,
    )


def _add(one: Rest, other: Rest) -> Rest:
    return Rest(
        processes=one.processes + other.processes,
        captured=one.captured + other.captured,
        stored=one.stored + other.stored,
        missing=one.missing + other.missing,
        lost=sum_of(one.lost, other.lost),
        erased=one.erased + other.erased,
    )


def _growth(before: Account | None, after: Account) -> Total:
    if before is None:
        return Total(stored=after.stored, missing=after.missing, lost=after.lost)
    lost = {reason: count - before.lost.get(reason, 0) for reason, count in after.lost.items()}
    return Total(
        stored=after.stored - before.stored, missing=after.missing - before.missing, lost=lost
    )


def _sum(one: Total, other: Total) -> Total:
    return Total(
        stored=_bounded(one.stored + other.stored),
        # Less may be missing than before; senders may say that more is than a column holds.
        missing=_bounded(one.missing + other.missing),
        lost=sum_of(one.lost, other.lost),
        unnumbered=one.unnumbered + other.unnumbered,
        erased=one.erased + other.erased,
    )


def _bounded(count: int) -> int:
    return max(-MAX_COUNT, min(count, MAX_COUNT))
