"""The journal's rows: how many there are, and whether each is what its leaf commits to."""

from typing import Final, NamedTuple

from indelible import leaf as leaves
from indelible.errors import LeafMalformed, Unverifiable
from indelible.event import tx_text
from indelible.layout import JOURNAL_FILE
from indelible.ledger.audit.findings import Finding, Report, cannot, tampered
from indelible.ledger.audit.known import JournalRows, Row

JOURNAL: Final = "journal"

_SALTS: Final = 2 * leaves.SALT_SIZE


def count_stored(journal: JournalRows | None, size: int, report: Report) -> int:
    """How many events the journal has, of which `size` were signed; 0 without a journal."""
    if journal is None:
        return 0
    try:
        stored = journal.next_index()
    except Unverifiable as error:
        report.add(cannot(JOURNAL, f"{error.message}.", file=JOURNAL_FILE))
        return 0
    if stored < size:
        sentence = f"The journal ends after {stored:,} events; {size:,} were signed."
        report.add(tampered(JOURNAL, sentence, file=JOURNAL_FILE, index=stored))
    return stored


class Stored(NamedTuple):
    """A row whose contents were hashed and dropped: thousands of them are held at once.

    Attributes:
        at, leaf: as the row has them; `leaf` may be of any type.
        is_erased: payload, record and salts are all gone.
        fault: what is wrong with the contents, whatever the leaf says; None when nothing is.
        payload, record: the commitments to them; empty where there is a fault, or nothing.
    """

    at: int
    leaf: bytes
    is_erased: bool
    fault: str | None
    payload: bytes
    record: bytes

    @classmethod
    def of(cls, row: Row) -> "Stored":
        at, leaf, salts, record, payload = row
        if (  # of a million rows every one, so this comes first and makes nothing
            type(salts) is bytes
            and len(salts) == _SALTS
            and type(record) is bytes
            and type(payload) is bytes
        ):
            return cls(
                at,
                leaf,
                False,  # noqa: FBT003 — a row of values
                None,
                leaves.commit(salts[:32], leaves.PAYLOAD, payload),
                leaves.commit(salts[32:], leaves.RECORD, record),
            )
        if salts is None and record is None and payload is None:
            return cls(at, leaf, True, None, b"", b"")  # noqa: FBT003
        return cls(at, leaf, False, _fault(row), b"", b"")  # noqa: FBT003


def opens(row: Stored) -> bool:
    """Whether payload and record are there, and what the row's own leaf commits to."""
    return (
        isinstance(row.leaf, bytes)
        and row.payload == row.leaf[32:64]
        and row.record == row.leaf[64:]
    )


def check_contents(row: Stored, held: leaves.Leaf) -> Finding | None:
    """What is wrong with payload, record and salts, which are not all gone; None: nothing."""
    complaint = _complaint(row, held)
    if complaint is None:
        return None
    return tampered(JOURNAL, complaint, file=JOURNAL_FILE, index=row.at, tx_id=tx_text(held.tx))


def leaf_of(row: Stored) -> leaves.Leaf | Finding:
    """The leaf of a row, or what is wrong with it."""
    if not isinstance(row.leaf, bytes):
        sentence = "The journal's leaf is of another type than the bytes that were stored."
        return tampered(JOURNAL, sentence, file=JOURNAL_FILE, index=row.at)
    try:
        return leaves.decode(row.leaf)
    except LeafMalformed as error:
        sentence = f"The journal's leaf is none that is known here: {error.message}."
        return cannot(JOURNAL, sentence, file=JOURNAL_FILE, index=row.at)


def _complaint(row: Stored, held: leaves.Leaf) -> str | None:
    if row.fault is not None:
        return row.fault
    wrong = differing(row, held)
    if not wrong:
        return None
    return (
        f"The commitment to its {' and to its '.join(wrong)} was computed again and is not the one"
        " in its leaf: what is stored is not what was recorded, or its salt is another."
    )


def differing(row: Stored, held: leaves.Leaf) -> list[str]:
    """What of a row without a fault is not what this leaf commits to: payload, record."""
    pairs = {
        "payload": (row.payload, held.payload_commitment),
        "record": (row.record, held.record_commitment),
    }
    return [name for name, (computed, committed) in pairs.items() if computed != committed]


def _fault(row: Row) -> str:
    """What keeps the contents of this row from being hashed."""
    parts = {"salts": row.salts, "record": row.record, "payload": row.payload}
    gone = [name for name, part in parts.items() if part is None]
    if gone:
        return f"Of what the leaf commits to, {' and '.join(gone)} is gone, and the rest is there."
    others = [name for name, part in parts.items() if not isinstance(part, bytes)]
    if others:
        return f"{' and '.join(others).capitalize()}: another type than the bytes that were stored."
    return f"The salts have {len(row.salts or b'')} bytes, not {_SALTS}."
