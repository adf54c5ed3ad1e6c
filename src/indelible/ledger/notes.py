"""The signed notes of a log: which of them can be read, and whether two of them contradict.

A log has one last checkpoint in the lock store and two published notes, `checkpoint` and
`witnessed`. All three are signed with the same key, so two that cannot both be true mean that this
key has signed two histories: whichever pair it is, and whatever their sizes are.
"""

from collections.abc import Callable

from indelible.errors import IndelibleError, LockUnwritable, Tampered
from indelible.layout import LOCK_FILE
from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.note import LogKey, open_note
from indelible.ledger.format.policy import Policy
from indelible.ledger.format.verify import cosigned
from indelible.ledger.lockstore import Head
from indelible.ledger.tilestore import TileStore

RootAt = Callable[[int], bytes]
"""The root of the first so many leaves, up to the lock's size, as they were signed."""


def signed_by(note: str, key: LogKey) -> Checkpoint:
    """The checkpoint in a note, signed by the log with this key and of its origin.

    Raises:
        IndelibleError: it is none.
    """
    checkpoint = Checkpoint.parse(open_note(note, [key]).text)
    if checkpoint.origin != key.name:
        raise Tampered(f"It is of {checkpoint.origin}, not of {key.name}")
    return checkpoint


def text(tiles: TileStore, name: str) -> str | None:
    """The note that a log published under this name, whatever it says; None when no file of its
    own can be read there."""
    try:
        return tiles.published(name)
    except OSError:
        return None


def published(tiles: TileStore, name: str, key: LogKey) -> Checkpoint | None:
    """What a log published under this name; None when nothing can be read there."""
    note = text(tiles, name)
    try:
        return None if note is None else signed_by(note, key)
    except IndelibleError:
        return None


def is_sound(note: str, key: LogKey, policy: Policy) -> bool:
    """Whether every signature in a note fits that its readers could check."""
    try:
        signed_by(note, key)
        cosigned(open_note(note, [key]), policy)
    except IndelibleError:
        return False
    return True


def check_head(head: Head, key: LogKey) -> None:
    """Compare the lock's own columns with the note beside them.

    Raises:
        LockUnwritable: they differ, or the note is not signed by the log.
    """
    try:
        checkpoint = signed_by(head.note, key)
    except IndelibleError as error:
        raise LockUnwritable(f"{LOCK_FILE}: {head.origin}: {error.message}") from error
    if (checkpoint.size, checkpoint.root) != (head.size, head.root):
        raise LockUnwritable(f"{LOCK_FILE}: its checkpoint of {head.origin} is not what it signed")


def contradiction(
    name: str, note: Checkpoint, head: Head, root_at: RootAt | None = None
) -> str | None:
    """Why a published note and the lock's checkpoint cannot both be true; None when they can.

    Without `root_at` a note of a smaller tree is taken as it is.
    """
    if note.size > head.size:
        return (
            f"{name} of {head.origin} covers {note.size:,} events, {LOCK_FILE} only {head.size:,}"
        )
    if note.size == head.size:
        root = head.root
    elif root_at is not None:
        root = root_at(note.size)
    else:
        return None
    if note.root == root:
        return None
    return f"{name} of {head.origin} and {LOCK_FILE} have two roots for {note.size:,} events"
