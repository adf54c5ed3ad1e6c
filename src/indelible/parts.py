"""What a part of the server is: how it is run, how it is, and what it gives to the API.

The composition root (`indelible.app`) holds the list of parts. They are started and stopped in its
order, which is the order in which an event passes them, and closed in the reverse order. `/healthz`
has a member for each part that has health, and the handlers of the API may ask for what the parts
give. So whoever adds a part writes a function that returns one, in its own room, and a line in the
list.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import msgspec

Word = Literal["ok", "degraded", "failing"]


class PartHealth(msgspec.Struct):
    """How one part of the server is."""

    status: Word


class Look(NamedTuple):
    """A read of the disk that the health of a part needs, made by the lookout on its own thread.

    If `is_dear`, it is made only for a request to `/healthz`.
    """

    what: str
    act: Callable[[], None]
    is_dear: bool = False


def _nothing() -> None:
    pass


async def _at_once() -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of the server.

    Attributes:
        name: its member of `/healthz`; unique.
        start: called on the event loop. It must not block.
        stop: finishes what is under way, and ends its threads.
        close: lets go of files; called after the loop has ended, or if the server cannot be built.
        health: reads memory only, since it is called on the event loop; None if it has no health,
            or runs in another process.
        form: the type of its health, wherever that is; None if it has none.
        looks: what of its health must be read from the disk.
        gives: what handlers of the API may ask for, by the name of their parameter.
    """

    name: str
    start: Callable[[], None] = _nothing
    stop: Callable[[], Awaitable[None]] = _at_once
    close: Callable[[], None] = _nothing
    health: Callable[[], PartHealth] | None = None
    form: type[PartHealth] | None = None
    looks: Sequence[Look] = ()
    gives: Mapping[str, object] = field(default_factory=dict)


def off_the_loop(stop: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    """Make the `stop` of a part out of a function that blocks."""
    return lambda: asyncio.to_thread(stop)


def form_of_health(parts: Sequence[Part]) -> type[msgspec.Struct]:
    """The type of `/healthz`: the worst status, the version, and a member for each part.

    Raises:
        ValueError: two parts have one name.
    """
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two parts have the name {name!r}")
    members = [(part.name, part.form) for part in parts if part.form is not None]
    return msgspec.defstruct(
        "Health",
        [("status", Word), ("version", str), *members],
        namespace={
            "__doc__": "The worst of the parts is the status of the whole; `failing` is answered "
            "503."
        },
        module=__name__,
    )
