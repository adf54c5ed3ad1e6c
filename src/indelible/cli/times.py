"""Times and periods as they are typed: 30s, 15m, 24h, 7d."""

import re
from typing import Final

from indelible.cli.failure import called_wrongly
from indelible.clock import now_ms
from indelible.moment import parse_time_ms

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PERIOD: Final = re.compile(rf"([0-9]{{1,9}})([{''.join(_UNITS)}])")


def seconds(option: str, text: str) -> int:
    """The length of a period.

    Raises:
        Failure: it is none; `option` is what the message names.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise called_wrongly(
            f"{option} {text}: no period of time", hint="Write it as 30s, 15m, 24h or 7d."
        )
    return int(found[1]) * _UNITS[found[2]]


def moment_ms(option: str, text: str) -> int:
    """A moment, in milliseconds since 1970: so long ago, or a time of its own.

    Raises:
        Failure: it is neither.
    """
    if _PERIOD.fullmatch(text):
        return max(now_ms() - seconds(option, text) * 1000, 0)
    at_ms = parse_time_ms(text)
    if at_ms is None or at_ms < 0:
        raise called_wrongly(
            f"{option} {text}: no time",
            hint="Write how long ago, 30m, 1h or 7d, or a time: 2026-01-31, 2026-01-31T12:00:00Z.",
        )
    return at_ms
