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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

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
_OWN_KEY: Final = re.compile(r"\b(?:iml_(?:live|test)|ind_(?:adm|key))_[\w-]{8,}")
_USERINFO: Final = re.compile(r"(?<=://)[^/@\s]+@")


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
    return name.lower().replace("-", "_")


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

    def of_mapping(
        self, fields: Mapping[str, object], *, is_secret: Callable[[str], bool] | None = None
    ) -> dict[str, object]:
        """A copy with what must not leave masked; `is_secret` decides on names as well."""
        return {
            name: MASK
            if isinstance(name, str)
            and (_plain(name) in self.names or (is_secret is not None and is_secret(name)))
            else (value if value.__class__ in _PLAIN_TYPES else self.of_value(value))
            for name, value in fields.items()
        }

    def of_value(self, value: object) -> object:
        """`value` with secrets inside it masked; itself where there are none to be found."""
        if isinstance(value, str):
            return self.of_text(value)
        if isinstance(value, dict):
            return self.of_mapping(value)
        if isinstance(value, list | tuple):
            return [self.of_value(one) for one in value]
        return value

    def of_text(self, text: str) -> str:
        """`text` with our own keys, a URL's user and password, and the patterns masked."""
        if "_" in text:
            text = _OWN_KEY.sub(MASK, text)
        if "://" in text and "@" in text:
            text = _USERINFO.sub(MASK + "@", text)
        for pattern in self.patterns:
            text = pattern.sub(MASK, text)
        return text
