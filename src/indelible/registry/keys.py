"""Keys: made, changed, rotated, revoked, and fixed by the server's environment.

A secret exists in clear only in the return value of the call that made it; the registry keeps its
SHA-256 digest. The project token is public by nature and stays readable.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import msgspec

from indelible.errors import AlreadyExists, InvalidParameter, NotFound
from indelible.network import Network
from indelible.registry.values import DEFAULT_GRACE_MS, Key, NewKey, Project, Rate, Role, digest_of

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
        with self._registry.turn():
            made = self._make(
                role,
                project,
                label=label,
                networks=networks,
                rate=rate,
                origins=origins,
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
        self._registry.change(
            name,
            {**_public(key), **(facts or {})},
            project_id=self._log_of(key),
            added=added,
            changed=changed,
        )

    def _log_of(self, key: Key) -> int:
        """Changes of an admin key are facts of the server: the first project's log has them."""
        if key.project is not None:
            return key.project.id
        return min(project.id for project in self._registry.snapshot.projects.values())


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
