"""What a start refuses, makes and leaves: before, while and after the parts of a server are built.

A refused start must not change anything, so what can be checked before the first write is checked
there: secrets that were given twice, parts of an earlier log, a witness policy that cannot be read.
"""

import json
import logging
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from indelible.errors import AlreadyExists, LogExists, PolicyMalformed, SettingInvalid
from indelible.layout import CLI_FILE, JOURNAL_FILE, KEYS_FOLDER, LEDGER_FOLDER, LOCK_FILE
from indelible.ledger.format.policy import MOST_POLICY_BYTES, Policy, parse_policy
from indelible.ledger.ledger import Choices
from indelible.ledger.lockstore import LockStore
from indelible.registry.registry import Registry
from indelible.registry.values import Role, digest_of
from indelible.settings import Settings
from indelible.untrusted import read_file

logger = logging.getLogger(__name__)

DEFAULT_PROJECT: Final = "default"


def refuse_one_secret_for_two(settings: Settings) -> None:
    """
    Raises:
        SettingInvalid: one secret was given for two keys.
    """
    first: dict[str, str] = {}
    given = [(variable, secret) for _, variable, secret in _fixed_secrets(settings)]
    if settings.metrics_key is not None:
        given.append(("INDELIBLE_METRICS_KEY", settings.metrics_key))
    for variable, secret in given:
        if secret in first:
            raise SettingInvalid(f"{first[secret]} and {variable} are the same")
        first[secret] = variable


def refuse_leftovers(folder: Path, *, base: str | None) -> None:
    """Refuse to create a journal next to the log or the WAL of an earlier one.

    `base` is the configured prefix of log origins, or None if each new log makes one up.

    Raises:
        LogExists: nothing was changed.
    """
    journal = folder / JOURNAL_FILE
    if journal.exists() and journal.stat().st_size > 0:
        return
    parts = (
        *(folder / KEYS_FOLDER).glob("*.key"),
        *(folder / LEDGER_FOLDER).glob("*/*"),
        folder / f"{JOURNAL_FILE}-wal",
    )
    for part in parts:
        if part.exists() and part.stat().st_size > 0:
            raise LogExists(f"{journal} is not there, and {part.relative_to(folder)} is")
    lock = folder / LOCK_FILE
    if base is not None and lock.exists() and lock.stat().st_size > 0:
        origin = f"{base}/{DEFAULT_PROJECT}"
        with closing(LockStore(lock, may_create=False)) as store:
            if store.head(origin) is not None:
                raise LogExists(f"{journal} is not there, and {LOCK_FILE} has {origin}")


def choices_of(settings: Settings) -> Choices:
    """What the ledger is told by the settings.

    Raises:
        SettingInvalid: the file of the witness policy cannot be read; the message names its line.
    """
    policy = Policy()
    if settings.witness_policy is not None:
        try:
            content = read_file(settings.witness_policy, most_bytes=MOST_POLICY_BYTES)
            policy = parse_policy(content.decode("utf-8"))
        except (OSError, UnicodeDecodeError, PolicyMalformed) as error:
            place = f"INDELIBLE_WITNESS_POLICY={settings.witness_policy}"
            raise SettingInvalid(f"{place}: {error}") from error
    return Choices(
        origin=settings.ledger_origin,
        seal_interval_ms=settings.seal_interval_ms,
        witness_interval_ms=settings.witness_interval_ms,
        witnesses=policy,
        scrub_bytes_per_s=settings.scrub_bytes_per_s,
    )


def refuse_taken_keys(settings: Settings, registry: Registry) -> None:
    """
    Raises:
        AlreadyExists: a secret that was given is in use as another key.
    """
    for role, _, secret in _fixed_secrets(settings):
        known = registry.snapshot.keys.get(digest_of(secret))
        if known is None:
            continue
        owner = None if known.project is None else known.project.name
        if (known.role, owner) != (role, None if role is Role.ADMIN else DEFAULT_PROJECT):
            raise AlreadyExists(f"The {role} given is in use as another key, {known.id}")


def settle_keys(settings: Settings, registry: Registry) -> dict[str, str]:
    """Make the project `default` and its keys on first start; fix those that are given.

    Returns the secrets that were made now, by what they are called.
    """
    made: dict[str, str] = {}
    registry.projects.make_server()
    is_first_start = DEFAULT_PROJECT not in registry.snapshot.projects
    if is_first_start:
        registry.projects.create(DEFAULT_PROJECT)
    project = registry.snapshot.project(DEFAULT_PROJECT)
    wanted = (
        ("token", Role.TOKEN, project, settings.server_token),
        ("API key", Role.APPLICATION, project, settings.server_api_key),
        ("admin key", Role.ADMIN, None, settings.server_admin_key),
    )
    for name, role, owner, given in wanted:
        if given is not None:
            registry.keys.fix(role, owner, given, log=not is_first_start)
        elif not any((k.role, k.project) == (role, owner) for k in registry.keys.all()):
            made[name] = registry.keys.create(role, owner, label="first", log=False).secret
    return made


def write_cli_file(
    settings: Settings,
    registry: Registry,
    url: str,
    *,
    made: str | None,
    is_admin: Callable[[str], bool],
) -> None:
    """Leave the address and an admin key for commands that run on this machine.

    `made` is the admin key if it was made now; `is_admin` tells whether a secret is one.
    """
    path = settings.data_dir / CLI_FILE
    admin_key = settings.server_admin_key or made
    if admin_key is None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            left = read_file(path, most_bytes=64 * 1024, only_mine=True)
            admin_key = str(json.loads(left)["admin_key"])
    if admin_key is None or not is_admin(admin_key):
        admin_key = registry.keys.create(Role.ADMIN, None, label="this machine").secret
    draft = path.with_suffix(".tmp")
    try:
        draft.unlink(missing_ok=True)  # written through, if it were a link
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(json.dumps({"host": url, "admin_key": admin_key}))
        draft.replace(path)
    except OSError as error:  # on a full disk: the server itself does not need it
        logger.warning("%s could not be written: %s", path, error.strerror)
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _fixed_secrets(settings: Settings) -> list[tuple[Role, str, str]]:
    """Return role, variable and value of each secret fixed by the environment."""
    given = (
        (Role.TOKEN, "INDELIBLE_SERVER_TOKEN", settings.server_token),
        (Role.APPLICATION, "INDELIBLE_SERVER_API_KEY", settings.server_api_key),
        (Role.ADMIN, "INDELIBLE_SERVER_ADMIN_KEY", settings.server_admin_key),
    )
    return [(role, variable, secret) for role, variable, secret in given if secret is not None]
