"""Audits of a whole log: what is found sound, what is named, and what is only unreadable."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import apsw
import pytest

from indelible.errors import LockUnwritable
from indelible.event import Kind
from indelible.ledger.audit.checks.computed import RANGE
from indelible.ledger.audit.findings import Gravity
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Memory
from indelible.ledger.audit.sources import FolderSource, UrlSource
from indelible.ledger.audit.whole import Audit, audit_log
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.note import Note, Signer
from indelible.ledger.format.policy import KnownLog, Policy
from indelible.ledger.format.tile import WIDTH, TileHashes, tiles_between
from indelible.ledger.format.tree import prove_root
from indelible.ledger.format.verify import Verdict
from indelible.ledger.growth import integrate
from indelible.ledger.tilestore import FolderTiles
from tests.cli.command import Ran, assert_refused, call
from tests.ledger.audit.audited import (
    COSIGNERS,
    ORIGIN,
    POLICY_OF_LOG,
    SEEN_AT_S,
    SIGNER,
    Shop,
    cosign,
    sealed,
)

TAMPERED, CANNOT = Gravity.TAMPERED, Gravity.CANNOT
BUNDLE, TILE = "tile/entries/000.p/20", "tile/0/000.p/20"
PLACE = tuple[Gravity, str, str | None, int | None]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """20 events in three seals; not to be changed."""
    return sealed(tmp_path_factory.mktemp("kept") / "data", 5, 7, 8)


@pytest.fixture
def shop(kept: Shop, tmp_path: Path) -> Shop:
    """A copy of it."""
    return kept.copy(tmp_path / "data")


@pytest.fixture
def memory(kept: Shop, tmp_path: Path) -> Memory:
    """An auditor that has seen all 20 events."""
    memory = Memory(tmp_path / "memory")
    assert Verdict.VERIFIED is kept.audit(memory).verdict
    return memory


def places(found: Audit) -> set[PLACE]:
    """Gravity, check, file and index of each finding."""
    return {(one.gravity, one.check, one.file, one.index) for one in found.findings}


def change(path: Path, at: int) -> None:
    """Turn every bit of one byte of a file, whichever byte it is."""
    content = bytearray(path.read_bytes())
    content[at] ^= 0xFF
    path.write_bytes(content)


def sign(shop: Shop, size: int, signer: Signer = SIGNER) -> Checkpoint:
    """Sign what lies in the tiles now, and publish that alone."""
    root = prove_root(TileHashes(shop.tiles.read, size), size)
    checkpoint = Checkpoint(ORIGIN, size, root)
    (shop.log / CHECKPOINT).write_text(signer.sign(checkpoint.text))
    return checkpoint


# All is well


def test_a_sound_log_is_verified_with_its_journal(kept: Shop) -> None:
    found = kept.audit()

    assert ((), ()) == (found.findings, found.notes)
    assert Verdict.VERIFIED is found.verdict
    assert (ORIGIN, 20, 20, 0, 0) == (
        found.origin,
        found.size,
        found.events,
        found.unsealed,
        found.erased,
    )
    assert kept.head.root == found.root
    assert found.with_journal
    assert found.believed is not None
    assert "own policy" in found.believed


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 700])
def test_a_log_of_any_size_is_verified(tmp_path: Path, size: int) -> None:
    shop = sealed(tmp_path / "data", *([size - 1] if size > 1 else []), 1)
    assert ((), size) == (shop.audit().findings, shop.audit().size)


def test_a_large_log_is_verified_in_several_processes_and_a_forgery_named(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 1_000)
    shop.store(2 * RANGE, Kind.AUDIT)  # with no client ids, whose look-up nobody audits
    shop.seal()
    size = 1_000 + 2 * RANGE  # in three ranges: of fewer, this process sees to both
    found = shop.audit(processes=2)
    assert ((), size, size) == (found.findings, found.size, found.events)

    shop.sql("UPDATE event_1 SET payload = X'7B7D' WHERE id = ?", shop.row_id(size - 1))
    change(shop.log / "tile/entries/400", 98 * 7 + 2 + 40)
    change(shop.log / "tile/1/001", 32 * 3)
    assert {
        (TAMPERED, "journal", "journal.db", size - 1),
        (TAMPERED, "bundles", "tile/entries/400", 400 * 256 + 7),
        (TAMPERED, "tiles", "tile/1/001", None),
    } == places(shop.audit(processes=2))


def test_an_empty_log_is_verified_as_such(tmp_path: Path) -> None:
    shop = Shop.new(tmp_path / "data")
    found = shop.audit(Memory(tmp_path / "memory"))
    assert ((), 0, ORIGIN) == (found.findings, found.size, found.origin)


def test_a_log_that_was_ordered_and_signed_nothing_has_nothing_wrong(tmp_path: Path) -> None:
    shop = Shop.new(tmp_path / "data")
    shop.store(3)
    shop.sql("UPDATE log SET state = 'new', origin = NULL, vkey = NULL")
    shutil.rmtree(shop.log)
    (shop.folder / "lock.db").unlink()

    found = shop.audit()

    assert set() == places(found)
    assert (3, 3) == (found.events, found.unsealed)
    assert any("no checkpoint yet" in note for note in found.notes)


def test_events_that_are_not_sealed_yet_are_checked_and_counted(shop: Shop) -> None:
    shop.store(300)
    found = shop.audit()
    assert ((), 320, 300) == (found.findings, found.events, found.unsealed)

    shop.sql("UPDATE event_1 SET record = X'7B7D' WHERE id = ?", shop.row_id(310))
    assert {(TAMPERED, "journal", "journal.db", 310)} == places(shop.audit())


def test_tiles_ahead_of_the_checkpoint_are_harmless_and_compared(shop: Shop) -> None:
    before = {name: (shop.log / name).read_text() for name in (CHECKPOINT, WITNESSED)}
    shop.store(300)
    shop.seal()
    for name, text in before.items():
        (shop.log / name).write_text(text)

    found = shop.audit()
    assert () == found.findings
    assert any("ahead of the checkpoint" in note for note in found.notes)
    assert any("lock.db is ahead" in note for note in found.notes)

    change(shop.log / "tile/0/001.p/64", 32 * 5)
    assert {(TAMPERED, "older tiles", "tile/0/001.p/64", 256 + 5)} == places(shop.audit())


def test_what_is_sealed_while_a_log_waits_for_its_audit_has_nothing_wrong(shop: Shop) -> None:
    known = shop.known()  # of every log of the folder, before the first is audited
    shop.store(4)
    shop.seal()
    found = audit_log(FolderSource(shop.log), known)
    assert ((), 24) == (found.findings, found.size)


def test_a_partial_tile_may_go_once_the_full_one_is_there(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 20)
    for name in (CHECKPOINT, WITNESSED):
        shutil.copy(shop.log / name, tmp_path / name)
    shop.store(300)
    shop.seal()
    shutil.rmtree(shop.log / "tile/0/000.p")
    shutil.rmtree(shop.log / "tile/entries/000.p")
    assert () == shop.audit().findings

    for name in (CHECKPOINT, WITNESSED):
        shutil.copy(tmp_path / name, shop.log / name)
    assert () == shop.audit().findings


class GoingOn(FolderSource):
    """The folder of a server that seals on, and tidies up, once an audit has listed its files."""

    def __init__(self, shop: Shop) -> None:
        super().__init__(shop.log)
        self._shop = shop

    def files(self) -> Iterator[str]:
        listed = list(super().files())
        self._shop.store(WIDTH)
        before, head = self._shop.head, self._shop.seal()
        full = [one for one in tiles_between(before.size, head.size) if one.width == WIDTH]
        self._shop.tiles.discard_partials(full)
        return iter(listed)


def test_a_server_may_seal_on_and_tidy_up_during_an_audit(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 10, 10)

    found = audit_log(GoingOn(shop), shop.known())

    assert ((), 20) == (found.findings, found.size)
    assert not (shop.log / "tile/0/000.p").exists()
    assert () == shop.audit().findings


def test_a_log_is_audited_without_journal_and_without_the_server(kept: Shop) -> None:
    found = audit_log(FolderSource(kept.log))
    assert ((), False, 20) == (found.findings, found.with_journal, found.events)


# Forgeries, each named


@pytest.mark.parametrize(
    ("column", "value"),
    [("payload", b'{"n":99}'), ("record", b"{}"), ("salts", bytes(64)), ("salts", b"short")],
)
def test_an_edited_row_is_named(shop: Shop, column: str, value: bytes) -> None:
    shop.sql(f"UPDATE event_1 SET {column} = ? WHERE id = ?", value, shop.row_id(7))
    found = shop.audit()
    assert {(TAMPERED, "journal", "journal.db", 7)} == places(found)
    assert found.findings[0].tx_id is not None


def test_a_row_edited_by_hand_as_text_is_named(shop: Shop) -> None:
    shop.sql("UPDATE event_1 SET payload = '{\"n\":99}' WHERE id = ?", shop.row_id(7))
    assert {(TAMPERED, "journal", "journal.db", 7)} == places(shop.audit())
    shop.sql("UPDATE event_1 SET leaf = 'text', payload = 1.5 WHERE id = ?", shop.row_id(7))
    assert {(TAMPERED, "journal", "journal.db", 7)} == places(shop.audit())


def test_an_edited_leaf_of_the_journal_is_told_from_one_of_the_bundle(shop: Shop) -> None:
    shop.sql("UPDATE event_1 SET leaf = zeroblob(96) WHERE id = ?", shop.row_id(7))
    assert {(TAMPERED, "journal", "journal.db", 7)} == places(shop.audit())


@pytest.mark.parametrize(("file", "size"), [(BUNDLE, 98), (TILE, 32)])
def test_a_change_in_a_bundle_is_told_from_one_in_its_tile(
    shop: Shop, file: str, size: int
) -> None:
    change(shop.log / file, 7 * size + 20)
    check = "bundles" if file == BUNDLE else "tiles"
    assert {(TAMPERED, check, file, 7)} == places(shop.audit())


def test_without_a_journal_the_signed_root_tells_which_was_altered(shop: Shop) -> None:
    change(shop.log / BUNDLE, 7 * 98 + 20)
    found = audit_log(FolderSource(shop.log))
    assert Verdict.TAMPERED is found.verdict
    assert {7} == {one.index for one in found.findings}
    assert any("bundles that were altered" in note for note in found.notes)


def test_a_missing_row_is_named(shop: Shop) -> None:
    shop.sql("DELETE FROM event_1 WHERE id = ?", shop.row_id(7))
    assert {(TAMPERED, "journal", "journal.db", 7)} == places(shop.audit())


def test_a_journal_shorter_than_its_checkpoint_is_tampered_with(shop: Shop) -> None:
    shop.sql("DELETE FROM event_1 WHERE id >= ?", shop.row_id(15))
    assert {(TAMPERED, "journal", "journal.db", 15)} == places(shop.audit())


def test_rows_that_changed_places_are_named(shop: Shop) -> None:
    for old, new in ((7, 90), (8, 7), (90, 8)):
        shop.sql("UPDATE event_1 SET id = ? WHERE id = ?", shop.row_id(new), shop.row_id(old))
    found = places(shop.audit())
    assert {7, 8} == {index for _, _, _, index in found}


def test_a_log_whose_events_were_reordered_before_it_was_signed_is_named(tmp_path: Path) -> None:
    shop = Shop.new(tmp_path / "data")
    shop.store(10)
    for old, new in ((7, 90), (8, 7), (90, 8)):
        shop.sql("UPDATE event_1 SET id = ? WHERE id = ?", shop.row_id(new), shop.row_id(old))
    shop.seal()
    assert {(TAMPERED, "order", None, 8)} == places(shop.audit())


def exchanged(shop: Shop, one: int, other: int) -> None:
    """Two events of the journal in each other's places, before anything of it is signed."""
    for old, new in ((one, 1 << 39), (other, one), (1 << 39, other)):
        shop.sql("UPDATE event_1 SET id = ? WHERE id = ?", shop.row_id(new), shop.row_id(old))


