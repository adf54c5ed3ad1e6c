"""A program that tries every door of a client in one phase of a process's life.

    python doors.py PHASE

For each door it prints one line of JSON: what the call raised, and which losses it counted. What it
sends is marked with the door's name. Standard library only, so that any Python can run it.
"""

import asyncio
import atexit
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

from indelible import AsyncIndelible, AuditEvent, AuditFields, Indelible

MANY = 250
EXIT_S = float(os.environ.get("DOORS_EXIT_S", "20"))


class Doors:
    """Two clients, one of each kind, and all that can be called on them."""

    def __init__(self) -> None:
        self.client = Indelible(exit_s=EXIT_S)
        self.twin = AsyncIndelible(exit_s=EXIT_S)

    def all(self) -> dict[str, Callable[[], object]]:
        """Each door by its name; the last ones end the clients."""
        client, twin = self.client, self.twin
        return {
            "capture": lambda: client.capture("capture"),
            "identify": lambda: client.identify("u_1", {"door": "identify"}),
            "alias": lambda: client.alias("alias", distinct_id="u_1"),
            "set": lambda: client.set({"door": "set"}),
            "send_async": lambda: client.audit.send_async("send_async", "x"),
            "send": lambda: client.audit.send("send", "x"),
            "send_batch": lambda: client.audit.send_batch(events("send_batch", 3)),
            "send_batch of many": lambda: client.audit.send_batch(
                events("send_batch of many", MANY)
            ),
            "audited": lambda: client.audited("audited")(len)([]),
            "flush": lambda: client.flush(EXIT_S),
            "twin's capture": lambda: twin.capture("twin's capture"),
            "twin's send": lambda: run(send(twin, "twin's send")),
            "twin's sends at once": lambda: run(send(twin, *["twin's sends at once"] * 30)),
            "twin's send_batch": lambda: run(
                twin.audit.send_batch(events("twin's send_batch", MANY))
            ),
            "twin's flush": lambda: run(twin.flush(EXIT_S)),
            "counts": lambda: (client.counts(), twin.counts()),
            "shutdown": lambda: client.shutdown(EXIT_S),
            "twin's shutdown": lambda: run(twin.shutdown(EXIT_S)),
        }

    def warm(self) -> None:
        """Have the background threads begin."""
        for client in (self.client, self.twin.client):
            client.capture("warm")
            client.audit.send_async("warm", "x")
            client.flush(EXIT_S)

    def lost(self) -> Counter[str]:
        """What all lanes have lost so far."""
        sums: Counter[str] = Counter()
        for one in (self.client, self.client.audit, self.twin.client, self.twin.audit):
            sums.update({str(reason): count for reason, count in one.counts().lost.items()})
        return sums

    def try_all(self) -> None:
        """Go through each of them, and say what came of it."""
        for name, door in self.all().items():
            before, raised = self.lost(), None
            began = time.monotonic()
            try:
                door()
            except BaseException as error:
                raised = f"{type(error).__module__}.{type(error).__name__}: {error}"
            line = {
                "door": name,
                "raised": raised,
                "lost": self.lost() - before,
                "took_s": time.monotonic() - began,
            }
            os.write(1, json.dumps(line).encode() + b"\n")


def events(name: str, count: int) -> list[AuditEvent | AuditFields]:
    return [{"event_name": name, "payload": str(place)} for place in range(count)]


async def send(twin: AsyncIndelible, *names: str) -> None:
    calls = [twin.audit.send(name, "x") for name in names]
    if sys.is_finalizing():
        for call in calls:
            await call
    else:
        await asyncio.gather(*calls)


def run(call: Coroutine[Any, Any, object]) -> None:
    """On a loop; by hand where Python itself can run none any more."""
    if not sys.is_finalizing():
        asyncio.run(call)
        return
    try:
        call.send(None)
    except StopIteration:
        return
    raise AssertionError("it waits for a loop")


kept: list["Finalizer"] = []


class Finalizer:
    """Tries them when it is collected."""

    def __init__(self, doors: Doors) -> None:
        self.doors = doors

    def __del__(self) -> None:
        self.doors.try_all()


def in_a_thread_that_outlives_main(doors: Doors) -> None:
    def work() -> None:
        threading.main_thread().join()
        doors.try_all()

    threading.Thread(target=work).start()


def in_a_child(doors: Doors) -> None:
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        sys.exit(os.waitstatus_to_exitcode(status))
    doors.try_all()


def before_a_fork(doors: Doors) -> None:
    doors.try_all()
    if not os.fork():
        os._exit(0)
    os.wait()


def in_a_signal_handler(doors: Doors) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: doors.try_all())
    os.kill(os.getpid(), signal.SIGUSR1)


def in_del(doors: Doors) -> None:
    Finalizer(doors)


def while_the_interpreter_ends(doors: Doors) -> None:
    kept.append(Finalizer(doors))


def after_shutdown(doors: Doors) -> None:
    doors.client.shutdown(EXIT_S)
    asyncio.run(doors.twin.shutdown(EXIT_S))
    doors.try_all()


def main(phase: str) -> None:
    made: list[Doors] = []
    if phase in ("in atexit, after ours", "in atexit, with a client made there"):
        # Handlers run last in, first out.
        atexit.register(lambda: (made or [Doors()])[0].try_all())
    if phase == "in atexit, with a client made there":
        return
    doors = Doors()
    made.append(doors)
    if not phase.endswith("as the first"):
        doors.warm()
    if phase.startswith("in atexit, before ours"):
        atexit.register(doors.try_all)
    for start, act in {
        "in the main thread": lambda doors: doors.try_all(),
        "before a fork": before_a_fork,
        "in a child": in_a_child,
        "in a thread that outlives main": in_a_thread_that_outlives_main,
        "in a signal handler": in_a_signal_handler,
        "in __del__": in_del,
        "while the interpreter ends": while_the_interpreter_ends,
        "after shutdown": after_shutdown,
    }.items():
        if phase.startswith(start):
            act(doors)


if __name__ == "__main__":
    main(sys.argv[1])
