"""What a dialect is: a value that turns bytes into items, and what became of them into an answer.

To add one, write a module in `indelible.edge.dialects` and put its value into the tuple there.
Everything else is the pipeline's: unpacking, the gate, admission, rates, disk, storing, waiting for
receipts, and the description of the API.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from msgspec import Struct

from indelible.edge.arrival import AuditEvent, Dropped, Kept, ProductEvent
from indelible.edge.brackets import Text
from indelible.edge.http import Answer, Request
from indelible.edge.intake import Limits
from indelible.edge.lost import Lost, LostWarning
from indelible.edge.schema import Schema
from indelible.event import Lane
from indelible.record import Origin
from indelible.registry.values import BotPolicy


@dataclass(frozen=True, slots=True)
class Path:
    """One path of a dialect.

    `crawlers` is what becomes of a crawler's events in projects that chose nothing.
    """

    path: str
    methods: tuple[str, ...] = ("POST",)
    crawlers: BotPolicy = "mark"


class Call(Struct, frozen=True, gc=False):
    """One request to a dialect."""

    request: Request
    path: Path
    limits: Limits


class Reading(Struct, gc=False):
    """A body, read as far as the gate needs it.

    Attributes:
        origin: what the records say of the request.
        events: what each event is, in order. Looked at once, after the gate has opened: what is
            not needed before should not be done before, for anybody may send a body.
        count: how many they are.
        sent_at: the client's time of sending, in whatever form; None if it did not say.
        tokens: the project tokens that were found, wherever one stands beyond doubt.
        inner_tokens: those where any text may stand: they count where there is no other.
        lost: what the sender reports as lost.
    """

    origin: Origin
    events: Iterable[ProductEvent | AuditEvent | Dropped] = ()
    count: int = 0
    sent_at: object = None
    tokens: list[str] = []
    inner_tokens: list[str] = []
    lost: Lost = None


Result = Kept | Dropped
Settled = Sequence[Result]
"""What became of each event of a request, in order."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """A dialect.

    Attributes:
        lane: whose events these are. Pages of any origin may send product events, whose token is
            public.
        paths: where it is spoken.
        read: reads a body. Runs on the event loop or on a thread of its own, and counts nothing.
        tokens: which of the tokens of a reading and its request decide, by an order of places.
            None: the request has the key of an application in `Authorization`, and is refused
            without one before its body is read.
        answer: says what became of the events, and what of the report of losses.
        schema: describes all that.
    """

    lane: Lane
    paths: tuple[Path, ...]
    read: Callable[[Text, Call], Reading]
    tokens: Callable[[Reading, Request], list[str]] | None
    answer: Callable[[Call, Settled, LostWarning | None], Answer]
    schema: Callable[[Limits], Schema]
