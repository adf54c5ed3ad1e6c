"""Keys: made, changed, rotated, revoked, and fixed by the server's environment.

A secret exists in clear only in the return value of the call that made it; the registry keeps its
SHA-256 digest. The project token is public by nature and stays readable.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from indelible.access import OF_APPLICATIONS, Scope
from indelible.errors import AlreadyExists, InvalidParameter, NotFound
from indelible.event import LogId
from indelible.network import Network
from indelible.registry.values import (
    DEFAULT_GRACE_MS,
    SERVER_ID,
    Key,
    NewKey,
    Project,
    Rate,
    Role,
    digest_of,
)

if TYPE_CHECKING:
    from indelible.registry.registry import Registry

Unset = msgspec.UnsetType

_RANDOM_BYTES: Final = 24  # 192 bits: no digest of such a key can be turned back
_PREFIX_LENGTH: Final = 14


class Keys:
    """The keys of a registry."""

    def __init__(self, registry: "Registry") -> None:
        self._registry = registry

    def create(
        self,
        role: Role,
        project: Project | None,
        *,
        label: str = "",
        networks: Sequence[Network] = (),
        rate: Rate | None = None,
        origins: Sequence[str] = (),
        scopes: frozenset[Scope] | None = None,
        secret: str | None = None,
        log: bool = True,
    ) -> NewKey:
        """Make a key; `secret` fixes it (the server's environment does that), else it is random.

        `scopes` narrows an application key; None leaves what the role has. `log` is False for the
        keys that a project or the server is born with.

        Raises:
            InvalidParameter: a token or application key without a project, an admin key with
                one, a key that is no token with origins, or scopes that the role cannot have.
        """
        if (role is Role.ADMIN) != (project is None):
            raise InvalidParameter(
                "A token or application key belongs to a project, an admin key to none"
            )
        _check_origins(role, origins)
        _check_scopes(role, scopes)
        with self._registry.turn() as snapshot:
            # The caller's may be from before a change of its rules.
            project = None if project is None else snapshot.project(project.name)
            made = self._make(
                role,
                project,
                label=label,
                networks=networks,
                rate=rate,
                origins=origins,
                scopes=role.scopes if scopes is None else scopes,
                secret=secret,
            )
            if log:
                self._change("key.created", made.key, added=[made.key])
            else:
                self._registry.change_untold(added=[made.key])
        return made

    def change(
        self, key_id: str, *, rate: Rate | Unset | None, origins: Sequence[str] | Unset
    ) -> Key:
        """Set the rate or the origins of a key, from the next request on; UNSET leaves one.

        Raises:
            NotFound: there is no such key, or it is not valid any more.
            InvalidParameter: it is no token, and has no origins.
        """
        with self._registry.turn():
            key = self._valid(key_id)
            if not isinstance(origins, Unset):
                _check_origins(key.role, origins)
                key = replace(key, origins=tuple(origins))
            if not isinstance(rate, Unset):
                key = replace(key, rate=rate)
            self._change("key.changed", key, changed=[key])
        return key

    def rotate(self, key_id: str, *, grace_ms: int = DEFAULT_GRACE_MS) -> NewKey:
        """Make a successor with the same rights; the old key stays valid for `grace_ms`.

        Raises:
            NotFound: there is no such key, or it is not valid any more.
        """
        with self._registry.turn():
            old = self._valid(key_id)
            if old.fixed:
                raise InvalidParameter(
                    f"Key {key_id} is fixed by the server's environment",
                    hint="Change the variable and restart the server.",
                )
            made = self._make(
                old.role,
                old.project,
                label=old.label,
                networks=old.networks,
                rate=old.rate,
                origins=old.origins,
                scopes=old.scopes,
            )
            ends = self._registry.clock() + grace_ms
            expires = ends if old.expires_at_ms is None else min(ends, old.expires_at_ms)
            self._change(
                "key.rotated",
                made.key,
                added=[made.key],
                changed=[replace(old, expires_at_ms=expires)],
                facts={"replaces": key_id, "old_expires_at_ms": expires},
            )
        return made

    def fix(self, role: Role, project: Project | None, secret: str, *, log: bool = True) -> Key:
        """Make `secret`, given by the server's environment, the one fixed key of its role.

        Fixed keys of the same role and project that were there before are revoked.

        Raises:
            AlreadyExists: the secret is another role's or project's.
        """
        wanted = digest_of(secret)
        with self._registry.turn():
            now = self._registry.clock()
            for key in self.all():
                if (key.role, key.project, key.fixed) != (role, project, True):
                    continue
                if key.digest != wanted and key.is_valid(now):
                    self.revoke(key.id)
            known = self._registry.snapshot.keys.get(wanted)
            if known is None:
                return self.create(role, project, secret=secret, label="environment", log=log).key
            if (known.role, known.project) != (role, project):
                raise AlreadyExists(f"The {role} given is in use as another key, {known.id}")
            fixed = replace(known, revoked_at_ms=None, expires_at_ms=None, fixed=True)
            if fixed != known:
                self._change("key.restored", fixed, changed=[fixed])
        return fixed

    def revoke(self, key_id: str) -> Key:
        """End a key at once.

        Raises:
            NotFound: there is no such key, or it is not valid any more.
        """
        with self._registry.turn():
            key = replace(self._valid(key_id), revoked_at_ms=self._registry.clock())
            self._change("key.revoked", key, changed=[key])
        return key

    def all(self) -> list[Key]:
        """Return every key that was ever made, oldest first."""
        keys = self._registry.snapshot.keys.values()
        return sorted(keys, key=lambda key: (key.created_at_ms, key.id))

    def _valid(self, key_id: str) -> Key:
        for key in self._registry.snapshot.keys.values():
            if key.id == key_id and key.is_valid(self._registry.clock()):
                return key
        raise NotFound(f"There is no valid key {key_id!r}", hint="See `indelible keys list`.")

    def _make(
        self,
        role: Role,
        project: Project | None,
        *,
        label: str,
        networks: Sequence[Network],
        rate: Rate | None,
        origins: Sequence[str],
        scopes: frozenset[Scope],
        secret: str | None = None,
    ) -> NewKey:
        text = secret or _prefix(role, project) + secrets.token_urlsafe(_RANDOM_BYTES)
        digest = digest_of(text)
        if digest in self._registry.snapshot.keys:
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
            created_at_ms=self._registry.clock(),
            expires_at_ms=None,
            revoked_at_ms=None,
            fixed=secret is not None,
            rate=rate,
            origins=tuple(origins),
            scopes=scopes,
        )
        return NewKey(key, text)

    def _change(
        self,
        name: str,
        key: Key,
        *,
        added: Sequence[Key] = (),
        changed: Sequence[Key] = (),
        facts: Mapping[str, object] | None = None,
    ) -> None:
        if key.project is None:
            self._registry.projects.make_server()
        self._registry.change(
            name,
            {**_public(key), **(facts or {})},
            log=LogId(SERVER_ID) if key.project is None else key.project.log,
            added=added,
            changed=changed,
        )


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


def _check_scopes(role: Role, scopes: frozenset[Scope] | None) -> None:
    """
    Raises:
        InvalidParameter.
    """
    if scopes is None:
        return
    if role is not Role.APPLICATION:
        raise InvalidParameter(
            "Only an application key has scopes to choose: a token writes, an admin key does all",
            hint="Leave the scopes out, or make an application key.",
        )
    if not scopes or not scopes <= OF_APPLICATIONS:
        most = ", ".join(scope for scope in Scope if scope in OF_APPLICATIONS)
        raise InvalidParameter(
            f"An application key has one or more of the scopes {most}",
            hint="Make an admin key for `manage`.",
        )


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
        "scopes": sorted(key.scopes),
    }
