"""What a lane tells the application, in its hooks and in the log.

The hooks are told everything. The log has each kind of warning once, and few lines a minute,
whatever a server or a disk says.

A kind may be logged again after things went well in between, and then not sooner than a minute
after the last time: a server that refuses one batch and takes the next must not fill a log.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from indelible.client.options import Options
from indelible.client.roles import Roles
from indelible.client.tally import Tally
from indelible.event import LossReason

logger = logging.getLogger("indelible")

AGAIN_S: Final = 60.0
MOST: Final = 10
"""Lines of one lane in `AGAIN_S`, whatever happens."""
MOST_CHARS: Final = 500

_MOST_KINDS: Final = 200


class Notices:
    """Tells `on_error`, `on_drop` and the log. For one thread at a time.

    Args:
        lane: its name, with which most lines begin.
        roles: who says whether what a hook raised is the calling thread's to hear.
    """

    def __init__(
        self,
        lane: str,
        options: Options,
        *,
        tally: Tally,
        monotonic: Callable[[], float],
        roles: Roles,
    ) -> None:
        self._lane = lane
        self._on_error = options.on_error
        self._on_drop = options.on_drop
        self._tally = tally
        self._monotonic = monotonic
        self._roles = roles
        self._lock = threading.RLock()  # a signal handler may have a notice too
        self._told: dict[str, int] = {}
        self._why: dict[LossReason, str] = {}  # of what is not told yet
        self._logged: dict[str, tuple[float, int]] = {}
        self._recent: list[float] = []
        self._unsaid = 0
        self._recoveries = 0

    def tell(self, what: str, kind: str | None = None) -> None:
        """Tell `on_error`, and the log if it is due; without `kind` the words are the kind."""
        what = one_line(what)
        self.log(what, kind)
        if self._on_error is not None:
            self._spare(self._on_error, what)

    def failed(self, what: str, kind: str | None = None) -> None:
        """`tell` of a fault that the caller is spared, and count it."""
        self._tally.add("failures")
        self.tell(what, kind)

    def explain(self, reason: LossReason, why: str) -> None:
        """Say more of the latest loss for this reason, when it is told."""
        self._why[reason] = why

    def tell_drops(self) -> None:
        """Tell `on_drop` what was lost since it was told last."""
        sums = self._tally.sums()
        for reason in LossReason:
            new = sums[reason] - self._told.get(reason, 0)
            if new > 0:
                self._told[reason] = sums[reason]
                why = self._why.pop(reason, "")
                what = f"{self._lane}: {new} let go: {reason.meaning} {why}".rstrip()
                self.log(what, f"lost {reason} {why}")
                if self._on_drop is not None:
                    self._spare(self._on_drop, reason.value, new)

    def log(self, what: str, kind: str | None = None) -> None:
        """Log a warning, unless one of its kind is in the log; and with how many were left out."""
        with self._lock:
            if not self._is_due(kind or what):
                return
            unsaid, self._unsaid = self._unsaid, 0
        logger.warning("%s", f"{what} (and {unsaid:,} lines left out)" if unsaid else what)

    def recovered(self) -> None:
        """A batch was delivered: what was logged before may be news again.

        Not sooner than a minute after the last time: a server that refuses one batch and takes the
        next must not fill a log.
        """
        self._recoveries += 1

    def _is_due(self, kind: str) -> bool:
        if kind in self._logged and not self._may(kind):
            return False
        now = self._monotonic()
        self._recent = [at for at in self._recent if now - at < AGAIN_S]
        if len(self._recent) >= MOST:
            self._unsaid += 1
            return False
        if len(self._logged) >= _MOST_KINDS:
            self._logged.clear()
        self._recent.append(now)
        self._logged[kind] = (now, self._recoveries)
        return True

    def _may(self, kind: str) -> bool:
        at, recoveries = self._logged[kind]
        return recoveries < self._recoveries and self._monotonic() - at >= AGAIN_S

    def _spare(self, hook: Callable[..., None], *arguments: object) -> None:
        """Call a hook of the application; what it raises is counted."""
        try:
            hook(*arguments)
        except BaseException as error:
            self._tally.add("failures")
            if self._roles.is_meant_for_caller(error):
                raise


def one_line(text: str) -> str:
    r"""`text`, some of which a server wrote, fit for a log: short, and without control characters.

    >>> one_line("refused:\nno")
    'refused:\\nno'
    """
    short = text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in short)
