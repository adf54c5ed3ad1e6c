"""Evidence tars: what is in them, that they repeat, and that a log which grows does not matter.

That a stranger's program believes them, and nothing else, is in tests/foreign/test_stranger.py.
"""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from indelible.errors import LogUnreadable, SignatureMissing, SignatureWrong, TileMissing
from indelible.ledger.audit import evidence
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.note import Note
from indelible.ledger.format.policy import KnownLog, Policy, Witness
from indelible.ledger.format.tile import ENTRIES, Tile, tile_at, tiles_between
from indelible.ledger.format.tree import leaf_hash, root_of
from indelible.ledger.growth import integrate
from indelible.ledger.tilestore import FolderTiles
from tests.cli.command import call, run
from tests.ledger.format import worked
from tests.ledger.format.worked import COSIGNER, SIGNER

POLICY_TEXT = Policy((KnownLog(SIGNER.key),), (Witness("w", COSIGNER.key),), (), "w").text
SIZE = 600
STRANGER = {"README.txt", "log.vkey", "go.mod", "go.sum", "verify.go"}
ALWAYS = STRANGER | {"log/policy", "log/checkpoint"}


def grow(tiles: FolderTiles, old: int, new: int) -> None:
    """What the sealer does, from one size to another."""
    integrate(tiles, old, [str(i).encode() for i in range(old, new)])
    tiles.publish(CHECKPOINT, signed(new))
    full = [tile for tile in tiles_between(old, new) if tile == tile.full]
    tiles.discard_partials(full)


def signed(size: int) -> str:
    root = root_of([leaf_hash(str(i).encode()) for i in range(size)])
    return SIGNER.sign(Checkpoint(worked.ORIGIN, size, root).text)


@pytest.fixture
def log(tmp_path: Path) -> FolderTiles:
    """A log of 600 entries in the place where a server has it."""
    tiles = FolderTiles(tmp_path / "data" / "ledger" / "shop")
    tiles.publish(POLICY, POLICY_TEXT)
    grow(tiles, 0, 200)
    grow(tiles, 200, SIZE)
    return tiles


def packed(tiles: FolderTiles) -> bytes:
    into = io.BytesIO()
    evidence.pack(tiles, "shop", into)
    return into.getvalue()


