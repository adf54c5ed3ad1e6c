"""All projects, keys and logs at one moment, as one immutable value.

It is what the gate looks things up in, without a lock. `encode` makes it bytes that another process
of the same server can `decode`; they hold digests of keys and no secret. They are no file format:
writer and readers are always of one version.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

import msgspec

from indelible.access import Scope
from indelible.errors import NotFound
from indelible.network import parse_networks
from indelible.registry.values import SERVER_ID, Key, LogRow, Project, Rate, Role, Row


class KeyRow(msgspec.Struct, frozen=True):
    """A key in flat values, as a table or a message holds it; see schema.sql for the members."""

    id: str
    project_id: int | None
    role: str
    digest: bytes
    token: str | None
    prefix: str
    label: str
    networks: str
    created_at_ms: int
    expires_at_ms: int | None
    revoked_at_ms: int | None
    fixed: int
    rate: float | None
    burst: int | None
    origins: str
    scopes: str

    @classmethod
    def of(cls, key: Key) -> "KeyRow":
        """Flatten a key."""
        return cls(
            id=key.id,
            project_id=None if key.project is None else key.project.id,
            role=key.role.value,
            digest=key.digest,
            token=key.token,
            prefix=key.prefix,
            label=key.label,
            networks=",".join(map(str, key.networks)),
            created_at_ms=key.created_at_ms,
            expires_at_ms=key.expires_at_ms,
            revoked_at_ms=key.revoked_at_ms,
            fixed=int(key.fixed),
            rate=None if key.rate is None else key.rate.per_s,
            burst=None if key.rate is None else key.rate.burst,
            origins=",".join(key.origins),
            scopes="" if key.scopes == key.role.scopes else ",".join(sorted(key.scopes)),
        )

    def key(self, projects: Mapping[int, Project]) -> Key:
        """Return the key, as one of these projects by id."""
        role = Role(self.role)
        rate = None
        if self.rate is not None:
            assert self.burst is not None
            rate = Rate(self.rate, self.burst)
        return Key(
            id=self.id,
            project=None if self.project_id is None else projects[self.project_id],
            role=role,
            digest=self.digest,
            token=self.token,
            prefix=self.prefix,
            label=self.label,
            networks=parse_networks(self.networks),
            created_at_ms=self.created_at_ms,
            expires_at_ms=self.expires_at_ms,
            revoked_at_ms=self.revoked_at_ms,
            fixed=bool(self.fixed),
            rate=rate,
            origins=tuple(self.origins.split(",")) if self.origins else (),
            scopes=frozenset(map(Scope, self.scopes.split(","))) if self.scopes else role.scopes,
        )


class Rows(msgspec.Struct, frozen=True, array_like=True):
    """Rows in flat values, as a message holds them: those of a snapshot, or of a change."""

    projects: list[Project]
    keys: list[KeyRow]
    logs: list[LogRow]

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """Sort and flatten rows."""
        flat = cls([], [], [])
        for row in rows:
            match row:
                case Project():
                    flat.projects.append(row)
                case Key():
                    flat.keys.append(KeyRow.of(row))
                case LogRow():
                    flat.logs.append(row)
        return flat

    def within(self, snapshot: "Snapshot") -> list[Row]:
        """Return the rows as a change of `snapshot`: projects first, which the others refer to."""
        known = [*snapshot.projects.values(), *self.projects]
        by_id = {project.id: project for project in known}
        return [*self.projects, *(key.key(by_id) for key in self.keys), *self.logs]


_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(Rows).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Projects by name, keys by the digest of their secret, tokens by their text, logs by name.

    Keys that are not valid any more are among them. `server` stands for what belongs to no project,
    and owns the server's own log; it is None only in a journal that no server of this version has
    opened.
    """

    projects: Mapping[str, Project]
    keys: Mapping[bytes, Key]
    tokens: Mapping[str, Key]
    logs: Mapping[str, LogRow]
    server: Project | None = None

    @classmethod
    def of(
        cls, projects: Iterable[Project], keys: Iterable[KeyRow], logs: Iterable[LogRow]
    ) -> "Snapshot":
        """Build a snapshot from rows in any order."""
        by_id = {project.id: project for project in projects}
        built = [row.key(by_id) for row in keys]
        return cls(
            projects={p.name: p for p in by_id.values() if p.id != SERVER_ID},
            keys={key.digest: key for key in built},
            tokens={key.token: key for key in built if key.token is not None},
            logs={log.name: log for log in logs},
            server=by_id.get(SERVER_ID),
        )

    @classmethod
    def decode(cls, content: bytes) -> "Snapshot":
        """Return the snapshot that `encode` was called on.

        Raises:
            msgspec.MsgspecError: these are no such bytes.
        """
        wire = _DECODE(content)
        return cls.of(wire.projects, wire.keys, wire.logs)

    def encode(self) -> bytes:
        """Return the snapshot as bytes: some 900 for a project with its log and three keys."""
        return _ENCODE(
            Rows(
                [*self.projects.values(), *([] if self.server is None else [self.server])],
                [KeyRow.of(key) for key in self.keys.values()],
                list(self.logs.values()),
            )
        )

    def after(self, rows: Iterable[Row]) -> "Snapshot":
        """Return the snapshot with these rows added, each in place of the one with its identity."""
        projects, keys, logs = dict(self.projects), dict(self.keys), dict(self.logs)
        tokens, server = dict(self.tokens), self.server
        for row in rows:
            match row:
                case Project(id=0):
                    server = row
                case Project():
                    projects[row.name] = row
                    theirs = [
                        replace(key, project=row)
                        for key in keys.values()
                        if key.project is not None and key.project.id == row.id
                    ]
                    keys |= {key.digest: key for key in theirs}
                    tokens |= {key.token: key for key in theirs if key.token is not None}
                case Key():
                    keys[row.digest] = row
                    if row.token is not None:
                        tokens[row.token] = row
                case LogRow():
                    logs[row.name] = row
        return Snapshot(projects, keys, tokens, logs, server)

    def project(self, name: str) -> Project:
        """Return the project with this name.

        Raises:
            NotFound: there is no such project.
        """
        try:
            return self.projects[name]
        except KeyError:
            raise NotFound(
                f"There is no project {name!r}", hint="See `indelible project list`."
            ) from None

    def project_by_id(self, project_id: int) -> Project | None:
        """Return the project with this id, the server's among them, or None if there is none."""
        if project_id == SERVER_ID:
            return self.server
        return next((p for p in self.projects.values() if p.id == project_id), None)


class Known(Protocol):
    """Whatever has the newest snapshot: the registry itself, or what another process got of it."""

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot, to be taken anew for each request."""
        ...
