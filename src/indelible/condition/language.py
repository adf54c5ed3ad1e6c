r"""The text form of a condition, which a person types.

The reader is a recursive descent over the grammar below. Its depth is bounded by the parentheses
and `not`s that it counts.
"""

from collections.abc import Callable
from typing import Final, NoReturn, TypeVar

from indelible.condition.terms import (
    IN_TEXT,
    MAX_DEPTH,
    All,
    Any,
    Condition,
    InCohort,
    Not,
    Op,
    Path,
    Test,
    Value,
    check_bytes,
    check_size,
    moment,
    shown,
    too_deep,
)
from indelible.condition.tokens import (
    CONSTANTS,
    IN_PATH,
    MEANT,
    Token,
    number_of,
    token_at,
    unquoted,
)
from indelible.errors import InvalidCondition

GRAMMAR: Final = r"""
condition = all { "or" all }
all       = term { "and" term }
term      = "not" term | "(" condition ")" | test
test      = "exists" "(" path ")"
          | "in_cohort" "(" text ")"
          | path ( "=" | "!=" ) value
          | path ( "<" | "<=" | ">" | ">=" ) value
          | path [ "not" ] ( "contains" | "starts_with" | "ends_with" ) text
          | path [ "not" ] "in" "(" value { "," value } ")"
path      = name { "." ( segment | text ) }
value     = text | number | time | "true" | "false" | "null"
name      = ( letter | "_" | "$" ) { letter | digit | "_" | "$" | "-" }
segment   = ( letter | digit | "_" | "$" | "-" ) { letter | digit | "_" | "$" | "-" }
text      = '"' { character | escape } '"' | "'" { character | escape } "'"
escape    = "\" ( '"' | "'" | "\" | "/" | "b" | "f" | "n" | "r" | "t" | "u" 4 * hex )
number    = [ "-" ] ( "0" | digit 1-9 { digit } ) [ "." digit { digit } ] [ exponent ]
exponent  = ( "e" | "E" ) [ "+" | "-" ] digit { digit }
time      = YYYY-MM-DD [ "T" hh:mm:ss [ "." digits ] [ "Z" | ( "+" | "-" ) hh:mm ] ]
""".strip()
"""Words are read in any case. Letters and digits are ASCII; other names stand in quotes."""

_SIGNS: Final = ("=", "!=", *map(str, (Op.LESS, Op.AT_MOST, Op.MORE, Op.AT_LEAST)))
_SIGNS_LISTED: Final = ", ".join(f"`{sign}`" for sign in _SIGNS)
_WORDS_LISTED: Final = "`in`, `contains`, `starts_with` or `ends_with`"


def parse(source: str) -> Condition:
    """Read the text form.

    Raises:
        InvalidCondition: it cannot be read; `position` is the character at fault.
    """
    check_bytes(source)
    try:
        condition = _Reader(source).whole()
        check_size(condition)
    except InvalidCondition as error:
        raise _placed(error, source) from None
    return condition


def path_of(source: str) -> Path:
    """Read a path.

    Raises:
        InvalidCondition: it is none.
    """
    try:
        reader = _Reader(source)
        path = reader._path()
        if reader._next.kind != "end":
            reader._expected("the end of the path")
    except InvalidCondition as error:
        error.position = None
        raise
    return path


def _placed(error: InvalidCondition, source: str) -> InvalidCondition:
    if error.position is None:
        return error
    before = source[: error.position]
    line = before.count("\n") + 1
    column = len(before) - (before.rfind("\n") + 1) + 1
    return InvalidCondition(
        f"{error.message} (line {line}, column {column})",
        hint=error.advice,
        position=error.position,
    )


