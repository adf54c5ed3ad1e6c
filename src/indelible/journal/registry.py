"""Projects and keys, kept beside the log in the journal's own file.

Each change is one transaction that also adds an `administration` event to the project's own log;
only a project's birth, with its first keys, is not in it, so that its first event has index 0.
A secret exists in clear only in the return value of the call that made it; what is kept is its
SHA-256 digest. The project token is public by nature and is kept readable.
"""

import hashlib
import os
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Literal

import apsw
import msgspec

from indelible.clock import Clock, month_of, now_ms
from indelible.errors import AlreadyExists, InvalidParameter, NotFound
from indelible.event import Kind, Lane
from indelible.journal.contract import Draft
from indelible.journal.group import events_used
from indelible.journal.sqlite import SqliteJournal
from indelible.journal.tables import create_table
from indelible.network import Address, Network, contains, parse_networks

Unset = msgspec.UnsetType

ProjectKind = Literal["live", "test"]
BotPolicy = Literal["discard", "mark", "off"]
LogState = Literal["new", "open", "frozen"]
LedgerAccess = Literal["key", "public"]

_RANDOM_BYTES: Final = 24  # 192 bits: no digest of such a key can be turned back
_PREFIX_LENGTH: Final = 14
_RULES: Final = frozenset(
    {"monthly_limit", "audit_monthly_limit", "bot_policy", "ledger_access", "retention_days"}
)
BURST_S: Final = 10
"""A burst that nobody chose is what the rate gives in so many seconds."""
DEFAULT_GRACE_MS: Final = 24 * 60 * 60 * 1000


class Role(StrEnum):
    """What a key is for. A token writes product events; an application key writes and reads one
    project; an admin key does everything."""

    TOKEN = "token"  # noqa: S105 — a role, not a secret
    APPLICATION = "application"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Project:
    """One project: a log of its own, and its rules.

    `bot_policy` None leaves each route its own default. `monthly_limit` is for product events,
    `audit_monthly_limit` for audit events; None is no limit.
    `ledger_access` says who may read the files of its signed log: whoever has a key, or anyone.
    After `retention_days` product and audit events are erased; None keeps them.
    """

    id: int
    name: str
    kind: ProjectKind
    monthly_limit: int | None
    bot_policy: BotPolicy | None
    created_at_ms: int
    ledger_access: LedgerAccess
    retention_days: int | None
    audit_monthly_limit: int | None


@dataclass(frozen=True, slots=True)
class LogRow:
    """A signed log as the journal knows it: see schema.sql. `origin` and `vkey` come together."""

    name: str
    project_id: int
    origin: str | None
    vkey: str | None
    state: LogState


