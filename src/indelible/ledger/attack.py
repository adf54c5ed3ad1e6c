"""Forging a log in every known way, on a copy, to see which check notices.

The forger here is the operator: it has the log's own key, the journal, the lock and every file, and
makes all of them agree where it can. What it does not have is what others keep: the head that an
auditor saw, the receipt of a customer, the memory of witnesses. A forgery that none but those can
notice is the reason why they exist.

    audit          an auditor who sees the data folder for the first time
    saved head     an auditor who had audited the log just before the forgery
    receipt        a customer's receipt, from when the log had half of its events, held against it
    witnesses      a witness that had cosigned the log, asked to cosign what it became

Each column has what the audit alone has, and something besides.
"""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

import apsw

from indelible import leaf as leaves
from indelible.clock import now_ms
from indelible.errors import IndelibleError, NotAttackable
from indelible.event import Kind
from indelible.journal.tables import table_of
from indelible.ledger.audit import Audit
from indelible.ledger.checkpoint import Checkpoint
from indelible.ledger.lockstore import LOCK_FILE
from indelible.ledger.logs import KEYS_FOLDER, LEDGER_FOLDER
from indelible.ledger.memory import Memory, Remembered
from indelible.ledger.note import Signer, parse_note
from indelible.ledger.policy import KnownLog, Policy
from indelible.ledger.sealer import MOST_ENTRIES, integrate
from indelible.ledger.tile import ENTRIES, WIDTH, TileHashes, tile_at
from indelible.ledger.tilestore import CHECKPOINT, POLICY, WITNESSED, FolderTiles
from indelible.ledger.tree import prove_consistency, prove_root
from indelible.ledger.witness import Witness, create, read_key, request_body

JOURNAL_FILE: Final = "journal.db"
FEWEST_EVENTS: Final = 8
_INDEX_BITS: Final = 40
COLUMNS: Final = ("audit", "saved head", "receipt", "witnesses")
_NOTICED_BY_ALL: Final = frozenset(COLUMNS)

AuditFolder = Callable[[Path, Memory | None], Audit]
"""Audits the log under attack in the data folder at a path, with what an auditor remembers."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One forgery: who noticed it, who had to, and what the first of them said."""

    forgery: str
    noticed: frozenset[str]
    must: frozenset[str]
    said: str

    @property
    def missed(self) -> frozenset[str]:
        """Who had to notice it, and did not."""
        return self.must - self.noticed


class _Row(NamedTuple):
    id: int
    leaf: bytes
    unique_key: bytes | None
    salts: bytes | None
    record: bytes | None
    payload: bytes | None


