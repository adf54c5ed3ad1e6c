"""Pages of a list that only grows at its end: projects, and keys."""

import base64
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

from indelible.errors import InvalidCursor
from indelible.journal.pieces import cut

MOST_LISTED: Final = 1_000
"""Most projects or keys of a page: some 300 bytes each."""
MOST_LISTED_BYTES: Final = 1024 * 1024
"""Most bytes of a page that callers chose themselves: labels, networks, origins."""

_Listed = TypeVar("_Listed")


class Place(NamedTuple):
    """Where something is in its list: lists are sorted by it, and no two have the same."""

    number: int
    text: str = ""


def page_of(
    listed: Sequence[_Listed],
    place_of: Callable[[_Listed], Place],
    size_of: Callable[[_Listed], int],
    *,
    name: str,
    limit: int,
    cursor: str | None,
) -> tuple[Sequence[_Listed], str | None]:
    """Return at most `limit` of the list `name` behind `cursor`, and the cursor of the next page.

    Raises:
        InvalidCursor: it is of another list.
    """
    start = 0
    if cursor is not None:
        start = bisect_right(listed, _read_cursor(cursor, name), key=place_of)
    found = listed[start : start + limit]
    found = found[: next(cut([size_of(one) for one in found], MOST_LISTED_BYTES), 0)]
    is_last = start + len(found) == len(listed)
    return found, None if is_last else _cursor(place_of(found[-1]), name)


def _cursor(place: Place, name: str) -> str:
    text = f"{name}.{place.number}.{place.text}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(text: str, name: str) -> Place:
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        _, number, rest = decoded.split(".")
        place = Place(int(number), rest)
    except ValueError:
        raise InvalidCursor from None
    if _cursor(place, name) != text:
        raise InvalidCursor
    return place
