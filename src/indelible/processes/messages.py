"""What writer and edge say to each other. Both are of one version: this is no file format."""

from collections.abc import Mapping
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from indelible.edge.notice import Notice
from indelible.errors import IndelibleError, catalogue
from indelible.event import Level
from indelible.journal.contract import Draft, Outcome
from indelible.metrics import Counts


class Refused(Struct, frozen=True, array_like=True):
    """An error of ours, to be raised again in the other process: its class, message and facts."""

    name: str
    message: str
    facts: dict[str, str | int | float | None]

    @classmethod
    def of(cls, error: IndelibleError) -> "Refused":
        """Take down an error."""
        plain = str | int | float | None
        facts = {name: fact for name, fact in vars(error).items() if isinstance(fact, plain)}
        return cls(type(error).__name__, error.message, facts)

    def error(self) -> IndelibleError:
        """Return the error as it was."""
        form = _errors()[self.name]
        made = form.__new__(form, self.message)
        IndelibleError.__init__(made, self.message)
        vars(made).update(self.facts)
        return made


@cache
def _errors() -> Mapping[str, type[IndelibleError]]:
    return {error.__name__: error for error in catalogue()}


# From an edge.


class Submitted(Struct, frozen=True, array_like=True, tag=1):
    """Requests to be stored, each with its number and its drafts."""

    requests: list[tuple[int, list[Draft]]]


class Wanted(Struct, frozen=True, array_like=True, tag=2):
    """The receipts of these events, once they have come to `level` or the time is over."""

    number: int
    project_id: int
    indexes: list[int]
    level: Level
    timeout_s: float


class Asked(Struct, frozen=True, array_like=True, tag=3):
    """How the server is (`/healthz`), or its page of `/metrics`; with the edge's own counts."""

    number: int
    path: str
    counts: Counts


class Report(Struct, frozen=True, array_like=True, tag=4):
    """What the edge has counted, and what was taken of the rates since the last report.

    `number` is that of the last `Count` that it was asked for; 0 before the first.
    """

    counts: Counts
    spent: dict[str, int]
    number: int


class Serving(Struct, frozen=True, array_like=True, tag=5):
    """The edge answers requests."""


class Taken(Struct, frozen=True, array_like=True, tag=6):
    """From now on the edge goes by the snapshot of this number."""

    number: int


class Left(Struct, frozen=True, array_like=True, tag=7):
    """The edge has finished so many requests since it was told to stop, and cut off so many."""

    finished: int
    cut_off: int


class Noticed(Struct, frozen=True, array_like=True, tag=8):
    """Something that the edge refused or dropped, while somebody listens."""

    notice: Notice


# From the writer.


class Answered(Struct, frozen=True, array_like=True, tag=1):
    """What became of requests, by their numbers: stored, or not."""

    stored: list[tuple[int, list[Outcome]]]
    refused: list[tuple[int, Refused]]


class Receipts(Struct, frozen=True, array_like=True, tag=2):
    """The answer to `Wanted`."""

    number: int
    receipts: list[str | None]
    refused: Refused | None = None


class Told(Struct, frozen=True, array_like=True, tag=3):
    """The answer to `Asked`."""

    number: int
    status: int
    body: bytes


class Known(Struct, frozen=True, array_like=True, tag=4):
    """A snapshot of the registry, to be gone by from now on."""

    number: int
    snapshot: bytes


class Figures(Struct, frozen=True, array_like=True, tag=5):
    """How full the disk is. Sent every second at least: who hears none has a writer that hangs."""

    free_percent: float
    is_full: bool


class Spent(Struct, frozen=True, array_like=True, tag=6):
    """What other edges took of the rates."""

    spent: dict[str, int]


class Count(Struct, frozen=True, array_like=True, tag=8):
    """Report now; the writer's page of metrics is asked for. Numbers grow from 1."""

    number: int


class Listen(Struct, frozen=True, array_like=True, tag=9):
    """Whether somebody listens to notices now."""

    is_heard: bool


class Stop(Struct, frozen=True, array_like=True, tag=7):
    """Finish what is under way, and end."""


FromEdge = Submitted | Wanted | Asked | Report | Serving | Taken | Left | Noticed
FromWriter = Answered | Receipts | Told | Known | Figures | Spent | Count | Listen | Stop

FROM_EDGE: Final[msgspec.msgpack.Decoder[FromEdge]] = msgspec.msgpack.Decoder(FromEdge)
FROM_WRITER: Final[msgspec.msgpack.Decoder[FromWriter]] = msgspec.msgpack.Decoder(FromWriter)
