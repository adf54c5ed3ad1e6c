"""What a child asks of the kernel: to die with its parent, and to be found under a name."""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NAME: Final = 15


def die_with(parent: int) -> None:
    """Ask to be killed when the process `parent` ends, however it ends; Linux only.

    Elsewhere a child ends when it finds the end of its line. That also happens here; but a process
    that is stopped or busy reads no line.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it had ended before we could ask
        os._exit(1)


def call_itself(name: str) -> None:
    """Be shown under this name by `ps` and `top`: 15 characters; Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)
