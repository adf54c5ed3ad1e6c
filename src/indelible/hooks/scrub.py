"""The text of an exception, as far as it may be kept: without what looks like a person's. Pure.

>>> scrubbed("card 4111 1111 1111 1111 of ann@example.com declined")
'card [redacted] of [redacted] declined'
>>> scrubbed("no such table: orders_2026")
'no such table: orders_2026'
"""

import re
from typing import Final

from indelible.client.privacy import MASK

_PERSONAL: Final = re.compile(
    r"""
      [\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+           # an e-mail address
    | (?<![\w.])\+?\d(?:[ ().\-]{0,2}\d){6,}(?!\w)           # a card, an account, a phone
    | (?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.])             # an IPv4 address
    | \b[A-Z]{2}\d{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,4})?\b   # an IBAN
    | \beyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?                         # a JSON Web Token
    | \b(?=\w*\d)(?=\w*[A-Za-z])[\w-]{24,}                     # a key, a digest, a token
    """,
    re.VERBOSE,
)
_NAMED: Final = re.compile(
    r"""(?i)\b(\w*(?:password|passwd|pwd|secret|token|api_?key|authorization|bearer))
        (["']?\s*[=:]\s*["']?|\s+)(?!is\b|was\b|has\b|not\b)([^\s"',;&)]{3,})""",
    re.VERBOSE,
)


def scrubbed(message: str) -> str:
    """`message` with numbers of cards, accounts and phones, addresses and secrets masked.

    What a person calls himself cannot be told from other words: a message is recorded only by those
    who know what theirs say.
    """
    named = _NAMED.sub(rf"\1\2{MASK}", message)
    return _PERSONAL.sub(MASK, named)
