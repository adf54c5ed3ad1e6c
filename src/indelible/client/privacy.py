"""What must not leave the process as it is: masks, digests and pseudonyms. Pure.

A plain digest hides nothing that can be guessed: all IPv4 addresses are hashed in minutes, and a
list of e-mail addresses in seconds. `pseudonym` is keyed, so that only whoever holds the key can
try; the same value under the same key is the same pseudonym, which is all that joining needs.

>>> sha256_hex("user@example.com")[:16]
'b4c9a289323b21a0'
>>> pseudonym("user@example.com", key="k1") == pseudonym("user@example.com", key="k1")
True
"""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from indelible.client.encode import MAX_VALUES

MASK: Final = "[redacted]"

SECRET_NAMES: Final = frozenset(
    "password passwd secret api_key apikey auth credentials token session csrftoken sessionid "  # noqa: SIM905 — a list of words reads best as one
    "cookie set_cookie authorization proxy_authorization x_api_key x_csrftoken x_forwarded_for "
    "x_real_ip remote_addr ip_address".split()
)
"""Names whose values are masked wherever they stand, at any depth."""

_SECRET_PARTS: Final = frozenset(
    "auth token secret password passwd pwd key jwt bearer sso saml csrf xsrf credentials session "  # noqa: SIM905
    "sid identity".split()
)
_PLAIN_TYPES: Final = frozenset({int, float, bool, type(None)})
_PARTS: Final = re.compile(r"[_\-.\s]+|(?<=[a-z0-9])(?=[A-Z])")
_DISTINCTION: Final = re.compile(r" \([^()]*\)$")
_OWN_KEY: Final = re.compile(r"\b(?:iml_(?:live|test)|ind_(?:adm|key))_[\w-]{8,}")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+@")


class NotPlain(Exception):
    """What is to be masked has to be given another form first."""


def sha256_hex(value: str | bytes) -> str:
    """SHA-256 in lower-case hex, as ImmutableLog's guides show it.

    It recognises a value; it does not protect one that can be guessed. See `pseudonym`.
    """
    import hashlib  # loads OpenSSL, which most programs need later or never

    return hashlib.sha256(_bytes(value)).hexdigest()


def pseudonym(value: str | bytes, *, key: str | bytes) -> str:
    """HMAC-SHA-256 in lower-case hex (RFC 2104): a digest that nobody can guess without `key`.

    Raises:
        ValueError: the key is empty.
    """
    import hmac

    if not key:
        raise ValueError("a pseudonym needs a key; make one with secrets.token_hex(32)")
    return hmac.digest(_bytes(key), _bytes(value), "sha256").hex()


def _bytes(value: str | bytes) -> bytes:
    return value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value


def sounds_secret(name: str) -> bool:
    """Whether a name of a header or field, taken apart, speaks of a secret.

    >>> sounds_secret("X-Auth-Token"), sounds_secret("sessionKey"), sounds_secret("inside")
    (True, True, False)
    """
    return _plain(name) in SECRET_NAMES or any(
        part.lower() in _SECRET_PARTS for part in _PARTS.split(name)
    )


@functools.lru_cache(maxsize=4_096)
def _plain(name: str) -> str:
    # Without what tells it apart from another key of the same name.
    return _DISTINCTION.sub("", name).lower().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Redaction:
    """Masks values by the name of their key, and parts of texts by pattern.

    Always: the values of `SECRET_NAMES`, Indelible's own secret keys, and user and password of a
    URL. `names` and `patterns` add to that. Names beginning with `$` are the product's own.
    """

    names: frozenset[str] = SECRET_NAMES
    patterns: tuple[re.Pattern[str], ...] = ()

    @classmethod
    def of(cls, names: Iterable[str] = (), patterns: Iterable[str] = ()) -> "Redaction":
        """Add key names (any case, `-` and `_` alike) and regular expressions."""
        return cls(
            SECRET_NAMES | {_plain(name) for name in names},
            tuple(re.compile(pattern) for pattern in patterns),
        )

    def of_value(self, value: object, *, most: int = MAX_VALUES) -> object:
        """A copy of `value` with what must not leave masked, at any depth.

        Raises:
            NotPlain: it holds something that JSON does not have, a key that is no text, or more
                than `most` values.
        """
        return self._of(value, [most])

    def _of(self, value: object, room: list[int]) -> object:
        kind = type(value)
        if kind is str:
            return self.of_text(value)  # type: ignore[arg-type]
        if kind in _PLAIN_TYPES:
            return value
        if kind is dict:
            return self._of_dict(value, room)  # type: ignore[arg-type]
        if kind is list or kind is tuple:
            return self._of_list(value, room)  # type: ignore[arg-type]
        if issubclass(kind, str):
            return self.of_text(str.__str__(value))
        raise NotPlain

    def _of_dict(self, fields: dict[object, object], room: list[int]) -> dict[str, object]:
        room[0] -= len(fields) or 1  # an empty one counts as well
        if room[0] < 0:
            raise NotPlain
        names, text = self.names, self.of_text
        masked: dict[str, object] = {}
        for name, value in fields.items():
            kind = type(value)
            if type(name) is not str:
                raise NotPlain
            if _plain(name) in names:
                masked[name] = MASK
            elif kind is str:
                masked[name] = text(value)  # type: ignore[arg-type]
            elif kind in _PLAIN_TYPES:
                masked[name] = value
            else:
                masked[name] = self._of(value, room)
        return masked

    def _of_list(self, values: Sequence[object], room: list[int]) -> list[object]:
        room[0] -= len(values) or 1
        if room[0] < 0:
            raise NotPlain
        return [self._of(one, room) for one in values]

    def of_text(self, text: str) -> str:
        """`text` with our own keys, a URL's user and password, and the patterns masked."""
        if "iml_" in text or "ind_" in text:
            text = _OWN_KEY.sub(MASK, text)
        if "://" in text and "@" in text:
            text = _USERINFO.sub(MASK + "@", text)
        for pattern in self.patterns:
            text = pattern.sub(MASK, text)
        return text
