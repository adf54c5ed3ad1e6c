"""The process that forks the others.

A process of many threads cannot fork safely, and a child that is started anew would take a second
and the memory of all modules. So before the writer has a thread, a lock or a file open, it forks
the zygote: one thread, everything imported, and nothing open but the listening socket and its line.
Each child is a fork of it and shares the memory of what was imported.

The zygote is told by messages, each with the line of the new child.
It says who was born and who has ended. It ends at the end of its line and with its parent, and its
children with it.
"""

import gc
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Literal, NamedTuple, NoReturn, Protocol

import msgspec

from indelible import voice
from indelible.fault import place_of
from indelible.processes.kernel import call_itself, die_with

logger = logging.getLogger(__name__)

_MOST_BYTES: Final = 4096

Child = Callable[[socket.socket], None]
"""What a child does, with its line; it has ended when this returns."""


class Order(msgspec.Struct, array_like=True):
    """Fork a child of this name, or kill the one there is; or close the listening socket and fork
    no more."""

    what: Literal["fork", "kill", "close"]
    name: str = ""


class Word(NamedTuple):
    """`born`, or `ended` with a status as `os.waitpid` has it."""

    what: Literal["born", "ended"]
    name: str
    pid: int
    status: int


_ORDER: Final = msgspec.msgpack.Decoder(Order)
_WORD: Final = msgspec.msgpack.Decoder(Word)


class Forks(Protocol):
    """What makes the children of a server, and says what becomes of them."""

    def fileno(self) -> int:
        """What to wait on for a word."""
        ...

    def fork(self, name: str, line: socket.socket) -> None:
        """Order a child with this line, which the caller may then close.

        Raises:
            OSError: there is nobody to make one.
        """
        ...

    def kill(self, name: str) -> None:
        """Kill the child of this name, if it runs."""
        ...

    def close_listening(self) -> None:
        """Let go of the listening socket: from now on nobody is born."""
        ...

    def word(self) -> Word | None:
        """The next word; None if nobody is born any more.

        Raises:
            BlockingIOError: there is none yet.
        """
        ...

    def end(self) -> None:
        """End all this, and whichever child still runs."""
        ...


class Zygote:
    """The writer's end: `Forks` by a process that forks. Not for several threads."""

    def __init__(self, pid: int, line: socket.socket) -> None:
        self.pid = pid
        self._line = line

    def fileno(self) -> int:
        return self._line.fileno()

    def fork(self, name: str, line: socket.socket) -> None:
        order = msgspec.msgpack.encode(Order("fork", name))
        socket.send_fds(self._line, [order], [line.fileno()])

    def kill(self, name: str) -> None:
        with suppress(OSError):
            self._line.send(msgspec.msgpack.encode(Order("kill", name)))

    def close_listening(self) -> None:
        with suppress(OSError):
            self._line.send(msgspec.msgpack.encode(Order("close")))

    def word(self) -> Word | None:
        said = self._line.recv(_MOST_BYTES, socket.MSG_DONTWAIT)
        return _WORD.decode(said) if said else None

    def end(self) -> None:
        self._line.close()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def make_zygote(listening: socket.socket, child: Callable[[str], Child]) -> Zygote:
    """Fork the zygote; `child` returns what the child of a name does.

    Call it while the process has one thread, and before it opens what a child must not have.
    """
    assert threading.active_count() == 1, threading.enumerate()  # else no fork is safe
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    gc.collect()
    gc.freeze()  # what all share is not looked through, and so copied, by each of them
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _never_return(lambda: _run(parent, ours, theirs, listening, child))
    gc.unfreeze()
    theirs.close()
    return Zygote(pid, ours)


def _run(
    parent: int,
    ours: socket.socket,
    line: socket.socket,
    listening: socket.socket,
    child: Callable[[str], Child],
) -> None:
    ours.close()
    die_with(parent)
    call_itself("indel-fork")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the writer says when to end
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    names: dict[int, str] = {}
    while True:
        ready, _, _ = select.select([line.fileno(), woken], [], [])
        if woken in ready:
            with suppress(BlockingIOError):
                os.read(woken, _MOST_BYTES)
        _say_who_ended(line, names)
        if line.fileno() not in ready:
            continue
        said, handles, _, _ = socket.recv_fds(line, _MOST_BYTES, 1)
        if not said:
            return
        order = _ORDER.decode(said)
        if order.what == "close":
            listening.close()
            continue
        if order.what == "kill":
            for pid in [pid for pid, name in names.items() if name == order.name]:
                os.kill(pid, signal.SIGKILL)
            continue
        if listening.fileno() < 0:
            for handle in handles:
                os.close(handle)
            continue
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for handle in (woken, wake):
                os.close(handle)
            line.close()
            die_with(zygote)
            call_itself(f"indel-{order.name}")
            own = socket.socket(fileno=handles[0])
            _never_return(partial(child(order.name), own))
        names[pid] = order.name
        for handle in handles:
            os.close(handle)
        _say(line, Word("born", order.name, pid, 0))


def _say_who_ended(line: socket.socket, names: dict[int, str]) -> None:
    while names:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        _say(line, Word("ended", names.pop(pid), pid, status))


def _say(line: socket.socket, word: Word) -> None:
    with suppress(OSError):  # the writer is gone: the next thing is to find that out
        line.send(msgspec.msgpack.encode(word))


def _never_return(run: Callable[[], None]) -> NoReturn:
    """Run a forked process to its end: it must not come back to where its parent was."""
    status = 1
    try:
        run()
        status = 0
    except BaseException as error:
        # The message might quote a payload, so only the place goes to the log.
        logger.error("%s in %s ends this process", type(error).__name__, place_of(error))  # noqa: TRY400
    finally:
        voice.drain()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