class Copy:
    """A data folder that may be forged: one log of it, with its journal, its lock and its key."""

    def __init__(self, folder: Path, log: str, project_id: int) -> None:
        self.folder = folder
        self.log = log
        self.project_id = project_id

    @classmethod
    def of(cls, source: Path, folder: Path, *, log: str, project_id: int) -> "Copy":
        """Copy what matters of a data folder, also beside a server that writes to it.

        Raises:
            NotAttackable: a part of it is missing.
        """
        parts = [source / JOURNAL_FILE, source / LOCK_FILE, source / KEYS_FOLDER / f"{log}.key"]
        for path in (*parts, source / LEDGER_FOLDER / log):
            if not path.exists():
                raise NotAttackable(f"{path} is not there")
        (folder / KEYS_FOLDER).mkdir(parents=True, mode=0o700)
        shutil.copytree(source / LEDGER_FOLDER / log, folder / LEDGER_FOLDER / log)
        # After the files: lock and journal may be ahead of them, never behind.
        for path in parts[:2]:
            _copy_database(path, folder / path.name)
        shutil.copy(parts[2], folder / KEYS_FOLDER)
        return cls(folder, log, project_id)

    def again(self, folder: Path) -> "Copy":
        """A copy of the copy."""
        shutil.copytree(self.folder, folder)
        return Copy(folder, self.log, self.project_id)

    @property
    def files(self) -> Path:
        """The log's folder."""
        return self.folder / LEDGER_FOLDER / self.log

    @property
    def tiles(self) -> FolderTiles:
        return FolderTiles(self.files)

    @property
    def signer(self) -> Signer:
        """The log's own key."""
        return Signer.parse((self.folder / KEYS_FOLDER / f"{self.log}.key").read_text("utf-8"))

    @property
    def checkpoint(self) -> Checkpoint:
        """What is published; whether it is signed does not matter here."""
        return Checkpoint.parse(self.note.rpartition("\n\n")[0] + "\n")

    @property
    def note(self) -> str:
        note = self.tiles.published(CHECKPOINT)
        assert note is not None
        return note

    def root(self, size: int) -> bytes:
        """The root of the first `size` events, by the tiles that lie there."""
        return prove_root(TileHashes(self.tiles.read, self.checkpoint.size), size)

    def row(self, index: int) -> _Row:
        with self.journal() as connection:
            (row,) = connection.execute(
                "SELECT id, leaf, unique_key, salts, record, payload FROM event WHERE id = ?",
                (self.id(index),),
            )
        return _Row(*row)

    def rows(self) -> int:
        """How many events the journal has."""
        with self.journal() as connection:
            last = connection.execute(
                "SELECT max(id) FROM event WHERE id BETWEEN ? AND ?",
                (self.id(0), self.id((1 << _INDEX_BITS) - 1)),
            ).get
        return 0 if last is None else int(last) - self.id(0) + 1

    def id(self, index: int) -> int:
        return self.project_id << _INDEX_BITS | index

    def journal(self) -> "closing[apsw.Connection]":
        connection = apsw.Connection(str(self.folder / JOURNAL_FILE))
        connection.execute("PRAGMA synchronous = OFF; PRAGMA ignore_check_constraints = ON")
        return closing(connection)

    def change(self, statement: str, *values: "apsw.SQLiteValue") -> None:
        """Change the journal behind everybody's back; `{log}` stands for the log's table."""
        with self.journal() as connection:
            connection.execute(statement.format(log=table_of(self.project_id)), values)

    def shift(self, start: int, by: int) -> None:
        """Give the events from `start` on other indexes; two steps, as ids must stay unique."""
        first, last = self.id(start), self.id((1 << _INDEX_BITS) - 1)
        far = 1 << 62
        self.change("UPDATE {log} SET id = id + ? WHERE id BETWEEN ? AND ?", far, first, last)
        self.change("UPDATE {log} SET id = id - ? WHERE id > ?", far - by, far)

    def put(self, row: _Row) -> None:
        self.change("INSERT INTO {log} VALUES (?, ?, ?, ?, ?, ?)", *row)

    def sign(self, size: int, root: bytes) -> str:
        """What a log says at this size, signed with its own key."""
        signer = self.signer
        return signer.sign(Checkpoint(signer.key.name, size, root).text)

    def sign_anew(self, size: int) -> None:
        """Make every tile again from the journal, sign, and have lock and checkpoint agree."""
        shutil.rmtree(self.files / "tile", ignore_errors=True)
        self.write_tiles(size)
        self.show(size, prove_root(TileHashes(self.tiles.read, size), size))

    def write_tiles(self, size: int) -> None:
        """The tiles and bundles of the first `size` events of the journal, where they are not."""
        with self.journal() as connection:
            rows = connection.execute(
                "SELECT leaf FROM event WHERE id >= ? AND id < ? ORDER BY id",
                (self.id(0), self.id(size)),
            ).fetchall()
        entries: list[bytes] = [entry for (entry,) in rows]  # type: ignore[misc]
        for start in range(0, len(entries), MOST_ENTRIES):
            integrate(self.tiles, start, entries[start : start + MOST_ENTRIES])

    def show(self, size: int, root: bytes) -> None:
        """Sign and publish this head; the lock forgets that there was another."""
        note = self.sign(size, root)
        connection = apsw.Connection(str(self.folder / LOCK_FILE))
        connection.execute(
            "UPDATE head SET size = ?, root = ?, note = ? WHERE origin = ?",
            (size, root, note, self.signer.key.name),
        )
        connection.close()
        (self.files / CHECKPOINT).write_text(note, "utf-8")
        (self.files / WITNESSED).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What others have of the honest log: an auditor's head, a receipt's head, a witness."""

    memory: Path
    receipt: Path
    witness: Path
    signer: Signer
    size: int


def attack(source: Copy, workspace: Path, audit: AuditFolder) -> list[Attempt]:
    """Forge copies of `source`, itself a copy, in `workspace`, and see who notices.

    Raises:
        NotAttackable: it has too few events, or is not sound to begin with.
    """
    size = source.checkpoint.size
    if size < FEWEST_EVENTS:
        raise NotAttackable(
            f"The log {source.log} has {size} sealed events; {FEWEST_EVENTS} are needed to cut,"
            " swap and rewrite some"
        )
    honest = audit(source.folder, Memory(workspace / "saved"))
    if honest.findings:
        raise NotAttackable(
            f"The log {source.log} is not sound to begin with: {honest.findings[0].sentence}",
            hint="Run `indelible audit` on it.",
        )
    kept = _Kept(
        memory=workspace / "saved",
        receipt=workspace / "receipt",
        witness=workspace / "witness",
        signer=source.signer,
        size=size,
    )
    _keep_receipt(source, kept)
    _keep_witness(source, kept)
    attempts = []
    for number, (name, forge, must) in enumerate(_FORGERIES):
        copy = source.again(workspace / f"forgery-{number}")
        forge(copy)
        attempts.append(_judge(name, must, copy, kept, audit))
        shutil.rmtree(copy.folder)
    attempts += _flip_each(source, workspace, kept, audit)
    return attempts


def _judge(name: str, must: frozenset[str], copy: Copy, kept: _Kept, audit: AuditFolder) -> Attempt:
    """Who notices that this copy is forged."""
    said = ""
    noticed = set()
    folders = {"audit": None, "saved head": kept.memory, "receipt": kept.receipt}
    for column, memory in folders.items():
        remembered = None if memory is None else Memory(_fresh(memory, copy))
        findings = audit(copy.folder, remembered).findings
        if findings:
            noticed.add(column)
            said = said or f"{findings[0].place}: {findings[0].sentence}".removeprefix(": ")
    refused = _ask(copy, _fresh(kept.witness, copy), kept.signer, old=kept.size)
    if refused is not None:
        said = said or f"A witness: {refused}"
    if refused is not None or "audit" in noticed:
        noticed.add("witnesses")
    return Attempt(name, frozenset(noticed), must, said)


def _fresh(memory: Path, copy: Copy) -> Path:
    """What somebody remembers, so that a clean audit of a forgery does not replace it."""
    there = copy.folder.with_name(f"{copy.folder.name}-{memory.name}")
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(memory, there)
    return there


# What others keep


def _keep_receipt(source: Copy, kept: _Kept) -> None:
    """The head in the receipt that a customer fetched when the log had half of its events."""
    size = source.checkpoint.size // 2
    root = source.root(size)
    published = source.tiles.published(POLICY)
    head = Remembered(
        origin=source.signer.key.name,
        size=size,
        root=root,
        checkpoint=source.sign(size, root),
        witnessed=None,
        policy=published or Policy((KnownLog(source.signer.key),), quorum=None).text,
        published_policy=published,
        at_ms=now_ms(),
    )
    Memory(kept.receipt).keep(head)


def _keep_witness(source: Copy, kept: _Kept) -> None:
    """A witness that has cosigned the honest log."""
    create(kept.witness, "witness.example/attack")
    refusal = _ask(source, kept.witness, source.signer, old=0)
    if refusal is not None:
        raise NotAttackable(f"A witness refuses the log as it is: {refusal}")


def _ask(copy: Copy, folder: Path, signer: Signer, *, old: int) -> str | None:
    """Ask a witness to cosign what is published; why it does not, None when it does."""
    note = copy.note
    proof: Sequence[bytes] = ()
    with suppress(IndelibleError):  # then there is none, and the witness says so
        checkpoint = Checkpoint.parse(parse_note(note).text)
        proof = prove_consistency(
            TileHashes(copy.tiles.read, checkpoint.size), old, checkpoint.size
        )
    witness = Witness(folder, [signer.key], read_key(folder), now_ms)
    try:
        answer = witness.add_checkpoint(request_body(old, proof, note).encode())
    finally:
        witness.close()
    return None if answer.status == HTTPStatus.OK else f"{answer.status} {answer.body.strip()}"


# The forgeries. A quarter of the log is older than the receipt, the last quarter is younger.


def _edit_payload(copy: Copy) -> None:
    copy.change("UPDATE {log} SET payload = X'7B7D' WHERE id = ?", copy.id(_open_event(copy)))


def _edit_leaf(copy: Copy) -> None:
    index = _quarter(copy)
    size = copy.checkpoint.size
    bundle = tile_at(ENTRIES, index // WIDTH, size)
    path = copy.files / bundle.path
    if not path.exists():
        path = copy.files / bundle.full.path
    _flip(path, 98 * (index % WIDTH) + 2 + 40)


def _insert(copy: Copy) -> None:
    index = _quarter(copy)
    row = _forged(copy.row(_open_event(copy)))
    copy.shift(index, 1)
    copy.put(row._replace(id=copy.id(index), unique_key=None))


def _delete(copy: Copy) -> None:
    index = _quarter(copy)
    copy.change("DELETE FROM {log} WHERE id = ?", copy.id(index))
    copy.shift(index + 1, -1)


def _reorder(copy: Copy) -> None:
    index = _quarter(copy)
    one, other = copy.row(index), copy.row(index + 1)
    copy.change("DELETE FROM {log} WHERE id IN (?, ?)", one.id, other.id)
    copy.put(one._replace(id=other.id))
    copy.put(other._replace(id=one.id))


def _truncate(copy: Copy) -> None:
    copy.change("DELETE FROM {log} WHERE id BETWEEN ? AND ?", *_tail(copy))


def _truncate_and_sign(copy: Copy) -> None:
    size = _three_quarters(copy)
    _truncate(copy)
    copy.sign_anew(size)


def _rewrite_and_sign(copy: Copy) -> None:
    row = copy.row(_open_event(copy))
    forged = _forged(row)
    copy.change(
        "UPDATE {log} SET leaf = ?, salts = ?, payload = ? WHERE id = ?",
        forged.leaf,
        forged.salts,
        forged.payload,
        row.id,
    )
    copy.sign_anew(copy.checkpoint.size)


def _delete_and_sign(copy: Copy) -> None:
    size = copy.checkpoint.size
    _delete(copy)
    copy.sign_anew(size - 1)


def _split_view(copy: Copy) -> None:
    """What only one reader is shown: the same size, another last event."""
    row = copy.row(_open_event(copy, last=True))
    forged = _forged(row)
    copy.change(
        "UPDATE {log} SET leaf = ?, salts = ?, payload = ? WHERE id = ?",
        forged.leaf,
        forged.salts,
        forged.payload,
        row.id,
    )
    copy.sign_anew(copy.checkpoint.size)


def _old_checkpoint(copy: Copy) -> None:
    """One that the log may have had; its tiles are still there, as they would be."""
    size = _quarter(copy) + 1
    root = copy.root(size)
    copy.write_tiles(size)
    copy.show(size, root)


_OTHERS: Final = frozenset({"saved head", "receipt", "witnesses"})
_YOUNGER: Final = frozenset({"saved head", "witnesses"})

_FORGERIES: Final[tuple[tuple[str, Callable[[Copy], None], frozenset[str]], ...]] = (
    ("edit a payload", _edit_payload, _NOTICED_BY_ALL),
    ("edit a leaf in its bundle", _edit_leaf, _NOTICED_BY_ALL),
    ("insert an event", _insert, _NOTICED_BY_ALL),
    ("delete an event", _delete, _NOTICED_BY_ALL),
    ("swap two events", _reorder, _NOTICED_BY_ALL),
    ("cut the tail off the journal", _truncate, _NOTICED_BY_ALL),
    ("edit an event and sign all anew", _rewrite_and_sign, _OTHERS),
    ("delete an event and sign all anew", _delete_and_sign, _OTHERS),
    ("cut the tail off and sign all anew", _truncate_and_sign, _YOUNGER),
    ("split view: another last event, same size", _split_view, _YOUNGER),
    ("bring back an old checkpoint", _old_checkpoint, _OTHERS),
)


def _flip_each(source: Copy, workspace: Path, kept: _Kept, audit: AuditFolder) -> list[Attempt]:
    """One bit of one file of each kind."""
    attempts = []
    files = {path.relative_to(source.files).as_posix() for path in source.files.rglob("*")}
    size = source.checkpoint.size
    kinds = {name: name for name in (CHECKPOINT, WITNESSED, POLICY)}
    for level in (ENTRIES, 0, 1, 2):
        if size >> 8 * max(level, 0):
            name = "a bundle" if level == ENTRIES else f"a tile of level {level}"
            kinds[name] = tile_at(level, 0, size).path
    for name, path in kinds.items():
        if path in files:
            copy = source.again(workspace / "flip")
            _flip(copy.files / path, _place((copy.files / path).read_bytes(), name))
            attempts.append(_judge(f"flip a bit of {name}", _NOTICED_BY_ALL, copy, kept, audit))
            shutil.rmtree(copy.folder)
    copy = source.again(workspace / "flip")
    row = copy.row(_open_event(copy))
    assert row.salts is not None
    copy.change(
        "UPDATE {log} SET salts = ? WHERE id = ?", bytes([row.salts[0] ^ 1]) + row.salts[1:], row.id
    )
    attempts.append(_judge("flip a bit of the journal", _NOTICED_BY_ALL, copy, kept, audit))
    shutil.rmtree(copy.folder)
    return attempts


def _forged(row: _Row) -> _Row:
    """The same event with other content: its commitment fits, so nothing of it looks wrong."""
    held = leaves.decode(row.leaf)
    assert row.salts is not None
    salt = os.urandom(leaves.SALT_SIZE)
    payload = b'{"forged":true}'
    entry = leaves.encode(
        held.kind,
        received_at_ms=held.received_at_ms,
        tx=held.tx,
        payload=leaves.commit(salt, leaves.PAYLOAD, payload),
        record=held.record_commitment,
    )
    return row._replace(leaf=entry, salts=salt + row.salts[leaves.SALT_SIZE :], payload=payload)


def _open_event(copy: Copy, *, last: bool = False) -> int:
    """A sealed event that still has its payload: in the first half, or the last of all."""
    size = copy.checkpoint.size
    indexes = range(size - 1, size // 2, -1) if last else range(_quarter(copy), size // 2)
    for index in indexes:
        row = copy.row(index)
        if row.payload is not None and leaves.decode(row.leaf).kind is not Kind.ERASURE:
            return index
    raise NotAttackable("Every event that could be forged has been erased")


def _quarter(copy: Copy) -> int:
    return copy.checkpoint.size // 4


def _three_quarters(copy: Copy) -> int:
    return copy.checkpoint.size * 3 // 4


def _tail(copy: Copy) -> tuple[int, int]:
    return copy.id(_three_quarters(copy)), copy.id((1 << _INDEX_BITS) - 1)


def _place(content: bytes, name: str) -> int:
    """Where a flipped bit means something at first sight, even to who has never seen the file.

    LIMIT: a line by a key that a reader does not know is passed over, as the format demands; so a
    bit in the id of a cosignature that is not needed shows only to who remembers the note.
    """
    if name == POLICY:
        return content.index(b"+") + 3  # in the id of the log's key
    if name in (CHECKPOINT, WITNESSED):
        return content.index(b"\n") + 1  # in the size
    return len(content) // 2


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _copy_database(source: Path, target: Path) -> None:
    """A SQLite file as it is at one moment, its write-ahead log included."""
    with (
        closing(apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)) as read,
        closing(apsw.Connection(str(target))) as written,
        written.backup("main", read, "main") as copying,
    ):
        while not copying.done:
            copying.step(1_000)
