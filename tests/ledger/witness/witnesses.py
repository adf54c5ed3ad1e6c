"""Witnesses in processes of their own, servers that only look like one, and logs to show them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from indelible.ledger.format.checkpoint import Checkpoint
from indelible.ledger.format.cosignature import Cosigner, WitnessKey
from indelible.ledger.format.note import LogKey, Signer
from indelible.ledger.format.policy import Group, Policy, Witness
from indelible.ledger.format.tree import Hashes, leaf_hash, prove_consistency, root_of
from indelible.ledger.witness.request import request_body
from tests import nursery
from tests.cli.command import surroundings
from tests.world import plain_client

START_S = 60.0


@dataclass(frozen=True)
class Book:
    """A log in memory: its leaves, and the key that signs whatever it is told to."""

    signer: Signer
    leaves: tuple[bytes, ...]

    @classmethod
    def of(cls, signer: Signer, entries: str) -> "Book":
        """One leaf for each character."""
        return cls(signer, tuple(leaf_hash(one.encode()) for one in entries))

    @property
    def origin(self) -> str:
        return self.signer.key.name

    @property
    def tree(self) -> Hashes:
        return Hashes(self.leaves)

    def root(self, size: int) -> bytes:
        return root_of(self.leaves[:size])

    def note(self, size: int, root: bytes | None = None) -> str:
        """The signed checkpoint at this size."""
        return self.signer.sign(Checkpoint(self.origin, size, root or self.root(size)).text)

    def proof(self, old: int, size: int) -> list[bytes]:
        return prove_consistency(self.tree, old, size)

    def body(self, old: int, size: int) -> str:
        """The request of an honest log whose witness has cosigned `old`."""
        return request_body(old, self.proof(old, size), self.note(size))


class WitnessProcess:
    """`indelible witness serve` in a process of its own."""

    def __init__(self, process: nursery.Running, said: Any) -> None:
        self.process = process
        self.url: str = said["url"]
        self.key = WitnessKey.parse(said["vkey"])
        self.policy_line: str = said["policy_line"]
        self.http = plain_client(self.url)

    def add(self, body: str | bytes) -> httpx.Response:
        return self.http.post("/add-checkpoint", content=body)

    def as_member(self, name: str) -> Witness:
        """The witness as a policy has it."""
        return Witness(name, self.key, self.url)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self._ended()

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def _ended(self) -> int:
        self.http.close()
        return self.process.wait(60)


def spawn(
    folder: Path,
    logs: Sequence[LogKey],
    *,
    new: str | None = None,
    more: Sequence[str] = (),
    program: Sequence[str] | None = None,
    stderr: int = 2,
) -> WitnessProcess:
    """Start a witness and return when it answers; the caller ends it."""
    arguments = ["witness", "serve", "--data", str(folder), "--port", "0", "--json", *more]
    arguments += ["--new", new] if new else []
    for key in logs:
        arguments += ["--log", key.text]
    said, to_say = os.pipe()
    env = surroundings()
    with os.fdopen(said) as line, os.fdopen(to_say, "w") as stdout:
        process: nursery.Running
        if program is None:
            process = nursery.start(arguments, env=env, stdout=stdout, stderr=stderr)
        else:
            process = subprocess.Popen([*program, *arguments], env=env, stdout=stdout)
        stdout.close()
        first = line.readline()
    if not first:
        raise AssertionError(f"the witness ended with {process.wait(START_S)}")
    return WitnessProcess(process, json.loads(first))


@contextlib.contextmanager
def witness(folder: Path, logs: Sequence[LogKey], **more: Any) -> Iterator[WitnessProcess]:
    """A witness for the time of a `with`."""
    running = spawn(folder, logs, **more)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            assert 0 == running.stop()


# A witness that is killed after it has stored a checkpoint and before it has said so.
DYING = [
    sys.executable,
    "-c",
    """
import os, signal, sys
from indelible.__main__ import main
from indelible.ledger.witness import http

class Dying:
    def __init__(self, witness):
        self.witness = witness
    def add_checkpoint(self, body):
        self.witness.add_checkpoint(body)
        os.kill(os.getpid(), signal.SIGKILL)

served = http.WitnessApp
http.WitnessApp = lambda witness, refusals: served(Dying(witness), refusals)
main()
""",
]


@contextlib.contextmanager
def looks_like(answer: Callable[[str], tuple[int, str]]) -> Iterator[str]:
    """The address of a server that answers each body as it is told: (status, body)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["content-length"])
            status, body = answer(self.rfile.read(length).decode())
            self.send_response(status)
            self.send_header("content-length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Whoever asked has gone away: that is what some tests are about."""

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def dripping() -> Iterator[str]:
    """The address of a server that sends one byte of its answer every tenth of a second."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                line, _ = server.accept()
                with line:
                    line.sendall(b"HTTP/1.1 200 OK\r\nx-slow: ")
                    while not over.wait(0.1):
                        line.sendall(b"x")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            with contextlib.suppress(OSError):  # wakes it if nobody ever came
                socket.create_connection(server.getsockname(), 1).close()
            thread.join()


def policy_of(members: Sequence[Witness], needed: int) -> Policy:
    """A policy whose quorum is `needed` of these."""
    names = tuple(one.name for one in members)
    return Policy((), tuple(members), (Group("enough", needed, names),), "enough")


def stranger(name: str, url: str) -> Witness:
    """A witness of the policy whose key nobody at `url` has."""
    return Witness(name, Cosigner.generate(f"witness.example/{name}").key, url)
