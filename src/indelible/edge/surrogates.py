"""Half characters: escaped surrogates without their other half, which have no UTF-8 form."""

import re
from typing import Final

from indelible.edge.brackets import CHUNK, Text

# In text whose escaped backslashes are hidden, so that each backslash begins an escape.
_HIGH: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}")
_LOW: Final = re.compile(rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_LONE: Final = re.compile(
    _HIGH.pattern + b"(?!" + _LOW.pattern + b")|(?<!" + _HIGH.pattern + b")" + _LOW.pattern
)
_MAYBE_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPED_BACKSLASH: Final = b"\\\\"
_HIDDEN: Final = b"\0\0"  # never in JSON text, and of the same length
_REPLACEMENT: Final = rb"\\ufffd"  # as a template of re.sub
_PAIR_BYTES: Final = 12
_WINDOW: Final = 1 << 20  # looked through in one call


def replace_lone_surrogates(text: Text) -> Text:
    r"""JSON text with each escaped lone surrogate replaced by U+FFFD; `text` itself without any.

    >>> bytes(replace_lone_surrogates(rb'"\ud83d\ude00 \ud83d \\ud83d"'))
    b'"\\ud83d\\ude00 \\ufffd \\\\ud83d"'
    """
    if not _has_surrogates(text) or b"\0" in text:
        return text
    repaired = bytearray()
    is_repaired, start = False, 0
    while start < len(text):
        piece = text[start : start + CHUNK].replace(_ESCAPED_BACKSLASH, _HIDDEN)
        if start + len(piece) < len(text):
            piece = piece[: _whole_pairs(piece)]
        mended, lone = _LONE.subn(_REPLACEMENT, piece)
        is_repaired = is_repaired or lone > 0
        repaired += mended.replace(_HIDDEN, _ESCAPED_BACKSLASH)
        start += len(piece)
    return repaired if is_repaired else text


def _whole_pairs(piece: Text) -> int:
    """How much of it can be cut off without cutting an escape, or a pair of them, in two."""
    last = piece.rfind(b"\\", max(0, len(piece) - _PAIR_BYTES))
    if last < 0:
        return len(piece)
    before = last - _PAIR_BYTES // 2
    return before if _HIGH.match(piece, before) else last


def _has_surrogates(text: Text) -> bool:
    """Whether there is an escape that may be of a surrogate."""
    return any(
        _MAYBE_SURROGATE.search(text, start, start + _WINDOW + 4)
        for start in range(0, len(text), _WINDOW)
    )
