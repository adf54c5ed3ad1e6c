"""One range of events, computed again from its bundles and compared with all that speaks of it.

For every event of the range up to three witnesses exist: the entry in its bundle, the hash in its
level-0 tile, and the row of the journal. Where one differs from the others it is named; where all
are altered alike, only the root can tell, and that is for `indelible.ledger.audit.checks.roots`.

A range is a whole number of tiles, and knows nothing of the ranges beside it, so that several
processes can each take some. What is asked of the files is read in large steps, and the events are
compared a tile at once; only a tile that differs is looked at event by event.
"""

from operator import lt
from typing import Final

from indelible import leaf as leaves
from indelible.errors import LeafMalformed, LogUnreadable, TileMalformed
from indelible.event import Kind, tx_text
from indelible.layout import JOURNAL_FILE
from indelible.ledger.audit.checks.ranges import Range, Recomputed, Work
from indelible.ledger.audit.checks.rows import JOURNAL, Stored, leaf_of, opens
from indelible.ledger.audit.checks.tiles import TILES, absent, compare_copy, read_tiles, wrong_size
from indelible.ledger.audit.findings import MOST_FINDINGS, Finding, cannot, tampered
from indelible.ledger.audit.sources import Content
from indelible.ledger.format.tile import (
    ENTRIES,
    WIDTH,
    Tile,
    decode_entries,
    hashes_of,
    root_of_full,
    tile_at,
)
from indelible.ledger.format.tree import HASH_SIZE, leaf_hash, root_of

BUNDLES: Final = "bundles"
LEAVES: Final = "leaves"

_FRAMED: Final = 2 + leaves.SIZE
_LENGTH: Final = leaves.SIZE.to_bytes(2, "big")
_KINDS: Final = bytes(Kind)
_TILES_AT_ONCE: Final = 16


