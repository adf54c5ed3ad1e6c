"""What a lane tells the application, in its hooks and in the log.

The hooks are told everything. The log has each kind of warning once, and few kinds, whatever a
server or a disk says.

A kind may be logged again after things went well in between, and then not sooner than a minute
after the last time: a server that refuses one batch and takes the next must not fill a log.
"""

import logging
from collections.abc import Callable
from typing import Final

from indelible.client.options import Options
from indelible.client.tally import Tally
from indelible.event import LossReason

logger = logging.getLogger("indelible")

AGAIN_S: Final = 60.0
MOST_KINDS: Final = 20
MOST_CHARS: Final = 500


class Notices:
    """Tells `on_error`, `on_drop` and the log. For one thread at a time.

    Args:
        lane: its name, with which most lines begin.
        is_for_caller: whether what a hook raised is the calling thread's to hear.
    """

    def __init__(
        self,
        lane: str,
        options: Options,
        *,
        tally: Tally,
        monotonic: Callable[[], float],
        is_for_caller: Callable[[BaseException], bool],
    ) -> None:
        self._lane = lane
        self._on_error = options.on_error
        self._on_drop = options.on_drop
        self._tally = tally
        self._monotonic = monotonic
        self._is_for_caller = is_for_caller
        self._told: dict[str, int] = {}
        self._logged: dict[str, tuple[float, int]] = {}
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

    def tell_drops(self) -> None:
        """Tell `on_drop` what was lost since it was told last."""
        sums = self._tally.sums()
        for reason in LossReason:
            new = sums[reason] - self._told.get(reason, 0)
            if new > 0:
                self._told[reason] = sums[reason]
                self.log(f"{self._lane}: {new} let go: {reason.meaning}", f"lost {reason}")
                if self._on_drop is not None:
                    self._spare(self._on_drop, reason.value, new)

    def log(self, what: str, kind: str | None = None) -> None:
        """Log a warning, unless one of its kind is in the log."""
        if self._is_due(kind or what):
            logger.warning("%s", what)

    def recovered(self) -> None:
        """A batch was delivered: what was logged before may be news again.

        Not sooner than a minute after the last time: a server that refuses one batch and takes the
        next must not fill a log.
        """
        self._recoveries += 1

    def _is_due(self, kind: str) -> bool:
        if kind not in self._logged:
            if len(self._logged) >= MOST_KINDS:
                self._logged = {one: at for one, at in self._logged.items() if not self._may(one)}
            if len(self._logged) >= MOST_KINDS:
                return False
        elif not self._may(kind):
            return False
        self._logged[kind] = (self._monotonic(), self._recoveries)
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
            if self._is_for_caller(error):
                raise


def one_line(text: str) -> str:
    r"""`text`, some of which a server wrote, fit for a log: short, and without control characters.

    >>> one_line("refused:\nno")
    'refused:\\nno'
    """
    short = text if len(text) <= MOST_CHARS else f"{text[:MOST_CHARS]}…"
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in short)
