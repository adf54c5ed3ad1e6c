"""A log of 70,000 events from a real server, checked by programs that we did not write.

Each checker says yes to the log as it is, and no to a copy with one bit flipped in a tile, in an
entry bundle, or in the checkpoint.
"""

import base64
import json
import random
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from cryptography.exceptions import InvalidSignature
from tlog_scales.backend import LocalBackend
from tlog_scales.reader import TilesReader
from tlog_scales.signing import Vkey
from tlog_scales.tlog import Checkpoint as Theirs
from tlog_scales.tlog import (
    ConsistencyProof,
    ConsistencyProofInvalid,
    InclusionProof,
    InclusionProofInvalid,
)

from indelible.ledger.audit.evidence import Packed, pack
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.layout import CHECKPOINT, WITNESSED
from indelible.ledger.format.note import Signer, parse_note
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tile import ENTRIES, Tile, TileHashes, decode_entries, tile_at
from indelible.ledger.format.tree import (
    Hashes,
    check_inclusion,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_of,
)
from indelible.ledger.tilestore import FolderTiles
from tests.cli.command import call
from tests.foreign import stranger
from tests.foreign.needs import needed
from tests.foreign.stranger import (
    Verdict,
    one_bit_flipped,
    taken_away,
    tlog_tiles,
    tlog_tiles_here,
)
from tests.ledger.format import worked
from tests.world import AS_APPLICATION, TOKEN, ServerProcess, audit, started

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.timeout(330),  # a cold build takes minutes
]

SIZE: Final = 70_000
BATCH: Final = 1_000
EARLY: Final = 5 * BATCH
SEALED_S: Final = 60.0

_GO: Final = Path(__file__).parent / "go" / "stranger"


