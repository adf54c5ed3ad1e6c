"""Forgeries of a copy: each is noticed by those who can, and by nobody who cannot."""

import shutil
from pathlib import Path

import pytest

from indelible.cli.audit import targets_of
from indelible.errors import NotAttackable
from indelible.ledger.audit.attack import Attempt, attack
from indelible.ledger.audit.forgeable import Copy
from indelible.ledger.audit.forgeries import COLUMNS
from indelible.ledger.audit.memory import Memory
from indelible.ledger.audit.whole import Audit, audit_log
from tests.cli.command import call as run
from tests.ledger.audit.audited import Shop, sealed

ALL = set(COLUMNS)


def audit(folder: Path, memory: Memory | None) -> Audit:
    (target,) = targets_of(folder, project=None, policy=None, memory=memory)
    return audit_log(target.source, target.known)


def blind(folder: Path, memory: Memory | None) -> Audit:
    """An auditor that always says yes."""
    return Audit("", None, 0, None, None, (), (), 0, 0, 0, 0, with_journal=True)


def attacked(shop: Shop, tmp_path: Path) -> dict[str, Attempt]:
    copy = Copy.of(shop.folder, tmp_path / "copy", log="shop", project_id=shop.project_id)
    return {one.forgery: one for one in attack(copy, tmp_path, audit)}


@pytest.mark.parametrize("size", [8, 20, 300, 600])
def test_every_forgery_is_noticed_by_those_who_can(tmp_path: Path, size: int) -> None:
    found = attacked(sealed(tmp_path / "data", 3, size - 3), tmp_path)

    assert [] == [one.forgery for one in found.values() if one.missed]
    assert all(one.said for one in found.values())
    seen = {name: set(one.noticed) for name, one in found.items()}
    assert ALL == seen["edit a payload"] == seen["swap two events"] == seen["insert an event"]
    assert ALL - {"audit"} == seen["edit an event and sign all anew"]
    assert ALL - {"audit"} == seen["delete an event and sign all anew"]
    assert ALL - {"audit"} == seen["bring back an old checkpoint"]
    assert {"saved head", "witnesses"} == seen["cut the tail off and sign all anew"]
    assert {"saved head", "witnesses"} == seen["split view: another last event, same size"]
    assert {ALL == columns for name, columns in seen.items() if "flip" in name} == {True}


def test_a_log_with_erased_and_unsealed_events_can_be_attacked(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 20)
    shop.erase(4, 8)
    shop.seal()
    shop.store(3)
    assert [] == [one.forgery for one in attacked(shop, tmp_path).values() if one.missed]


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"forged":true}'])
def test_any_payload_can_be_edited(tmp_path: Path, payload: bytes) -> None:
    shop = Shop.new(tmp_path / "data")
    shop.store(20, payload=payload)
    shop.seal()
    assert [] == [one.forgery for one in attacked(shop, tmp_path).values() if one.missed]


def test_a_log_that_a_server_goes_on_writing_can_be_attacked(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 20)
    shop.store(300)
    shop.seal(publish=False)  # its tiles are there, and its checkpoint is on the way
    shutil.rmtree(shop.log / "tile/0/000.p")
    (shop.log / "tile/0/.002.tmp").symlink_to("a draft that has got its name by now")
    assert [] == [one.forgery for one in attacked(shop, tmp_path).values() if one.missed]


def test_what_is_attacked_is_a_copy(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 20)
    attacked(shop, tmp_path)
    assert () == shop.audit().findings


def test_an_auditor_that_always_says_yes_is_found_out(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 20)
    copy = Copy.of(shop.folder, tmp_path / "copy", log="shop", project_id=shop.project_id)
    (tmp_path / "saved").mkdir()
    missed = {one.forgery: one.missed for one in attack(copy, tmp_path, blind)}
    assert {"audit", "saved head", "receipt"} <= missed["edit a payload"]
    assert {"saved head"} == missed["cut the tail off and sign all anew"]
    assert all(missed.values())


def test_too_few_events_or_an_unsound_log_cannot_be_attacked(tmp_path: Path) -> None:
    with pytest.raises(NotAttackable, match="7 sealed events"):
        attacked(sealed(tmp_path / "few" / "data", 7), tmp_path / "few")

    shop = sealed(tmp_path / "unsound" / "data", 20)
    shop.sql("UPDATE event_1 SET payload = X'7B7D' WHERE id = ?", shop.row_id(7))
    with pytest.raises(NotAttackable, match="not sound"):
        attacked(shop, tmp_path / "unsound")


def test_the_command_prints_the_table_and_ends_with_0(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 20)
    ran = run("attack", str(shop.folder))
    assert (0, "") == (ran.code, ran.err)
    assert "cut the tail off and sign all anew         invisible    noticed" in ran.out

    ran = run("attack", str(shop.folder), "--json")
    assert {True} == {one["missed"] == [] for one in ran.json["forgeries"]}


def test_the_command_ends_with_2_or_3_where_there_is_nothing_to_attack(tmp_path: Path) -> None:
    few = sealed(tmp_path / "data", 2)
    assert 3 == run("attack", str(few.folder)).code
    assert 2 == run("attack", str(few.folder), "--project", "other").code
    assert 2 == run("attack", str(tmp_path)).code