@pytest.mark.parametrize("border", [WIDTH, 16 * WIDTH, RANGE])
def test_events_that_were_exchanged_across_a_border_before_they_were_signed_are_named(
    tmp_path: Path, border: int
) -> None:
    """Of two tiles; of what is read at once; of what one process computes."""
    shop = Shop.new(tmp_path / "data")
    shop.store(border + 2, Kind.AUDIT)
    exchanged(shop, border - 1, border)
    shop.seal()

    for found in (shop.audit(), audit_log(FolderSource(shop.log), Known(policy=POLICY_OF_LOG))):
        assert {(TAMPERED, "order", None, border)} == places(found)


@pytest.mark.parametrize("border", [WIDTH, pytest.param(RANGE, marks=pytest.mark.slow)])
def test_events_that_were_exchanged_across_a_border_and_are_not_signed_are_named(
    tmp_path: Path, border: int
) -> None:
    shop = Shop.new(tmp_path / "data")
    shop.store(border + 2, Kind.AUDIT)
    exchanged(shop, border - 1, border)

    assert {(TAMPERED, "order", None, border)} == places(shop.audit())


def test_an_older_partial_tile_must_be_the_beginning_of_the_log(shop: Shop) -> None:
    change(shop.log / "tile/0/000.p/12", 32 * 3)
    change(shop.log / "tile/entries/000.p/5", 98 * 2 + 60)
    assert {
        (TAMPERED, "older tiles", "tile/0/000.p/12", 3),
        (TAMPERED, "older tiles", "tile/entries/000.p/5", 2),
    } == places(shop.audit())