class _Reader:
    """Reads one source, one token ahead."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._nesting = 0
        self._next = token_at(source, 0)

    def whole(self) -> Condition:
        if self._next.kind == "end":
            raise InvalidCondition(
                "The condition is empty",
                hint='Write a test, such as event = "purchase"; leave the filter out for none.',
                position=0,
            )
        condition = self._any()
        if self._next.kind != "end":
            self._expected("`and`, `or` or the end")
        return condition

    def _any(self) -> Condition:
        terms = [self._all()]
        while self._takes("or"):
            terms.append(self._all())
        return terms[0] if len(terms) == 1 else Any(tuple(terms))

    def _all(self) -> Condition:
        terms = [self._term()]
        while self._takes("and"):
            terms.append(self._term())
        return terms[0] if len(terms) == 1 else All(tuple(terms))

    def _term(self) -> Condition:
        token = self._next
        if token.word == "not":
            self._advance()
            return Not(self._deeper(token))
        if token.text == "(" and token.kind == "sign":
            self._advance()
            inside = self._deeper(token, inside=True)
            self._sign(")")
            return inside
        return self._test()

    def _deeper(self, token: Token, *, inside: bool = False) -> Condition:
        self._nesting += 1
        if self._nesting >= MAX_DEPTH:
            error = too_deep()
            error.position = token.at
            raise error
        condition = self._any() if inside else self._term()
        self._nesting -= 1
        return condition

    def _test(self) -> Condition:
        token = self._next
        match token.word:
            case "exists":
                self._advance()
                self._sign("(")
                at = self._next
                path = self._path()
                self._sign(")")
                return _placed_at(at, at, lambda: Test(path, Op.EXISTS))
            case "in_cohort":
                self._advance()
                self._sign("(")
                at = self._next
                name = self._text("the name of a cohort in quotes")
                self._sign(")")
                return _placed_at(at, at, lambda: InCohort(name))
        path = self._path()
        is_not = self._takes("not")
        test = self._compared(path, token, is_not=is_not)
        return Not(test) if is_not else test

    def _compared(self, path: Path, at: Token, *, is_not: bool) -> Condition:
        """The rest of a test; between `not` and a value stands a word, never a sign."""
        op = self._next
        if op.word == "in":
            self._advance()
            return self._in(path, at)
        if op.word is not None and op.word in IN_TEXT:
            self._advance()
            value_at = self._next
            part = self._text(f"text in quotes after `{op.word}`")
            return _placed_at(at, value_at, lambda: Test(path, Op(op.text.lower()), part))
        if is_not or op.kind != "sign" or op.text not in _SIGNS:
            self._expected(f"{'' if is_not else f'{_SIGNS_LISTED}, '}{_WORDS_LISTED}")
        self._advance()
        value_at, value = self._next, self._value()
        if op.text == "!=":
            return Not(_placed_at(at, value_at, lambda: Test(path, Op.EQUAL, value)))
        return _placed_at(at, value_at, lambda: Test(path, Op(op.text), value))

    def _in(self, path: Path, at: Token) -> Test:
        opening = self._next
        self._sign("(")
        values = [(self._next, self._value())]
        while self._next.text == "," and self._next.kind == "sign":
            self._advance()
            values.append((self._next, self._value()))
        self._sign(")")
        for value_at, value in values:  # each fault at its own place
            _placed_at(at, value_at, lambda one=value: Test(path, Op.IN, (one,)))  # type: ignore[misc]
        whole = tuple(value for _, value in values)
        return _placed_at(at, opening, lambda: Test(path, Op.IN, whole))

    def _path(self) -> Path:
        token = self._next
        if token.kind != "path" or token.word is not None:
            self._expected("the name of a fact, such as event or properties.amount")
        self._advance()
        root, dot, _ = token.text.partition(".")
        if not dot:
            return (root,)
        return (
            root,
            *(
                unquoted(found[1], token.at + found.start(1)) if found[1][0] in "\"'" else found[1]
                for found in IN_PATH.finditer(token.text, len(root))
            ),
        )

    def _value(self) -> Value:
        token = self._next
        value: Value
        match token.kind:
            case "text":
                value = unquoted(token.text, token.at)
            case "number":
                value = number_of(token.text, token.at)
            case "time":
                value = moment(token.text)
                if value is None:
                    raise InvalidCondition(
                        f"There is no time {shown(token.text)}",
                        hint="Write 2026-01-31, or 2026-01-31T12:00:00Z.",
                        position=token.at,
                    )
            case _:
                if token.word not in CONSTANTS:
                    self._expected(
                        "a value: text in quotes, a number, a time, true, false or null",
                        hint=_quotes_missing(token),
                    )
                assert token.word is not None
                value = CONSTANTS[token.word]
        self._advance()
        return value

    def _text(self, wanted: str) -> str:
        token = self._next
        if token.kind != "text":
            self._expected(wanted, hint=_quotes_missing(token))
        self._advance()
        return unquoted(token.text, token.at)

    def _takes(self, word: str) -> bool:
        if self._next.word != word:
            return False
        self._advance()
        return True

    def _sign(self, sign: str) -> None:
        if self._next.kind != "sign" or self._next.text != sign:
            self._expected(f"`{sign}`")
        self._advance()

    def _advance(self) -> None:
        self._next = token_at(self._source, self._next.at + len(self._next.text))

    def _expected(self, wanted: str, *, hint: str | None = None) -> NoReturn:
        token = self._next
        found = "the end" if token.kind == "end" else f"`{shown(token.text)}`"
        meant = MEANT.get(self._source[max(token.at - 1, 0) : token.at + 1])
        raise InvalidCondition(
            f"Expected {wanted}, not {found}", hint=meant or hint, position=token.at
        )


def _quotes_missing(token: Token) -> str | None:
    return f'Write text in quotes: "{shown(token.text)}".' if token.kind == "path" else None


_T = TypeVar("_T")


def _placed_at(path_at: Token, value_at: Token, make: Callable[[], _T]) -> _T:
    """What `make` makes; its faults are placed at the path or at the value."""
    try:
        return make()
    except InvalidCondition as error:
        error.position = (value_at if error.part == "value" else path_at).at
        raise
