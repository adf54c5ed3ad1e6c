"""What happens to every client when the process forks, is told to stop, or ends.

One hook of each kind for the whole process, made with the first client:

    fork         the child's clients begin anew: own queue, thread, connection, process id, sequence
    exit         deliver for `exit_s` seconds, then write what is left to the spool
    SIGTERM      the same, then whatever handled the signal before; only if asked for

Clients are held weakly: one that the application dropped is not kept alive by this.
"""

import atexit
import os
import signal
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any, Final, Protocol


class Watched(Protocol):
    """What a client does when it is told."""

    def at_exit(self, timeout_s: float) -> None: ...
    def after_fork(self) -> None: ...


_watched: Final["weakref.WeakSet[Any]"] = weakref.WeakSet()
_EXIT_S: Final = 2.0
_state: Final = {"installed": 0, "finalizer": 0, "left": 0}
_previous: dict[int, Any] = {}


def watch(client: Watched) -> None:
    """Tell `client` of forks and of the end from now on."""
    _watched.add(client)
    if not _state["installed"]:
        _state["installed"] = 1
        # Handlers run last in, first out: those that were registered before the first client run
        # after this one, and what they capture is sent by the thread that captures it.
        atexit.register(_at_exit)
        os.register_at_fork(after_in_child=_after_fork)
    _finalize_in_multiprocessing()


def unwatch(client: Watched) -> None:
    """Tell it no more."""
    _watched.discard(client)


def forked(client: Watched) -> None:
    """A client found itself in another process though no hook ran, as after a fork in C."""
    _state["finalizer"] = 0
    client.after_fork()
    _finalize_in_multiprocessing()


def _after_fork() -> None:
    _state["finalizer"] = 0
    for client in list(_watched):
        client.after_fork()


def _at_exit() -> None:
    deadline = time.monotonic() + _EXIT_S
    for client in list(_watched):
        try:
            client.at_exit(max(0.05, deadline - time.monotonic()))
        except Exception:  # noqa: S112 — the end of the process: nobody is left to be told
            continue


def _finalize_in_multiprocessing() -> None:
    """A child of multiprocessing ends without running atexit's handlers, only its own."""
    util = sys.modules.get("multiprocessing.util")
    if util is None or _state["finalizer"] == os.getpid():
        return
    _state["finalizer"] = os.getpid()
    util.Finalize(None, _at_exit, exitpriority=0)


def install_signal_handlers() -> bool:
    """Chain a handler before the one that SIGTERM has; False outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return False
    previous = signal.getsignal(signal.SIGTERM)
    if previous is _on_signal:
        return True
    _previous[signal.SIGTERM] = previous
    signal.signal(signal.SIGTERM, _on_signal)
    return True


def _on_signal(number: int, frame: FrameType | None) -> None:
    """Deliver, then do what would have been done: a parent must see a death by SIGTERM.

    Runs between two bytecodes of the main thread, so it only waits, with a limit, for workers.
    """
    _at_exit()
    previous = _previous.get(number, signal.SIG_DFL)
    if previous == signal.SIG_IGN:
        return
    if callable(previous):
        previous(number, frame)
        return
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
