"""A small data folder with a signed and witnessed log, made from the real parts, to be audited."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from indelible import leaf
from indelible.cli.audit import targets_of
from indelible.event import Kind
from indelible.journal.contract import Draft
from indelible.journal.database import Database
from indelible.journal.registry_tables import RegistryTables
from indelible.journal.sqlite import SqliteJournal
from indelible.ledger.audit.known import Known
from indelible.ledger.audit.memory import Memory
from indelible.ledger.audit.whole import Audit, audit_log
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.note import Note, Signer
from indelible.ledger.format.opening import Opening
from indelible.ledger.format.policy import Group, KnownLog, Policy, Witness
from indelible.ledger.format.proof import Proof
from indelible.ledger.format.tile import TileHashes
from indelible.ledger.format.tree import EMPTY_ROOT, prove_inclusion, prove_root
from indelible.ledger.growth import integrate
from indelible.ledger.lockstore import Head, LockStore
from indelible.ledger.tilestore import FolderTiles
from indelible.registry.registry import Registry

ORIGIN = "log.example/shop"
SIGNER = Signer(ORIGIN, bytes(range(32)))
COSIGNERS = tuple(Cosigner(f"witness.example/w{n}", bytes([n]) * 32) for n in (1, 2, 3))
POLICY_OF_LOG = Policy(
    (KnownLog(SIGNER.key, "https://log.example/ledger/shop"),),
    tuple(
        Witness(f"w{n}", one.key, f"https://w{n}.example/") for n, one in enumerate(COSIGNERS, 1)
    ),
    (Group("two", 2, ("w1", "w2", "w3")),),
    "two",
)
SEEN_AT_S = 1_767_225_600
_STORED_AT_MS = SEEN_AT_S * 1000


@dataclass
class Shop:
    """A data folder with one project, `shop`, whose log is sealed when `seal` is called."""

    folder: Path
    project_id: int = 0
    heads: list[Head] = field(default_factory=list)

    @classmethod
    def new(cls, folder: Path) -> "Shop":
        """With an empty log, sealed as such."""
        shop = cls(folder)
        folder.mkdir(parents=True)
        with shop.journal() as journal:
            shop.project_id = Registry(RegistryTables(journal)).projects.create("shop").id
            with journal.database.transaction() as connection:
                connection.execute(
                    "UPDATE log SET origin = ?, vkey = ?, state = 'open' WHERE name = 'shop'",
                    (ORIGIN, SIGNER.key.text),
                )
        (folder / "keys").mkdir(mode=0o700)
        (folder / "keys" / "shop.key").write_text(SIGNER.text + "\n")
        head = Head(ORIGIN, 0, EMPTY_ROOT, SIGNER.sign(Checkpoint(ORIGIN, 0, EMPTY_ROOT).text))
        with shop.lock(may_create=True) as lock:
            lock.create(head)
        shop.heads.append(head)
        shop.tiles.publish(POLICY, POLICY_OF_LOG.text)
        shop.tiles.publish(CHECKPOINT, head.note)
        return shop

    @property
    def log(self) -> Path:
        return self.folder / "ledger" / "shop"

    @property
    def tiles(self) -> FolderTiles:
        return FolderTiles(self.log)

    @property
    def head(self) -> Head:
        return self.heads[-1]

    @contextlib.contextmanager
    def journal(self) -> Iterator[SqliteJournal]:
        clock = iter(range(_STORED_AT_MS, _STORED_AT_MS + 10**9))
        journal = SqliteJournal(Database(self.folder / "journal.db"), clock=lambda: next(clock))
        try:
            yield journal
        finally:
            journal.close()

    @contextlib.contextmanager
    def lock(self, *, may_create: bool = False) -> Iterator[LockStore]:
        lock = LockStore(self.folder / "lock.db", may_create=may_create)
        try:
            yield lock
        finally:
            lock.close()

    def store(self, count: int, kind: Kind = Kind.PRODUCT, payload: bytes | None = None) -> None:
        """Store events; nothing of them is sealed."""
        with self.journal() as journal:
            first = journal.next_index(self.project_id)
            journal.append(
                [
                    Draft(
                        project_id=self.project_id,
                        kind=kind,
                        received_at_ms=_STORED_AT_MS + n,
                        payload=b'{"n":%d}' % n if payload is None else payload,
                        record=b'{"event":"seen"}',
                        client_id=f"e{n}" if kind is Kind.PRODUCT else None,
                    )
                    for n in range(first, first + count)
                ]
            )

    def seal(self, *, witnessed: bool = True, publish: bool = True) -> Head:
        """Sign all that is stored, as the sealer does."""
        with self.journal() as journal:
            size = journal.next_index(self.project_id)
            entries = journal.leaves(self.project_id, self.head.size, size)
        integrate(self.tiles, self.head.size, entries)
        root = prove_root(TileHashes(self.tiles.read, size), size)
        checkpoint = Checkpoint(ORIGIN, size, root)
        head = Head(ORIGIN, size, root, SIGNER.sign(checkpoint.text))
        with self.lock() as lock:
            lock.advance(self.head, head)
        self.heads.append(head)
        if publish:
            cosigned = cosign(checkpoint)
            self.tiles.publish(CHECKPOINT, cosigned if witnessed else head.note)
            if witnessed:
                self.tiles.publish(WITNESSED, cosigned)
        return head

    def erase(self, start: int, end: int, *, listed: bool = True) -> None:
        """Destroy what the events [start, end) hold, and list them in an erasure event."""
        self.sql(
            "UPDATE event_1 SET salts = NULL, record = NULL, payload = NULL"
            " WHERE id >= ? AND id < ?",
            self.row_id(start),
            self.row_id(end),
        )
        if listed:
            self.store(
                1, Kind.ERASURE, b'{"erased":[[%d,%d]],"reason":"request","at":0}' % (start, end)
            )

    def row_id(self, index: int) -> int:
        return self.project_id << 40 | index

    def sql(self, statement: str, *values: "apsw.SQLiteValue") -> None:
        """Change the journal behind everybody's back."""
        connection = apsw.Connection(str(self.folder / "journal.db"))
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement, values)
        connection.close()

    def copy(self, folder: Path) -> "Shop":
        """The same data folder somewhere else."""
        shutil.copytree(self.folder, folder)
        return Shop(folder, self.project_id, list(self.heads))

    def audit(
        self, memory: Memory | None = None, policy: Policy | None = None, *, processes: int = 1
    ) -> Audit:
        """Audit the data folder as the command does, in this process."""
        (target,) = targets_of(self.folder, project=None, policy=policy, memory=memory)
        return audit_log(target.source, target.known, processes=processes)

    def known(self, memory: Memory | None = None) -> Known:
        (target,) = targets_of(self.folder, project=None, policy=None, memory=memory)
        return target.known

    def receipt(self, index: int, *, note: str | None = None) -> str:
        """The receipt of a sealed event, by the last checkpoint."""
        with self.journal() as journal:
            (entry,) = journal.read(self.project_id, index, index + 1)
        opening = Opening(
            entry.leaf_entry, entry.payload, entry.payload_salt, entry.record, entry.record_salt
        )
        size = self.head.size
        hashes = prove_inclusion(TileHashes(self.tiles.read, size), index, size)
        checkpoint = self.tiles.published(CHECKPOINT) if note is None else note
        assert checkpoint is not None
        return Proof(index, tuple(hashes), checkpoint, opening.encode()).text


def cosign(checkpoint: Checkpoint, *, by: tuple[Cosigner, ...] = COSIGNERS[:2]) -> str:
    """A checkpoint with the signature of its log and of these witnesses."""
    signatures = (
        SIGNER.signature(checkpoint.text),
        *(one.cosign(checkpoint.text, SEEN_AT_S) for one in by),
    )
    return str(Note(checkpoint.text, signatures))


def sealed(folder: Path, *counts: int) -> Shop:
    """A shop whose log was sealed after each of these numbers of further events."""
    shop = Shop.new(folder)
    for count in counts:
        shop.store(count)
        shop.seal()
    return shop


__all__ = ["COSIGNERS", "ORIGIN", "POLICY_OF_LOG", "SIGNER", "Shop", "cosign", "leaf", "sealed"]
