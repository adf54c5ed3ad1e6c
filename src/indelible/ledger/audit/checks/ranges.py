"""A range of events: what is asked of it, and what came of it so far."""

from dataclasses import dataclass, field
from typing import Final

from indelible import leaf as leaves
from indelible.errors import Unverifiable
from indelible.event import Kind, tx_text
from indelible.layout import JOURNAL_FILE
from indelible.ledger.audit.checks.rows import JOURNAL, Stored, check_contents, leaf_of
from indelible.ledger.audit.findings import Finding, cannot, tampered
from indelible.ledger.audit.known import JournalRows
from indelible.ledger.audit.sources import Source
from indelible.ledger.format.tile import WIDTH, Tile
from indelible.ledger.format.tree import leaf_hash

ORDER: Final = "order"


@dataclass(frozen=True, slots=True)
class Range:
    """What to compute again: the events [start, end), of which those below `size` are sealed.

    Attributes:
        stored: how many events the journal has; 0 without a journal.
        cuts: sizes of the log whose roots will be asked for.
        copies: narrower tiles and bundles of the range that lie there as well.
    """

    source: Source
    journal: JournalRows | None
    start: int
    end: int
    size: int
    stored: int
    cuts: tuple[int, ...] = ()
    copies: tuple[Tile, ...] = ()


@dataclass(slots=True)
class Recomputed:
    """What came of a `Range`.

    Attributes:
        roots: of each 256 events below `size`, the last maybe fewer; None where nothing gives it.
        other_roots: where the tile's hashes differ from what was computed: its number, their root.
        cut_roots: for a cut within 256 events, the root of those before it.
        beyond: the hashes of the leaves from `size` on, as far as the journal has them.
        last: the hashes of the last tile below `size`, for comparing wider ones.
        last_entries: and its entries.
        first_tx, last_tx: transaction ids at both ends.
        erased: indexes whose payload, record and salts are gone.
        erasures: indexes of the erasure entries.
        events, tiles: how many were looked at.
    """

    findings: list[Finding] = field(default_factory=list)
    roots: list[bytes | None] = field(default_factory=list)
    other_roots: dict[int, bytes] = field(default_factory=dict)
    cut_roots: dict[int, bytes] = field(default_factory=dict)
    beyond: list[bytes] = field(default_factory=list)
    beyond_entries: list[bytes] = field(default_factory=list)
    last: list[bytes] = field(default_factory=list)
    last_entries: list[bytes] = field(default_factory=list)
    first_tx: tuple[int, bytes] | None = None
    last_tx: tuple[int, bytes] | None = None
    erased: list[int] = field(default_factory=list)
    erasures: list[int] = field(default_factory=list)
    events: int = 0
    tiles: int = 0


class Work:
    """A range whose tiles are looked at one after the other."""

    def __init__(self, asked: Range) -> None:
        self.asked = asked
        self.done = Recomputed()
        self._cuts: dict[int, list[int]] = {}
        for cut in asked.cuts:
            if cut % WIDTH:
                self._cuts.setdefault(cut // WIDTH, []).append(cut)
        self._copies: dict[int, list[Tile]] = {}
        for tile in asked.copies:
            self._copies.setdefault(tile.number, []).append(tile)

    def cuts_of(self, number: int) -> list[int]:
        return self._cuts.get(number, [])

    def copies_of(self, number: int) -> list[Tile]:
        return self._copies.get(number, [])

    def unsealed(self, first: int, rows: list[Stored]) -> None:
        """Rows from `first` on that no checkpoint covers."""
        done = self.done
        held = {row.at: row for row in rows}
        for index in range(first, min(first // WIDTH * WIDTH + WIDTH, self.asked.stored)):
            row = held.get(index)
            if row is None:
                done.findings.append(
                    tampered(
                        JOURNAL,
                        "The journal has no event here, though it has later ones.",
                        file=JOURNAL_FILE,
                        index=index,
                    )
                )
                continue
            self.row_alone(row)

    def row_alone(self, row: Stored) -> None:
        """A row whose leaf is in no bundle yet."""
        done = self.done
        done.events += 1
        held = leaf_of(row)
        if isinstance(held, Finding):
            done.findings.append(held)
            return
        self.order(row.at, held.tx)
        if held.kind is Kind.ERASURE:
            done.erasures.append(row.at)
        self.contents(row, held)
        done.beyond.append(leaf_hash(row.leaf))
        done.beyond_entries.append(row.leaf)

    def order(self, index: int, tx: bytes) -> None:
        """The next transaction id."""
        done = self.done
        if done.first_tx is None:
            done.first_tx = index, tx
        elif done.last_tx is not None and tx <= done.last_tx[1]:
            done.findings.append(out_of_order(index, tx))
        done.last_tx = index, tx

    def contents(self, row: Stored, held: leaves.Leaf) -> None:
        """Whether payload and record are what the leaf commits to."""
        if row.is_erased:
            self.done.erased.append(row.at)
            return
        wrong = check_contents(row, held)
        if wrong is not None:
            self.done.findings.append(wrong)

    def rows(self, start: int, end: int) -> list[Stored] | None:
        """The journal's rows of [start, end); None without a journal.

        None, and a finding, if they cannot be read.
        """
        if self.asked.journal is None:
            return None
        try:
            return [Stored.of(row) for row in self.asked.journal.rows(start, end)]
        except Unverifiable as error:
            self.done.findings.append(
                cannot(JOURNAL, f"{error.message}.", file=JOURNAL_FILE, index=start)
            )
            return None


def out_of_order(index: int, tx: bytes) -> Finding:
    """A transaction id that is not above the one before it."""
    return tampered(
        ORDER,
        "Its transaction id is not above that of the event before: the events were reordered, or"
        " one was put in between.",
        index=index,
        tx_id=tx_text(tx),
    )
