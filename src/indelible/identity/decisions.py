"""Merges and unmerges on request: what an administration event says of them. Pure.

An administration event is never erased, so its facts hold keys of ids and never an id.

    persons_merged     {"persons": ["per_…", "per_…"]}
    persons_unmerged   {"person": "per_…", "apart": ["per_…", …]}
                       the same and "persons": ["per_…", …]         only these ids are taken out
                       the same and "merge": 17, "pair": ["per_…", "per_…"]   that merge is undone

`apart` lists the ids of the person, so that they stay apart even if the events that had joined them
are erased.
"""

from collections.abc import Sequence
from typing import Any, Final

PERSONS_MERGED: Final = "persons_merged"
PERSONS_UNMERGED: Final = "persons_unmerged"

MAX_MERGED: Final = 100
"""Most persons of one merge on request."""

MAX_TAKEN_OUT: Final = 1_000
"""Most ids that one unmerge names, and most that it lists as `apart`."""


def merge_facts(persons: Sequence[str]) -> dict[str, Any]:
    """The facts of `persons_merged`: these persons, by any person id of theirs, become one."""
    return {"persons": list(persons)}


def unmerge_facts(
    person: str, *, apart: Sequence[str], taken_out: Sequence[str] | None = None
) -> dict[str, Any]:
    """The facts of `persons_unmerged`: see `Persons.unmerge_facts`, which fills them in."""
    facts: dict[str, Any] = {"person": person, "apart": list(apart)[:MAX_TAKEN_OUT]}
    if taken_out is not None:
        facts["persons"] = list(taken_out)
    return facts


def undo_facts(
    person: str, *, apart: Sequence[str], merge: int, pair: tuple[str, str]
) -> dict[str, Any]:
    """The facts of `persons_unmerged` that undo one merge, found by its index and its two ids."""
    return unmerge_facts(person, apart=apart) | {"merge": merge, "pair": list(pair)}
