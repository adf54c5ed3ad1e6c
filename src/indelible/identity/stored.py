"""The properties of an id in its table."""

from collections.abc import Collection, Mapping

import apsw

from indelible.identity.properties import Kept, Last
from indelible.identity.tables import change_rows, rows_in, update_rows


def kept_of(connection: apsw.Connection, numbers: Collection[int]) -> dict[int, Kept]:
    """What is kept of each of these ids, without the values."""
    found = {
        number: Kept(left_out=left_out, left_out_before=left_out)
        for number, left_out in rows_in(
            connection, "SELECT number, left_out FROM id WHERE number", numbers
        )
    }
    for number, name, *last in rows_in(
        connection,
        "SELECT number, name, kind, at, size, unset_at FROM property WHERE number",
        numbers,
    ):
        kept = found[number]
        kept.last[name] = Last(*last)
        kept.size += kept.last[name].size
    return found


def write_kept(connection: apsw.Connection, changed: Mapping[int, Kept]) -> None:
    """Write what changed of each of these ids."""
    flat: list[object] = []
    counts: list[int] = []
    for number, kept in sorted(changed.items()):
        for name in sorted(kept.changed):
            last = kept.last[name]
            flat += (number, name, last.kind, last.at, last.size, last.unset_at, last.value)
        if kept.left_out != kept.left_out_before:
            counts += (number, kept.left_out)
    change_rows(
        connection,
        "INSERT OR REPLACE INTO property (number, name, kind, at, size, unset_at, value)",
        flat,
        7,
    )
    update_rows(connection, "id", ("left_out",), counts)
