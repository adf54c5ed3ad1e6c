"""`--filter`: read here before it goes to the server, so that its faults can be shown in place."""

from typing import Annotated, Final

import typer

from indelible.cli.failure import of_error

Filter = Annotated[
    str | None,
    typer.Option(
        "--filter",
        metavar="CONDITION",
        help="Events of which this is true: see docs/reference/conditions.md.",
    ),
]

_WIDTH: Final = 76
_BEFORE: Final = 50  # columns of the line in front of the fault


def checked(source: str | None) -> str | None:
    """`source`, if it is a condition.

    Raises:
        Failure: it is none; shows the line and the place.
    """
    if source is None:
        return None
    from indelible.condition import InvalidCondition, read

    try:
        read(source)
    except InvalidCondition as error:
        failure = of_error(error)
        if error.position is not None:
            failure.excerpt = excerpt(source, error.position)
        raise failure from None
    return source


def excerpt(source: str, position: int) -> list[str]:
    """The line of `source` that has the character at `position`, and a caret below it.

    A long line is cut on both sides, to less than 80 columns.
    """
    from rich.cells import cell_len, set_cell_size

    from indelible.printable import plain

    start = source.rfind("\n", 0, position) + 1
    end = source.find("\n", position)
    line = source[start : len(source) if end < 0 else end]
    at = position - start
    first = max(at - _BEFORE, 0)
    before = plain(line[first:at])
    while cell_len(before) > _BEFORE:
        first += 1
        before = plain(line[first:at])
    behind = plain(line[at : at + _WIDTH])
    shown = before + behind
    if cell_len(shown) > _WIDTH:
        shown = set_cell_size(shown, _WIDTH)
    return [f"  {shown.rstrip()}", f"  {' ' * cell_len(before)}^"]
