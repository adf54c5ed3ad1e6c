"""What is known of an event, of its properties, and of a project's lane. Pure.

Every event is counted by name. Its properties are looked into only so often in a second, so that a
busy log costs no more than a quiet one: how often is told with each event (`looked`), and a
property's share is the part of those that have it. Which events are looked into depends on the log
alone, on the second in which each was received; so the schema is the same however the log is cut.

First come, first learned: what is past a bound is counted, and not kept. Product and audit events
have bounds of their own, for whoever holds a public token can fill those of product events.
"""

from typing import Final

from msgspec import Struct, field

from indelible.quality.contract import Contract, Misfit
from indelible.quality.walk import Seen

MAX_EVENTS: Final = 2_000
"""Most names of events of a project, in each lane."""
MAX_PROPERTIES_OF_EVENT: Final = 500
MAX_PROPERTIES: Final = 10_000
"""Most properties of a project, in each lane."""
MAX_SHAPES: Final = 8
"""Most shapes of a property that are told apart."""
LOOKED_OF_NAME: Final = 2
"""Most events of one name that are looked into in a second."""
WELL_KNOWN: Final = 1_000
"""After so many, it is `LOOKED_OF_NAME` in ten seconds."""
LOOKED_OF_LANE: Final = 20
"""Most events of a project's lane that are looked into in a second, but for the first few of a
name."""
ALWAYS_LOOKED: Final = 5
"""So many of each name are looked into whatever comes with them."""
CHECKED_OF_LANE: Final = 200
"""Most events of a project's lane that are held to a contract in a second."""
LARGEST_LOOKED_BYTES: Final = 32 * 1024
"""A longer event is counted, and not looked into."""
MAX_RULES: Final = 700
"""Most rules of a contract that are counted apart."""
MAX_TX_IDS: Final = 5
"""How many of the newest events that do not fit a rule are named."""


_LONGER: Final = 10


class Moment(Struct, frozen=True, gc=False, array_like=True):
    """Where in the log, and when it was received."""

    index: int
    at_ms: int


class Property(Struct, array_like=True):
    """A property of an event.

    Attributes:
        first, last: of the events looked into, those that had it.
        seen: how many had it.
        types: how many had a value of each type.
        shapes: how many had which shape, of the first `MAX_SHAPES` ones.
        other_shapes: how many had another.
    """

    first: Moment
    last: Moment
    seen: int = 0
    types: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    other_shapes: int = 0

    def add(self, seen: Seen, at: Moment) -> None:
        """Count an event that has it."""
        self.last = at
        self.seen += 1
        for sort in sorted(seen.types):
            self.types[sort] = self.types.get(sort, 0) + 1
        shape = seen.shape
        if shape is None:
            return
        if shape in self.shapes or len(self.shapes) < MAX_SHAPES:
            self.shapes[shape] = self.shapes.get(shape, 0) + 1
        else:
            self.other_shapes += 1


class EventSchema(Struct, array_like=True):
    """An event, by its name.

    Attributes:
        first, last: of all events of this name.
        count: how many there were.
        looked: how many of them were looked into.
        too_large: how many would have been, and are too long.
        cut: how many were looked into in part: they are deeper, or have more values.
        left_out: how often a property was met for which there was no room.
        chosen: how many were to be looked into.
        window, in_window: the second, or the ten of them, in which the last one was; how many were.
    """

    first: Moment
    last: Moment
    count: int = 0
    looked: int = 0
    too_large: int = 0
    cut: int = 0
    left_out: int = 0
    chosen: int = 0
    window: int = 0
    in_window: int = 0
    properties: dict[str, Property] = field(default_factory=dict)

    def takes(self, second: int, lane: "Lane") -> bool:
        """Whether an event received in this second is to be looked into; notes that it is."""
        if self.chosen >= WELL_KNOWN:
            second //= _LONGER
        if self.window != second:
            self.window, self.in_window = second, 0
        elif self.in_window >= LOOKED_OF_NAME:
            return False
        if lane.looked >= LOOKED_OF_LANE and self.chosen >= ALWAYS_LOOKED:
            return False
        self.in_window += 1
        self.chosen += 1
        lane.looked += 1
        return True


class Lane(Struct, array_like=True):
    """What is known of a project's events of one kind together.

    Attributes:
        events, properties: how many names are kept.
        left_out: how many events have a name for which there was no room.
        erased: how many had been erased before they were learned.
        second, looked, checked: how many were chosen in that second.
    """

    events: int = 0
    properties: int = 0
    left_out: int = 0
    erased: int = 0
    second: int = 0
    looked: int = 0
    checked: int = 0


class Unfit(Struct, array_like=True):
    """Of one rule, the events that do not fit: how many, when, and the newest."""

    first: Moment
    last: Moment
    count: int = 0
    tx_ids: list[bytes] = field(default_factory=list)

    def add(self, at: Moment, tx: bytes) -> None:
        """Count one more."""
        self.last = at
        self.count += 1
        self.tx_ids = [*self.tx_ids, tx][-MAX_TX_IDS:]


class Held(Struct, array_like=True):
    """A contract, and what came of it.

    Attributes:
        since: of the entry that set it; it applies to those behind.
        checked: how many events were held to it.
        unfit: how many of those do not fit it.
        rules: by rule and property, which those are.
        other_rules: how often a rule was broken for which there was no room.
    """

    contract: Contract
    since: Moment
    checked: int = 0
    unfit: int = 0
    rules: dict[str, Unfit] = field(default_factory=dict)
    other_rules: int = 0

    def add(self, found: list[Misfit], at: Moment, tx: bytes) -> None:
        """Count an event that was held to the contract, and what does not fit."""
        self.checked += 1
        self.unfit += bool(found)
        for misfit in found:
            key = f"{misfit.rule} {misfit.property}"
            rule = self.rules.get(key)
            if rule is None:
                if len(self.rules) >= MAX_RULES:
                    self.other_rules += 1
                    continue
                rule = self.rules[key] = Unfit(at, at)
            rule.add(at, tx)
