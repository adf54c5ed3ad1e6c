"""Every single bit of a small log: each flip is detected by an audit, and located."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from indelible.event import Kind
from indelible.ledger.audit.findings import Gravity
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Memory
from indelible.ledger.audit.sources import FolderSource
from indelible.ledger.audit.whole import Audit, audit_log
from indelible.ledger.format.verify import Verdict
from tests.ledger.audit.audited import Shop

COLUMNS = ("leaf", "salts", "record", "payload")
SAMPLE = 97  # a prime: over the bytes it comes to every bit of a byte


class Flips:
    """A sound log of 20 events, and one bit of it after the other."""

    def __init__(self, folder: Path) -> None:
        self.shop = Shop.new(folder / "data")
        self.shop.store(5)
        self.shop.seal()
        self.shop.store(7)
        self.shop.seal()
        self.shop.erase(3, 5)
        self.shop.store(6, Kind.AUDIT)
        self.shop.store(1, Kind.ADMINISTRATION)
        self.shop.seal()
        self.source = FolderSource(self.shop.log)
        self.known: Known = self.shop.known(Memory(folder / "memory"))
        self.places: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()

    def audit(self) -> Audit:
        return audit_log(self.source, self.known)

    def in_files(self, step: int) -> Iterator[tuple[str, int | None]]:
        """Flip every `step`th bit of every file; yields while it is flipped."""
        bit = 0
        for path in sorted(self.shop.log.rglob("*")):
            if path.is_dir():
                continue
            content = path.read_bytes()
            for at in range(bit, 8 * len(content), step):
                self.write(path, flipped(content, at))
                yield path.relative_to(self.shop.log).as_posix(), None
            bit = (bit - 8 * len(content)) % step
            self.write(path, content)

    def in_rows(self, step: int) -> Iterator[tuple[str, int | None]]:
        """Flip every `step`th bit of every stored column of every row."""
        journal = apsw.Connection(str(self.shop.folder / "journal.db"))
        journal.execute("PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON")
        bit = 0
        for column in COLUMNS:
            rows = journal.execute(f"SELECT id, {column} FROM event ORDER BY id").fetchall()
            change = f"UPDATE event_1 SET {column} = ? WHERE id = ?"
            for row_id, content in rows:
                if content is None:
                    continue
                assert isinstance(row_id, int)
                assert isinstance(content, bytes)
                for at in range(bit, 8 * len(content), step):
                    journal.execute(change, (flipped(content, at), row_id))
                    yield f"journal {column}", row_id & 0xFF
                bit = (bit - 8 * len(content)) % step
                journal.execute(change, (content, row_id))
        journal.close()

    def write(self, path: Path, content: bytes) -> None:
        with path.open("r+b", buffering=0) as file:
            file.write(content)

    def run(self, flips: Iterator[tuple[str, int | None]]) -> None:
        """Audit after each flip: it must be found, and its place named."""
        for place, index in flips:
            found = self.audit()
            assert found.findings, f"a flipped bit in {place} {index} was not noticed"
            named = [
                one
                for one in found.findings
                if (one.file == place if index is None else one.index == index)
            ]
            assert named, (place, index, found.findings)
            self.places[place] += 1
            self.verdicts[found.verdict.value] += 1


def flipped(content: bytes, bit: int) -> bytes:
    """`content` with one bit the other way."""
    at, mask = bit // 8, 1 << bit % 8
    return content[:at] + bytes([content[at] ^ mask]) + content[at + 1 :]


def flip_all(folder: Path, step: int, capsys: pytest.CaptureFixture[str]) -> None:
    flips = Flips(folder)
    assert ((), 20) == (flips.audit().findings, flips.audit().size)
    began = time.monotonic()

    flips.run(flips.in_files(step))
    flips.run(flips.in_rows(step))

    took_s = time.monotonic() - began
    assert () == flips.audit().findings, "everything was put back"
    total = sum(flips.places.values())
    said = ", ".join(f"{count:,} {word}" for word, count in sorted(flips.verdicts.items()))
    lines = [
        f"{total:,} bits flipped, {total:,} noticed and located in {took_s:.0f} s: {said}",
        *(f"  {count:>7,}  {place}" for place, count in sorted(flips.places.items())),
    ]
    with capsys.disabled():  # the figure is part of what is shown
        print("", *lines, sep="\n")  # noqa: T201 — see above


def test_a_flipped_bit_is_noticed_and_located(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_all(tmp_path, SAMPLE, capsys)


@pytest.mark.slow(minutes=3)
@pytest.mark.timeout(600)
def test_every_flipped_bit_is_noticed_and_located(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip_all(tmp_path, 1, capsys)


def test_a_flip_in_an_entry_is_tampered_and_not_merely_unreadable(tmp_path: Path) -> None:
    flips = Flips(tmp_path)
    bundle = flips.shop.log / "tile/entries/000.p/20"
    content = bundle.read_bytes()
    for entry in range(20):
        flips.write(bundle, flipped(content, 8 * (entry * 98 + 2 + 50)))
        found = flips.audit()
        assert Verdict.TAMPERED is found.verdict
        (only,) = found.findings
        assert (Gravity.TAMPERED, "tile/entries/000.p/20", entry, entry) == (
            only.gravity,
            only.file,
            only.number,
            only.index,
        )
