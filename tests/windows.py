"""Run `indelible` with only what Windows has, to test the commands that must work there.

`python -X warn_default_encoding -m tests.windows audit FOLDER` runs `indelible audit FOLDER` in a
process without the modules, the parts of `os` and the signals that only POSIX has. Calls that
Windows refuses are refused. Only the packages of `indelible[verify]` can be imported; pass
`--with-server` first to keep the server's. Opening a text file without naming its encoding is an
error, since the default differs there.

LIMIT: this is not Windows. Paths have slashes, and child processes are not restricted.
"""

import errno
import os
import pathlib
import signal
import socket
import stat
import sys
import time
import warnings
from typing import Any

# Modules that choose an implementation by platform when they are imported.
_IMPORTED_BEFORE = ("asyncio", "multiprocessing.context", "platform", "shutil", "subprocess",
                    "tempfile", "uuid")  # fmt: skip
POSIX_MODULES = (
    *("fcntl", "grp", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty"),
    "uvloop",
)
SERVER_PACKAGES = (
    *("anyio", "apsw", "crawleruseragents", "httpx", "jinja2", "litestar", "markupsafe"),
    *("msgspec", "prometheus_client"),
)
_POSIX_CALLS = (
    *("chown", "chroot", "confstr", "fchdir", "fchmod", "fchown", "fork", "forkpty", "fstatvfs"),
    *("getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp", "getpriority", "getsid"),
    *("getuid", "initgroups", "killpg", "lchown", "lockf", "mkfifo", "mknod", "nice", "openpty"),
    *("pathconf", "pipe2", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv"),
    *("pwrite", "pwritev", "readv", "register_at_fork", "sched_getaffinity", "sched_yield"),
    *("sendfile", "setegid", "seteuid", "setgid", "setpgid", "setsid", "setuid", "statvfs"),
    *("sync", "sysconf", "ttyname", "uname", "wait", "wait3", "wait4", "writev"),
)
_WINDOWS_FLAGS = ("O_RDONLY", "O_WRONLY", "O_RDWR", "O_APPEND", "O_CREAT", "O_EXCL", "O_TRUNC")
_WINDOWS_SIGNALS = ("SIGABRT", "SIGFPE", "SIGILL", "SIGINT", "SIGSEGV", "SIGTERM")


def become(*, packages: bool = True) -> None:
    """Restrict this process, for good; `packages` also hides those of the server.

    Must run before anything of ours is imported.
    """
    ours = [name for name in sys.modules if name.partition(".")[0] == "indelible"]
    assert [] == ours, "these have read the platform already"
    for name in _IMPORTED_BEFORE:
        __import__(name)
    for name in (*POSIX_MODULES, *(SERVER_PACKAGES if packages else ())):
        sys.modules[name] = None  # type: ignore[assignment]  # importing it raises
    for name in _POSIX_CALLS:
        if hasattr(os, name):
            delattr(os, name)
    for module, prefix, kept in ((os, "O_", _WINDOWS_FLAGS), (signal, "SIG", _WINDOWS_SIGNALS)):
        for name in [one for one in vars(module) if one.startswith(prefix) and one.isupper()]:
            if name not in kept and not name.startswith("SIG_"):
                delattr(module, name)
    del socket.AF_UNIX, time.clock_gettime
    os.supports_dir_fd = set()
    _refuse()
    warnings.filterwarnings("error", category=EncodingWarning, module=r"indelible\.")


def _refuse() -> None:
    """Make the remaining calls refuse what Windows refuses."""
    opens, syncs, replaces, unlinks = os.open, os.fsync, os.replace, os.unlink
    only_read: set[int] = set()

    def open_file(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        handle = opens(path, flags, mode)
        only_read.discard(handle)
        if not flags & (os.O_WRONLY | os.O_RDWR):
            only_read.add(handle)
        return handle

    def fsync(handle: int) -> None:
        if handle in only_read:
            raise OSError(errno.EBADF, "Bad file descriptor")
        syncs(handle)

    def held(path: Any) -> None:
        """
        Raises:
            PermissionError: this process has the file open; Windows keeps its name until then.
        """
        try:
            wanted = os.stat(path)  # noqa: PTH116
        except OSError:
            return
        for handle in range(3, 64):
            try:
                found = os.fstat(handle)
            except OSError:
                continue
            if stat.S_ISREG(found.st_mode) and os.path.samestat(found, wanted):
                raise PermissionError(errno.EACCES, "It is being used by a process", str(path))

    def replace(source: Any, target: Any) -> None:
        held(source)
        held(target)
        replaces(source, target)

    def unlink(path: Any) -> None:
        held(path)
        unlinks(path)

    def is_mount(path: pathlib.Path) -> bool:
        raise NotImplementedError("Path.is_mount() is unsupported on this system")

    os.open, os.fsync, os.replace, os.unlink = open_file, fsync, replace, unlink  # type: ignore[assignment]
    pathlib.Path.is_mount = is_mount  # type: ignore[assignment, method-assign]


if __name__ == "__main__":
    arguments = sys.argv[1:]
    become(packages="--with-server" not in arguments[:1])
    sys.argv = ["indelible", *(one for one in arguments if one != "--with-server")]

    from indelible.__main__ import main

    main()
