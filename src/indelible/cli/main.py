"""The ``indelible`` command: its list of commands, and the one door that they leave by."""

import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from indelible import __version__, voice
from indelible.cli import (
    attack,
    audit,
    backup,
    balance,
    doctor,
    erase,
    evidence,
    export,
    keys,
    options,
    persons,
    project,
    rebuild,
    receipt,
    restore,
    resume,
    schema,
    send,
    senders,
    serve,
    spool,
    tail,
    verify,
    where,
    witness,
)
from indelible.cli.failure import (
    INTERRUPTED,
    ExitCode,
    Failure,
    called_wrongly,
    internal,
    io_failed,
    not_here,
    of_error,
    report,
    report_as_line,
)
from indelible.errors import IndelibleError


def make_app() -> typer.Typer:
    """Every command, in the order of `indelible --help`."""
    app = typer.Typer(
        name="indelible",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for module in (
        *(serve, send, tail, where, senders, balance, schema, persons, export),
        *(receipt, verify, audit, attack, evidence, witness),
        *(project, keys, erase, backup, restore, resume, rebuild, spool, doctor),
    ):
        module.register(app)
    return app


def _version(asked: bool) -> None:
    if asked:
        print(f"indelible {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Product events and audit events in one append-only log.

    Commands that need a server find it by INDELIBLE_HOST with INDELIBLE_ADMIN_KEY or
    INDELIBLE_API_KEY, else by the cli.json that it leaves in its data folder.

    Exit codes: 0 fine, 1 a check failed, 2 called wrongly, 3 the world is broken or it cannot be
    checked. Errors go to stderr as `code: message` and `try: hint`.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    as_json = "--json" in arguments
    logs_json = options.logs_json(arguments, os.environ)
    report_it = report_as_line if logs_json else partial(report, as_json=as_json)

    def tell(failure: Failure) -> None:
        if voice.drain():  # else no one reads what we say, and to say it would be to wait for ever
            report_it(failure)

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stderr.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        code = _run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read has enough. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FINE
    except (Failure, IndelibleError, OSError) as error:
        failure = _as_failure(error)
        tell(failure)
        return failure.exit_code
    except ModuleNotFoundError as missing:
        absent = not_here(missing)
        if absent is None:
            raise
        tell(absent)
        return absent.exit_code
    except (MemoryError, RecursionError) as error:
        failure = Failure(
            "out_of_memory",
            f"{type(error).__name__}: what was to be read is more than this machine can hold",
            hint="Try it on a machine with more memory, if you trust where it comes from.",
            exit_code=ExitCode.BROKEN,
        )
        tell(failure)
        return failure.exit_code
    except Exception as error:  # the one door: a fault must not look like a check that failed
        if logs_json:
            tell(internal(error))
        elif voice.drain():
            traceback.print_exc()
        return ExitCode.BROKEN
    return code


def _run(arguments: Sequence[str]) -> int:
    for argument in arguments:
        if any("\ud800" <= char <= "\udfff" for char in argument):  # bytes that are not UTF-8
            raise called_wrongly(f"Not UTF-8: {argument!r}", hint="Write arguments in UTF-8.")
    try:
        result = make_app()(
            list(arguments) or ["--help"], prog_name="indelible", standalone_mode=False
        )
    except typer.Abort as abort:
        # typer takes an EOFError for an answer that was not given; a file that ends early is one.
        if isinstance(abort.__cause__, EOFError):
            raise abort.__cause__ from None
        return INTERRUPTED
    except SystemExit as end:
        # typer's own answer to a pipe that nobody reads is to end with 1.
        if isinstance(end.__context__, BrokenPipeError):
            raise end.__context__ from None
        raise
    except Exception as error:
        usage = _usage(error)
        if usage is None:
            raise
        raise usage from None
    return result if isinstance(result, int) else ExitCode.FINE


def _as_failure(error: Failure | IndelibleError | OSError) -> Failure:
    match error:
        case Failure():
            return error
        case IndelibleError():
            return of_error(error)
        case OSError():
            return io_failed(error)


def _usage(error: Exception) -> Failure | None:
    """What typer has to say of the arguments, if that is what this error is.

    Its classes have moved between versions; their methods have not.
    """
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        return None
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "indelible"
    # "Value error" is what the library calls a text that is none of the choices.
    message = format_message().replace(": Value error, ", ": ")
    return called_wrongly(message, hint=f"{command} --help")
