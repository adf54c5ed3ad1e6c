"""Write the lines of a process to stderr and stdout without waiting for whoever reads them.

A pipe that no one reads is full after 64 KiB. The next write to it blocks for ever, and so does a
write to a log file on a disk that hangs. A server must not stand still for its log, so its lines go
through a bounded queue to a thread that does nothing but write:

    any thread ──write──▶ queue ──▶ the thread "log" ──os.write──▶ descriptor

As long as a process has one thread and no event loop, `write` itself writes: it holds up no one
else, the cause of a failed start is shown before the process ends, and a process that forks
children must have one thread only. A child begins in this way too, whatever its parent had.

A line that finds the queue full is dropped and counted, and so is every later one until the queue
is empty. The gap is thus in one place, and its size is told there.
"""

import atexit
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

STDOUT: Final = 1
STDERR: Final = 2

MOST_WAITING_BYTES: Final = 1024 * 1024
LAST_WORDS_S: Final = 1.0
"""How long the end of a process may wait for its last lines to be written."""


class Outlet:
    """The queue of one process, and its thread. May be used from any thread, and after a fork.

    Args:
        gap: makes the line, for stderr, that tells how many lines are missing at its place.
    """

    def __init__(self, gap: Callable[[int], bytes]) -> None:
        self._gap = gap
        self._begin()

    def write(self, descriptor: int, line: bytes) -> None:
        """Write `line` after all earlier ones, or drop it if `MOST_WAITING_BYTES` are waiting.

        Never raises: a log that cannot be written stops nothing.
        """
        if self._pid != os.getpid():
            self._begin()
        if not self._is_running and not _has_others_to_serve():
            _put(descriptor, line)
            return
        with self._changed:
            if self._dropped or self._waiting_bytes + len(line) > MOST_WAITING_BYTES:
                self._dropped += 1
                return
            self._lines.append((descriptor, line))
            self._waiting_bytes += len(line)
            self._changed.notify_all()
            if not self._is_running:
                self._start()

    def drain(self, within_s: float = LAST_WORDS_S) -> bool:
        """Wait until all lines are written; return False if that takes longer than `within_s`."""
        if self._pid != os.getpid():
            self._begin()
        with self._changed:
            return self._changed.wait_for(self._is_drained, within_s)

    def _begin(self) -> None:
        # The lock of a parent may be held by a thread that this process does not have.
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._lines: deque[tuple[int, bytes]] = deque()
        self._waiting_bytes = 0
        self._dropped = 0
        self._is_writing = False
        self._is_running = False

    def _start(self) -> None:
        # At the end of the interpreter there is no new thread, and there may be too many.
        with suppress(RuntimeError):
            threading.Thread(target=self._write_all, name="log", daemon=True).start()
            self._is_running = True
            atexit.register(self.drain)

    def _is_drained(self) -> bool:
        return not (self._lines or self._dropped or self._is_writing)

    def _write_all(self) -> None:
        missing = 0
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._lines or self._dropped)
                self._is_writing = True
                if self._lines:
                    descriptor, line = self._lines.popleft()
                    self._waiting_bytes -= len(line)
                else:
                    descriptor, line = STDERR, b""
                    missing, self._dropped = missing + self._dropped, 0
            if missing and _put(STDERR, self._gap(missing)):
                missing = 0
            if not _put(descriptor, line) and descriptor == STDERR:
                missing += 1


def _has_others_to_serve() -> bool:
    import asyncio  # late: every command imports this module, and servers alone need that one

    with suppress(RuntimeError):
        return asyncio.get_running_loop() is not None
    return threading.active_count() > 1


def _put(descriptor: int, line: bytes) -> bool:
    """Write all of `line`, in one call if the system takes it so; return whether it was taken."""
    rest = memoryview(line)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # whoever gave us the descriptor does not want to wait either
                select.select([], [descriptor], [])
    except OSError:
        return False
    return True
