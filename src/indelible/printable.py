"""Text that was made elsewhere, fit to stand on one line of a terminal or a log."""

from typing import Final

_LONGEST: Final = 2_000


def plain(text: str) -> str:
    r"""`text` on one line, with whatever is not printable written as an escape.

    >>> plain("a\x1b[31mb\nc\u202ed")
    'a\\x1b[31mb\\nc\\u202ed'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def clipped(text: str) -> str:
    """`plain`, cut to a readable length: a file may have put a megabyte into a message.

    >>> clipped("a" * 5_000) == "a" * 2_000 + "…"
    True
    """
    return plain(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
