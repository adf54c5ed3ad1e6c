"""Projects and keys: secrets in no file, windows of rotation, and every change in the log."""

import hashlib
import json
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indelible.access import Scope
from indelible.errors import AlreadyExists, InvalidParameter, JournalUnwritable, NotFound
from indelible.event import Kind, Lane
from indelible.journal.contract import Stored
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.network import parse_networks
from indelible.registry.registry import Registry
from indelible.registry.values import Key, Project, Role
from tests.journal.contract import DAY_MS, NEW_YEAR_MS, a_draft, numbered, whole_log
from tests.journal.rig import MakeRigOf, SqliteRig

HOUR_MS = 60 * 60 * 1000
A, B = "ind_adm_first-secret-0001", "ind_adm_second-secret-0002"


def open_registry(rig: SqliteRig) -> Registry:
    return Registry(RegistryTables(rig.journal), clock=rig.clock)


@pytest.fixture
def registry(sqlite: SqliteRig) -> Registry:
    return open_registry(sqlite)


@pytest.fixture
def project(registry: Registry) -> Project:
    return registry.projects.create("default")


def administration(rig: SqliteRig, project: Project) -> list[tuple[str, dict[str, Any]]]:
    """The administration events of the project's log: name and facts."""
    events = []
    for entry in whole_log(rig.journal, project.id):
        if entry.leaf.kind is Kind.ADMINISTRATION:
            assert entry.record is not None
            assert entry.payload is not None
            events.append((json.loads(entry.record)["event"], json.loads(entry.payload)))
    return events


def valid_secrets(rig: SqliteRig, secrets: Iterable[str]) -> list[str]:
    """Those of `secrets` that open something now, by a registry that reads the file anew."""
    keys = open_registry(rig).snapshot.keys
    return [
        secret
        for secret in secrets
        if (key := keys.get(hashlib.sha256(secret.encode()).digest())) is not None
        and key.is_valid(rig.clock())
    ]


def bytes_under(folder: Path) -> bytes:
    return b"\x00".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# Secrets


def test_no_file_holds_a_secret(sqlite: SqliteRig, registry: Registry, project: Project) -> None:
    fixed = "iml_live_fixed-by-the-environment"
    made = [
        registry.keys.create(Role.APPLICATION, project, label="shop"),
        registry.keys.create(Role.ADMIN, None),
        registry.keys.create(Role.APPLICATION, project, secret=fixed),
    ]
    made.append(registry.keys.rotate(made[0].key.id))
    made.append(registry.keys.rotate(made[1].key.id))
    registry.keys.revoke(made[3].key.id)
    token = registry.keys.create(Role.TOKEN, project).secret

    files = bytes_under(sqlite.folder)  # the WAL among them
    sqlite.reopen()  # folds the WAL into the file
    files += bytes_under(sqlite.folder)

    # The token is public and kept: proof that this search would find a secret.
    assert token.encode() in files
    for new in made:
        assert new.secret.encode() not in files
        assert new.secret[len(new.key.prefix) :].encode() not in files
        assert new.secret.startswith(new.key.prefix)
        assert len(new.secret) - len(new.key.prefix) >= 20
        assert hashlib.sha256(new.secret.encode()).digest() in files


def test_secrets_are_long_random_and_named_after_what_they_open(
    registry: Registry, project: Project
) -> None:
    trial = registry.projects.create("trial", kind="test")
    for role, owner, prefix in (
        (Role.TOKEN, project, "ind_pub_"),
        (Role.APPLICATION, project, "iml_live_"),
        (Role.APPLICATION, trial, "iml_test_"),
        (Role.ADMIN, None, "ind_adm_"),
    ):
        secrets = [registry.keys.create(role, owner).secret for _ in range(3)]
        assert 3 == len(set(secrets))
        for secret in secrets:
            assert secret.startswith(prefix)
            assert len(secret) - len(prefix) >= 32


def test_a_token_or_application_key_has_a_project_and_an_admin_key_none(
    registry: Registry, project: Project
) -> None:
    for role, owner in ((Role.TOKEN, None), (Role.APPLICATION, None), (Role.ADMIN, project)):
        with pytest.raises(InvalidParameter):
            registry.keys.create(role, owner)
    assert [] == registry.keys.all()


