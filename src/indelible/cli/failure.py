"""How a command fails: a permanent code, a sentence, a way out, and an exit code."""

import json
import re
import sys
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from indelible.errors import (
    IndelibleError,
    MonthlyLimitExceeded,
    RateLimited,
    SettingInvalid,
)
from indelible.fault import place_of
from indelible.printable import clipped
from indelible.untrusted import FileRefused


class ExitCode(IntEnum):
    """What the shell learns."""

    FINE = 0
    CHECK_FAILED = 1
    CALLED_WRONGLY = 2
    BROKEN = 3


INTERRUPTED: Final = 130
"""What a shell says of a process that Ctrl-C ended."""

# Codes that only commands have; every other one is a server's (docs/reference/errors.md).
CODES: Final = {
    "called_wrongly": "An argument is missing, unknown, or cannot be read.",
    "no_journal": "The data folder has no journal.",
    "journal_damaged": "The journal's file is not what the server wrote; nothing was copied.",
    "bad_answer": "What answers at the address is no Indelible server, or broke off.",
    "io_failed": "The operating system refused to read or write a file.",
    "file_refused": "A file is not read: a link, a device or a pipe, or longer than it may be.",
    "out_of_memory": "What was to be read is more than this machine can hold.",
    "server_not_installed": "Only the client is installed.",
    "system_unsupported": "The command needs what this system, such as Windows, does not have.",
}


_POSIX_MODULES: Final = ("fcntl", "resource", "uvloop")


class Failure(Exception):
    """Ends the command. `code` is public and permanent, the message may be reworded.

    `excerpt` has the lines that show people the place of the fault in what they typed.
    """

    excerpt: Sequence[str] = ()

    def __init__(self, code: str, message: str, *, hint: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def body(self) -> dict[str, str]:
        """The failure for machines."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


def called_wrongly(message: str, *, hint: str) -> Failure:
    """The caller can mend it."""
    return Failure("called_wrongly", message, hint=hint, exit_code=ExitCode.CALLED_WRONGLY)


def not_here(missing: ModuleNotFoundError) -> Failure | None:
    """The failure for a module that is not installed, or None if the module is one of ours."""
    name = (missing.name or "indelible").partition(".")[0]
    if name == "indelible":
        return None
    if name in _POSIX_MODULES:
        return Failure(
            "system_unsupported",
            f"This command needs {name}, which this system does not have",
            hint="Run it on Linux or macOS; `verify` and `audit` work here.",
            exit_code=ExitCode.BROKEN,
        )
    return Failure(
        "server_not_installed",
        f"This command needs {name}, which is not here",
        hint='pip install "indelible[server]"',
        exit_code=ExitCode.BROKEN,
    )


def io_failed(error: OSError) -> Failure:
    """The operating system said no, or what is there is not to be read."""
    if isinstance(error, FileRefused):
        return Failure(
            "file_refused",
            f"{error.filename}: {error.strerror}",
            hint="Only regular files are read, through no link below a folder: put a copy there.",
            exit_code=ExitCode.BROKEN,
        )
    place = f"{error.filename}: " if error.filename else ""
    return Failure(
        "io_failed",
        f"{place}{error.strerror or error}",
        hint="Check the path, its owner and the free space; `indelible doctor` looks at them.",
        exit_code=ExitCode.BROKEN,
    )


def of_error(error: IndelibleError) -> Failure:
    """One of the package's own errors, raised in this process."""
    exit_code = exit_code_of_status(error.http_status)
    if isinstance(error, SettingInvalid):
        exit_code = ExitCode.CALLED_WRONGLY
    return Failure(error.code, error.message, hint=error.advice, exit_code=exit_code)


def internal(error: Exception) -> Failure:
    """A fault of ours, by its type and place: its message may quote an event."""
    return Failure(
        IndelibleError.code,
        f"{type(error).__name__} in {place_of(error)}",
        hint="This should not happen: please report it.",
        exit_code=ExitCode.BROKEN,
    )


def exit_code_of_status(status: int, code: str = "") -> ExitCode:
    """What an error answered over HTTP means for the shell.

    >>> exit_code_of_status(404), exit_code_of_status(503)
    (<ExitCode.CALLED_WRONGLY: 2>, <ExitCode.BROKEN: 3>)
    >>> exit_code_of_status(503, "rate_limited")
    <ExitCode.CHECK_FAILED: 1>
    """
    # At a limit nothing is wrong with the call, nor with the world.
    if code in (MonthlyLimitExceeded.code, RateLimited.code):
        return ExitCode.CHECK_FAILED
    return ExitCode.BROKEN if status >= 500 else ExitCode.CALLED_WRONGLY


def report(failure: Failure, *, as_json: bool) -> None:
    """Say it on stderr."""
    if as_json:
        print(json.dumps(failure.body()), file=sys.stderr)
        return
    print(f"{failure.code}: {clipped(failure.message)}", file=sys.stderr)
    for line in failure.excerpt:
        print(line, file=sys.stderr)
    print(f"try: {clipped(_as_typed_here(failure.hint))}", file=sys.stderr)


def report_as_line(failure: Failure) -> None:
    """Say it on stderr as the last line of a server's log."""
    from indelible.voice import Level, json_line

    line = json_line(Level.ERROR, failure.message, code=failure.code, hint=failure.hint)
    print(line, file=sys.stderr)


def _as_typed_here(hint: str) -> str:
    """A hint whose commands work in this folder, where `indelible` alone may not be found."""
    from indelible.cli.invocation import as_typed

    return re.sub(r"(^|`)indelible(?= )", lambda match: match[1] + as_typed(), hint)