def test_a_rewritten_tree_does_not_give_the_signed_root(shop: Shop, tmp_path: Path) -> None:
    other = sealed(tmp_path / "other", 5, 7, 8)
    shutil.rmtree(shop.log / "tile")
    shutil.copytree(other.log / "tile", shop.log / "tile")
    found = audit_log(FolderSource(shop.log))
    assert {(TAMPERED, "root", CHECKPOINT, None)} == places(found)


def test_another_checkpoint_of_the_same_size_is_a_fork(
    shop: Shop, memory: Memory, tmp_path: Path
) -> None:
    other = sealed(tmp_path / "other", 5, 7, 8)
    shutil.rmtree(shop.log)
    shutil.copytree(other.log, shop.log)
    alone = audit_log(FolderSource(shop.log))
    assert Verdict.VERIFIED is alone.verdict, "nobody can tell who has not seen the first"

    found = audit_log(FolderSource(shop.log), Known(memory=memory))
    assert {(TAMPERED, "memory", CHECKPOINT, None)} == places(found)
    assert "Fork" in found.findings[0].sentence


def test_a_truncated_log_that_was_signed_again_is_seen_by_who_remembers(
    shop: Shop, memory: Memory
) -> None:
    shutil.rmtree(shop.log / "tile/0/000.p/20", ignore_errors=True)
    for path in (BUNDLE, TILE):
        (shop.log / path).unlink()
    sign(shop, 12)
    (shop.log / WITNESSED).unlink()
    assert Verdict.VERIFIED is audit_log(FolderSource(shop.log)).verdict

    found = audit_log(FolderSource(shop.log), Known(memory=memory))
    assert (TAMPERED, "memory", CHECKPOINT, 12) in places(found)
    assert any("Rolled back" in one.sentence for one in found.findings)


