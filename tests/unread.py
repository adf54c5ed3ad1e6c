"""A pipe that is full, since no one reads it: where a log may end one day."""

import contextlib
import fcntl
import os
import threading
from typing import IO, Self

FILLER = b"#\n"


class FullPipe:
    """Whatever is written to `end` from now on blocks until `read` is called."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(write, FILLER)
        os.set_blocking(write, True)
        self.end: IO[bytes] = os.fdopen(write, "wb", buffering=0)
        self._said = bytearray()
        self._reader = threading.Thread(target=self._read_all)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end.close()
        if self._reader.ident is None:
            os.close(self._read)
        else:
            self._reader.join(60)

    def read(self) -> None:
        """Read it from now on, until all writers are gone."""
        self._reader.start()

    def lines(self) -> list[str]:
        """The lines that were written to it and have been read."""
        return [line for line in self._said.decode().splitlines() if line != "#"]

    def _read_all(self) -> None:
        with os.fdopen(self._read, "rb", buffering=0) as pipe:
            while more := pipe.read(1 << 16):
                self._said += more
