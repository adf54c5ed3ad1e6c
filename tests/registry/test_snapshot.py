"""The snapshot: one immutable value, the same in any process."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.errors import JournalUnwritable, NotFound
from indelible.journal.registry_tables import RegistryTables
from indelible.registry.registry import Registry
from indelible.registry.snapshot import Rows, Snapshot
from indelible.registry.values import Key, Rate, Role, Row
from tests.journal.rig import SqliteRig
from tests.registry.contract import EVERYTHING_SEEN, SHOP, a_key

Step = Callable[[Registry], object]


@pytest.fixture
def registry(sqlite: SqliteRig) -> Registry:
    registry = Registry(RegistryTables(sqlite.journal), clock=sqlite.clock)
    registry.projects.create("default")
    return registry


def test_another_process_gets_the_same_snapshot() -> None:
    assert EVERYTHING_SEEN == Snapshot.decode(EVERYTHING_SEEN.encode())
    assert Snapshot({}, {}, {}, {}) == Snapshot.decode(Snapshot({}, {}, {}, {}).encode())


@given(st.data())
def test_bytes_that_were_cut_or_are_none_of_ours_are_no_snapshot(data: st.DataObject) -> None:
    whole = EVERYTHING_SEEN.encode()
    length = data.draw(st.integers(0, len(whole) - 1))
    for damaged in (whole[:length], whole + b"\0", data.draw(st.binary(max_size=40))):
        with pytest.raises(msgspec.MsgspecError):
            Snapshot.decode(damaged)


def test_the_encoded_snapshot_holds_no_secret(registry: Registry) -> None:
    made = registry.keys.create(Role.ADMIN, None)

    encoded = registry.snapshot.encode()

    assert made.key.digest in encoded
    assert made.secret.encode() not in encoded
    assert made.secret[len(made.key.prefix) :].encode() not in encoded


def test_a_snapshot_that_was_taken_never_changes(registry: Registry) -> None:
    before = registry.snapshot
    encoded = before.encode()

    registry.keys.create(Role.ADMIN, None)
    registry.projects.change("default", {"monthly_limit": 7})

    assert encoded == before.encode()
    assert registry.snapshot != before


def test_keys_of_a_project_are_those_of_the_project_as_it_is_now() -> None:
    token = a_key(2, role=Role.TOKEN)

    after = EVERYTHING_SEEN.after([replace(SHOP, bot_policy="off")])

    assert {"off"} == {
        key.project.bot_policy
        for key in (*after.keys.values(), *after.tokens.values())
        if key.project is not None
    }
    assert after.tokens[token.token or ""] == after.keys[token.digest]


def test_a_project_that_is_not_there_is_named_in_the_error() -> None:
    with pytest.raises(NotFound, match="'nobody'"):
        EVERYTHING_SEEN.project("nobody")
    assert EVERYTHING_SEEN.project_by_id(99) is None


def valid(registry: Registry, at: int) -> Key:
    keys = [key for key in registry.keys.all() if key.is_valid(registry.clock()) and not key.fixed]
    return keys[at % len(keys)]


STEPS: list[Step] = [
    lambda r: r.projects.create(f"shop-{len(r.snapshot.projects)}", retention_days=3),
    lambda r: r.projects.change("default", {"bot_policy": "mark", "ledger_access": "public"}),
    lambda r: r.keys.create(Role.TOKEN, r.snapshot.project("default"), origins=["https://a.b"]),
    lambda r: r.keys.create(Role.ADMIN, None, rate=Rate(2.5, 25), label="ops"),
    lambda r: r.keys.rotate(valid(r, 1).id, grace_ms=1_000),
    lambda r: r.keys.change(valid(r, 2).id, rate=None, origins=msgspec.UNSET),
    lambda r: r.keys.revoke(valid(r, 0).id),
    lambda r: r.keys.fix(Role.ADMIN, None, f"ind_adm_fixed-{len(r.snapshot.keys) % 3}"),
    lambda r: r.logs.identify("default", origin="example.org/x", vkey="vkey"),
    lambda r: r.logs.open("default"),
    lambda r: r.logs.succeed("default", f"default.{len(r.snapshot.logs) + 1}", {"kept": 0}),
]


@given(steps=st.lists(st.integers(0, len(STEPS) - 1), max_size=12))
def test_after_any_changes_the_snapshot_is_what_a_restart_reads(
    steps: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rig = SqliteRig(tmp_path_factory.mktemp("rig"))
    try:
        registry = Registry(RegistryTables(rig.journal), clock=rig.clock)
        registry.projects.create("default")
        for _ in range(4):
            registry.keys.create(Role.APPLICATION, registry.snapshot.project("default"))
        elsewhere = [Snapshot.decode(registry.snapshot.encode())]

        def heard(_: Snapshot, rows: Sequence[Row]) -> None:
            sent = msgspec.msgpack.encode(Rows.of(rows))
            told = msgspec.msgpack.decode(sent, type=Rows).within(elsewhere[-1])
            elsewhere.append(elsewhere[-1].after(told))

        registry.on_change(heard)

        for step in steps:
            rig.clock.now_ms += 1
            if any(key.is_valid(rig.clock()) and not key.fixed for key in registry.keys.all()):
                STEPS[step](registry)

        assert registry.snapshot == RegistryTables(rig.journal).load()
        assert elsewhere[-1] == registry.snapshot == Snapshot.decode(registry.snapshot.encode())
    finally:
        rig.close()


def test_others_have_the_new_snapshot_before_the_change_is_acknowledged(registry: Registry) -> None:
    key = registry.keys.create(Role.ADMIN, None).key
    seen: list[bool] = []
    registry.on_change(
        lambda snapshot, _: seen.append(snapshot.keys[key.digest].is_valid(registry.clock()))
    )

    registry.keys.revoke(key.id)

    assert [False] == seen


def test_a_change_that_was_not_written_reaches_nobody(
    sqlite: SqliteRig, registry: Registry
) -> None:
    seen: list[Snapshot] = []
    registry.on_change(lambda snapshot, _: seen.append(snapshot))
    sqlite.disk.writes_left = 0

    with pytest.raises(JournalUnwritable):
        registry.keys.create(Role.ADMIN, None)

    assert [] == seen