def test_an_old_checkpoint_is_seen_by_the_lock_and_by_what_witnesses_saw(
    shop: Shop, memory: Memory
) -> None:
    (shop.log / CHECKPOINT).write_text(shop.heads[-2].note)
    found = shop.audit(memory)
    assert {
        (TAMPERED, "checkpoint", CHECKPOINT, None),
        (TAMPERED, "memory", CHECKPOINT, 12),
    } == places(found)


def test_a_checkpoint_that_is_newer_than_the_lock_is_tampered_with(shop: Shop) -> None:
    old = shop.folder / "lock.old"
    shutil.copy(shop.folder / "lock.db", old)
    shop.store(1)
    shop.seal()
    shutil.copy(old, shop.folder / "lock.db")
    for more in ("-wal", "-shm"):
        (shop.folder / f"lock.db{more}").unlink(missing_ok=True)
    assert {(TAMPERED, "lock", "lock.db", None)} == places(shop.audit())


def test_a_lock_that_cannot_be_read_cannot_be_checked(shop: Shop) -> None:
    (shop.folder / "lock.db").write_bytes(b"no database" * 100)
    assert {(CANNOT, "lock", "lock.db", None)} == places(shop.audit())


def test_a_lock_that_is_gone_cannot_be_checked(shop: Shop) -> None:
    with shop.lock() as lock:
        lock_file = shop.folder / "lock.db"
        assert lock.head(ORIGIN) is not None
    connection = apsw.Connection(str(lock_file))
    connection.execute("DELETE FROM head")
    connection.close()
    assert {(CANNOT, "lock", "lock.db", None)} == places(shop.audit())

    lock_file.unlink()

    found = shop.audit()
    assert {(CANNOT, "lock", "lock.db", None)} == places(found)
    assert "no server starts on this folder" in found.findings[0].sentence


@pytest.mark.parametrize("change", ["size = 'many'", "root = 'text'", "note = x'ff00'"])
def test_a_lock_with_other_types_than_were_stored_cannot_be_checked(
    shop: Shop, change: str
) -> None:
    connection = apsw.Connection(str(shop.folder / "lock.db"))
    connection.execute(f"UPDATE head SET {change}")
    connection.close()
    assert {(CANNOT, "lock", "lock.db", None)} == places(shop.audit())
    with shop.lock() as lock, pytest.raises(LockUnwritable, match="not as it was stored"):
        lock.head(ORIGIN)


def test_a_publish_that_did_not_happen_yet_is_fine(shop: Shop) -> None:
    shop.store(4)
    shop.seal(publish=False)
    found = shop.audit()
    assert () == found.findings
    assert any("lock.db is ahead" in note for note in found.notes)


def test_a_head_of_the_lock_that_the_journal_does_not_give_is_tampered_with(shop: Shop) -> None:
    shop.store(4)
    shop.seal(publish=False)
    connection = apsw.Connection(str(shop.folder / "lock.db"))
    forged = Checkpoint(ORIGIN, 24, bytes(32))
    connection.execute(
        "UPDATE head SET root = ?, note = ?", (forged.root, SIGNER.sign(forged.text))
    )
    connection.close()
    assert {(TAMPERED, "lock", "lock.db", None)} == places(shop.audit())