class Evidence(NamedTuple):
    """A log that a server sealed, packed while the server ran, and unpacked as a stranger would."""

    folder: Path
    packed: Packed
    early: str
    """A checkpoint from when the log was young."""
    receipts: dict[int, str]
    """Receipts of some events, by their indexes."""
    signer: Signer
    """The log's private key, for what only its operator could forge."""

    @property
    def log(self) -> Path:
        """The log itself, within the folder."""
        return self.folder / "log"

    @property
    def tiles(self) -> FolderTiles:
        return FolderTiles(self.log)

    def entry(self, index: int) -> bytes:
        """The leaf entry with this index."""
        bundle = tile_at(ENTRIES, index // 256, SIZE)
        return decode_entries(bundle, self.tiles.read([bundle])[0])[index % 256]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    folder = tmp_path_factory.mktemp("stranger")
    with started(folder / "data") as server:
        server.send_audit(audit()).raise_for_status()
        log = FolderTiles(server.data_dir / "ledger" / "default")
        _send(server, 1, EARLY)
        early = _sealed(log, EARLY)
        _send(server, EARLY, SIZE)
        _sealed(log, SIZE)
        receipts = _receipts(server, [0, 1, 255, 256, 65_535, 65_536, SIZE - 1])
        signer = Signer.parse((server.data_dir / "keys" / "default.key").read_text())
        with (folder / "evidence.tar").open("wb") as file:
            packed = pack(log, "default", file)
    with tarfile.open(folder / "evidence.tar") as tar:
        tar.extractall(folder, filter="data")
    return Evidence(folder / "evidence-default", packed, early, receipts, signer)


@pytest.fixture(scope="module")
def verify(evidence: Evidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program that came with the evidence."""
    with needed():
        return stranger.build(evidence.folder, tmp_path_factory.mktemp("verify") / "verify")


@pytest.fixture(scope="module")
def glue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program beside these tests, for receipts and for pairs of checkpoints."""
    with needed():
        return stranger.build(_GO, tmp_path_factory.mktemp("glue") / "stranger")


def test_the_server_sealed_every_event(evidence: Evidence) -> None:
    assert SIZE == evidence.packed.size
    assert EARLY == Checkpoint.parse(parse_note(evidence.early).text).size
    partial = ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1"]
    for path in ("tile/0/000", "tile/0/272", "tile/1/000", "tile/entries/272", *partial):
        assert (evidence.log / path).is_file()


# Go's sumdb packages


def test_go_verifies_all_70_000_events_as_the_readme_says(evidence: Evidence) -> None:
    readme = (evidence.folder / "README.txt").read_text()
    assert f"go run . '{evidence.packed.vkey}'" in readme
    with needed():
        verdict = stranger.go_run(evidence.folder, evidence.packed.vkey)
    assert _verified(evidence) == verdict


def test_the_folder_is_a_log_that_our_own_auditor_takes(evidence: Evidence, tmp_path: Path) -> None:
    assert "indelible audit log --policy log/policy" in (evidence.folder / "README.txt").read_text()
    asked = ("audit", "log", "--policy", "log/policy", "--state", str(tmp_path))
    done = call(*asked, cwd=evidence.folder)
    assert (0, "") == (done.code, done.err), done.out


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/000",
        "tile/0/100",
        "tile/0/273.p/112",
        "tile/1/000",
        "tile/1/001.p/17",
        "tile/2/000.p/1",
    ],
)
def test_go_names_the_tile_with_one_bit_flipped(
    evidence: Evidence, verify: Path, path: str
) -> None:
    size = (evidence.log / path).stat().st_size
    for at in (0, size // 2, size - 1):
        with one_bit_flipped(evidence.log / path, at):
            said = _no(stranger.run(verify, cwd=evidence.folder))
        assert f"{path} is not what the records give" in said


@pytest.mark.parametrize("index", [0, 255, 256, 25_700, 69_999])
def test_go_names_the_record_with_one_bit_flipped(
    evidence: Evidence, verify: Path, index: int
) -> None:
    bundle = tile_at(ENTRIES, index // 256, SIZE).path
    start = index % 256 * (2 + 96)
    for at in (start + 2, start + 50, start + 97):
        with one_bit_flipped(evidence.log / bundle, at):
            said = _no(stranger.run(verify, cwd=evidence.folder))
        assert f"record {index} in log/{bundle} " in said
    for at in (start, start + 1):  # the length
        with one_bit_flipped(evidence.log / bundle, at):
            assert bundle in _no(stranger.run(verify, cwd=evidence.folder))


def test_go_refuses_every_byte_of_the_checkpoint_with_a_bit_flipped(
    evidence: Evidence, verify: Path
) -> None:
    content = (evidence.log / CHECKPOINT).read_bytes()
    for at in range(len(content)):
        if content[at + 1 : at + 2] == b"=":
            continue  # bits of this character mean nothing; Go's base64 passes over them, ours not
        with one_bit_flipped(evidence.log / CHECKPOINT, at):
            assert "checkpoint" in _no(stranger.run(verify, cwd=evidence.folder))


@pytest.mark.parametrize(
    "path", ["tile/0/100", "tile/1/001.p/17", "tile/entries/273.p/112", "checkpoint"]
)
def test_go_names_the_file_that_is_missing(evidence: Evidence, verify: Path, path: str) -> None:
    with taken_away(evidence.log / path):
        assert path in _no(stranger.run(verify, cwd=evidence.folder))


def test_go_refuses_a_log_that_was_rewritten_and_signed_with_another_key(
    evidence: Evidence, verify: Path
) -> None:
    assert "checkpoint" in _no(stranger.run(verify, worked.LOG_VKEY, cwd=evidence.folder))


def test_go_finds_records_and_tiles_that_fit_each_other_and_not_the_checkpoint(
    evidence: Evidence, verify: Path
) -> None:
    """Whoever changes a record and every hash above it still has no signature."""
    tiles = evidence.tiles
    bundle, low = Tile(ENTRIES, 273, 112), Tile(0, 273, 112)  # no tile above holds its hashes
    content = bytearray(tiles.read([bundle])[0])
    content[2 + 50] ^= 1
    entry = bytes(content[2 : 2 + 96])
    hashes = leaf_hash(entry) + tiles.read([low])[0][32:]
    kept = {path: (evidence.log / path).read_bytes() for path in (bundle.path, low.path)}
    try:
        (evidence.log / bundle.path).write_bytes(content)
        (evidence.log / low.path).write_bytes(hashes)
        said = _no(stranger.run(verify, cwd=evidence.folder))
    finally:
        for path, whole in kept.items():
            (evidence.log / path).write_bytes(whole)
    assert "neither the records nor the tiles" in said


def test_go_finds_what_the_witnesses_saw_to_be_the_beginning(
    evidence: Evidence, verify: Path
) -> None:
    witnessed = evidence.log / WITNESSED
    assert not witnessed.exists()
    fork = Checkpoint(evidence.packed.origin, EARLY, leaf_hash(b"another past"))
    try:
        witnessed.write_text(evidence.early)
        assert _verified(evidence) == stranger.run(verify, cwd=evidence.folder)
        with one_bit_flipped(witnessed, 0):
            assert "log/witnessed" in _no(stranger.run(verify, cwd=evidence.folder))
        witnessed.write_text(evidence.signer.sign(fork.text))
        assert "log/witnessed" in _no(stranger.run(verify, cwd=evidence.folder))
    finally:
        witnessed.unlink()


def test_go_finds_every_receipt_in_its_tree(evidence: Evidence, glue: Path, tmp_path: Path) -> None:
    file = tmp_path / "receipt.tlog-proof"
    for index, receipt in evidence.receipts.items():
        file.write_text(receipt)
        verdict = stranger.run(glue, "record", evidence.packed.vkey, file)
        assert Verdict(0, f"record {index} is in the tree of {SIZE}\n", "") == verdict


def test_go_refuses_a_receipt_that_was_changed(
    evidence: Evidence, glue: Path, tmp_path: Path
) -> None:
    file = tmp_path / "receipt.tlog-proof"
    proof = Proof.parse(evidence.receipts[256])
    assert proof.extra is not None
    opening = json.loads(proof.extra)
    other = base64.b64encode(evidence.entry(257)).decode()
    extra = json.dumps({**opening, "leaf": other}).encode()
    forged = proof.checkpoint.replace("70000", "70001")
    wrong_hashes = (proof.hashes[1], proof.hashes[0], *proof.hashes[2:])
    for changed, what in (
        (Proof(257, proof.hashes, proof.checkpoint, proof.extra), "inclusion"),
        (Proof(256, proof.hashes[:-1], proof.checkpoint, proof.extra), "inclusion"),
        (Proof(256, wrong_hashes, proof.checkpoint, proof.extra), "inclusion"),
        (Proof(256, proof.hashes, proof.checkpoint, extra), "inclusion"),
        (Proof(256, proof.hashes, evidence.early, proof.extra), "inclusion"),
        (Proof(256, proof.hashes, forged, proof.extra), "signature"),
    ):
        file.write_text(changed.text)
        assert _no(stranger.run(glue, "record", evidence.packed.vkey, file)).startswith(what)


def test_go_finds_an_early_checkpoint_to_be_the_beginning_of_the_last(
    evidence: Evidence, glue: Path, tmp_path: Path
) -> None:
    proof = prove_consistency(TileHashes(evidence.tiles.read, SIZE), EARLY, SIZE)
    old, hashes = tmp_path / "old", tmp_path / "hashes"
    old.write_text(evidence.early)

    def judge(given: list[bytes]) -> Verdict:
        hashes.write_text("".join(f"{base64.b64encode(one).decode()}\n" for one in given))
        new = evidence.log / CHECKPOINT
        return stranger.run(glue, "tree", evidence.packed.vkey, old, new, hashes)

    said = f"the tree of {EARLY} is the beginning of the tree of {SIZE}\n"
    assert Verdict(0, said, "") == judge(proof)
    for position in range(len(proof)):
        flipped = bytes([proof[position][0] ^ 1]) + proof[position][1:]
        assert "consistency" in _no(judge([*proof[:position], flipped, *proof[position + 1 :]]))
    assert "consistency" in _no(judge(proof[:-1]))


# tlog-scales


SOME: Final = [0, 1, 255, 256, 25_700, 65_535, 65_536, 69_887, 69_888, 69_999]


def test_tlog_scales_finds_entries_in_the_tree(evidence: Evidence) -> None:
    done = _scales("get-leaf", "-c", evidence, SOME[0])
    assert 0 == done.code, done.err
    for index in [*SOME, *random.Random(3).sample(range(SIZE), 3)]:
        assert evidence.entry(index) == _scales_here("get-leaf", "-c", evidence, index)
    reader = _reader(evidence)
    for index in [*SOME, *random.Random(4).sample(range(SIZE), 200)]:
        entry = reader.get_entry(index)
        assert evidence.entry(index) == entry
        reader.get_inclusion_proof(index, SIZE).check(leaf_hash(entry), evidence.packed.root)
    assert evidence.packed.root == reader.calculate_root_hash()


def test_tlog_scales_makes_the_proofs_that_we_make(evidence: Evidence) -> None:
    ours = TileHashes(evidence.tiles.read, SIZE)
    assert _scales("gen-proof", evidence, 0).out == _scales_here("gen-proof", evidence, 0).decode()
    for index in SOME:
        proof = Proof.parse(_scales_here("gen-proof", evidence, index).decode())
        assert (index, tuple(prove_inclusion(ours, index, SIZE))) == (proof.index, proof.hashes)
        assert (evidence.log / CHECKPOINT).read_text() == proof.checkpoint
        leaf = leaf_hash(evidence.entry(index))
        assert check_inclusion(index, SIZE, leaf, proof.hashes, evidence.packed.root)
    reader = _reader(evidence)
    for old in (1, 2, 255, 256, EARLY, 65_536, SIZE - 1):
        theirs = reader.get_consistency_proof(old, SIZE).node_hashes
        assert theirs == prove_consistency(ours, old, SIZE)


@pytest.mark.parametrize(
    ("path", "at", "index"),
    [
        ("tile/0/100", 0, 25_601),  # the neighbour of the leaf
        ("tile/0/273.p/112", 0, 69_889),
        ("tile/1/000", 32 * 101, 25_600),
        ("tile/1/001.p/17", 0, 25_600),
        ("tile/2/000.p/1", 0, 69_999),
        ("tile/entries/100", 2 + 50, 25_600),
        ("tile/entries/273.p/112", 2 + 50, 69_888),
    ],
)
def test_tlog_scales_refuses_a_tile_or_a_bundle_with_one_bit_flipped(
    evidence: Evidence, path: str, at: int, index: int
) -> None:
    with one_bit_flipped(evidence.log / path, at), pytest.raises(InclusionProofInvalid):
        _scales_here("get-leaf", "-c", evidence, index)
    assert evidence.entry(index) == _scales_here("get-leaf", "-c", evidence, index)


def test_tlog_scales_refuses_a_checkpoint_with_one_bit_flipped(evidence: Evidence) -> None:
    text = (evidence.log / CHECKPOINT).read_text()
    size = text.index("70000\n")
    # A character of its root that makes another one of base64: not A, which makes @.
    root = next(at for at in range(size + 6, len(text)) if chr(ord(text[at]) ^ 1).isalnum())
    with one_bit_flipped(evidence.log / CHECKPOINT, root):
        done = _scales("get-leaf", "-c", evidence, 25_600)
    assert (1, "") == (done.code, done.out)
    assert "InclusionProofInvalid" in done.err
    # Its command does not look at the signature; its library does.
    vkey = Vkey.from_string(evidence.packed.vkey)
    for at in (0, size, root):
        with one_bit_flipped(evidence.log / CHECKPOINT, at):
            changed = _reader(evidence).get_checkpoint()
        with pytest.raises(InvalidSignature):
            changed.verify(vkey)
    _reader(evidence).get_checkpoint().verify(vkey)


def test_tlog_scales_believes_the_worked_signature_and_cosignature() -> None:
    checkpoint = Theirs.from_text(worked.COSIGNED)
    other = worked.COSIGNED.replace("\n3\n", "\n4\n")
    assert worked.COSIGNED == checkpoint.serialize()
    for text in (worked.LOG_VKEY, worked.WITNESS_VKEY):
        vkey = Vkey.from_string(text)
        checkpoint.verify(vkey)
        with pytest.raises(InvalidSignature):
            Theirs.from_text(other).verify(vkey)


def test_tlog_scales_accepts_our_proofs_of_every_small_tree_and_no_others() -> None:
    leaves = [leaf_hash(str(i).encode()) for i in range(40)]
    roots = [root_of(leaves[:size]) for size in range(41)]
    ours = Hashes(leaves)
    for size in range(1, 41):
        for index in range(size):
            proof = InclusionProof(index, size, prove_inclusion(ours, index, size))
            proof.check(leaves[index], roots[size])
            with pytest.raises(InclusionProofInvalid):
                proof.check(leaves[index], roots[size - 1])
        for old in range(1, size):
            grown = ConsistencyProof(old, size, prove_consistency(ours, old, size))
            grown.check(roots[old], roots[size])
            with pytest.raises(ConsistencyProofInvalid):
                grown.check(roots[old - 1], roots[size])


def _send(server: ServerProcess, start: int, end: int) -> None:
    for first in range(start, end, BATCH):
        last = min(end, first + BATCH)
        batch = [
            {"event": "order_placed", "distinct_id": f"user_{n % 999}", "properties": {"order": n}}
            for n in range(first, last)
        ]
        answer = server.send({"api_key": TOKEN, "batch": batch})
        assert (200, last - first) == (answer.status_code, answer.json()["accepted"])


def _sealed(log: FolderTiles, size: int) -> str:
    """The checkpoint, once it covers `size` events."""
    deadline = time.monotonic() + SEALED_S
    while time.monotonic() < deadline:
        note = log.published(CHECKPOINT)
        if note is not None and Checkpoint.parse(parse_note(note).text).size == size:
            return note
        time.sleep(0.02)
    raise AssertionError(f"no checkpoint covers {size} events after {SEALED_S} s: {note}")


def _receipts(server: ServerProcess, indexes: list[int]) -> dict[int, str]:
    found = {}
    for index in indexes:
        asked = {"start": index, "end": index + 1}
        answer = server.http.get("/v1/receipts", params=asked, headers=AS_APPLICATION)
        assert 200 == answer.status_code, answer.text
        found[index] = json.loads(answer.content)["receipt"]
    return found


def _verified(evidence: Evidence) -> Verdict:
    """What the Go program says of the log as it is."""
    root = base64.b64encode(evidence.packed.root).decode()
    return Verdict(0, f"verified: {SIZE} records, root {root}\n", "")


def _no(verdict: Verdict) -> str:
    """What a checker said that refused."""
    assert (1, "") == (verdict.code, verdict.out)
    return verdict.err


def _scales(command: str, *arguments: object) -> Verdict:
    """Run `tlog-tiles`; the evidence among `arguments` stands there as ./DIR."""
    names, folder = _named(arguments)
    return tlog_tiles(command, *names, cwd=folder)


def _scales_here(command: str, *arguments: object) -> bytes:
    """What the same command writes within this process; what it raises is raised."""
    names, folder = _named(arguments)
    return tlog_tiles_here(command, *names, cwd=folder)


def _named(arguments: Sequence[object]) -> tuple[list[str], Path]:
    (evidence,) = [one for one in arguments if isinstance(one, Evidence)]
    return ["./log" if one is evidence else str(one) for one in arguments], evidence.folder


def _reader(evidence: Evidence) -> TilesReader:
    reader = TilesReader(LocalBackend(evidence.log))
    reader.set_size(SIZE)
    return reader
