"""Every known way to forge a log, and who has to notice each.

A quarter of the log is older than the receipt that a customer has; the last quarter is younger.
What is edited, put in or taken out lies in the older half, so that the receipt speaks of it too.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from indelible import leaf as leaves
from indelible.errors import NotAttackable
from indelible.event import Kind
from indelible.journal.forgeable import EventRow
from indelible.ledger.audit.forgeable import Copy
from indelible.ledger.format.layout import CHECKPOINT, POLICY, WITNESSED
from indelible.ledger.format.tile import ENTRIES, WIDTH, tile_at

COLUMNS: Final = ("audit", "saved head", "receipt", "witnesses")
"""Who may notice, as `indelible.ledger.audit.attack` explains them."""
_ALL: Final = frozenset(COLUMNS)
_OTHERS: Final = frozenset({"saved head", "receipt", "witnesses"})
_YOUNGER: Final = frozenset({"saved head", "witnesses"})


@dataclass(frozen=True, slots=True)
class Forgery:
    """One forgery, how it is done to a copy, and who has to notice it."""

    name: str
    forge: Callable[[Copy], None]
    must: frozenset[str]


def forgeries_of(log: Copy) -> list[Forgery]:
    """All forgeries that are possible with this log."""
    return [*_FORGERIES, *_flips(log)]


def _edit_payload(copy: Copy) -> None:
    row = copy.rows.row(_open_event(copy))
    assert row.payload is not None
    copy.rows.replace(row._replace(payload=row.payload + b" "))


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
    row = _forged(copy.rows.row(_open_event(copy)))
    copy.rows.shift(index, 1)
    copy.rows.put(row._replace(at=index, unique_key=None))


def _delete(copy: Copy) -> None:
    index = _quarter(copy)
    copy.rows.remove(index, index + 1)
    copy.rows.shift(index + 1, -1)


def _reorder(copy: Copy) -> None:
    index = _quarter(copy)
    one, other = copy.rows.row(index), copy.rows.row(index + 1)
    copy.rows.remove(index, index + 2)
    copy.rows.put(one._replace(at=index + 1))
    copy.rows.put(other._replace(at=index))


def _truncate(copy: Copy) -> None:
    copy.rows.remove(_three_quarters(copy))


def _truncate_and_sign(copy: Copy) -> None:
    size = _three_quarters(copy)
    _truncate(copy)
    copy.sign_anew(size)


def _rewrite_and_sign(copy: Copy) -> None:
    _forge_and_sign(copy, _open_event(copy))


def _delete_and_sign(copy: Copy) -> None:
    size = copy.checkpoint.size
    _delete(copy)
    copy.sign_anew(size - 1)


def _split_view(copy: Copy) -> None:
    """What only one reader is shown: the same size, another last event."""
    _forge_and_sign(copy, _open_event(copy, last=True))


def _old_checkpoint(copy: Copy) -> None:
    """One that the log may have had; its tiles are still there, as they would be."""
    size = _quarter(copy) + 1
    root = copy.root(size)
    copy.write_tiles(size)
    copy.show(size, root)


_FORGERIES: Final = (
    Forgery("edit a payload", _edit_payload, _ALL),
    Forgery("edit a leaf in its bundle", _edit_leaf, _ALL),
    Forgery("insert an event", _insert, _ALL),
    Forgery("delete an event", _delete, _ALL),
    Forgery("swap two events", _reorder, _ALL),
    Forgery("cut the tail off the journal", _truncate, _ALL),
    Forgery("edit an event and sign all anew", _rewrite_and_sign, _OTHERS),
    Forgery("delete an event and sign all anew", _delete_and_sign, _OTHERS),
    Forgery("cut the tail off and sign all anew", _truncate_and_sign, _YOUNGER),
    Forgery("split view: another last event, same size", _split_view, _YOUNGER),
    Forgery("bring back an old checkpoint", _old_checkpoint, _OTHERS),
)


def _flips(log: Copy) -> list[Forgery]:
    """One bit of one file of each kind, and one of the journal."""
    size = log.checkpoint.size
    kinds = {"the checkpoint": CHECKPOINT, "the witnessed note": WITNESSED, "the policy": POLICY}
    for level in (ENTRIES, 0, 1, 2):
        if size >> 8 * max(level, 0):
            name = "a bundle" if level == ENTRIES else f"a tile of level {level}"
            kinds[name] = tile_at(level, 0, size).path
    return [
        *(
            Forgery(f"flip a bit of {name}", partial(_flip_file, path=path), _ALL)
            for name, path in kinds.items()
            if (log.files / path).exists()
        ),
        Forgery("flip a bit of the journal", _flip_salt, _ALL),
    ]


def _flip_file(copy: Copy, *, path: str) -> None:
    file = copy.files / path
    _flip(file, _place(file))


def _flip_salt(copy: Copy) -> None:
    row = copy.rows.row(_open_event(copy))
    assert row.salts is not None
    salts = bytes([row.salts[0] ^ 1]) + row.salts[1:]
    copy.rows.replace(row._replace(salts=salts))


def _forge_and_sign(copy: Copy, index: int) -> None:
    copy.rows.replace(_forged(copy.rows.row(index)))
    copy.sign_anew(copy.checkpoint.size)


def _forged(row: EventRow) -> EventRow:
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
        row = copy.rows.row(index)
        if row.payload is not None and leaves.decode(row.leaf).kind is not Kind.ERASURE:
            return index
    raise NotAttackable("Every event that could be forged has been erased")


def _quarter(copy: Copy) -> int:
    return copy.checkpoint.size // 4


def _three_quarters(copy: Copy) -> int:
    return copy.checkpoint.size * 3 // 4


def _place(path: Path) -> int:
    """Where a flipped bit means something at first sight, even to who has never seen the file.

    LIMIT: a line by a key that a reader does not know is passed over, as the format demands; so a
    bit in the id of a cosignature that is not needed shows only to who remembers the note.
    """
    content = path.read_bytes()
    if path.name == POLICY:
        return content.index(b"+") + 3  # in the id of the log's key
    if path.name in (CHECKPOINT, WITNESSED):
        return content.index(b"\n") + 1  # in the size
    return len(content) // 2


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
