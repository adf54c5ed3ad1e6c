"""Writes what was captured as the JSON that is sent, and counts what cannot be written."""

import threading

from indelible.client.capture import Capture, Observed, Record
from indelible.client.encode import WrongType, blame
from indelible.client.notices import Notices
from indelible.client.options import Options
from indelible.client.roles import Roles
from indelible.client.tally import Tally
from indelible.client.wire import LetGo, Wire
from indelible.event import Lane, LossReason


class Writer:
    """That of one lane; on the thread that does its work."""

    def __init__(
        self, wire: Wire, options: Options, *, tally: Tally, notices: Notices, roles: Roles
    ) -> None:
        self._wire = wire
        self._tally = tally
        self._notices = notices
        self._roles = roles
        self._filters = wire.lane == Lane.PRODUCT and options.before_send is not None
        self._keeps_faults = options.strict and options.mode == "sync"
        self._fault: BaseException | None = None

    @property
    def is_in_hook(self) -> bool:
        """Whether the calling thread is in `before_send`, which would be given what it captures.

        Without one nothing comes round again: a finalizer that the garbage collector happens to
        call while an event is written may capture like anybody else.
        """
        return self._filters and self._roles.hook == threading.get_ident()

    def take_fault(self) -> BaseException | None:
        """What an event was dropped for since the last call, with `strict` in sync mode."""
        fault, self._fault = self._fault, None
        return fault

    def record_of(self, capture: Capture) -> Record | None:
        """The event as it will be sent; None if it was counted as lost.

        Raises:
            BaseException: Ctrl-C or an exit, on a thread that its caller lends.
        """
        self._roles.hook = threading.get_ident()
        try:
            if isinstance(capture, Observed):
                capture = capture.expand(capture.stamp)
            record, repaired = self._wire.encode(capture)
        except LetGo:
            self._tally.add(LossReason.BEFORE_SEND)
        except BaseException as error:  # before_send, or a property that broke every rule
            reason = LossReason.ENCODE_FAILED
            if self._filters and not isinstance(error, WrongType):
                reason = LossReason.BEFORE_SEND
            self._tally.add(reason)
            if self._roles.is_meant_for_caller(error):
                raise
            if self._keeps_faults:
                self._fault = error
            self._notices.tell(f"{self._wire.lane}: an event was let go: {blame(error, {})}")
        else:
            if repaired:
                self._tally.add("repaired")
            return record
        finally:
            self._roles.hook = None
        return None
