"""What a command shows: aligned facts for people, JSON for machines.

Colours go to a terminal only, and never when NO_COLOR is set. Lines are never cut or wrapped here:
an id must be there whole to be copied. What users sent is shown with its control characters made
visible, so that an event cannot write on the terminal of whoever looks at it.
"""

import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from indelible.printable import plain

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Part = str | tuple[str, str]
"""A piece of a line: text, or (text, style)."""
Fact = tuple[str, str | list[Part]]
"""The name of a fact, and its value."""

# A terminal obeys these instead of showing them: controls above ASCII, and marks that reverse the
# order of letters.
_ACTS: Final = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

DIM: Final = "dim"
GOOD: Final = "green"
BAD: Final = "red"
UNSURE: Final = "yellow"
STRONG: Final = "bold"


def line(*parts: Part) -> None:
    """One line on stdout."""
    _console().print(_text(parts))


def note(*parts: Part) -> None:
    """One line on stderr: for whoever watches, not part of the result."""
    _console(stderr=True).print(_text(parts))


def facts(pairs: Iterable[Fact]) -> None:
    """One fact a line: its name, aligned, and its value."""
    for parts in _aligned(pairs):
        line(*parts)


def facts_on_stderr(pairs: Iterable[Fact]) -> None:
    """The same for whoever is asked something, not part of the result."""
    for parts in _aligned(pairs):
        note(*parts)


def _aligned(pairs: Iterable[Fact]) -> Iterator[list[Part]]:
    rows = list(pairs)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        yield [(f"{name:<{width}}  ", DIM), *([value] if isinstance(value, str) else value)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows under a header, in columns as wide as they need to be."""
    from rich.cells import cell_len

    widths = [max(cell_len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for number, row in enumerate((header, *rows)):
        cells = [
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        ]
        text = "  ".join(cells).rstrip()
        line((text, DIM) if number == 0 else text)


def emit(value: Any) -> None:
    """One JSON document on a line of its own."""
    import msgspec

    raw(msgspec.json.encode(value))


def document(value: Any) -> str:
    """The JSON document that `emit` writes."""
    import msgspec

    return _on_one_line(msgspec.json.encode(value)).decode()


def raw(document: bytes) -> None:
    """Write a JSON document on one line, with characters that act on a terminal escaped."""
    sys.stdout.buffer.write(_on_one_line(document) + b"\n")
    sys.stdout.buffer.flush()


def _on_one_line(document: bytes) -> bytes:
    """Escape the characters that act on a terminal.

    Line breaks occur only between the tokens of JSON, never inside a string. The other characters
    occur only inside strings, where the escape means the same.
    """
    if not document.isascii() or b"\x7f" in document:
        text = document.decode("utf-8", "surrogatepass")
        escaped = _ACTS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        document = escaped.encode("utf-8", "surrogatepass")
    return document.replace(b"\n", b" ").replace(b"\r", b" ")


def size(count: int) -> str:
    """A number of bytes for people.

    >>> size(999), size(123_456_789)
    ('999 B', '117.7 MiB')
    """
    amount, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if amount < 1024:
            break
        amount, unit = amount / 1024, larger
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def terminal_width() -> int:
    """Columns of the terminal that stdout is, whatever stdin is; plenty where there is none."""
    return shutil.get_terminal_size().columns if on_terminal() else 200


def _text(parts: Iterable[Part]) -> "Text":
    from rich.text import Text

    return Text.assemble(
        *(plain(part) if isinstance(part, str) else (plain(part[0]), part[1]) for part in parts)
    )


@cache
def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            # The default ends the process with 1; that nobody reads any more is no failure.
            raise BrokenPipeError

    return Screen(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
