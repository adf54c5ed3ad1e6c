"""Threads for calls that wait: a few at once, none kept, in every phase of a process's life.

`concurrent.futures` and asyncio's default executor refuse work as soon as the main thread has
ended, though handlers of atexit and other threads may run for a long time after that; from Python
3.12 on no thread at all can be started then. Here a call that gets no thread is made by the thread
that submits it, so that it is always made, once.
"""

import _thread
import os
import queue
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def start_thread(call: Callable[[], None]) -> int | None:
    """Begin a daemon thread that makes `call`; its id, or None where none can be begun any more.

    `threading.Thread` would wait for the thread to run, and takes a lock that a signal handler may
    find held; the plain function does neither.
    """
    # Up to Python 3.11 a thread can be started while the interpreter ends. It never runs.
    if sys.is_finalizing():
        return None
    try:
        return _thread.start_new_thread(call, ())
    except RuntimeError:
        return None


class Crew:
    """Makes calls on at most `size` threads, which end when no call is left.

    Takes no lock, so it may be used in a signal handler. A forked child begins with all its places
    free and with none of its parent's calls.
    """

    def __init__(self, size: int) -> None:
        self._size: Final = size
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._calls: deque[Callable[[], None]] = deque()
        self._places = deque(range(self._size))

    def submit(self, call: Callable[[], None]) -> None:
        """Have `call` made soon; it must not raise. Returns at once, if a thread can be had."""
        if self._pid != os.getpid():
            self._begin()
        self._calls.append(call)
        try:
            place = self._places.pop()
        except IndexError:  # whoever has one looks again before it ends
            return
        if start_thread(lambda: self._work(place)) is None:
            self._work(place)

    def _work(self, place: int) -> None:
        while True:
            try:
                call = self._calls.popleft()
            except IndexError:
                self._places.append(place)
                # A call may have come since we looked, and found no place.
                if not self._calls:
                    return
                try:
                    place = self._places.pop()
                except IndexError:
                    return
            else:
                call()


def each_at_once(call: Callable[[T], R], items: Sequence[T], *, most: int) -> list[R]:
    """`call` of each item, up to `most` at the same time; the results in the order of the items.

    The calling thread takes part, with as many others as can be had, so it always ends. What a
    call raises is raised here, and no further call is begun.
    """
    left = deque(enumerate(items))
    results: dict[int, R] = {}
    faults: list[BaseException] = []
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def work() -> None:
        while True:
            try:
                place, item = left.popleft()
            except IndexError:
                return
            try:
                results[place] = call(item)
            except BaseException:
                left.clear()
                raise

    def help_out() -> None:
        try:
            work()
        except BaseException as error:
            faults.append(error)
        finally:
            ended.put(None)

    helpers = 0
    while helpers < min(most, len(items)) - 1 and start_thread(help_out) is not None:
        helpers += 1
    work()
    for _ in range(helpers):
        ended.get()
    if faults:
        raise faults[0]
    return [results[place] for place in range(len(items))]