def test_a_witnessed_note_must_meet_the_quorum_and_fit(shop: Shop) -> None:
    checkpoint = Checkpoint(ORIGIN, 20, shop.head.root)
    (shop.log / WITNESSED).write_text(cosign(checkpoint, by=COSIGNERS[:1]))
    assert {(CANNOT, "witnessed", WITNESSED, None)} == places(shop.audit())

    other = Checkpoint(ORIGIN, 12, bytes(32))
    (shop.log / WITNESSED).write_text(cosign(other))
    assert {(TAMPERED, "witnessed", WITNESSED, None)} == places(shop.audit())

    signatures = (
        SIGNER.signature(checkpoint.text),
        COSIGNERS[0].cosign(other.text, SEEN_AT_S),
    )
    (shop.log / WITNESSED).write_text(str(Note(checkpoint.text, signatures)))
    assert {(TAMPERED, "witnessed", WITNESSED, None)} == places(shop.audit())


def test_a_cosignature_that_was_there_is_missed(shop: Shop, memory: Memory) -> None:
    (shop.log / CHECKPOINT).write_text(shop.head.note)
    assert {(CANNOT, "memory", CHECKPOINT, None)} == places(shop.audit(memory))


# What cannot be checked, which is no forgery


def test_a_missing_short_or_long_tile_cannot_be_checked(shop: Shop) -> None:
    for file, check in ((BUNDLE, "bundles"), (TILE, "tiles")):
        path = shop.log / file
        content = path.read_bytes()
        for other in (None, content[:-1], content + b"\x00", b"", content[:300]):
            path.unlink()
            if other is not None:
                path.write_bytes(other)
            found = shop.audit()
            assert Verdict.UNVERIFIABLE is found.verdict
            assert {(CANNOT, check, file)} == {one[:3] for one in places(found)}
            path.write_bytes(content)
    assert () == shop.audit().findings


def test_where_a_tile_is_missing_a_forgery_elsewhere_outweighs_it(shop: Shop) -> None:
    (shop.log / TILE).unlink()
    shop.sql("UPDATE event_1 SET payload = X'7B7D' WHERE id = ?", shop.row_id(7))
    found = shop.audit()
    assert Verdict.TAMPERED is found.verdict
    assert [7, 0] == [one.index for one in found.findings]


def test_a_root_cannot_be_computed_where_bundle_and_tile_are_both_gone(tmp_path: Path) -> None:
    shop = sealed(tmp_path / "data", 600)
    for number in ("000", "002.p/88"):
        (shop.log / f"tile/entries/{number}").unlink()
        (shop.log / f"tile/0/{number}").unlink()
    found = audit_log(FolderSource(shop.log))
    assert Verdict.UNVERIFIABLE is found.verdict
    assert (CANNOT, "root", CHECKPOINT, None) in places(found)

    assert all(one.check != "root" for one in shop.audit().findings), "the journal gives it"


def test_a_leaf_of_an_unknown_version_cannot_be_checked(tmp_path: Path) -> None:
    shop = Shop.new(tmp_path / "data")
    shop.store(3)
    shop.sql(
        "UPDATE event_1 SET leaf = CAST(X'02' || substr(leaf, 2) AS BLOB) WHERE id = ?",
        shop.row_id(1),
    )
    shop.seal()
    found = audit_log(FolderSource(shop.log))
    assert {(CANNOT, "leaves", "tile/entries/000.p/3", 1)} == places(found)


def test_an_audit_of_another_sort_of_log_ends_early_and_says_so(tmp_path: Path) -> None:
    entries = [b"record %d" % number for number in range(66_000)]
    tiles = FolderTiles(tmp_path / "log")
    integrate(tiles, 0, entries)
    root = prove_root(TileHashes(tiles.read, len(entries)), len(entries))
    tiles.publish(CHECKPOINT, SIGNER.sign(Checkpoint(ORIGIN, len(entries), root).text))
    found = audit_log(FolderSource(tiles.folder), Known(policy=POLICY_OF_LOG))
    assert Verdict.UNVERIFIABLE is found.verdict
    assert {"leaves"} == {one.check for one in found.findings}
    assert any(note.startswith("Stopped after") for note in found.notes)


def test_an_unknown_file_is_named(shop: Shop) -> None:
    (shop.log / "notes.txt").write_text("hello")
    (shop.log / "tile/0/x001").mkdir(parents=True)
    (shop.log / "tile/0/x001/1").write_text("")
    (shop.log / ".checkpoint.tmp").write_text("half")
    found = shop.audit()
    assert {
        (CANNOT, "files", "notes.txt", None),
        (CANNOT, "files", "tile/0/x001/1", None),
    } == places(found)
    assert any(".checkpoint.tmp" in note for note in found.notes)