def unpacked(tar: bytes) -> dict[str, bytes]:
    """Name and content of each file."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            assert member.name.startswith("evidence-shop/")
            found[member.name.removeprefix("evidence-shop/")] = content.read()
    return found


def test_it_holds_exactly_what_the_checkpoint_demands(log: FolderTiles) -> None:
    found = unpacked(packed(log))
    tiles = {f"log/{tile.path}": tile for tile in tiles_between(0, SIZE)}
    assert ALWAYS | tiles.keys() == found.keys()
    for path, tile in tiles.items():
        assert log.read([tile]) == [found[path]]
    assert signed(SIZE).encode() == found["log/checkpoint"]
    assert POLICY_TEXT.encode() == found["log/policy"]
    assert f"{SIGNER.key.text}\n".encode() == found["log.vkey"]


def test_the_readme_says_what_it_is_of(log: FolderTiles) -> None:
    readme = unpacked(packed(log))["README.txt"].decode()
    root = signed(SIZE).split("\n")[2]
    for line in (
        f"origin   {worked.ORIGIN}",
        "entries  600",
        f"root     {root}",
        f"key      {worked.LOG_VKEY}",
    ):
        assert line in readme.split("\n")


def test_the_same_log_gives_the_same_bytes(log: FolderTiles) -> None:
    first = packed(log)
    for path in log.folder.rglob("*"):
        path.touch()
    assert first == packed(log)
    grow(log, SIZE, SIZE + 1)
    assert first != packed(log)


def test_it_tells_nothing_of_this_machine(log: FolderTiles) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed(log))) as archive:
        for member in archive:
            assert (0, 0, "", "", 0o644) == (
                member.uid,
                member.gid,
                member.uname,
                member.gname,
                member.mode,
            )
    assert not any(
        str(log.folder).encode() in content for content in unpacked(packed(log)).values()
    )


def test_a_log_that_grows_meanwhile_is_packed_as_its_checkpoint_says(log: FolderTiles) -> None:
    class Growing(FolderTiles):
        """Another 200 events are sealed right behind the reading of the checkpoint."""

        def published(self, name: str) -> str | None:
            text = super().published(name)
            if name == CHECKPOINT and text == signed(SIZE):
                grow(log, SIZE, SIZE + 200)
            return text

    before = packed(log)
    assert before == packed(Growing(log.folder))
    assert not (log.folder / Tile(0, 2, 88).path).exists()  # a wider one stands for it
    assert signed(SIZE + 200) == log.published(CHECKPOINT)


def test_a_checkpoint_that_comes_meanwhile_is_not_newer_for_the_witnesses(
    log: FolderTiles,
) -> None:
    class Growing(FolderTiles):
        """The log grows and is cosigned right behind the first reading."""

        read_once = False

        def published(self, name: str) -> str | None:
            text = super().published(name)
            if not self.read_once:
                self.read_once = True
                grow(log, SIZE, SIZE + 1)
                log.publish(WITNESSED, signed(SIZE + 1))
            return text

    log.publish(WITNESSED, signed(SIZE))
    found = unpacked(packed(Growing(log.folder)))
    sizes = {name: int(found[f"log/{name}"].split(b"\n")[1]) for name in (CHECKPOINT, WITNESSED)}
    assert sizes[WITNESSED] <= sizes[CHECKPOINT]


def test_what_the_witnesses_signed_is_in_it_verbatim(log: FolderTiles) -> None:
    text = Checkpoint.parse(signed(SIZE).split("\n\n")[0] + "\n").text
    both = str(Note(text, (SIGNER.signature(text), COSIGNER.cosign(text, 1_700_000_000))))
    log.publish(WITNESSED, both)
    assert both.encode() == unpacked(packed(log))["log/witnessed"]


def test_an_empty_log_can_be_packed(tmp_path: Path) -> None:
    tiles = FolderTiles(tmp_path)
    tiles.publish(POLICY, POLICY_TEXT)
    tiles.publish(CHECKPOINT, signed(0))
    assert ALWAYS == unpacked(packed(tiles)).keys()


@pytest.mark.parametrize("tile", [Tile(0, 0), Tile(0, 2, 88), Tile(ENTRIES, 1), Tile(1, 0, 2)])
def test_a_tile_that_is_missing_is_named(log: FolderTiles, tile: Tile) -> None:
    assert tile == tile_at(tile.level, tile.number, SIZE)
    (log.folder / tile.path).unlink()
    with pytest.raises(TileMissing, match=tile.full.path):
        packed(log)


@pytest.mark.parametrize("name", [CHECKPOINT, POLICY])
def test_without_checkpoint_or_policy_there_is_no_evidence(log: FolderTiles, name: str) -> None:
    (log.folder / name).unlink()
    with pytest.raises(LogUnreadable, match=name):
        packed(log)


def test_a_checkpoint_that_its_key_did_not_sign_is_no_evidence(log: FolderTiles) -> None:
    log.publish(CHECKPOINT, signed(SIZE).replace("\n600\n", "\n601\n"))
    with pytest.raises(SignatureWrong):
        packed(log)
    log.publish(CHECKPOINT, signed(SIZE))
    log.publish(POLICY, "quorum none\n")
    with pytest.raises(SignatureMissing):
        packed(log)


def test_a_checkpoint_of_another_log_signed_by_this_one_is_no_evidence(log: FolderTiles) -> None:
    other = Checkpoint("log.example/other", SIZE, bytes(32))
    log.publish(CHECKPOINT, SIGNER.sign(other.text))
    with pytest.raises(LogUnreadable, match=r"log\.example/other"):
        packed(log)


# The command


def evidence_of(log: FolderTiles, output: Path, *more: str) -> Sequence[str]:
    data = log.folder.parent.parent
    return ("evidence", str(output), "--project", "shop", "--data", str(data), *more)


def test_the_command_writes_the_tar(log: FolderTiles, tmp_path: Path) -> None:
    output = tmp_path / "shop.tar"
    done = run(*evidence_of(log, output))
    assert (0, "") == (done.code, done.err)
    assert packed(log) == output.read_bytes()
    assert "600" == done.fact("events")
    assert worked.LOG_VKEY == done.fact("key")
    assert 0o600 == output.stat().st_mode & 0o777
    assert [output] == list(tmp_path.glob("*shop.tar*"))


def test_the_command_speaks_json(log: FolderTiles, tmp_path: Path) -> None:
    output = tmp_path / "shop.tar"
    done = run(*evidence_of(log, output, "--json"))
    assert {
        "output": str(output),
        "size_bytes": output.stat().st_size,
        "origin": worked.ORIGIN,
        "events": SIZE,
        "root": signed(SIZE).split("\n")[2],
        "vkey": worked.LOG_VKEY,
        "witnessed": False,
    } == done.json


def test_a_tar_is_there_whole_or_not_at_all(log: FolderTiles, tmp_path: Path) -> None:
    output = tmp_path / "shop.tar"
    output.write_bytes(b"an older one")
    (log.folder / Tile(1, 0, 2).path).unlink()
    done = run(*evidence_of(log, output, "--json"))
    assert (3, "") == (done.code, done.out)
    assert "tile_missing" == json.loads(done.err)["code"]
    assert b"an older one" == output.read_bytes()
    assert [output] == list(tmp_path.glob("*shop.tar*"))


@pytest.mark.parametrize("name", ["nobody", "", "..", "../ledger/shop", "shop/tile"])
def test_a_log_that_is_not_there_is_a_wrong_call(
    log: FolderTiles, tmp_path: Path, name: str
) -> None:
    data = str(log.folder.parent.parent)
    done = call("evidence", str(tmp_path / "x.tar"), "--project", name, "--data", data)
    assert (2, "") == (done.code, done.out)
    assert "it has shop" in done.err
    assert not (tmp_path / "x.tar").exists()


def test_a_folder_is_no_tar(log: FolderTiles, tmp_path: Path) -> None:
    done = run(*evidence_of(log, tmp_path))
    assert 2 == done.code
    assert "is a folder" in done.err