def test_a_secret_that_was_ever_used_is_not_taken_again(
    registry: Registry, project: Project
) -> None:
    key = registry.keys.create(Role.APPLICATION, project, secret=A).key
    with pytest.raises(AlreadyExists):
        registry.keys.create(Role.ADMIN, None, secret=A)
    registry.keys.revoke(key.id)
    with pytest.raises(AlreadyExists):
        registry.keys.create(Role.APPLICATION, project, secret=A)


# Rotation


def test_both_keys_are_valid_during_the_window_of_a_rotation_and_then_the_new_one(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    old = registry.keys.create(Role.APPLICATION, project)
    new = registry.keys.rotate(old.key.id, grace_ms=HOUR_MS)
    both = [old.secret, new.secret]

    assert both == valid_secrets(sqlite, both)
    sqlite.clock.now_ms += HOUR_MS - 1
    assert both == valid_secrets(sqlite, both)
    sqlite.clock.now_ms += 1
    assert [new.secret] == valid_secrets(sqlite, both)
    sqlite.reopen()
    assert [new.secret] == valid_secrets(sqlite, both)
    with pytest.raises(NotFound):
        registry.keys.rotate(old.key.id)
    with pytest.raises(NotFound):
        registry.keys.revoke(old.key.id)


def test_the_window_is_a_day_unless_another_is_asked_for(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    old = registry.keys.create(Role.APPLICATION, project)
    new = registry.keys.rotate(old.key.id)
    sqlite.clock.now_ms += DAY_MS - 1
    assert [old.secret, new.secret] == valid_secrets(sqlite, [old.secret, new.secret])
    sqlite.clock.now_ms += 1
    assert [new.secret] == valid_secrets(sqlite, [old.secret, new.secret])


def test_a_rotation_without_a_window_ends_the_old_key_at_once(
    sqlite: SqliteRig, registry: Registry
) -> None:
    registry.projects.create("default")
    old = registry.keys.create(Role.ADMIN, None)
    new = registry.keys.rotate(old.key.id, grace_ms=0)
    assert [new.secret] == valid_secrets(sqlite, [old.secret, new.secret])


def test_rotating_again_never_lengthens_the_window(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    old = registry.keys.create(Role.APPLICATION, project)
    registry.keys.rotate(old.key.id, grace_ms=HOUR_MS)
    registry.keys.rotate(old.key.id, grace_ms=DAY_MS)
    sqlite.clock.now_ms += HOUR_MS
    assert [] == valid_secrets(sqlite, [old.secret])


def test_a_successor_has_the_rights_of_the_old_key(registry: Registry, project: Project) -> None:
    networks = parse_networks("10.0.0.0/8")
    old = registry.keys.create(Role.APPLICATION, project, label="shop", networks=networks).key
    new = registry.keys.rotate(old.id).key

    def rights(key: Key) -> tuple[object, ...]:
        return key.role, key.project, key.label, key.networks

    assert rights(old) == rights(new)
    assert old.id != new.id


def test_a_revoked_key_opens_nothing_from_that_moment_on(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    key = registry.keys.create(Role.APPLICATION, project)
    registry.keys.revoke(key.key.id)
    assert [] == valid_secrets(sqlite, [key.secret])
    with pytest.raises(NotFound):
        registry.keys.rotate(key.key.id)
    with pytest.raises(NotFound):
        registry.keys.revoke("key_unknown")


# Fixed keys


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.sampled_from([A, B, None]), min_size=1, max_size=6))
def test_over_any_restarts_the_fixed_key_is_the_one_the_environment_named_last(
    make_rig_of: MakeRigOf, starts: list[str | None]
) -> None:
    rig = make_rig_of(SqliteJournal)
    open_registry(rig).projects.create("default")
    last = None
    for given_key in starts:
        if given_key is not None:
            open_registry(rig).keys.fix(Role.ADMIN, None, given_key)
            last = given_key
        rig.clock.now_ms += HOUR_MS
        rig.reopen()
        assert ([] if last is None else [last]) == valid_secrets(rig, [A, B])
    assert len({s for s in starts if s}) == len(open_registry(rig).keys.all())


@pytest.mark.parametrize(
    ("role", "has_project"), [(Role.TOKEN, True), (Role.APPLICATION, True), (Role.ADMIN, False)]
)
def test_a_fixed_key_that_comes_back_is_valid_again_and_the_log_tells_it(
    sqlite: SqliteRig, role: Role, has_project: bool
) -> None:
    project = open_registry(sqlite).projects.create("default")
    for secret in (A, B, A, A):
        sqlite.reopen()
        open_registry(sqlite).keys.fix(role, project if has_project else None, secret)
        assert [secret] == valid_secrets(sqlite, [A, B])
    server = open_registry(sqlite).snapshot.server
    owner = project if has_project else server
    assert owner is not None
    names = [name for name, _ in administration(sqlite, owner)]
    assert ["key.created", "key.revoked", "key.created", "key.revoked", "key.restored"] == names


def test_fixing_a_key_leaves_those_of_other_roles_and_projects_alone(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    other = registry.projects.create("other")
    registry.keys.fix(Role.APPLICATION, other, "iml_live_of-the-other-project")
    registry.keys.fix(Role.TOKEN, project, "token-of-the-project")
    random = registry.keys.create(Role.APPLICATION, project).secret
    registry.keys.fix(Role.APPLICATION, project, A)
    registry.keys.fix(Role.APPLICATION, project, B)
    secrets = ["iml_live_of-the-other-project", "token-of-the-project", random, A, B]
    assert [*secrets[:3], B] == valid_secrets(sqlite, secrets)


def test_a_fixed_key_is_not_rotated_but_changed_where_it_is_fixed(
    registry: Registry, project: Project
) -> None:
    key = registry.keys.fix(Role.APPLICATION, project, A)
    with pytest.raises(InvalidParameter):
        registry.keys.rotate(key.id)


def test_one_secret_does_not_stand_for_two_roles(registry: Registry, project: Project) -> None:
    registry.keys.fix(Role.APPLICATION, project, A)
    with pytest.raises(AlreadyExists):
        registry.keys.fix(Role.ADMIN, None, A)


def test_a_random_key_that_the_environment_fixes_later_ends_when_another_takes_its_place(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    random = registry.keys.create(Role.APPLICATION, project).secret
    assert registry.keys.fix(Role.APPLICATION, project, random).fixed
    registry.keys.fix(Role.APPLICATION, project, A)
    assert [A] == valid_secrets(sqlite, [random, A])


def test_a_key_that_the_environment_fixes_outlives_its_rotation(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    old = registry.keys.create(Role.APPLICATION, project)
    registry.keys.rotate(old.key.id, grace_ms=HOUR_MS)
    registry.keys.fix(Role.APPLICATION, project, old.secret)
    sqlite.clock.now_ms += DAY_MS
    assert [old.secret] == valid_secrets(sqlite, [old.secret])


# Addresses


def test_a_key_with_networks_opens_from_those_addresses_alone(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    networks = parse_networks("10.1.0.0/16, 2001:db8::/32, 192.0.2.7")
    registry.keys.create(Role.APPLICATION, project, networks=networks)
    registry.keys.create(Role.APPLICATION, project)
    sqlite.reopen()

    bound, free = sorted(open_registry(sqlite).keys.all(), key=lambda key: not key.networks)
    assert networks == bound.networks
    for address, allowed in (
        ("10.1.255.255", True),
        ("10.2.0.0", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("2001:db8:ffff::1", True),
        ("2001:db9::", False),
        ("::1", False),
    ):
        assert allowed is bound.allows(ip_address(address)), address
        assert free.allows(ip_address(address))
    assert not bound.allows(None)
    assert free.allows(None)


# Projects


def test_a_project_is_there_after_a_restart_as_it_was_made_and_changed(sqlite: SqliteRig) -> None:
    registry = open_registry(sqlite)
    registry.projects.create("plain")
    registry.projects.create("rich", kind="test", monthly_limit=5, bot_policy="mark")
    registry.projects.change("rich", {"monthly_limit": None})
    registry.projects.change("plain", {"bot_policy": "off", "monthly_limit": 7})

    sqlite.reopen()

    registry = open_registry(sqlite)
    rich, plain = registry.snapshot.project("rich"), registry.snapshot.project("plain")
    assert ("test", None, "mark") == (rich.kind, rich.monthly_limit, rich.bot_policy)
    assert ("live", 7, "off") == (plain.kind, plain.monthly_limit, plain.bot_policy)
    assert NEW_YEAR_MS == plain.created_at_ms
    changes = [("project.changed", {"bot_policy": "off", "monthly_limit": 7})]
    assert changes == administration(sqlite, plain)
    with pytest.raises(NotFound):
        registry.snapshot.project("unknown")
    with pytest.raises(NotFound):
        registry.projects.change("unknown", {"monthly_limit": 1})


def test_the_month_of_a_project_is_counted_without_administration(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    sqlite.journal.append(numbered(project.id, 3))
    sqlite.journal.append(numbered(project.id, 3))
    registry.keys.create(Role.APPLICATION, project)
    sqlite.journal.append([a_draft(project.id, kind=Kind.AUDIT, lane=Lane.AUDIT)])
    registry.keys.create(Role.APPLICATION, project)

    def counts() -> tuple[int, int, int]:
        product, audit = (registry.events_this_month(project, lane) for lane in Lane)
        return product, audit, sqlite.journal.next_index(project.id)

    assert (3, 1, 6) == counts()
    sqlite.clock.now_ms += 31 * DAY_MS
    assert (0, 0, 6) == counts()


def test_two_callers_who_make_the_same_project_at_once_do_not_stop_the_journal(
    sqlite: SqliteRig,
) -> None:
    # Each has looked before the other wrote, as two threads of the server can.
    one, two = open_registry(sqlite), open_registry(sqlite)
    made = one.projects.create("shop")
    with pytest.raises(AlreadyExists):
        two.projects.create("shop")
    assert sqlite.database.failure is None
    assert [Stored] == [type(o) for o in sqlite.journal.append([a_draft(made.id)])]


# Administration events


def test_every_change_of_a_key_is_an_administration_event_without_its_secret(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    networks = parse_networks("10.0.0.0/8")
    old = registry.keys.create(Role.APPLICATION, project, label="shop", networks=networks)
    new = registry.keys.rotate(old.key.id, grace_ms=HOUR_MS)
    registry.keys.revoke(new.key.id)
    registry.keys.create(Role.TOKEN, project, label="born with it", log=False)

    facts = {
        "role": "application",
        "label": "shop",
        "networks": ["10.0.0.0/8"],
        "rate": None,
        "burst": None,
        "origins": [],
        "scopes": ["query", "read", "write"],
    }
    assert [
        ("key.created", {**facts, "key": old.key.id}),
        (
            "key.rotated",
            {
                **facts,
                "key": new.key.id,
                "replaces": old.key.id,
                "old_expires_at_ms": NEW_YEAR_MS + HOUR_MS,
            },
        ),
        ("key.revoked", {**facts, "key": new.key.id}),
    ] == administration(sqlite, project)
    log = b"".join(
        (entry.payload or b"") + (entry.record or b"")
        for entry in whole_log(sqlite.journal, project.id)
    )
    for secret in (old.secret, new.secret):
        assert secret[9:].encode() not in log
        assert hashlib.sha256(secret.encode()).hexdigest().encode() not in log


def test_changes_of_admin_keys_are_in_the_servers_own_log(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    key = registry.keys.create(Role.ADMIN, None).key
    registry.keys.revoke(registry.keys.rotate(key.id).key.id)
    assert registry.snapshot.server is not None
    names = [name for name, _ in administration(sqlite, registry.snapshot.server)]
    assert ["key.created", "key.rotated", "key.revoked"] == names
    assert [] == administration(sqlite, project)


def test_a_change_that_cannot_be_logged_does_not_happen(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    key = registry.keys.create(Role.APPLICATION, project)
    before = whole_log(sqlite.journal, project.id)
    for change in (
        lambda: registry.keys.create(Role.ADMIN, None),
        lambda: registry.keys.rotate(key.key.id),
        lambda: registry.keys.revoke(key.key.id),
        lambda: registry.projects.change("default", {"monthly_limit": 1}),
        lambda: registry.keys.fix(Role.APPLICATION, project, A),
    ):
        sqlite.disk.writes_left = 1
        with pytest.raises(JournalUnwritable):
            change()
        sqlite.disk.writes_left = None
    for seen in (registry, open_registry(sqlite)):
        assert [key.key] == seen.keys.all()
        assert seen.snapshot.project("default").monthly_limit is None
    assert before == whole_log(sqlite.journal, project.id)


# Many projects


def test_making_a_project_rarely_changes_the_schema(sqlite: SqliteRig) -> None:
    """Every connection reads all of it again whenever it is changed."""
    registry = Registry(RegistryTables(sqlite.journal))
    reader = sqlite.database.reader()
    versions = set()
    for number in range(130):
        project = registry.projects.create(f"shop-{number}")
        assert project == registry.snapshot.projects[project.name]
        assert 0 == sqlite.journal.next_index(project.id)
        versions.add(reader.pragma("schema_version"))
    assert len(versions) <= 9
    assert 0 == reader.execute("SELECT count(*) FROM event").get  # the view names all tables


def test_projects_and_keys_that_were_added_are_those_that_a_restart_reads(
    sqlite: SqliteRig,
) -> None:
    registry = Registry(RegistryTables(sqlite.journal))
    for number in range(5):
        project = registry.projects.create(f"shop-{number}", retention_days=number or None)
        for role in (Role.TOKEN, Role.APPLICATION):
            registry.keys.create(role, project, label="first", log=False)
    registry.keys.create(Role.ADMIN, None, log=False)
    assert registry.snapshot == Registry(RegistryTables(sqlite.journal)).snapshot


def test_a_key_that_is_made_during_a_change_of_its_project_has_the_new_rules(
    registry: Registry, project: Project
) -> None:
    changed = registry.projects.change("default", {"monthly_limit": 7})
    assert changed != project

    assert changed == registry.keys.create(Role.TOKEN, project).key.project


# Scopes


def test_a_key_of_a_journal_from_before_scopes_has_all_that_its_role_had(
    sqlite: SqliteRig, registry: Registry, project: Project
) -> None:
    for role, owner in ((Role.TOKEN, project), (Role.APPLICATION, project), (Role.ADMIN, None)):
        registry.keys.create(role, owner)
    sqlite.journal.close()
    connection = apsw.Connection(str(sqlite.folder / "journal.db"))
    connection.execute(
        "ALTER TABLE access_key DROP COLUMN scopes; ALTER TABLE log DROP COLUMN shard;"
        " ALTER TABLE project DROP COLUMN legal_hold;"
        " PRAGMA user_version = 3"
    )
    connection.close()
    sqlite.reopen()

    keys = open_registry(sqlite).keys.all()

    assert {
        Role.TOKEN: {Scope.WRITE},
        Role.APPLICATION: {Scope.WRITE, Scope.READ, Scope.QUERY},
        Role.ADMIN: set(Scope),
    } == {key.role: set(key.scopes) for key in keys}


@given(scopes=st.sets(st.sampled_from(Scope)), role=st.sampled_from(Role))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_only_an_application_key_is_narrowed_and_never_widened(
    sqlite: SqliteRig, registry: Registry, project: Project, scopes: set[Scope], role: Role
) -> None:
    owner = None if role is Role.ADMIN else project
    allowed = role is Role.APPLICATION and scopes and Scope.MANAGE not in scopes
    if not allowed:
        with pytest.raises(InvalidParameter):
            registry.keys.create(role, owner, scopes=frozenset(scopes))
        return
    key = registry.keys.create(role, owner, scopes=frozenset(scopes)).key
    assert scopes == key.scopes
    assert scopes == open_registry(sqlite).snapshot.keys[key.digest].scopes