@pytest.mark.parametrize(
    ("content", "gravity"),
    [
        (b"", CANNOT),
        (b"\xff\xfe", CANNOT),
        (b"no note\n", CANNOT),
        (Signer(ORIGIN, b"\x07" * 32).sign(f"{ORIGIN}\n0\nAAAA\n").encode(), CANNOT),
        (SIGNER.sign("no checkpoint\n").encode(), CANNOT),
        (SIGNER.sign(f"{ORIGIN}\n1\n\n").replace("\n1\n", "\n2\n").encode(), TAMPERED),
    ],
)
def test_what_is_no_checkpoint_is_told_from_a_forged_one(
    shop: Shop, content: bytes, gravity: Gravity
) -> None:
    (shop.log / CHECKPOINT).write_bytes(content)
    assert {(gravity, "checkpoint", CHECKPOINT, None)} == places(shop.audit())


def test_a_checkpoint_larger_than_any_log_ends_quickly(shop: Shop) -> None:
    for size in (2**63, 2**39):
        huge = Checkpoint(ORIGIN, size, bytes(32))
        (shop.log / CHECKPOINT).write_text(SIGNER.sign(huge.text))
        (shop.log / WITNESSED).unlink(missing_ok=True)
        found = audit_log(FolderSource(shop.log))
        assert Verdict.VERIFIED is not found.verdict


# Whom to believe


def test_a_given_policy_is_believed_before_the_logs_own(shop: Shop) -> None:
    stranger = Policy((KnownLog(Signer("log.example/other", bytes(32)).key),))
    found = shop.audit(policy=stranger)
    assert {CANNOT} == {one.gravity for one in found.findings}
    assert () == shop.audit(policy=POLICY_OF_LOG).findings


def test_a_log_signed_by_a_new_key_is_seen_by_who_remembers_the_old(
    shop: Shop, memory: Memory
) -> None:
    thief = Signer(ORIGIN, b"\x07" * 32)
    (shop.log / "policy").write_text(Policy((KnownLog(thief.key),)).text)
    sign(shop, 20, thief)
    (shop.log / WITNESSED).unlink()
    assert () == audit_log(FolderSource(shop.log)).findings, "nobody else can tell"

    found = audit_log(FolderSource(shop.log), Known(memory=memory))
    assert {
        (CANNOT, "policy", "policy", None),
        (CANNOT, "checkpoint", CHECKPOINT, None),
    } == places(found)
    assert (TAMPERED, "policy", "policy", None) in places(shop.audit()), "the journal knows"


def test_nothing_is_remembered_of_an_audit_that_was_not_clean(shop: Shop, tmp_path: Path) -> None:
    fresh = Memory(tmp_path / "fresh")
    (shop.log / "notes.txt").write_text("hello")
    shop.audit(fresh)
    assert fresh.recall(ORIGIN) is None

    (shop.log / "notes.txt").unlink()
    shop.audit(fresh)
    kept = fresh.recall(ORIGIN)
    assert kept is not None
    assert (20, shop.head.root) == (kept.size, kept.root)

    shop.store(2)
    shop.seal()
    assert () == shop.audit(fresh).findings
    again = fresh.recall(ORIGIN)
    assert again is not None
    assert 22 == again.size


def test_a_memory_that_cannot_be_read_is_said_so(shop: Shop, memory: Memory) -> None:
    memory.path_of(ORIGIN).write_text("{}")
    assert (CANNOT, "memory", None, None) in places(shop.audit(memory))


# Erasures


def test_erased_events_are_counted_when_an_erasure_lists_them(shop: Shop) -> None:
    shop.erase(3, 6)
    shop.seal()
    found = shop.audit()
    assert ((), 3, 21) == (found.findings, found.erased, found.size)


def test_an_event_that_lost_its_payload_and_is_not_listed_is_named(shop: Shop) -> None:
    shop.erase(3, 6)
    shop.erase(7, 8, listed=False)
    shop.seal()
    assert {(TAMPERED, "erasures", "journal.db", 7)} == places(shop.audit())


def test_an_event_that_is_listed_and_still_there_is_named(shop: Shop) -> None:
    shop.erase(3, 4)
    shop.store(1, Kind.ERASURE, b'{"erased":[[3,4],[8,10]],"reason":"x","at":0}')
    shop.seal()
    found = shop.audit()
    assert {(TAMPERED, "erasures", "journal.db", index) for index in (8, 9)} == places(found)


