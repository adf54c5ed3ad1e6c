"""Secrets, kept where no `repr` shows them.

A crash reporter prints the local variables of every frame of a traceback, and most keep what they
print. So the client holds no secret in a variable of its own while anything can still fail: what a
caller passed moves into a `Hidden` at the first line, and travels on in it; a header goes to the
connection as a `Secret`.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

MASK: Final = "[hidden]"


class Hidden:
    """Values by name. It is no mapping, and so nothing that a reporter would look into.

    >>> options = {"api_key": "iml_live_x"}
    >>> hidden = Hidden.moved(options)
    >>> hidden, hidden.get("api_key"), options
    (<1 hidden value>, 'iml_live_x', {})
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    @classmethod
    def moved(cls, values: Any, **more: Any) -> "Hidden":
        """Take everything out of a dict, which is empty afterwards, and add `more`."""
        hidden = cls(values)
        values.clear()
        hidden._values.update(more)
        return hidden

    def get(self, name: str) -> Any:
        """The value of this name; None if there is none."""
        return self._values.get(name)

    def put(self, name: str, value: Any) -> None:
        """Give a name this value."""
        self._values[name] = value

    def take(self, name: str) -> Any:
        """Remove a name; its value, or None if there is none."""
        return self._values.pop(name, None)

    def over(self, others: Mapping[str, Any]) -> "Hidden":
        """These, and those of `others` whose names are not among them."""
        return Hidden({**others, **self._values})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and self._values == other._values

    __hash__ = None  # type: ignore[assignment]

    @property
    def names(self) -> frozenset[str]:
        """The names that have a value other than None."""
        return frozenset(name for name, value in self._values.items() if value is not None)

    def __iter__(self) -> Iterator[str]:
        """The names, those without a value as well."""
        return iter(list(self._values))

    def __repr__(self) -> str:
        count = len(getattr(self, "_values", ()))
        return f"<{count} hidden value{'' if count == 1 else 's'}>"


class Secret(str):
    """A header's value. As text it is a mask; its bytes, which http.client asks for, are real.

    >>> header = Secret.of("Bearer iml_live_x")
    >>> print(header, repr(header), header.encode("latin-1"))
    [hidden] '[hidden]' b'Bearer iml_live_x'
    """

    __slots__ = ("_real",)
    _real: Hidden

    @classmethod
    def of(cls, text: str) -> "Secret":
        """A secret with this text."""
        secret = cls(MASK)
        secret._real = Hidden({"text": text})
        return secret

    @classmethod
    def of_each(cls, headers: Mapping[str, str] | None) -> dict[str, str]:
        """Headers with each value a secret."""
        return {name: cls.of(value) for name, value in (headers or {}).items()}

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """The secret itself."""
        data: bytes = self._real.get("text").encode(encoding, errors)
        return data


class Unspoken:
    """Texts, `Secret` or plain, of which no line may repeat anything.

    >>> unspoken = Unspoken([Secret.of("Bearer iml_live_x"), None])
    >>> unspoken, unspoken.are_in("key iml_live_x is unknown"), unspoken.are_in("Access denied")
    (<2 hidden texts>, True, False)
    """

    __slots__ = ("_texts",)

    def __init__(self, texts: Iterable[str | None]) -> None:
        whole = [text.encode("utf-8", "replace").decode() for text in texts if text]
        # Of credentials (RFC 9110 section 11.4) the second word is the secret.
        self._texts = {part for text in whole for part in (text, *text.split()[-1:])}

    def are_in(self, words: str) -> bool:
        """Whether the words repeat one of the texts, or are a part of one."""
        return any(text in words or (len(words) > 3 and words in text) for text in self._texts)

    def __repr__(self) -> str:
        return f"<{len(getattr(self, '_texts', ()))} hidden texts>"
