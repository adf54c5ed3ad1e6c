"""Which thread does what for a lane, as far as anybody has to know."""

import threading
from dataclasses import dataclass


@dataclass(slots=True)
class Roles:
    """Ids of threads, or None.

    Attributes:
        worker: our own, which does the work.
        lent: a caller's, which does the work while it waits for it.
        hook: the one that is in a hook of the application, or writes an event.
    """

    worker: int | None = None
    lent: int | None = None
    hook: int | None = None

    @property
    def is_worker(self) -> bool:
        """Whether the calling thread does the work, so that it would wait for itself."""
        return threading.get_ident() in (self.worker, self.hook, self.lent)

    def is_meant_for_caller(self, error: BaseException) -> bool:
        """Whether it is the caller's to hear: Ctrl-C, or `sys.exit`, while it lends its thread.

        On a thread of our own it would end the thread, and with it all delivery, in silence.
        """
        return not isinstance(error, Exception) and threading.get_ident() == self.lent
