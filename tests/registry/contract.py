"""What every store of a registry must do. `test_store` runs it against the one in SQLite.

A rig has a store whose folder can be opened again, or lose power, and a journal next to it.
"""

from typing import Protocol

import pytest

from indelible.access import Scope
from indelible.errors import AlreadyExists, JournalUnwritable
from indelible.event import Kind, Lane, LogId
from indelible.journal.contract import Entry
from indelible.network import parse_networks
from indelible.registry.snapshot import Snapshot
from indelible.registry.store import Administration, Store
from indelible.registry.values import Key, LogRow, Project, Rate, Role, digest_of

SHOP = Project(
    id=1,
    name="shop",
    kind="live",
    monthly_limit=1_000,
    bot_policy="mark",
    created_at_ms=1_700_000_000_000,
    ledger_access="key",
    retention_days=30,
    audit_monthly_limit=None,
    legal_hold=True,
)
TRIAL = Project(2, "trial", "test", None, None, 1_700_000_000_001, "public", None, 7)
SHOP_LOG = LogRow("shop", 1, None, None, "new")
TRIAL_LOG = LogRow("trial", 2, "example.org/trial", "example.org/trial+0+AA==", "open")


def a_key(number: int = 1, project: Project | None = SHOP, role: Role = Role.APPLICATION) -> Key:
    """A key with something in every member that it can have."""
    secret = f"secret-{number}"
    return Key(
        id=f"key_{number:012x}",
        project=project,
        role=role,
        digest=digest_of(secret),
        token=secret if role is Role.TOKEN else None,
        prefix="iml_live_",
        label="till, no. 7: \u201cbilling\u201d",
        networks=parse_networks("10.0.0.0/8,2001:db8::/32"),
        created_at_ms=1_700_000_000_002,
        expires_at_ms=1_800_000_000_000,
        revoked_at_ms=None,
        fixed=False,
        rate=Rate(0.5, 20),
        scopes=frozenset({Scope.WRITE}) if role is Role.APPLICATION else role.scopes,
        origins=("https://shop.example", "https://*.shop.example") if role is Role.TOKEN else (),
    )


EVERYTHING = (SHOP, TRIAL, SHOP_LOG, TRIAL_LOG, a_key(), a_key(2, role=Role.TOKEN), a_key(3, None))
EVERYTHING_SEEN = Snapshot.of([], [], []).after(EVERYTHING)


class StoreRig(Protocol):
    """A store under test."""

    store: Store

    def log(self, project_id: int) -> list[Entry]:
        """The whole log of a project."""
        ...

    def reopen(self) -> None:
        """Close the store and open it again."""
        ...

    def lose_power(self) -> None:
        """Open what a power loss at this moment leaves on disk."""
        ...

    def fail_writes(self) -> None:
        """Let every write from now on fail, as on a full disk."""
        ...


def told(name: str, project_id: int = 1, **facts: object) -> Administration:
    return Administration(LogId(project_id), name, facts, 1_700_000_000_003)


class StoreContract:
    """Inherit and give a fixture `rig`."""

    def test_an_empty_store_has_nothing(self, rig: StoreRig) -> None:
        assert Snapshot({}, {}, {}, {}) == rig.store.load()

    def test_what_was_added_is_loaded_to_the_last_member(self, rig: StoreRig) -> None:
        rig.store.apply(added=EVERYTHING)

        assert EVERYTHING_SEEN == rig.store.load()
        rig.reopen()
        assert EVERYTHING_SEEN == rig.store.load()

    def test_a_change_survives_power_loss_once_it_is_acknowledged(self, rig: StoreRig) -> None:
        rig.store.apply(added=EVERYTHING, events=[told("key.created")])
        rig.lose_power()

        assert EVERYTHING_SEEN == rig.store.load()
        assert [Kind.ADMINISTRATION] == [entry.leaf.kind for entry in rig.log(1)]

    def test_a_change_and_its_event_are_one_step(self, rig: StoreRig) -> None:
        rig.store.apply(added=EVERYTHING)
        before = rig.store.load()
        rig.fail_writes()

        with pytest.raises(JournalUnwritable):
            rig.store.apply(changed=[TRIAL_LOG], added=[a_key(9)], events=[told("key.created")])

        rig.reopen()
        assert before == rig.store.load()
        assert [] == rig.log(1)

    def test_an_event_has_its_name_and_its_facts_in_a_fixed_order(self, rig: StoreRig) -> None:
        rig.store.apply(added=EVERYTHING, events=[told("a", b=[1], a=None), told("c", 2)])

        (entry,), (other,) = rig.log(1), rig.log(2)
        assert (b'{"event":"a"}', b'{"a":null,"b":[1]}') == (entry.record, entry.payload)
        assert (b'{"event":"c"}', b"{}") == (other.record, other.payload)
        assert 1_700_000_000_003 == entry.leaf.received_at_ms

    @pytest.mark.parametrize("clash", range(5))
    def test_what_is_there_already_is_not_added_and_nothing_with_it(
        self, rig: StoreRig, clash: int
    ) -> None:
        rig.store.apply(added=EVERYTHING)
        twice = (
            SHOP,
            Project(3, "shop", "test", None, None, 1, "key", None, None),
            a_key(),
            SHOP_LOG,
            LogRow("other", 2, "example.org/trial", "vkey", "open"),
        )[clash]

        with pytest.raises(AlreadyExists):
            rig.store.apply(added=[a_key(9), twice], events=[told("key.created")])

        assert EVERYTHING_SEEN == rig.store.load()
        assert [] == rig.log(1)
        rig.store.apply(added=[a_key(9)])

    def test_a_new_project_has_an_empty_month(self, rig: StoreRig) -> None:
        rig.store.apply(added=[SHOP, SHOP_LOG], events=[told("project.changed")])

        assert [0, 0] == [rig.store.events_used(1, lane, "2023-11") for lane in Lane]
