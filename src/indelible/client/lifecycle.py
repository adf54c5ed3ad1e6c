"""What happens to every client when the process forks, is told to stop, or ends.

One hook of each kind for the whole process, made with the first client:

    fork         the child's clients begin anew: own queue, thread, connection, process id, sequence
    exit         deliver for `exit_s` seconds, then write what is left to the spool
    SIGTERM      the same, then whatever handled the signal before; only if asked for

A client is held weakly. One that the application drops without a shutdown leaves its outboxes here
until they have delivered, or have on disk, what waits in them; then their threads end.
"""

import atexit
import logging
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, Protocol


class Watched(Protocol):
    """What a client does when it is told. `spent_s` is what others took of the time there is."""

    def _at_exit(self, spent_s: float) -> None: ...
    def _at_signal(self, spent_s: float) -> None: ...
    def _after_fork(self) -> None: ...


class Lane(Protocol):
    """What a client leaves when it is dropped."""

    def let_go(self) -> None:
        """Deliver what waits, then end. Must not raise, and must not hold the client."""
        ...


@dataclass(slots=True)
class _Hooks:
    """Which hooks there are.

    Attributes:
        installed: of the interpreter.
        in_children: of multiprocessing, for the children to come.
        finalizing: the process for which multiprocessing has a finalizer of ours.
        ended: the process whose clients were told of its end.
        said_many: whether the log has a word about many clients.
    """

    installed: bool = False
    in_children: bool = False
    finalizing: int = 0
    ended: int = 0
    said_many: bool = False


logger = logging.getLogger("indelible")

MANY: Final = 20
_UWSGI_TELLS: Final = "py-call-uwsgi-fork-hooks"
_watched: Final[dict[int, tuple[weakref.ref[Watched], str]]] = {}
_held: Final[dict[int, Watched]] = {}
_before_end: Final[list[Callable[[], None]]] = []
_hooks: Final = _Hooks()


def watch(client: Watched, address: str, lanes: Sequence[Lane]) -> None:
    """Tell `client`, which sends to `address`, of forks and of the end from now on.

    When it is dropped its lanes are told. They are held here until then: were they garbage together
    with the client, their sockets might be finalised before anyone could close them.
    """
    key = id(client)

    def dropped(_: object) -> None:
        _watched.pop(key, None)
        for lane in lanes:
            lane.let_go()

    _watched[key] = weakref.ref(client, dropped), address
    if address and len(_watched) >= MANY and not _hooks.said_many:
        _warn_of_many(address)
    if not _hooks.installed:
        _hooks.installed = True
        # Handlers run last in, first out: those that were registered before the first client run
        # after this one, and what they capture is sent by the thread that captures it.
        atexit.register(_at_exit)
        in_each_child(_after_fork)
    _finalize_in_multiprocessing()


def unwatch(client: Watched) -> None:
    """Tell it no more."""
    _watched.pop(id(client), None)


def hold(leftover: Watched) -> None:
    """Tell what a dropped client left, and keep it from being collected, until `release`."""
    _held[id(leftover)] = leftover


def release(leftover: Watched) -> None:
    """It has nothing left."""
    _held.pop(id(leftover), None)


def _living() -> list[Watched]:
    """All who are to be told."""
    clients = [reference() for reference, _ in list(_watched.values())]
    return [*(client for client in clients if client is not None), *list(_held.values())]


def _warn_of_many(address: str) -> None:
    """Say once that a client is made where one is to be shared."""
    count = sum(one == address for _, one in list(_watched.values()))
    if count >= MANY:
        _hooks.said_many = True
        logger.warning(
            "%d clients of %s are in use in this process, each with threads and connections: make "
            "one and share it, or shut down those that have done their work",
            count,
            address,
        )


def is_over() -> bool:
    """Whether it is too late for a hook of ours: what a client made now is given, it must send at
    once.

    True after our handler of atexit, and on the main thread as soon as handlers run at all: a
    handler that is registered by another one is never called.
    """
    main = threading.main_thread()
    return (
        sys.is_finalizing()
        or _hooks.ended == os.getpid()
        or (threading.current_thread() is main and not main.is_alive())
    )


def before_end(call: Callable[[], None]) -> None:
    """Have `call` made when this process is about to end, while every client still takes events.

    At exit; and at a SIGTERM that nobody but us handles, since no code runs after it. Where
    somebody does, a server as a rule, what is under way may still come to its own end. `call` must
    not raise, and must be safe in a signal handler.
    """
    _before_end.append(call)


def in_each_child(call: Callable[[], None]) -> None:
    """Have `call` made in each child that is forked from now on, where the system can fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def _after_fork() -> None:
    for client in _living():
        client._after_fork()
    _finalize_in_multiprocessing()


def _at_exit() -> None:
    _announce_end()
    _tell_each(lambda client, spent_s: client._at_exit(spent_s))
    _hooks.ended = os.getpid()


def _announce_end() -> None:
    for call in _before_end:
        call()


def _tell_each(tell: Callable[[Watched, float], None]) -> None:
    started = time.monotonic()
    for client in _living():
        try:
            tell(client, time.monotonic() - started)
        except Exception:  # noqa: S112 — the end of the process: nobody is left to be told
            continue


def may_begin_thread() -> bool:
    """False in the master of a uWSGI that does not tell Python of its forks.

    A thread there may hold the interpreter, or wait for it, at the moment of a fork. In the child
    it would be held by, or owed to, a thread that does not exist, for ever.
    """
    uwsgi: Any = sys.modules.get("uwsgi")
    return uwsgi is None or uwsgi.worker_id() != 0 or _UWSGI_TELLS in uwsgi.opt


# A child of multiprocessing ends by os._exit: instead of the handlers of atexit it runs finalizers
# of its own, and forgets at its beginning those that were there before.


def _finalize_in_multiprocessing() -> None:
    util = sys.modules.get("multiprocessing.util")
    if util is None:
        return
    if not _hooks.in_children:
        _hooks.in_children = True
        util.register_after_fork(_at_exit, _add_finalizer)
    is_child = sys.modules["multiprocessing"].parent_process() is not None
    if is_child and _hooks.finalizing != os.getpid():
        _add_finalizer()


def _add_finalizer(_: object = None) -> None:
    _hooks.finalizing = os.getpid()
    util: Any = sys.modules["multiprocessing.util"]
    util.Finalize(None, _at_exit, exitpriority=0)


def install_signal_handlers() -> bool:
    """Chain a handler before the one that SIGTERM has.

    False where that cannot be: outside the main thread, and where the handler that there is was
    not set from Python, so that nobody could call it.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None:
        return False
    if not isinstance(previous, _Chained):
        signal.signal(signal.SIGTERM, _Chained(previous))
    return True


class _Chained:
    """Delivers, then does what would have been done: a parent must see a death by SIGTERM.

    Runs between two bytecodes of the main thread, so it only waits, with a limit, for workers. An
    object for each handler that was there before, so that two that were set in turns end.
    """

    def __init__(self, previous: Any) -> None:
        self._previous = previous

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._previous == signal.SIG_DFL:
            _announce_end()
        _tell_each(lambda client, spent_s: client._at_signal(spent_s))
        if self._previous == signal.SIG_IGN:
            return
        if callable(self._previous):
            self._previous(number, frame)
            return
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Still here: the first process of a container, which the kernel spares.
        signal.signal(number, self)