@pytest.mark.parametrize("column", ["payload", "record", "salts"])
def test_an_event_that_was_erased_in_part_is_named(shop: Shop, column: str) -> None:
    shop.sql(f"UPDATE event_1 SET {column} = NULL WHERE id = ?", shop.row_id(7))
    assert {(TAMPERED, "journal", "journal.db", 7)} == places(shop.audit())


@pytest.mark.parametrize(
    "payload", [b"{}", b"no json", b'{"erased":[[9,3]]}', b'{"erased":[[3,99]]}', b'{"erased":[3]}']
)
def test_an_erasure_that_cannot_be_read_cannot_be_checked(shop: Shop, payload: bytes) -> None:
    shop.store(1, Kind.ERASURE, payload)
    shop.seal()
    assert {(CANNOT, "erasures", "journal.db", 20)} == places(shop.audit())


# By its address


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    """A web server on a free port; its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sentence_of(found: Audit, file: str) -> tuple[Gravity, str, str]:
    """Gravity, check and sentence of the one finding in this file."""
    (one,) = (one for one in found.findings if one.file == file)
    return one.gravity, one.check, one.sentence


@pytest.fixture
def served(shop: Shop) -> Iterator[str]:
    """The log's folder behind any web server."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(partial(Quiet, directory=str(shop.log))) as address:
        yield address


def test_a_log_is_audited_by_its_address(shop: Shop, served: str) -> None:
    found = audit_log(UrlSource(served))
    assert ((), 20) == (found.findings, found.size)

    change(shop.log / TILE, 40)
    assert {(TAMPERED, "tiles", TILE, 1)} == places(audit_log(UrlSource(served)))
    (shop.log / TILE).unlink()
    assert {(CANNOT, "tiles", TILE, 0)} == places(audit_log(UrlSource(served)))


