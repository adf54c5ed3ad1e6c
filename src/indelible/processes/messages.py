"""What the processes say to each other. All are of one version: this is no file format."""

import os
from collections.abc import Mapping
from functools import cache
from typing import Final

import msgspec
from msgspec import Struct

from indelible.edge.notice import Notice
from indelible.errors import IndelibleError, catalogue
from indelible.event import Level
from indelible.journal.contract import Draft, Erased, Outcome
from indelible.metrics import Counts
from indelible.registry.snapshot import Rows


class Failed(Struct, frozen=True, array_like=True, tag=1):
    """What the operating system would not do, to be raised again in the other process."""

    number: int
    message: str
    path: str | None

    @classmethod
    def of(cls, error: OSError) -> "Failed":
        """Take down an error."""
        path = None if error.filename is None else os.fsdecode(error.filename)
        return cls(error.errno or 0, error.strerror or str(error), path)

    def error(self) -> OSError:
        """Return the error as it was."""
        return OSError(self.number, self.message, self.path)


class Refused(Struct, frozen=True, array_like=True, tag=2):
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
    """What a child has counted, and what an edge took of the rates since its last report.

    `number` is that of the last `Count` that it was asked for; 0 before the first.
    """

    counts: Counts
    number: int
    spent: dict[str, int] = {}


class Serving(Struct, frozen=True, array_like=True, tag=5):
    """The edge answers requests."""


class Taken(Struct, frozen=True, array_like=True, tag=6):
    """From now on the edge goes by the change of this number."""

    number: int


class Left(Struct, frozen=True, array_like=True, tag=7):
    """The edge has finished so many requests since it was told to stop, and cut off so many."""

    finished: int
    cut_off: int


class Noticed(Struct, frozen=True, array_like=True, tag=10):
    """Something that an edge refused or dropped, while somebody listens; so it goes to the reader
    in the end. `missed` is of notices before it that were lost: see `indelible.edge.notice.Missed`.
    """

    notice: Notice | None
    missed: list[tuple[int | None, int]]


# To an edge.


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
    """The registry as it is after the change of this number."""

    number: int
    snapshot: bytes


class Changed(Struct, frozen=True, array_like=True, tag=10):
    """The next change of the registry, to be gone by from now on."""

    number: int
    rows: Rows


class Figures(Struct, frozen=True, array_like=True, tag=5):
    """How full the disk is, and whether there is a reader to pass requests on to. Sent every second
    at least: who hears none has a writer that hangs."""

    free_percent: float
    is_full: bool
    has_reader: bool


class Spent(Struct, frozen=True, array_like=True, tag=6):
    """What other edges took of the rates."""

    spent: dict[str, int]


class Count(Struct, frozen=True, array_like=True, tag=8):
    """Report now; the writer's page of metrics is asked for. Numbers grow from 1."""

    number: int


class Listen(Struct, frozen=True, array_like=True, tag=9):
    """Whether somebody listens to notices now: from the reader, and on to the edges."""

    is_heard: bool


class Stop(Struct, frozen=True, array_like=True, tag=7):
    """Finish what is under way, and end."""


# From the reader. It asks by number, since it may ask many things at once.


class Load(Struct, frozen=True, array_like=True, tag=11):
    """The registry as it is; `Done` brings `Snapshot.encode`."""

    number: int


class Event(Struct, frozen=True, array_like=True):
    """`indelible.registry.store.Administration` in flat values; `facts` in JSON."""

    project_id: int
    shard: int
    name: str
    facts: bytes
    at_ms: int


class Change(Struct, frozen=True, array_like=True, tag=12):
    """A change of the registry: `Registry.apply`. `facts` of events are JSON."""

    number: int
    added: Rows
    changed: Rows
    events: list[Event]


class Erase(Struct, frozen=True, array_like=True, tag=13):
    """`ErasableJournal.erase`; `Done` brings what it returns."""

    number: int
    project_id: int
    indexes: list[int]
    reason: str
    received_at_ms: int


class Sweep(Struct, frozen=True, array_like=True, tag=14):
    """`ErasableJournal.sweep`; `Done` brings what it returns."""

    number: int


class Ready(Struct, frozen=True, array_like=True, tag=15):
    """The reader answers requests; what its start came to."""

    token: str
    projects: int
    made: dict[str, str]


class Unable(Struct, frozen=True, array_like=True, tag=16):
    """The reader cannot work on what it finds, and ends."""

    why: Refused | Failed


class State(Struct, frozen=True, array_like=True, tag=17):
    """How the parts in the reader are, by name, in JSON; `failure` is of reads that hang or fail.
    `number` is that of the last `Look`."""

    number: int
    parts: dict[str, bytes]
    failure: str | None


class WantDrops(Struct, frozen=True, array_like=True, tag=19):
    """What edges have dropped of a project up to now; `Done` brings its `Drops`, in MessagePack."""

    number: int
    project: str


# To the reader.


class Done(Struct, frozen=True, array_like=True, tag=11):
    """What came of one thing that the reader asked for: a value, or an error."""

    number: int
    value: bytes | bool | Erased | list[tuple[int, bytes]] | None
    refused: Refused | None = None


class Look(Struct, frozen=True, array_like=True, tag=12):
    """Say how the parts are, with fresh figures. Numbers grow from 1."""

    number: int


FromEdge = Submitted | Wanted | Asked | Report | Serving | Taken | Left | Noticed
ToEdge = Answered | Receipts | Told | Known | Changed | Figures | Spent | Count | Listen | Stop
FromReader = (
    Load | Change | Erase | Sweep | WantDrops | Ready | Unable | State | Report | Receipts | Listen
)
ToReader = Done | Wanted | Look | Count | Noticed | Stop

FROM_EDGE: Final[msgspec.msgpack.Decoder[FromEdge]] = msgspec.msgpack.Decoder(FromEdge)
TO_EDGE: Final[msgspec.msgpack.Decoder[ToEdge]] = msgspec.msgpack.Decoder(ToEdge)
FROM_READER: Final[msgspec.msgpack.Decoder[FromReader]] = msgspec.msgpack.Decoder(FromReader)
TO_READER: Final[msgspec.msgpack.Decoder[ToReader]] = msgspec.msgpack.Decoder(ToReader)
