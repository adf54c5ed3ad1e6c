"""The rows of a log's events, read so that one that is damaged hides none of the others."""

from indelible.connections import SqliteError
from indelible.errors import IndelibleError, Tampered
from indelible.journal.contract import Entry, JournalReader


def entries(
    journal: JournalReader, project_id: int, start: int, end: int
) -> list[Entry | Tampered]:
    """The events with start <= index < end, all of which were stored; or why one cannot be read."""
    try:
        found = journal.read(project_id, start, end)
    except (IndelibleError, SqliteError):
        found = []
    if [entry.index for entry in found] == list(range(start, end)):
        return list(found)
    return [_entry(journal, project_id, index) for index in range(start, end)]


def _entry(journal: JournalReader, project_id: int, index: int) -> Entry | Tampered:
    try:
        found = journal.read(project_id, index, index + 1)
    except Tampered as error:
        return error
    except (IndelibleError, SqliteError) as error:
        return Tampered(
            f"journal.db: the event with index {index} of project {project_id} cannot be read:"
            f" {type(error).__name__}"
        )
    if found:
        return found[0]
    return Tampered(f"journal.db lacks the event with index {index} of project {project_id}")