@dataclass(frozen=True, slots=True)
class Rate:
    """How many events a second a key may send, and how many at once after a pause."""

    per_s: float
    burst: int


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the server remembers it; `project` is None when it opens the whole server.

    `origins` are those of the pages that may use a token, empty for any; see `indelible.origin`.
    """

    id: str
    project: Project | None
    role: Role
    digest: bytes
    token: str | None
    prefix: str
    label: str
    networks: tuple[Network, ...]
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    fixed: bool
    rate: Rate | None
    origins: tuple[str, ...]

    def is_valid(self, at_ms: int) -> bool:
        """Neither revoked nor past the end of its rotation."""
        return self.revoked_at_ms is None and (
            self.expires_at_ms is None or at_ms < self.expires_at_ms
        )

    def allows(self, address: Address | None) -> bool:
        """Whether the key may be used from `address`; an unknown one only without a list."""
        if not self.networks:
            return True
        return address is not None and contains(self.networks, address)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made, with its secret: the only time that it is shown."""

    key: Key
    secret: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All projects and keys at one moment: what the edge looks things up in, without a lock."""

    projects: Mapping[str, Project]
    keys: Mapping[bytes, Key]
    tokens: Mapping[str, Key]


def digest_of(secret: str) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(secret.encode()).digest()


class Registry:
    """Projects and keys. Reads come from `snapshot`; changes go through the methods."""

    def __init__(self, journal: SqliteJournal, *, clock: Clock = now_ms) -> None:
        self._journal = journal
        self._clock = clock
        self._refreshing = threading.Lock()
        self.snapshot = Snapshot({}, {}, {})
        self.refresh()

    # Projects

    def create_project(
        self,
        name: str,
        *,
        kind: ProjectKind = "live",
        monthly_limit: int | None = None,
        audit_monthly_limit: int | None = None,
        bot_policy: BotPolicy | None = None,
        retention_days: int | None = None,
    ) -> Project:
        """Make a project with an empty log. Its keys are made by `create_key`.

        Raises:
            AlreadyExists: the name is taken.
        """
        if name in self.snapshot.projects:
            raise AlreadyExists(f"There is a project {name!r} already")
        now = self._clock()
        with (
            _taken_as(AlreadyExists(f"There is a project {name!r} already")),
            self._journal.database.transaction() as connection,
        ):
            connection.execute(
                "INSERT INTO project (name, kind, secret, monthly_limit, audit_monthly_limit,"
                " bot_policy, created_at_ms, retention_days) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    name,
                    kind,
                    os.urandom(32),
                    monthly_limit,
                    audit_monthly_limit,
                    bot_policy,
                    now,
                    retention_days,
                ),
            )
            project_id = connection.last_insert_rowid()
            create_table(connection, project_id)
            connection.execute(
                "INSERT INTO log (name, project_id, state) VALUES (?, ?, 'new')",
                (name, project_id),
            )
        self._refresh_projects(project_id)
        return self.snapshot.projects[name]

    def change_project(self, name: str, changes: Mapping[str, int | str | None]) -> Project:
        """Set rules of the project, as `changes` names them: `monthly_limit`,
        `audit_monthly_limit`, `bot_policy`, `ledger_access`, `retention_days`.

        Raises:
            NotFound: there is no such project.
        """
        project = self.project(name)
        with self._journal.database.transaction() as connection:
            for column, value in changes.items():
                assert column in _RULES
                connection.execute(
                    f"UPDATE project SET {column} = ? WHERE id = ?",  # noqa: S608 — one of _RULES
                    (value, project.id),
                )
            self._log(connection, project.id, "project.changed", dict(changes))
        self.refresh()
        return self.snapshot.projects[name]

    def project(self, name: str) -> Project:
        """
        Raises:
            NotFound: there is no such project.
        """
        try:
            return self.snapshot.projects[name]
        except KeyError:
            raise NotFound(
                f"There is no project {name!r}", hint="See `indelible project list`."
            ) from None

    def project_by_id(self, project_id: int) -> Project | None:
        """The project with this id; None when there is none."""
        return next((p for p in self.snapshot.projects.values() if p.id == project_id), None)

    def events_this_month(self, project: Project, lane: Lane) -> int:
        """Events of `lane` stored in the running calendar month (UTC)."""
        month = month_of(self._clock())
        return events_used(self._journal.database.reader(), project.id, lane, month)

    def events_stored(self, project: Project) -> int:
        """How many entries the project's log has, of every kind."""
        return self._journal.next_index(project.id)

    # Logs

    def logs(self, state: LogState | None = None) -> list[LogRow]:
        """The signed log of every project, and the frozen ones, by name; or those in one state."""
        rows = self._journal.database.reader().execute(
            "SELECT name, project_id, origin, vkey, state FROM log"
            " WHERE ?1 IS NULL OR state = ?1 ORDER BY name",
            (state,),
        )
        return [LogRow(*row) for row in rows]

    def identify_log(self, name: str, *, origin: str, vkey: str) -> None:
        """Give a new log its origin and its key, which sign nothing before `open_log`."""
        self._change_log(name, "origin = ?, vkey = ?", origin, vkey)

    def open_log(self, name: str) -> None:
        """From now on the log signs, and is never made anew."""
        self._change_log(name, "state = 'open'")

    def _change_log(self, name: str, change: str, *values: str) -> None:
        with self._journal.database.transaction() as connection:
            connection.execute(
                f"UPDATE log SET {change} WHERE name = ? AND state = 'new'",  # noqa: S608
                (*values, name),
            )

    # Keys

    def create_key(
        self,
        role: Role,
        project: Project | None,
        *,
        label: str = "",
        networks: Sequence[Network] = (),
        rate: Rate | None = None,
        origins: Sequence[str] = (),
        secret: str | None = None,
        log: bool = True,
    ) -> NewKey:
        """Make a key; `secret` fixes it (the server's environment does that), else it is random.

        `log` is False for the keys that a project is born with.

        Raises:
            InvalidParameter: a token or application key without a project, an admin key with
                one, or a key that is no token with origins.
        """
        if (role is Role.ADMIN) != (project is None):
            raise InvalidParameter(
                "A token or application key belongs to a project, an admin key to none"
            )
        _check_origins(role, origins)
        made = self._new_key(
            role,
            project,
            label=label,
            networks=networks,
            rate=rate,
            origins=origins,
            secret=secret,
        )
        with self._journal.database.transaction() as connection:
            self._insert_key(connection, made.key)
            if log:
                self._log(connection, self._log_of(made.key), "key.created", _public(made.key))
        self._take_up(made.key)
        return made

    def change_key(
        self, key_id: str, *, rate: Rate | Unset | None, origins: Sequence[str] | Unset
    ) -> Key:
        """Set the rate or the origins of a key, from the next request on; UNSET leaves one.

        Raises:
            NotFound: there is no such key, or it is not valid any more.
            InvalidParameter: it is no token, and has no origins.
        """
        key = self._valid_key(key_id)
        if not isinstance(origins, Unset):
            _check_origins(key.role, origins)
            key = replace(key, origins=tuple(origins))
        if not isinstance(rate, Unset):
            key = replace(key, rate=rate)
        with self._journal.database.transaction() as connection:
            connection.execute(
                "UPDATE access_key SET rate = ?, burst = ?, origins = ? WHERE id = ?",
                (*_rate_columns(key), key_id),
            )
            self._log(connection, self._log_of(key), "key.changed", _public(key))
        self.refresh()
        return self._valid_key(key_id)

    def rotate_key(self, key_id: str, *, grace_ms: int = DEFAULT_GRACE_MS) -> NewKey:
        """Make a successor with the same rights; the old key stays valid for `grace_ms`.

        Raises:
            NotFound: there is no such key, or it is not valid any more.
        """
        old = self._valid_key(key_id)
        if old.fixed:
            raise InvalidParameter(
                f"Key {key_id} is fixed by the server's environment",
                hint="Change the variable and restart the server.",
            )
        made = self._new_key(
            old.role,
            old.project,
            label=old.label,
            networks=old.networks,
            rate=old.rate,
            origins=old.origins,
        )
        ends = self._clock() + grace_ms
        expires = ends if old.expires_at_ms is None else min(ends, old.expires_at_ms)
        with self._journal.database.transaction() as connection:
            self._insert_key(connection, made.key)
            connection.execute(
                "UPDATE access_key SET expires_at_ms = ? WHERE id = ?", (expires, key_id)
            )
            facts = {**_public(made.key), "replaces": key_id, "old_expires_at_ms": expires}
            self._log(connection, self._log_of(old), "key.rotated", facts)
        self.refresh()
        return made

    def fix_key(self, role: Role, project: Project | None, secret: str, *, log: bool = True) -> Key:
        """Make `secret`, given by the server's environment, the one fixed key of its role.

        Fixed keys of the same role and project that stood there before are revoked.

        Raises:
            AlreadyExists: the secret stands for another role or project.
        """
        now = self._clock()
        wanted = digest_of(secret)
        for key in self.all_keys():
            if (key.role, key.project, key.fixed) != (role, project, True):
                continue
            if key.digest != wanted and key.is_valid(now):
                self.revoke_key(key.id)
        known = self.snapshot.keys.get(wanted)
        if known is not None and (known.role, known.project) != (role, project):
            raise AlreadyExists(f"The {role} given is in use as another key, {known.id}")
        if known is None:
            made = self.create_key(role, project, secret=secret, label="environment", log=log)
            return made.key
        if not known.fixed or known.expires_at_ms is not None or known.revoked_at_ms is not None:
            with self._journal.database.transaction() as connection:
                connection.execute(
                    "UPDATE access_key SET revoked_at_ms = NULL, expires_at_ms = NULL, fixed = 1 "
                    "WHERE id = ?",
                    (known.id,),
                )
                self._log(connection, self._log_of(known), "key.restored", _public(known))
            self.refresh()
        return self.snapshot.keys[wanted]

    def revoke_key(self, key_id: str) -> Key:
        """End a key at once.

        Raises:
            NotFound: there is no such key, or it is not valid any more.
        """
        key = self._valid_key(key_id)
        now = self._clock()
        with self._journal.database.transaction() as connection:
            connection.execute(
                "UPDATE access_key SET revoked_at_ms = ? WHERE id = ?", (now, key_id)
            )
            self._log(connection, self._log_of(key), "key.revoked", _public(key))
        self.refresh()
        return replace(key, revoked_at_ms=now)

    def all_keys(self) -> list[Key]:
        """Every key that was ever made, oldest first."""
        return sorted(self.snapshot.keys.values(), key=lambda key: (key.created_at_ms, key.id))

    # Behind the scenes

    def refresh(self) -> None:
        """Read projects and keys from the file."""
        with self._refreshing:
            self._refresh()

    def _refresh_projects(self, first: int) -> None:
        """Read the projects from the id `first` on, and leave what is known as it is: making a
        project must not cost more the more there are."""
        with self._refreshing:
            old = self.snapshot
            new = {project.name: project for project in self._projects(first).values()}
            self.snapshot = replace(old, projects={**old.projects, **new})

    def _take_up(self, key: Key) -> None:
        """Add a new key to what is known."""
        with self._refreshing:
            old = self.snapshot
            tokens = old.tokens if key.token is None else {**old.tokens, key.token: key}
            self.snapshot = replace(old, keys={**old.keys, key.digest: key}, tokens=tokens)

    def _projects(self, first: int) -> dict[int, Project]:
        """The projects from the id `first` on, by id."""
        return {
            int(row[0]): Project(*row)
            for row in self._journal.database.reader().execute(
                "SELECT id, name, kind, monthly_limit, bot_policy, created_at_ms, ledger_access,"
                " retention_days, audit_monthly_limit FROM project WHERE id >= ?",
                (first,),
            )
        }

    def _refresh(self) -> None:
        connection = self._journal.database.reader()
        projects = self._projects(0)
        keys = [
            Key(
                id=row[0],
                project=None if row[1] is None else projects[row[1]],
                role=Role(row[2]),
                digest=row[3],
                token=row[4],
                prefix=row[5],
                label=row[6],
                networks=parse_networks(row[7]),
                created_at_ms=row[8],
                expires_at_ms=row[9],
                revoked_at_ms=row[10],
                fixed=bool(row[11]),
                rate=None if row[12] is None else Rate(row[12], row[13]),
                origins=tuple(row[14].split(",")) if row[14] else (),
            )
            for row in connection.execute(
                "SELECT id, project_id, role, digest, token, prefix, label, networks,"
                " created_at_ms, expires_at_ms, revoked_at_ms, fixed, rate, burst, origins"
                " FROM access_key"
            )
        ]
        self.snapshot = Snapshot(
            projects={project.name: project for project in projects.values()},
            keys={key.digest: key for key in keys},
            tokens={key.token: key for key in keys if key.token is not None},
        )

    def _valid_key(self, key_id: str) -> Key:
        for key in self.snapshot.keys.values():
            if key.id == key_id and key.is_valid(self._clock()):
                return key
        raise NotFound(f"There is no valid key {key_id!r}", hint="See `indelible keys list`.")

    def _new_key(
        self,
        role: Role,
        project: Project | None,
        *,
        label: str,
        networks: Sequence[Network],
        rate: Rate | None,
        origins: Sequence[str],
        secret: str | None = None,
    ) -> NewKey:
        text = secret or _prefix(role, project) + secrets.token_urlsafe(_RANDOM_BYTES)
        digest = digest_of(text)
        if digest in self.snapshot.keys:
            raise AlreadyExists("This secret is in use, or was")
        is_token = role is Role.TOKEN
        key = Key(
            id="key_" + secrets.token_hex(6),
            project=project,
            role=role,
            digest=digest,
            token=text if is_token else None,
            # A fixed secret may be short: show too little of it to help a guess.
            prefix=text if is_token else text[: 4 if secret else _PREFIX_LENGTH],
            label=label,
            networks=tuple(networks),
            created_at_ms=self._clock(),
            expires_at_ms=None,
            revoked_at_ms=None,
            fixed=secret is not None,
            rate=rate,
            origins=tuple(origins),
        )
        return NewKey(key, text)

    def _insert_key(self, connection: apsw.Connection, key: Key) -> None:
        connection.execute(
            "INSERT INTO access_key (id, project_id, role, digest, token, prefix, label, networks,"
            " created_at_ms, fixed, rate, burst, origins)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                key.id,
                key.project.id if key.project else None,
                key.role,
                key.digest,
                key.token,
                key.prefix,
                key.label,
                ",".join(map(str, key.networks)),
                key.created_at_ms,
                int(key.fixed),
                *_rate_columns(key),
            ),
        )

    def _log_of(self, key: Key) -> int:
        """Changes of an admin key are facts of the server: the first project's log has them."""
        if key.project is not None:
            return key.project.id
        return min(project.id for project in self.snapshot.projects.values())

    def _log(
        self, connection: apsw.Connection, project_id: int, event: str, facts: Mapping[str, object]
    ) -> None:
        draft = Draft(
            project_id=project_id,
            kind=Kind.ADMINISTRATION,
            received_at_ms=self._clock(),
            payload=msgspec.json.encode(facts, order="sorted"),
            record=msgspec.json.encode({"event": event}),
        )
        self._journal.log(connection, draft)


