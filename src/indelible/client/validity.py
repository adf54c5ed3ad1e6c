"""What a value of an option must be, and what is wrong with one, in words that hold no secret."""

import os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Final

_ELSEWHERE: Final = {
    **{"project_api_key": "token", "write_key": "token", "project_token": "token"},
    **{"url": "host", "api_url": "host", "base_url": "host", "endpoint": "host"},
    **{"flush_at": "batch_events", "flush_interval": "batch_s", "max_queue_size": "max_queued"},
    **{"timeout": "total_s", "sync_mode": "mode", "send": "enabled", "disabled": "enabled"},
    **{"service_name": "service", "environment": "env"},
}
"""What other clients call an option, where no similarity of names would tell."""

QUOTED: Final = (
    "has quotes around it, which a shell would take off and an env file of Docker does not: "
    "leave them out"
)
_SECRET_KEYS: Final = ("iml_live_", "iml_test_", "ind_adm_")


def wrong_in_token(token: str) -> str | None:
    """Why this is no project token; None if it may be one."""
    key = next((prefix for prefix in _SECRET_KEYS if token.startswith(prefix)), None)
    if key is not None:
        whose = "an admin key" if key == "ind_adm_" else "an application key: pass it as api_key"
        return f"begins with {key} and so is {whose}; a project token begins with ind_pub_"
    return _wrong_in_secret(token)


def wrong_in_api_key(api_key: str) -> str | None:
    """Why this is no application key; None if it may be one."""
    if api_key.startswith("ind_pub_"):
        return (
            "begins with ind_pub_ and so is a project token: pass it as token; an application key "
            "begins with iml_live_ or iml_test_"
        )
    return _wrong_in_secret(api_key)


def _wrong_in_secret(secret: str) -> str | None:
    if is_quoted(secret):
        return QUOTED
    # A line feed at the end of a file of secrets is the usual cause.
    if not fits_a_header(secret):
        return "must be visible ASCII, without blanks or line feeds"
    return None


def is_quoted(text: str) -> bool:
    """Whether a text begins and ends with the same quote."""
    return len(text) > 1 and text[0] in "\"'`" and text[0] == text[-1]


def expected(name: str, default: object) -> tuple[str, Callable[[Any], bool]]:
    """What kind of value an option has, and whether one is of that kind."""
    if isinstance(default, bool):
        return "True or False", lambda value: isinstance(value, bool)
    if isinstance(default, int):
        return (
            "a whole number",
            lambda value: hasattr(value, "__index__") and not isinstance(value, bool),
        )
    if isinstance(default, float) or name == "max_age_s":
        return "a number", lambda value: hasattr(value, "__float__") and not isinstance(value, bool)
    if isinstance(default, tuple):
        return (
            "a list of text",
            lambda value: (
                isinstance(value, Collection)
                and not isinstance(value, str | bytes)
                and all(isinstance(one, str) for one in value)
            ),
        )
    if name in ("before_send", "on_error", "on_drop"):
        return "callable", callable
    if name in ("spool_dir", "ca_file"):
        return "a path", lambda value: isinstance(value, str | os.PathLike)
    if name == "headers":
        return (
            "a mapping of text to text",
            lambda value: (
                isinstance(value, Mapping)
                and all(isinstance(one, str) for pair in value.items() for one in pair)
            ),
        )
    return "text", lambda value: isinstance(value, str)


def no_such(unknown: Iterable[str], known: Iterable[str], what: str = "option") -> str:
    """Name the options that do not exist, each with the one that was probably meant."""
    known = list(known)
    words = []
    for name in sorted(unknown):
        elsewhere = _ELSEWHERE.get(name)
        words.append(name + (f"; did you mean {elsewhere}?" if elsewhere else nearest(name, known)))
    return f"no such {what}: {', '.join(words)}"


def nearest(name: object, known: Iterable[str]) -> str:
    """Ask whether the most similar of the known names was meant; nothing if none is similar."""
    import difflib  # a client that is told what it knows has no need of it

    near = difflib.get_close_matches(str(name).lower(), list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def fits_a_header(text: str) -> bool:
    """Whether a text is visible ASCII, as a header's name must be, and a value but for blanks."""
    return all("!" <= char <= "~" for char in text)
