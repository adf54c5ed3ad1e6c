"""An HTTP proxy on a real socket: it forwards, opens tunnels, and refuses as it is told."""

import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Self


class Proxy:
    """Takes every host for `target`, so that no name need exist. Use it in a `with`.

    Attributes:
        heads: the head of each request that it got, CONNECT and other, as text.
        place: its address and port.
        refusal: what it answers instead of its work, if set.
    """

    def __init__(self, target: tuple[str, int], *, family: int = socket.AF_INET) -> None:
        self.heads: list[str] = []
        self.refusal: bytes | None = None
        self._target = target
        address = "::1" if family == socket.AF_INET6 else "127.0.0.1"
        self._listener = socket.create_server((address, 0), family=family)
        shown = f"[{address}]" if ":" in address else address
        self.place = f"{shown}:{self._listener.getsockname()[1]}"
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._open.add(near)
                self._begin(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                more = near.recv(65_536)
                if not more:
                    return
                data += more
            head, _, rest = data.partition(b"\r\n\r\n")
            self.heads.append(head.decode("latin-1"))
            if self.refusal is not None:
                near.sendall(self.refusal)
                near.close()
                return
            far = socket.create_connection(self._target)
            self._open.add(far)
            if head.startswith(b"CONNECT "):
                near.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
                far.sendall(rest)
            else:
                far.sendall(data)
            self._begin(_pass_on, far, near)
            _pass_on(near, far)


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_RDWR)