@contextmanager
def _taken_as(error: AlreadyExists) -> Iterator[None]:
    """Somebody else wrote the same name between our look and our write."""
    try:
        yield
    except apsw.ConstraintError:
        raise error from None


def _check_origins(role: Role, origins: Sequence[str]) -> None:
    """
    Raises:
        InvalidParameter.
    """
    if origins and role is not Role.TOKEN:
        raise InvalidParameter(
            "Only a token has origins: other keys are secret and belong in no page",
            hint="Bind an application or admin key to networks.",
        )


def _rate_columns(key: Key) -> tuple[float | None, int | None, str]:
    """Rate, burst and origins, in the order of the table."""
    per_s, burst = (key.rate.per_s, key.rate.burst) if key.rate else (None, None)
    return per_s, burst, ",".join(key.origins)


def _prefix(role: Role, project: Project | None) -> str:
    match role:
        case Role.TOKEN:
            return "ind_pub_"
        case Role.APPLICATION:
            assert project is not None
            return "iml_live_" if project.kind == "live" else "iml_test_"
        case Role.ADMIN:
            return "ind_adm_"


def _public(key: Key) -> dict[str, object]:
    """What the log may say of a key."""
    return {
        "key": key.id,
        "role": key.role,
        "label": key.label,
        "networks": [str(network) for network in key.networks],
        "rate": None if key.rate is None else key.rate.per_s,
        "burst": None if key.rate is None else key.rate.burst,
        "origins": list(key.origins),
    }
