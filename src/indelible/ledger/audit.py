"""Computing a whole log again, and comparing it with everything that speaks of it.

In this order: whose signature counts; the signed notes; the events, against bundles, tiles and
journal (`indelible.ledger.recompute`); the tiles above; the roots, of the checkpoint, of the
witnessed note, of the lock and of what this auditor saw before; the erasures; and every file that
lies in the log's folder besides.

A finding is *tampered* or *cannot be checked*, and has a place. The first outweighs the second.
Needs nothing but `cryptography`; a journal is handed in by whoever can open one.
"""

import json
import multiprocessing
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NamedTuple

from indelible.clock import now_ms
from indelible.durable import DRAFT_SUFFIX
from indelible.errors import (
    KeyMalformed,
    LogUnreadable,
    MemoryUnreadable,
    NoteMalformed,
    PolicyMalformed,
    SignatureMissing,
    SignatureWrong,
    Unverifiable,
)
from indelible.ledger.checkpoint import Checkpoint
from indelible.ledger.findings import Finding, Gravity, cannot, tampered
from indelible.ledger.memory import Memory, Remembered
from indelible.ledger.note import LogKey, Note, parse_note, verified
from indelible.ledger.policy import Policy, parse_policy
from indelible.ledger.recompute import (
    JOURNAL,
    JOURNAL_FILE,
    MOST_FINDINGS,
    TILES,
    JournalRows,
    Range,
    Recomputed,
    Row,
    absent,
    compare_copy,
    out_of_order,
    read_tiles,
    recompute,
    wrong_size,
)
from indelible.ledger.sources import Content, Source
from indelible.ledger.tile import (
    WIDTH,
    Tile,
    hashes_of,
    parse_path,
    root_of_full,
    tile_at,
)
from indelible.ledger.tree import EMPTY_ROOT, HASH_SIZE, root_of
from indelible.ledger.verify import Verdict, cosigned, log_keys

CHECKPOINT: Final = "checkpoint"
WITNESSED: Final = "witnessed"
POLICY: Final = "policy"
ROOT: Final = "root"
LOCK: Final = "lock"
MEMORY: Final = "memory"
ERASURES: Final = "erasures"
FILES: Final = "files"

LOCK_FILE: Final = "lock.db"
_NOTES: Final = (CHECKPOINT, WITNESSED, POLICY)

RANGE: Final = 65_536
"""Events that are computed again at once: 256 tiles."""
_MOST_EVENTS: Final = 1 << 40
_FEW_RANGES: Final = 2  # below this the processes would cost more than they bring

Progress = Callable[[int, int], None]
"""Called with the events done so far, and all of them."""


class SignedHead(NamedTuple):
    """The last signed checkpoint as the lock store of a data folder has it."""

    size: int
    root: bytes
    note: str


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it.

    Attributes:
        source: where the log was read.
        origin, size, root: of the checkpoint that everything was compared with; None: there is no
            checkpoint that could be believed.
        believed: whose word was taken for the log's key, in a sentence.
        findings: what is not as it should be, the tampered ones first.
        notes: what else is worth knowing; nothing is wrong with it.
        events, tiles: how many were looked at.
        unsealed: of the events, those that no checkpoint covers yet.
        erased: of the events, those whose payload was erased, as a later event says.
        with_journal: whether the journal was compared.
    """

    source: str
    origin: str | None
    size: int
    root: bytes | None
    believed: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    events: int
    tiles: int
    unsealed: int
    erased: int
    with_journal: bool

    @property
    def verdict(self) -> Verdict:
        """Tampered if one finding says so; else unverifiable if there is any; else verified."""
        gravities = {finding.gravity for finding in self.findings}
        if Gravity.TAMPERED in gravities:
            return Verdict.TAMPERED
        return Verdict.UNVERIFIABLE if gravities else Verdict.VERIFIED


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What is known of a log besides its files; all of it may be left out.

    Attributes:
        policy: whom the caller believes; else whom this auditor believed before; else the policy
            that the log publishes itself.
        journal: the journal's rows of its project.
        lock: its last signed checkpoint in lock.db.
        vkey: its key, as the journal has it.
        memory: what this auditor remembers.
        may_be_new: a log without a checkpoint is one that has signed nothing yet.
    """

    policy: Policy | None = None
    journal: JournalRows | None = None
    lock: SignedHead | None = None
    vkey: str | None = None
    memory: Memory | None = None
    may_be_new: bool = False