def test_a_log_that_is_not_public_says_that_it_wants_a_key(shop: Shop) -> None:
    class Closed(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(401)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with serving(Closed) as address:
        keyless = audit_log(UrlSource(address))
        refused = audit_log(UrlSource(address, "iml_live_other"))

    wants = "The address answered 401 Unauthorized: it wants an API key."
    assert (CANNOT, "checkpoint", wants) == sentence_of(keyless, CHECKPOINT)
    wrong = "The address answered 401 Unauthorized, with this API key."
    assert (CANNOT, "checkpoint", wrong) == sentence_of(refused, CHECKPOINT)


def test_an_address_that_does_not_answer_cannot_be_checked() -> None:
    found = audit_log(UrlSource("http://127.0.0.1:1/ledger/shop"))
    assert Verdict.UNVERIFIABLE is found.verdict
    assert Verdict.UNVERIFIABLE is audit_log(UrlSource("https://[::1")).verdict


# The commands


def audit_command(*arguments: str, state: Path) -> Ran:
    return call("audit", *arguments, "--state", str(state))


def test_the_command_says_what_was_checked_and_ends_with_0(kept: Shop, tmp_path: Path) -> None:
    ran = audit_command(str(kept.folder), state=tmp_path)
    assert (0, "verified", "shop") == (ran.code, ran.fact("verdict"), ran.fact("log"))
    assert "20 compared, with the journal" == ran.fact("events")
    assert f"{kept.head.root.hex()} at 20 events" == ran.fact("root")


def test_the_command_names_the_record_and_ends_with_1(shop: Shop, tmp_path: Path) -> None:
    shop.sql("UPDATE event_1 SET payload = X'7B7D' WHERE id = ?", shop.row_id(7))
    ran = audit_command(str(shop.folder), state=tmp_path)
    assert 1 == ran.code
    assert "index 7, tx_" in ran.out

    ran = audit_command(str(shop.folder), "--json", state=tmp_path)
    assert 1 == ran.code
    (log,) = ran.json["logs"]
    assert ("tampered", 7, "tampered") == (
        log["verdict"],
        log["findings"][0]["index"],
        log["findings"][0]["gravity"],
    )


def test_the_command_ends_with_3_for_what_cannot_be_checked(shop: Shop, tmp_path: Path) -> None:
    (shop.log / TILE).unlink()
    assert 3 == audit_command(str(shop.folder), state=tmp_path).code
    assert 3 == audit_command(str(tmp_path), state=tmp_path).code


@pytest.mark.parametrize("name", ["a-first", "z-last"])
@pytest.mark.parametrize(
    ("here", "beside", "verdict", "code"),
    [
        ("sound", "sound", "verified", 0),
        ("sound", "unreadable", "unverifiable", 3),
        ("unreadable", "sound", "unverifiable", 3),
        ("sound", "forged", "tampered", 1),
        ("forged", "sound", "tampered", 1),
        ("unreadable", "forged", "tampered", 1),
        ("forged", "unreadable", "tampered", 1),
    ],
)
def test_of_several_logs_the_worst_verdict_is_that_of_the_whole_audit(
    shop: Shop, tmp_path: Path, name: str, here: str, beside: str, verdict: str, code: int
) -> None:
    """A forgery outweighs what cannot be checked, wherever each of them is."""
    other = shop.folder / "ledger" / name
    shutil.copytree(shop.log, other)
    for log, state in ((shop.log, here), (other, beside)):
        if state == "unreadable":
            (log / TILE).unlink()
        if state == "forged":
            change(log / TILE, 40)

    plain = audit_command(str(shop.folder), state=tmp_path / "one")
    as_json = audit_command(str(shop.folder), "--json", state=tmp_path / "another")

    assert (code, code, verdict) == (plain.code, as_json.code, as_json.json["verdict"])
    assert {"shop", name} == {Path(log["source"]).name for log in as_json.json["logs"]}, (
        "every log is audited, whatever was found in another"
    )


@pytest.mark.parametrize("change", ["origin = x'ff'", "vkey = x'ff'", "name = x'ff'"])
def test_a_journal_that_names_its_log_by_another_type_cannot_be_checked(
    shop: Shop, tmp_path: Path, change: str
) -> None:
    shop.sql(f"UPDATE log SET {change}")
    assert_refused(audit_command(str(shop.folder), state=tmp_path), 3, "journal_unreadable")


def test_a_data_folder_that_has_lost_its_journal_cannot_be_checked(
    shop: Shop, tmp_path: Path
) -> None:
    (shop.folder / "journal.db").unlink()
    assert_refused(audit_command(str(shop.folder), state=tmp_path), 3, "no_journal")
    assert 0 == audit_command(str(shop.log), state=tmp_path).code


def test_the_command_ends_with_2_when_called_wrongly(kept: Shop, tmp_path: Path) -> None:
    here = str(kept.folder)
    (tmp_path / "bad.policy").write_text("log\nquorum none\n")
    for arguments in (
        (str(tmp_path / "nowhere"),),
        ("",),  # an unset variable of a script, not the current folder
        (here, "--project", "other"),
        (here, "--policy", str(tmp_path / "nowhere")),
        (str(kept.log), "--project", "shop"),
    ):
        assert 2 == audit_command(*arguments, state=tmp_path).code, arguments
    ran = audit_command(here, "--policy", str(tmp_path / "bad.policy"), state=tmp_path)
    assert 3 == ran.code
    assert "line 1" in ran.err


def test_the_command_remembers(shop: Shop, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert 0 == audit_command(str(shop.log), state=state).code
    (shop.log / CHECKPOINT).write_text(shop.heads[-2].note)
    (shop.log / WITNESSED).unlink()
    ran = audit_command(str(shop.log), state=state)
    assert 1 == ran.code
    assert "Rolled back" in ran.out


def test_verify_ends_with_0_1_2_or_3(kept: Shop, tmp_path: Path) -> None:
    policy, receipt = tmp_path / "policy", tmp_path / "one.tlog-proof"
    policy.write_text(POLICY_OF_LOG.text)
    receipt.write_text(kept.receipt(7))
    arguments = ("verify", str(receipt), "--policy", str(policy))

    ran = call(*arguments)
    assert (0, "verified", "7", '{"n":7}') == (
        ran.code,
        ran.fact("verdict"),
        ran.fact("index"),
        ran.fact("payload"),
    )
    assert ("verified", 7) == (call(*arguments, "--json").json["verdict"], 7)

    receipt.write_text(kept.receipt(7).replace("index 7", "index 8"))
    assert (1, "tampered") == (call(*arguments).code, call(*arguments).fact("verdict"))

    receipt.write_text(kept.receipt(7)[:-20])
    assert (3, "unverifiable") == (call(*arguments).code, call(*arguments).fact("verdict"))

    assert 2 == call("verify", str(receipt)).code
    assert 2 == call("verify", str(tmp_path / "nowhere"), "--policy", str(policy)).code
    policy.write_text("quorum\n")
    ran = call(*arguments)
    assert 3 == ran.code
    assert "line 1" in ran.err


def test_audit_names_its_place_in_json_as_numbers(shop: Shop, tmp_path: Path) -> None:
    change(shop.log / TILE, 32 * 4)
    ran = call("audit", str(shop.log), "--json", "--state", str(tmp_path / "state"))
    (log,) = json.loads(ran.out)["logs"]
    assert [(TILE, 4, 4)] == [(one["file"], one["number"], one["index"]) for one in log["findings"]]
