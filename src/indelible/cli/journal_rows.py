"""What an audit is handed of a data folder: the journal's rows and the lock's heads, as it calls
them.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from indelible.errors import Unverifiable
from indelible.journal.project_rows import LONGEST_S, ProjectRows
from indelible.ledger.audit.known import Row, SignedHead
from indelible.ledger.lockstore import read_head


class JournalFile:
    """The rows of one project: an `indelible.ledger.audit.known.JournalRows`."""

    def __init__(self, path: Path, project_id: int) -> None:
        self._held = ProjectRows(path, project_id)

    def next_index(self) -> int:
        return self._held.next_index()

    def rows(self, start: int, end: int) -> Iterator[Row]:
        return map(Row._make, self._held.rows(start, end))


def head_of(path: Path, origin: str, *, may_be_missing: bool) -> SignedHead | None:
    """The last signed checkpoint of a log in a lock store; None when it has none, and may.

    Raises:
        Unverifiable: it cannot be read, or is not there.
    """
    head = read_head(path, origin, timeout_s=LONGEST_S) if os.path.lexists(path) else None
    if head is not None:
        return SignedHead(head.size, head.root, head.note)
    if not may_be_missing:
        raise Unverifiable(
            "The last signed checkpoint of this log is not there: nothing shows whether the log "
            "was cut short, and no server starts on this folder"
        )
    return None