def audit_log(
    source: Source,
    known: Known | None = None,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> Audit:
    """Check a whole log. Whatever is wrong is in the findings; it never raises for it.

    `processes`: how many to start for a large log. They import the caller's main module, which
    must not do its work on import.

    Raises:
        OSError: the log is sound, and that could not be remembered.
    """
    return _Audit(source, known or Known(), processes, progress).run()


@dataclass(slots=True)
class _Head:
    """A verified checkpoint, and where it was read."""

    where: str
    checkpoint: Checkpoint
    note: Note
    witnesses: frozenset[str]

    @property
    def size(self) -> int:
        return self.checkpoint.size


@dataclass(slots=True)
class _Tree:
    """The log as it was computed again; not `is_whole` when there was too much to find."""

    size: int = 0
    is_whole: bool = True
    roots: list[bytes | None] = field(default_factory=list)
    other_roots: dict[int, bytes] = field(default_factory=dict)
    cut_roots: dict[int, bytes] = field(default_factory=dict)
    last: list[bytes] = field(default_factory=list)
    last_entries: list[bytes] = field(default_factory=list)
    beyond: list[bytes] = field(default_factory=list)
    beyond_entries: list[bytes] = field(default_factory=list)

    def root_at(self, size: int, *, by_tiles: bool = False) -> bytes | None:
        """The root of the first `size` events; None when something that it needs is missing."""
        if size == 0:
            return EMPTY_ROOT
        if not self.is_whole:
            return None
        if size > self.size:
            return self._root_beyond(size)
        roots = list(self.roots[: -(-size // WIDTH)])
        if by_tiles:
            for number, root in self.other_roots.items():
                if number < len(roots):
                    roots[number] = root
        if size % WIDTH and size != self.size:
            roots[-1] = self.cut_roots.get(size)
        known = [root for root in roots if root is not None]
        return root_of(known) if len(known) == len(roots) else None

    def _root_beyond(self, size: int) -> bytes | None:
        """With the events that the journal has and no checkpoint covers."""
        if size > self.size + len(self.beyond):
            return None
        whole, rest = self.roots[: self.size // WIDTH], self.size % WIDTH
        if rest and len(self.last) != rest:
            return None
        hashes = (self.last if rest else []) + self.beyond[: size - self.size]
        tail = [root_of(hashes[at : at + WIDTH]) for at in range(0, len(hashes), WIDTH)]
        known = [root for root in whole if root is not None]
        return root_of(known + tail) if len(known) == len(whole) else None


class _Audit:
    """One audit, from its first step to its last."""

    def __init__(
        self, source: Source, known: Known, processes: int, progress: Progress | None
    ) -> None:
        self._source = source
        self._known = known
        self._processes = processes
        self._progress = progress
        self._findings: list[Finding] = []
        self._notes: list[str] = []
        self._believed: str | None = None
        self._believed_policy: Policy | None = None
        self._published_policy: str | None = None
        self._remembered: Remembered | None = None
        self._tree = _Tree()
        self._tiles = 0
        self._events = 0
        self._stored = 0
        self._erased: list[int] = []
        self._erasures: list[int] = []
        self._erased_events = 0

    def run(self) -> Audit:
        # `witnessed` before `checkpoint` before the lock before the journal: each may only be
        # ahead of the one before it while a server goes on sealing.
        witnessed = self._text(WITNESSED)
        published = self._text(POLICY)
        note = self._text(CHECKPOINT)
        files = self._list()
        self._believe(note, published)
        head = self._read_head(CHECKPOINT, note)
        if note is None:
            self._no_checkpoint()
        seen = None if witnessed is None else self._read_head(WITNESSED, witnessed)
        if seen is not None:
            self._check_quorum(seen)
        lock = self._read_lock()
        basis = head or lock or seen
        if basis is not head and basis is not None:
            self._notes.append(f"Compared with the checkpoint in {basis.where} instead.")
        size = 0 if basis is None else basis.size
        copies, ahead, strays = self._sort_files(files, size)
        if size <= _MOST_EVENTS:
            cuts = self._cuts(size, seen, lock)
            self._recompute(size, cuts, [tile for tile in copies if tile.level <= 0])
            if self._tree.is_whole:
                levels = self._check_levels(size, [tile for tile in copies if tile.level > 0])
                if basis is not None:
                    self._check_ahead(ahead, levels)
        if basis is not None:
            self._check_root(basis)
            self._check_heads(basis, seen, lock)
            self._name_strays(strays)
        self._check_memory(basis, seen)
        self._check_erasures()
        findings = _sorted(self._findings)
        if not findings and basis is not None:
            self._remember(basis, seen)
        return Audit(
            source=self._source.name,
            origin=None if basis is None else basis.checkpoint.origin,
            size=size,
            root=None if basis is None else basis.checkpoint.root,
            believed=self._believed,
            findings=findings,
            notes=tuple(self._notes),
            events=self._events,
            tiles=self._tiles,
            unsealed=max(0, self._stored - size),
            erased=self._erased_events,
            with_journal=self._known.journal is not None,
        )

    # What is read

    def _text(self, path: str) -> str | None:
        """A note; None, with a finding unless it is simply not there, when there is none."""
        (content,) = self._source.read([path])
        if content is None:
            return None
        if isinstance(content, LogUnreadable):
            self._add(absent(path, path, content))
            return None
        try:
            return content.decode("utf-8")
        except UnicodeDecodeError as error:
            self._add(cannot(path, "A byte of it is not UTF-8.", file=path, number=error.start))
            return None

    def _list(self) -> list[str] | None:
        try:
            return self._source.files()
        except LogUnreadable as error:
            self._add(cannot(FILES, f"{error.message}."))
            return None

    # Whose signature counts

    def _believe(self, note: str | None, published: str | None) -> None:
        """Choose the policy: the caller's, else the remembered one, else the log's own."""
        self._published_policy = published
        own = self._parse_own(published)
        self._remembered = self._recall(note, own)
        if self._known.policy is not None:
            self._believed = "the policy that was given"
            self._believed_policy = self._known.policy
        elif self._remembered is not None:
            self._believed = "the policy that this auditor remembers"
            self._believed_policy = _parsed(self._remembered.policy)
            if published != self._remembered.published_policy:
                self._add(
                    cannot(
                        POLICY,
                        "The log's own policy is not the one that it had at the last audit: compare"
                        " it with what its operator announced, then name the one to believe with"
                        " --policy.",
                        file=POLICY,
                    )
                )
        elif own is not None:
            self._believed = "the log's own policy, as this auditor has not seen the log before"
            self._believed_policy = own
        if self._known.vkey is not None and own is not None:
            self._compare_key(own, self._known.vkey)

    def _parse_own(self, published: str | None) -> Policy | None:
        if published is None:
            return None
        try:
            own = _parsed(published)
        except PolicyMalformed as error:
            number = None if error.line is None else error.line - 1
            self._add(
                cannot(
                    POLICY, f"The log's own policy: {error.message}.", file=POLICY, number=number
                )
            )
            return None
        if self._known.policy is not None and own != self._known.policy:
            self._notes.append("The log's own policy is another than the one that was given.")
        return own

    def _recall(self, note: str | None, own: Policy | None) -> Remembered | None:
        memory = self._known.memory
        if memory is None:
            return None
        origins = [] if own is None else [log.key.name for log in own.logs]
        if note is not None:
            origins.insert(0, note.partition("\n")[0])
        if self._known.vkey is not None:
            origins.insert(0, self._known.vkey.partition("+")[0])
        for origin in dict.fromkeys(origins):
            try:
                found = memory.recall(origin)
                if found is not None:
                    _parsed(found.policy)
                    return found
            except (MemoryUnreadable, PolicyMalformed) as error:
                self._add(cannot(MEMORY, f"{error.message}."))
        return None

    def _compare_key(self, own: Policy, vkey: str) -> None:
        try:
            key = LogKey.parse(vkey)
        except KeyMalformed as error:
            self._add(cannot(JOURNAL, f"{error.message}.", file=JOURNAL_FILE))
            return
        if key not in log_keys(own):
            self._add(
                tampered(
                    POLICY,
                    "It names another key for this log than the journal does.",
                    file=POLICY,
                )
            )

    # The signed notes

    def _read_head(self, where: str, text: str | None) -> _Head | None:
        """A checkpoint with a valid signature of its log; None, and a finding, if it is not."""
        if text is None:
            return None
        try:
            return self._open(where, text)
        except SignatureWrong as error:
            self._add(
                tampered(
                    where,
                    f"{error.message}: it was altered after it was signed, or signed by somebody"
                    " else.",
                    file=where,
                )
            )
        except Unverifiable as error:
            self._add(cannot(where, f"{error.message}.", file=where))
        return None

    def _open(self, where: str, text: str) -> _Head:
        if self._believed_policy is None:
            raise Unverifiable("No policy says whose signature counts; name one with --policy")
        note, checkpoint, witnesses = _opened(text, self._believed_policy)
        if checkpoint.size > _MOST_EVENTS:
            raise NoteMalformed(f"No log has {checkpoint.size:,} events")
        return _Head(where, checkpoint, note, witnesses)

    def _no_checkpoint(self) -> None:
        if self._known.lock is not None or any(one.file == CHECKPOINT for one in self._findings):
            return
        if self._known.may_be_new:
            self._notes.append("The log has no checkpoint yet: nothing of it was sealed.")
            return
        self._add(
            cannot(
                CHECKPOINT,
                "There is no checkpoint: this is no log, or one of which nothing was sealed yet.",
                file=CHECKPOINT,
            )
        )

    def _check_quorum(self, seen: _Head) -> None:
        assert self._believed_policy is not None
        policy = self._believed_policy
        if not policy.is_met(seen.witnesses):
            said = ", ".join(sorted(seen.witnesses)) or "none"
            self._add(
                cannot(
                    WITNESSED,
                    f"The quorum {policy.quorum!r} is not met: of its witnesses {said} cosigned.",
                    file=WITNESSED,
                )
            )

    def _read_lock(self) -> _Head | None:
        lock = self._known.lock
        if lock is None:
            return None
        head = self._read_head(LOCK_FILE, lock.note)
        if head is not None and (head.size, head.checkpoint.root) != (lock.size, lock.root):
            self._add(
                tampered(LOCK, "Its size or root is not that of its own note.", file=LOCK_FILE)
            )
        return head

    # The events and the tiles

    def _cuts(self, size: int, seen: _Head | None, lock: _Head | None) -> tuple[int, ...]:
        cuts = {head.size for head in (seen, lock) if head is not None}
        if self._remembered is not None:
            cuts.add(self._remembered.size)
        return tuple(cut for cut in cuts if cut < size)

    def _recompute(self, size: int, cuts: tuple[int, ...], copies: Sequence[Tile]) -> None:
        self._stored = self._count_stored(size)
        end = max(size, self._stored)
        by_range: dict[int, list[Tile]] = {}
        for tile in copies:
            by_range.setdefault(tile.number * WIDTH // RANGE, []).append(tile)
        ranges = (
            Range(
                source=self._source,
                journal=self._known.journal,
                start=start,
                end=min(start + RANGE, end),
                size=size,
                stored=self._stored,
                cuts=tuple(cut for cut in cuts if start < cut < start + RANGE),
                copies=tuple(by_range.get(start // RANGE, ())),
            )
            for start in range(0, end, RANGE)
        )
        tree = self._tree = _Tree(size)
        last_tx: tuple[int, bytes] | None = None
        done = 0
        for part in self._in_order(ranges, count=-(-end // RANGE)):
            self._findings += part.findings
            tree.roots += part.roots
            tree.other_roots |= part.other_roots
            tree.cut_roots |= part.cut_roots
            tree.last = part.last or tree.last
            tree.last_entries = part.last_entries or tree.last_entries
            tree.beyond += part.beyond
            tree.beyond_entries += part.beyond_entries
            self._erased += part.erased
            self._erasures += part.erasures
            self._tiles += part.tiles
            self._events += part.events
            if last_tx is not None and part.first_tx is not None and part.first_tx[1] <= last_tx[1]:
                self._add(out_of_order(*part.first_tx))
            last_tx = part.last_tx or last_tx
            done = min(done + RANGE, end)
            if self._progress is not None:
                self._progress(done, end)
            if len(self._findings) >= MOST_FINDINGS:
                self._notes.append(f"Stopped after {MOST_FINDINGS:,} findings.")
                tree.is_whole = False
                break

    def _count_stored(self, size: int) -> int:
        """How many events the journal has."""
        if self._known.journal is None:
            return 0
        try:
            stored = self._known.journal.next_index()
        except Unverifiable as error:
            self._add(cannot(JOURNAL, f"{error.message}.", file=JOURNAL_FILE))
            return 0
        if stored < size:
            self._add(
                tampered(
                    JOURNAL,
                    f"The journal ends after {stored:,} events; {size:,} were signed.",
                    file=JOURNAL_FILE,
                    index=stored,
                )
            )
        return stored

    def _in_order(self, ranges: Iterator[Range], *, count: int) -> Iterator[Recomputed]:
        if self._processes < 2 or count <= _FEW_RANGES:
            yield from map(recompute, ranges)
            return
        # Spawned: a process that was forked would share the journal's connection.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self._processes, count), mp_context=context) as pool:
            waiting = [
                pool.submit(recompute, one) for _, one in zip(range(4), ranges, strict=False)
            ]
            try:
                while waiting:
                    yield waiting.pop(0).result()
                    waiting += [pool.submit(recompute, one) for one in _first(ranges)]
            finally:
                pool.shutdown(cancel_futures=True)

    def _check_levels(self, size: int, copies: Sequence[Tile]) -> list[list[bytes | None]]:
        """Compare each higher tile with what the full tiles below give; the hashes by level."""
        levels: list[list[bytes | None]] = [[]]
        below: list[bytes | None] = self._tree.roots[: size // WIDTH]
        level = 1
        while below:
            levels.append(below)
            tiles = [tile_at(level, number, size) for number in range(-(-len(below) // WIDTH))]
            above: list[bytes | None] = []
            for tile, content in zip(tiles, read_tiles(self._source, tiles), strict=True):
                start = tile.number * WIDTH
                hashes = self._compare_tile(tile, content, below[start : start + WIDTH])
                below[start : start + WIDTH] = hashes
                if tile.width == WIDTH:
                    known = [one for one in hashes if one is not None]
                    above.append(root_of_full(b"".join(known)) if len(known) == WIDTH else None)
            for copy in (one for one in copies if one.level == level):
                start = copy.number * WIDTH
                self._compare_copies([copy], below[start : start + copy.width], None)
            below, level = above, level + 1
        # What a bundle and its tile do not give any more, the tile above may.
        whole = size // WIDTH
        if whole:
            self._tree.roots[:whole] = levels[1]
        return levels

    def _compare_tile(
        self, tile: Tile, content: Content, computed: list[bytes | None]
    ) -> list[bytes | None]:
        """The hashes of the tile: as they were computed, and where they were not, as they lie."""
        self._tiles += 1
        if not isinstance(content, bytes):
            self._add(absent(TILES, tile.path, content))
            return computed
        if len(content) != tile.width * HASH_SIZE:
            wanted = tile.width * HASH_SIZE
            self._add(wrong_size(TILES, tile.path, len(content), wanted))
            return computed
        found = hashes_of(content)
        for number, (mine, theirs) in enumerate(zip(computed, found, strict=True)):
            if mine is None or mine == theirs:
                continue
            reach = WIDTH**tile.level
            start = (tile.number * WIDTH + number) * reach
            self._add(
                tampered(
                    TILES,
                    f"The hash is not the root of the events {start:,} to {start + reach - 1:,}.",
                    file=tile.path,
                    number=number,
                )
            )
        return [
            theirs if mine is None else mine for mine, theirs in zip(computed, found, strict=True)
        ]

    # The roots

    def _check_root(self, basis: _Head) -> None:
        checkpoint = basis.checkpoint
        computed = self._tree.root_at(checkpoint.size)
        if computed == checkpoint.root:
            return
        if computed is None:
            self._add(
                cannot(
                    ROOT,
                    "The root cannot be computed: bundles and tiles of the same events are gone.",
                    file=basis.where,
                )
            )
            return
        if self._tree.root_at(checkpoint.size, by_tiles=True) == checkpoint.root:
            self._notes.append(
                "The tiles give the root that was signed: it is the bundles that were altered."
            )
            return
        self._add(
            tampered(
                ROOT,
                f"The {checkpoint.size:,} events that lie here do not give the root that was"
                f" signed{self._sound_until(checkpoint.size)}.",
                file=basis.where,
            )
        )

    def _sound_until(self, size: int) -> str:
        """How far the remembered head, if it still fits, narrows the place."""
        seen = self._remembered
        if seen is None or seen.size >= size or self._tree.root_at(seen.size) != seen.root:
            return ""
        return f"; the first {seen.size:,} are those of the last audit"

    def _check_heads(self, basis: _Head, seen: _Head | None, lock: _Head | None) -> None:
        """The witnessed note and the lock, beside the checkpoint."""
        if seen is not None:
            self._check_other(WITNESSED, seen, basis)
            if seen.size > basis.size:
                self._add(
                    tampered(
                        CHECKPOINT,
                        f"Rolled back: it covers {basis.size:,} events, and witnesses have seen"
                        f" {seen.size:,}.",
                        file=CHECKPOINT,
                    )
                )
        if lock is None or lock is basis:
            return
        if lock.size < basis.size:
            self._add(
                tampered(
                    LOCK,
                    f"The checkpoint covers {basis.size:,} events and lock.db {lock.size:,}: the"
                    " lock is from a backup, or somebody else signs with the log's key.",
                    file=LOCK_FILE,
                )
            )
        elif lock.size > basis.size:
            self._notes.append(
                f"lock.db is ahead of the published checkpoint, at {lock.size:,} events: a publish"
                " that has not happened yet, or will at the next start."
            )
        self._check_other(LOCK, lock, basis)

    def _check_other(self, check: str, other: _Head, basis: _Head) -> None:
        """Another signed head of the same log: its root must be the root at its size."""
        if other.checkpoint.origin != basis.checkpoint.origin:
            self._add(tampered(check, "It is the head of another log.", file=other.where))
            return
        if other.size == basis.size:
            if other.checkpoint.root != basis.checkpoint.root:
                self._add(
                    tampered(
                        check,
                        f"Its root at {other.size:,} events is not that in {basis.where}: the log"
                        " has signed two histories.",
                        file=other.where,
                    )
                )
            return
        computed = self._tree.root_at(other.size)
        if computed is None and other.size < basis.size:
            self._add(cannot(check, "The root at its size cannot be computed.", file=other.where))
        elif computed is not None and computed != other.checkpoint.root:
            self._add(
                tampered(
                    check,
                    f"The first {other.size:,} events do not give the root that it has.",
                    file=other.where,
                )
            )

    # What this auditor saw before

    def _check_memory(self, basis: _Head | None, seen: _Head | None) -> None:
        kept = self._remembered
        if kept is None:
            return
        if basis is None:
            if not self._findings:
                self._add(
                    cannot(
                        MEMORY,
                        f"This auditor has seen {kept.size:,} events of the log, and there is no"
                        " checkpoint now.",
                        file=CHECKPOINT,
                    )
                )
            return
        if basis.checkpoint.origin != kept.origin:
            self._add(tampered(MEMORY, f"This was the log {kept.origin}.", file=basis.where))
            return
        if basis.size < kept.size:
            self._add(
                tampered(
                    MEMORY,
                    f"Rolled back: this auditor has seen {kept.size:,} events, signed, and the"
                    f" checkpoint covers {basis.size:,}.",
                    file=basis.where,
                    index=basis.size,
                )
            )
        else:
            self._check_remembered_root(basis, kept)
        self._check_lines(CHECKPOINT, kept.checkpoint, basis)
        if kept.witnessed is not None:
            if seen is None and not any(one.file == WITNESSED for one in self._findings):
                self._add(
                    cannot(
                        MEMORY,
                        "It was there at the last audit, and is gone.",
                        file=WITNESSED,
                    )
                )
            elif seen is not None:
                self._check_lines(WITNESSED, kept.witnessed, seen)

    def _check_remembered_root(self, basis: _Head, kept: Remembered) -> None:
        same = basis.size == kept.size
        computed = basis.checkpoint.root if same else self._tree.root_at(kept.size)
        if computed == kept.root:
            return
        if computed is None:
            self._add(
                cannot(
                    MEMORY,
                    f"The root at {kept.size:,} events, which this auditor remembers, cannot be"
                    " computed.",
                    file=basis.where,
                )
            )
            return
        self._add(
            tampered(
                MEMORY,
                f"Fork: at {kept.size:,} events this auditor has seen another root, signed by the"
                " same log: it has two histories.",
                file=basis.where,
            )
        )

    def _check_lines(self, where: str, kept: str, now: _Head) -> None:
        """A note of the same size has every signature that it had."""
        try:
            before = parse_note(kept)
        except NoteMalformed:
            self._add(cannot(MEMORY, f"The remembered note {where} cannot be read."))
            return
        if before.text != now.note.text:
            return
        there = {(one.name, one.key_id) for one in now.note.signatures}
        for line in before.signatures:
            if (line.name, line.key_id) not in there:
                self._add(
                    cannot(
                        MEMORY,
                        f"The signature of {line.name}, there at the last audit, is gone.",
                        file=where,
                    )
                )

    def _remember(self, basis: _Head, seen: _Head | None) -> None:
        if self._known.memory is None or basis.where == WITNESSED:
            return
        assert self._believed_policy is not None
        self._known.memory.keep(
            Remembered(
                origin=basis.checkpoint.origin,
                size=basis.size,
                root=basis.checkpoint.root,
                checkpoint=str(basis.note),
                witnessed=None if seen is None else str(seen.note),
                policy=self._believed_policy.text,
                published_policy=self._published_policy,
                at_ms=now_ms(),
            )
        )

    # Erasures

    def _check_erasures(self) -> None:
        """Whatever has no payload is listed by a later erasure, and what is listed has none."""
        journal = self._known.journal
        if journal is None:
            return
        try:
            self._take_newer(journal)
            listed = _Listed(self._erasures_of(journal))
            erased = sorted(self._erased)
            for index in erased:
                if index not in listed:
                    self._add(
                        tampered(
                            ERASURES,
                            "Its payload is gone, and no erasure lists it.",
                            file=JOURNAL_FILE,
                            index=index,
                        )
                    )
            self._erased_events = len(erased)
            for start, end in listed.gaps(erased):
                self._check_gone(journal.rows(start, end))
        except Unverifiable as error:
            self._add(cannot(ERASURES, f"{error.message}.", file=JOURNAL_FILE))

    def _take_newer(self, journal: JournalRows) -> None:
        """What the journal has got since the events were counted: an erasure may be among it."""
        count = journal.next_index()
        if count <= self._stored:
            return
        for row in journal.rows(self._stored, count):
            if isinstance(row.leaf, bytes) and len(row.leaf) > 1 and row.leaf[1] == 3:
                self._erasures.append(row.at)

    def _erasures_of(self, journal: JournalRows) -> Iterator[tuple[int, int]]:
        """The ranges that all erasure entries list."""
        for index in sorted(set(self._erasures)):
            for row in journal.rows(index, index + 1):
                ranges = _ranges_of(row)
                if ranges is None:
                    self._add(
                        cannot(
                            ERASURES,
                            "What this erasure lists cannot be read.",
                            file=JOURNAL_FILE,
                            index=index,
                        )
                    )
                    continue
                yield from ranges

    def _check_gone(self, rows: Sequence[Row]) -> None:
        """Rows that are listed as erased, looked at once more: that may be newer."""
        for row in rows:
            left = [
                name
                for name, part in zip(("salts", "record", "payload"), row[2:], strict=True)
                if part is not None
            ]
            if left:
                self._add(
                    tampered(
                        ERASURES,
                        f"An erasure lists it, and its {' and '.join(left)} is still there.",
                        file=JOURNAL_FILE,
                        index=row.at,
                    )
                )

    # Files

    def _sort_files(
        self, files: list[str] | None, size: int
    ) -> tuple[list[Tile], list[Tile], list[str]]:
        """The files that are not among those a log of `size` has: narrower, wider, none of its."""
        copies: list[Tile] = []
        ahead: list[Tile] = []
        strays: list[str] = []
        for path in files or ():
            if path in _NOTES:
                continue
            tile = parse_path(path)
            if tile is None:
                strays.append(path)
                continue
            count = size >> (8 * max(tile.level, 0))
            width = min(WIDTH, count - tile.number * WIDTH)
            if tile.width < width:
                copies.append(tile)
            elif tile.width > width:
                ahead.append(tile)
        return copies, ahead, strays

    def _check_ahead(self, ahead: Sequence[Tile], levels: list[list[bytes | None]]) -> None:
        """Tiles that are ahead of the checkpoint: as far as anything is known of them."""
        if not ahead:
            return
        tree = self._tree
        rest = tree.size % WIDTH
        start = tree.size - rest
        hashes = [*(tree.last if rest else ()), *tree.beyond]
        entries = [*(tree.last_entries if rest else ()), *tree.beyond_entries]
        whole = [
            root_of_full(b"".join(hashes[at : at + WIDTH]))
            for at in range(0, len(hashes) - WIDTH + 1, WIDTH)
        ]
        unknown = 0
        for tile in ahead:
            first = tile.number * WIDTH
            if tile.level <= 0:
                behind = first + tile.width
                known = hashes[max(0, first - start) : max(0, behind - start)]
                mine = entries[max(0, first - start) : max(0, behind - start)]
                self._compare_copies([tile], list(known), mine)
            else:
                known_above = _level(levels, whole, tile.level)[first : first + tile.width]
                self._compare_copies([tile], known_above, None)
                known = [one for one in known_above if one is not None]
            unknown += len(known) < tile.width
        said = f", {unknown:,} of them in part unknown to the journal" if unknown else ""
        self._notes.append(
            f"{len(ahead):,} tiles and bundles are ahead of the checkpoint{said}: written, and not"
            " signed yet."
        )

    def _compare_copies(
        self,
        tiles: Sequence[Tile],
        hashes: Sequence[bytes | None],
        entries: Sequence[bytes] | None,
    ) -> None:
        known: list[bytes] = []
        for one in hashes:
            if one is None:
                break
            known.append(one)
        for tile in tiles:
            (content,) = self._source.read([tile.path])
            self._tiles += 1
            self._findings += compare_copy(tile, content, known, entries)

    def _name_strays(self, strays: Sequence[str]) -> None:
        for path in strays:
            name = path.rpartition("/")[2]
            if name.startswith(".") and name.endswith(DRAFT_SUFFIX):
                self._notes.append(f"{path} is what a write that was broken off has left.")
            else:
                self._add(cannot(FILES, "This is no file of a log.", file=path))

    def _add(self, finding: Finding) -> None:
        self._findings.append(finding)


_parsed = lru_cache(maxsize=64)(parse_policy)


@lru_cache(maxsize=64)
def _opened(text: str, policy: Policy) -> tuple[Note, Checkpoint, frozenset[str]]:
    """A verified checkpoint and the witnesses that cosigned it, by their names in the policy.

    The note in `checkpoint` and the one in `witnessed` are often the same, and one that was
    verified stays so.

    Raises:
        SignatureWrong, SignatureMissing, NoteMalformed.
    """
    note = parse_note(text)
    # First what is signed at all: a known key whose signature does not fit is a failure, even
    # where what it signs is no checkpoint any more.
    signed = verified(note, log_keys(policy))
    witnesses = frozenset(one.witness for one in cosigned(note, policy))
    checkpoint = Checkpoint.parse(note.text)
    if not any(signature.name == checkpoint.origin for signature in signed):
        raise SignatureMissing(f"There is no signature of {checkpoint.origin} by a believed key")
    return note, checkpoint, witnesses


class _Listed:
    """The indexes that erasures list."""

    def __init__(self, ranges: Iterator[tuple[int, int]]) -> None:
        self._ranges: list[tuple[int, int]] = []
        for start, end in sorted(ranges):
            if self._ranges and start <= self._ranges[-1][1]:
                last = self._ranges.pop()
                start, end = last[0], max(last[1], end)
            self._ranges.append((start, end))

    def __contains__(self, index: int) -> bool:
        at = bisect_right(self._ranges, (index, _MOST_EVENTS)) - 1
        return at >= 0 and index < self._ranges[at][1]

    def gaps(self, erased: Sequence[int]) -> Iterator[tuple[int, int]]:
        """The parts of the ranges that are not in `erased`, which ascends."""
        gone = iter(erased)
        index = next(gone, None)
        for start, end in self._ranges:
            at = start
            while index is not None and index < end:
                if index >= start:
                    if index > at:
                        yield at, index
                    at = index + 1
                index = next(gone, None)
            if at < end:
                yield at, end


def _ranges_of(row: Row) -> list[tuple[int, int]] | None:
    """What an erasure entry lists; None when it cannot be read. It lists what is before it."""
    if not isinstance(row.payload, bytes):
        return None
    try:
        content: Any = json.loads(row.payload)
        pairs = [(pair[0], pair[1]) for pair in content["erased"] if len(pair) == 2]
        sound = len(pairs) == len(content["erased"]) and all(
            type(start) is int and type(end) is int and 0 <= start < end <= row.at
            for start, end in pairs
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return pairs if sound else None


def _level(
    levels: list[list[bytes | None]], whole: Sequence[bytes], level: int
) -> list[bytes | None]:
    """The hashes of a level above 0, those that are ahead of the checkpoint included."""
    hashes: list[bytes | None] = [*(levels[1] if len(levels) > 1 else ()), *whole]
    for _ in range(1, level):
        above: list[bytes | None] = []
        for at in range(0, len(hashes) - WIDTH + 1, WIDTH):
            known = [one for one in hashes[at : at + WIDTH] if one is not None]
            above.append(root_of_full(b"".join(known)) if len(known) == WIDTH else None)
        hashes = above
    return hashes


def _first(ranges: Iterator[Range]) -> list[Range]:
    found = next(ranges, None)
    return [] if found is None else [found]


def _sorted(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Each once, the tampered ones first, then by place."""

    def key(finding: Finding) -> tuple[bool, bool, int, str, int]:
        return (
            finding.gravity is not Gravity.TAMPERED,
            finding.index is None,
            finding.index or 0,
            finding.file or "",
            finding.number or 0,
        )

    return tuple(sorted(dict.fromkeys(findings), key=key))[:MOST_FINDINGS]