def recompute(asked: Range) -> Recomputed:
    """Compute a range again. Whatever is wrong is in its findings; it never raises for it."""
    work = Work(asked)
    numbers = range(asked.start // WIDTH, -(-asked.end // WIDTH))
    for at in range(0, len(numbers), _TILES_AT_ONCE):
        _take(work, numbers[at : at + _TILES_AT_ONCE])
        if len(work.done.findings) >= MOST_FINDINGS:
            break
    return work.done


def _take(work: Work, numbers: range) -> None:
    """Several tiles at once."""
    size = work.asked.size
    sealed = [number for number in numbers if number * WIDTH < size]
    bundles = [tile_at(ENTRIES, number, size) for number in sealed]
    hashes = [tile_at(0, number, size) for number in sealed]
    found = read_tiles(work.asked.source, [*bundles, *hashes])
    work.done.tiles += len(found)
    first, end = numbers[0] * WIDTH, min(numbers[-1] * WIDTH + WIDTH, work.asked.end)
    rows = work.rows(first, end)
    at = 0
    for place, number in enumerate(numbers):
        mine = None
        if rows is not None:
            behind = at
            while behind < len(rows) and rows[behind].at < (number + 1) * WIDTH:
                behind += 1
            mine, at = rows[at:behind], behind
        if number * WIDTH < size:
            _Chunk(work, bundles[place], hashes[place], mine).check(
                found[place], found[len(sealed) + place]
            )
        elif mine is not None:
            work.unsealed(number * WIDTH, mine)
        if len(work.done.findings) >= MOST_FINDINGS:
            return


class _Chunk:
    """The events of one level-0 tile."""

    def __init__(self, work: Work, bundle: Tile, tile: Tile, rows: list[Stored] | None) -> None:
        self._work = work
        self._done = work.done
        self._bundle = bundle
        self._tile = tile
        self._first = tile.number * WIDTH
        self._width = tile.width
        self._rows = rows

    def check(self, bundle: Content, tile: Content) -> None:
        """Compare what lies in the two files, and the journal's rows, with each other."""
        done = self._done
        end = self._first + self._width
        entries = self._entries(bundle)
        hashes = self._hashes(tile)
        rows = self._rows
        sealed = None if rows is None else [row for row in rows if row.at < end]
        computed = None if entries is None else [leaf_hash(entry) for entry in entries]
        if (
            entries is not None
            and computed is not None
            and hashes == computed
            and self._well_formed(entries)
            and (sealed is None or _same_leaves(sealed, self._first, entries))
        ):
            self._quick(entries, sealed)
            chosen: list[bytes] | None = computed
        else:
            chosen = self._one_by_one(entries, computed, hashes, sealed)
        self._keep(chosen, hashes, entries)
        done.events += self._width
        if rows is not None and sealed is not None and len(rows) > len(sealed):
            self._work.unsealed(end, rows[len(sealed) :])
        elif rows is not None and end < min(self._first + WIDTH, self._work.asked.stored):
            self._work.unsealed(end, [])

    # What is read

    def _entries(self, content: Content) -> list[bytes] | None:
        """The entries of the bundle; None, and a finding, when it cannot be read."""
        path, width = self._bundle.path, self._width
        if not isinstance(content, bytes):
            self._absent(BUNDLES, path, content)
            return None
        regular = len(content) == width * _FRAMED
        if regular and content[0::_FRAMED] + content[1::_FRAMED] == (
            _LENGTH[:1] * width + _LENGTH[1:] * width
        ):
            return [content[at : at + leaves.SIZE] for at in range(2, len(content), _FRAMED)]
        try:
            return decode_entries(self._bundle, content)
        except TileMalformed as error:
            if not regular:
                self._done.findings.append(cannot(BUNDLES, f"{error.message}.", file=path))
                return None
        # As long as it should be, and cut in other places: a length within it was altered.
        for number in range(width):
            at = number * _FRAMED
            if content[at : at + 2] != _LENGTH:
                self._done.findings.append(
                    tampered(
                        BUNDLES,
                        f"The length before this entry is not {leaves.SIZE}, and the file is as"
                        " long as if it were.",
                        file=path,
                        number=number,
                        index=self._first + number,
                    )
                )
        return [content[at : at + leaves.SIZE] for at in range(2, len(content), _FRAMED)]

    def _hashes(self, content: Content) -> list[bytes] | None:
        """The hashes of the tile; None, and a finding, when it cannot be read."""
        path, wanted = self._tile.path, self._width * HASH_SIZE
        if not isinstance(content, bytes):
            self._absent(TILES, path, content)
            return None
        if len(content) != wanted:
            self._done.findings.append(wrong_size(TILES, path, len(content), wanted))
            return None
        return hashes_of(content)

    def _absent(self, check: str, path: str, content: LogUnreadable | None) -> None:
        self._done.findings.append(absent(check, path, content, index=self._first))

    # What is compared

    def _well_formed(self, entries: list[bytes]) -> bool:
        """Whether every entry is a leaf of version 1, and their transaction ids ascend."""
        joined = b"".join(entries)
        if len(joined) != self._width * leaves.SIZE:
            return False
        ids = [entry[16:32] for entry in entries]
        last = self._done.last_tx
        return (
            joined[0 :: leaves.SIZE] == b"\x01" * self._width
            and not joined[1 :: leaves.SIZE].translate(None, _KINDS)
            and not any(joined[at :: leaves.SIZE].strip(b"\x00") for at in range(2, 8))
            and all(map(lt, ids, ids[1:]))
            and (last is None or last[1] < ids[0])
        )

    def _quick(self, entries: list[bytes], rows: list[Stored] | None) -> None:
        """All agree: what is left are the journal's contents."""
        done, first = self._done, self._first
        kinds = b"".join(entries)[1 :: leaves.SIZE]
        if Kind.ERASURE in kinds:
            done.erasures += [first + at for at, kind in enumerate(kinds) if kind == Kind.ERASURE]
        if done.first_tx is None:
            done.first_tx = first, entries[0][16:32]
        done.last_tx = first + len(entries) - 1, entries[-1][16:32]
        for row in rows or ():
            if not opens(row):
                self._work.contents(row, leaves.decode(row.leaf))

    def _one_by_one(
        self,
        entries: list[bytes] | None,
        computed: list[bytes] | None,
        hashes: list[bytes] | None,
        rows: list[Stored] | None,
    ) -> list[bytes] | None:
        """Something differs: find out what. The hashes that most of the three agree on."""
        held = {row.at: row for row in rows or ()}
        chosen: list[bytes | None] = []
        for number in range(self._width):
            index = self._first + number
            row = held.get(index)
            entry = None if entries is None else entries[number]
            in_bundle = None if computed is None else computed[number]
            in_tile = None if hashes is None else hashes[number]
            if rows is not None and row is None and index < self._work.asked.stored:
                self._done.findings.append(
                    tampered(
                        JOURNAL,
                        "The journal has no event here, and the log has one.",
                        file=JOURNAL_FILE,
                        index=index,
                        tx_id=_tx_of(entry),
                    )
                )
            in_journal = None
            if row is not None and isinstance(row.leaf, bytes):
                in_journal = leaf_hash(row.leaf)
            self._compare(number, entry, in_bundle, in_tile, row, in_journal)
            others = (in_tile, in_journal)
            confirmed = in_bundle in others or others == (None, None)
            self._read_leaf(number, entry if confirmed else None, row)
            chosen.append(_choose(in_bundle, in_tile, in_journal))
        known = [one for one in chosen if one is not None]
        return known if len(known) == self._width else None

    def _compare(
        self,
        number: int,
        entry: bytes | None,
        in_bundle: bytes | None,
        in_tile: bytes | None,
        row: Stored | None,
        in_journal: bytes | None,
    ) -> None:
        """Name the one of the three that is alone."""
        index, tx_id = self._first + number, _tx_of(entry if row is None else row.leaf)
        bundle, tile = self._bundle.path, self._tile.path
        add = self._done.findings.append
        if in_bundle is not None and in_tile is not None and in_bundle != in_tile:
            if in_journal == in_tile:
                sentence = (
                    f"The entry in the bundle was altered: its hash is not the one in {tile},"
                    " which is that of the journal's leaf."
                )
                add(
                    tampered(
                        BUNDLES, sentence, file=bundle, number=number, index=index, tx_id=tx_id
                    )
                )
                return
            also = ", while the entry is the journal's leaf" if in_journal == in_bundle else ""
            sentence = f"The hash in the tile is not that of the entry in {bundle}{also}."
            add(tampered(TILES, sentence, file=tile, number=number, index=index, tx_id=tx_id))
            if in_journal in (None, in_bundle):
                return
        elif in_journal is None or in_journal == (in_bundle or in_tile or in_journal):
            return
        add(
            tampered(
                JOURNAL,
                f"The journal's leaf is not the one in the log ({bundle}, {tile}).",
                file=JOURNAL_FILE,
                index=index,
                tx_id=tx_id,
            )
        )

    def _read_leaf(self, number: int, entry: bytes | None, row: Stored | None) -> None:
        """Read the leaf, and compare with it what the journal has; `entry` is None if unsure."""
        index = self._first + number
        if entry is None:
            if row is not None:
                self._read_row(row)
            return
        try:
            held = leaves.decode(entry)
        except LeafMalformed as error:
            sentence = f"The entry is no leaf that is known here: {error.message}."
            path = self._bundle.path
            self._done.findings.append(
                cannot(LEAVES, sentence, file=path, number=number, index=index)
            )
            return
        self._note_leaf(index, held)
        if row is not None:
            self._work.contents(row, held)

    def _read_row(self, row: Stored) -> None:
        """A row whose entry is missing or was altered."""
        held = leaf_of(row)
        if isinstance(held, Finding):
            self._done.findings.append(held)
            return
        self._note_leaf(row.at, held)
        self._work.contents(row, held)

    def _note_leaf(self, index: int, held: leaves.Leaf) -> None:
        self._work.order(index, held.tx)
        if held.kind is Kind.ERASURE:
            self._done.erasures.append(index)

    # What is kept

    def _keep(
        self,
        chosen: list[bytes] | None,
        hashes: list[bytes] | None,
        entries: list[bytes] | None,
    ) -> None:
        done, number = self._done, self._tile.number
        if chosen is None:
            done.roots.append(None)
            done.last, done.last_entries = [], []
            return
        done.roots.append(_root(chosen))
        if hashes is not None and hashes != chosen:
            done.other_roots[number] = _root(hashes)
        for cut in self._work.cuts_of(number):
            if cut - self._first <= self._width:
                done.cut_roots[cut] = root_of(chosen[: cut - self._first])
        for copy in self._work.copies_of(number):
            (content,) = self._work.asked.source.read([copy.path])
            done.tiles += 1
            done.findings += compare_copy(copy, content, chosen, entries)
        if self._first + self._width == self._work.asked.size:
            done.last, done.last_entries = chosen, entries or []


def _root(hashes: list[bytes]) -> bytes:
    return root_of_full(b"".join(hashes)) if len(hashes) == WIDTH else root_of(hashes)


def _choose(*candidates: bytes | None) -> bytes | None:
    """What two of the candidates agree on; else the first that there is."""
    known = [one for one in candidates if one is not None]
    return next((one for one in known if known.count(one) > 1), known[0] if known else None)


def _same_leaves(rows: list[Stored], first: int, entries: list[bytes]) -> bool:
    return (
        len(rows) == len(entries)
        and rows[0].at == first
        and rows[-1].at == first + len(rows) - 1
        and [row.leaf for row in rows] == entries
    )


def _tx_of(entry: bytes | None) -> str | None:
    return tx_text(entry[16:32]) if isinstance(entry, bytes) and len(entry) >= 32 else None
