"""The words of the text form: where each begins and ends, and what it stands for.

Time is linear in the text: each pattern is tried at one place and never goes back over it.
"""

import re
from typing import Final, NamedTuple, NoReturn

from indelible.condition.terms import IN_TEXT, shown
from indelible.errors import InvalidCondition

_DOUBLE: Final = r'"(?:[^"\\\x00-\x1f]|\\.)*"'
_SINGLE: Final = r"'(?:[^'\\\x00-\x1f]|\\.)*'"
_WORD: Final = r"[A-Za-z_$][A-Za-z0-9_$-]*"
_SEGMENT: Final = r"[A-Za-z0-9_$-]+"
_TOKEN: Final = re.compile(
    rf"""[ \t\r\n]*(?:
      (?P<time>\d{{4}}-\d\d-\d\d(?:T[0-9:.]*(?:Z|[+-][0-9:]*)?)?(?![\w$"'-]))
    | (?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?(?![\w$"'.-]))
    | (?P<text>{_DOUBLE}|{_SINGLE})
    | (?P<path>{_WORD}(?:\.(?:{_SEGMENT}|{_DOUBLE}|{_SINGLE}))*)
    | (?P<sign><=|>=|!=|[=<>(),])
    | (?P<end>\Z)
    )""",
    re.ASCII | re.VERBOSE,
)
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_STRANGE: Final = re.compile(r"\S{1,32}|.", re.DOTALL)
IN_PATH: Final = re.compile(rf"\.({_SEGMENT}|{_DOUBLE}|{_SINGLE})", re.ASCII)
BARE: Final = re.compile(_SEGMENT, re.ASCII)
"""A segment of a path that needs no quotes."""
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.ASCII | re.DOTALL)
_ESCAPED: Final = {
    **{char: char for char in "\"'\\/"},
    **{"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"},
}
_LONGEST_INTEGER: Final = 300

CONSTANTS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_WORDS: Final = frozenset(
    {"and", "or", "not", "in", "exists", "in_cohort", *CONSTANTS, *map(str, IN_TEXT)}
)
# What people write who know another language.
MEANT: Final = {
    "==": "Write = for equal.",
    "&&": "Write `and`.",
    "||": "Write `or`.",
    "!": "Write `not`, or != for not equal.",
    "<>": "Write != for not equal.",
    "~": "There are no regular expressions; use contains, starts_with, ends_with or in.",
    "=~": "There are no regular expressions; use contains, starts_with, ends_with or in.",
    "%": "There are no patterns; use contains, starts_with or ends_with.",
}


class Token(NamedTuple):
    """One word of a condition. `kind` is time, number, text, path, sign or end."""

    kind: str
    text: str
    at: int

    @property
    def word(self) -> str | None:
        """The keyword that this is, in lower case."""
        lower = self.text.lower()
        return lower if self.kind == "path" and lower in _WORDS else None


def token_at(source: str, at: int) -> Token:
    """The token that begins at `at`, or behind the space there.

    Raises:
        InvalidCondition: none does.
    """
    found = _TOKEN.match(source, at)
    if found is None:
        _refuse(source, at)
    kind = found.lastgroup
    assert kind is not None
    return Token(kind, found[kind], found.start(kind))


def _refuse(source: str, at: int) -> NoReturn:
    space = _SPACE.match(source, at)
    assert space is not None
    at = space.end()
    if source[at] in "\"'":
        raise InvalidCondition(
            "The text has no end, or holds a control character",
            hint=f"End it with {source[at]}; write a line break as \\n.",
            position=at,
        )
    found = _STRANGE.match(source, at)
    assert found is not None
    hint = next((MEANT[sign] for sign in MEANT if found[0].startswith(sign)), None)
    if hint is None and found[0][0].isalnum():
        hint = "Numbers are JSON's; a name of other letters than a to z stands in quotes: "
        hint += 'properties."größe".'
    raise InvalidCondition(f"Cannot read `{shown(found[0])}`", hint=hint, position=at)


def number_of(source: str, at: int | None = None) -> int | float:
    """A number of JSON's grammar: an integer if it has neither fraction nor exponent.

    Raises:
        InvalidCondition: it is out of range.
    """
    is_integer = source.lstrip("-").isdigit()
    # 400 digits are out of range, and Python refuses to read some thousands.
    if not is_integer or len(source) > _LONGEST_INTEGER:
        value = float(source)
        if value in (float("inf"), float("-inf")):
            raise InvalidCondition(
                "The number is out of range", hint="Numbers are finite doubles.", position=at
            )
        return value
    return int(source)


def unquoted(quoted: str, at: int) -> str:
    """The text that stands in quotes.

    Raises:
        InvalidCondition: an escape is unknown, or half of a surrogate pair.
    """
    inside = quoted[1:-1]
    if "\\" not in inside:
        return inside

    def plain(found: re.Match[str]) -> str:
        if found[1] is not None:
            return chr(int(found[1], 16))
        if found[2] not in _ESCAPED:
            raise InvalidCondition(
                f"There is no escape `{shown(found[0])}`",
                hint="Write \\\\ for a backslash.",
                position=at + 1 + found.start(),
            )
        return _ESCAPED[found[2]]

    text = _ESCAPE.sub(plain, inside)
    # A pair of escapes is one character; half of one is refused where the test is made.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
