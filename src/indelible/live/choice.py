"""Which messages a client wants to see. Pure."""

from dataclasses import dataclass
from typing import Literal, get_args

from indelible.condition import Condition
from indelible.event import Kind
from indelible.leaf import SIZE
from indelible.live.messages import Message
from indelible.query.filtering import Filter

KindWord = Literal[
    "event", "reject", "forwarding", "product", "audit", "erasure", "administration", "loss"
]
assert get_args(KindWord)[3:] == tuple(kind.word for kind in Kind)
ResultWord = Literal["ok", "warning", "drop", "refused"]


@dataclass(frozen=True, slots=True)
class Wish:
    """What to show. Every member that is not None must hold; gaps are always shown.

    Attributes:
        kind: `event`, `reject` or `forwarding`, or the kind of a stored event.
        result: `ok` or `warning` of a stored event, `drop` of an event that was not taken,
            `refused` of a request.
        filter: a condition on stored events; nothing else is shown then but what is about them.
    """

    kind: KindWord | None = None
    result: ResultWord | None = None
    event: str | None = None
    distinct_id: str | None = None
    filter: Condition | None = None


class Choice:
    """A wish, ready to be tested on many messages."""

    def __init__(self, wish: Wish) -> None:
        """
        Raises:
            InvalidCondition: it names a cohort.
        """
        self._wish = wish
        self._filter = None if wish.filter is None else Filter(wish.filter)

    @property
    def is_dear(self) -> bool:
        """Whether it has a condition, whose test may take a while."""
        return self._filter is not None

    def takes(self, message: Message) -> bool:
        """Whether a message is to be shown, as far as everything but the condition goes."""
        wish = self._wish
        return message.kind == "gap" or (
            (wish.kind is None or wish.kind in (message.kind, message.log_kind))
            and (wish.result is None or wish.result == message.result)
            and (wish.event is None or wish.event == message.event)
            and (wish.distinct_id is None or wish.distinct_id == message.distinct_id)
        )

    def meets(self, message: Message) -> bool:
        """Whether the condition, if there is one, is true of the event that is shown."""
        if self._filter is None or message.kind == "gap":
            return True
        entry = message.entry
        if entry is None:
            return False
        assert len(entry.leaf_entry) == SIZE
        records = [entry.record]
        (may,) = self._filter.narrow([True], entry.index, [entry.leaf_entry], records)
        return may and self._filter.finds(entry)
