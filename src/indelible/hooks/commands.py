"""Command lines: what the hooks for Click and Typer share.

A command object is watched through the methods that Click documents for overriding: `main`,
`make_context`, `invoke`, and a group's `get_command`, by which the commands below it are found when
they are run. Nothing here imports Click: Typer brings a copy of its own.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final

from indelible.client.client import Indelible
from indelible.hooks.configuration import observer_of
from indelible.hooks.observer import Observer, quietly
from indelible.hooks.run import Run

SERVERS: Final = ("beat", "run-server", "runserver", "serve", "shell", "worker")
"""Commands that leave no event unless `skip` says otherwise, by the last word of their path."""

_MARK: Final = "_indelible_watched"
_line: ContextVar["CommandLine | None"] = ContextVar("indelible_command_line", default=None)


def observer_for(client: Indelible | None, framework: str, settings: Any) -> Observer:
    """An observer for command lines."""
    return observer_of(client, settings, framework=framework, skip=SERVERS)


class CommandLine:
    """One command line that is run, as far as it has come."""

    def __init__(self, observer: Observer) -> None:
        self.client = observer.client
        self._run = Run(observer, kind="command", name="")
        self._options: list[str] = []
        self._error: BaseException | None = None
        self._is_reached = False

    @quietly
    def reaching(self, word: str, parent: Any) -> None:
        """A command's arguments are about to be read."""
        self._run.name = f"{parent.command_path} {word}" if parent is not None else word
        self._run.known_as = word
        self._is_reached = False

    @quietly
    def reached(self, context: Any) -> None:
        """They were."""
        self._is_reached = True
        self._options += [
            max(parameter.opts, key=len)
            for parameter in context.command.params
            if parameter.param_type_name == "option" and _is_given(context, parameter.name)
        ]

    @quietly
    def raised(self, error: BaseException) -> None:
        """Something came out of a command; the innermost counts."""
        self._error = self._error or error

    @quietly
    def end(self, error: BaseException | None) -> None:
        """It is over; `error` is what came out of it all, mostly a SystemExit."""
        code = _exit_code(error if error is not None else self._quiet_exit())
        if not self._run.name or (code == 0 and not self._is_reached):
            self._run.detach()  # completion, --help: nothing was run
            return
        self._run.details |= {"exit_code": code, "options": sorted(set(self._options))}
        if code and (shown := self._error or error) is not None and _is_failure(shown):
            self._run.failed(shown)
            # Click's own errors quote what was typed.
            if hasattr(shown, "exit_code") and self._run.failure is not None:
                self._run.failure = replace(self._run.failure, message="")
        self._run.end("error" if code else "success")

    def _quiet_exit(self) -> BaseException | None:
        """The exit that `main` made a value of, as it does when it is not standalone."""
        return self._error if self._error is not None and _is_exit(self._error) else None


def follow(command: Any, observer: Observer) -> None:
    """Watch a command, and those below it as they are found. Watched twice, it tells once."""
    if getattr(command, _MARK, False):
        return  # a command below is found again at each call, and must not grow a wrap each time
    setattr(command, _MARK, True)
    command.main = _main(command.main, observer)
    command.make_context = _make_context(command.make_context)
    command.invoke = _invoke(command.invoke)
    if hasattr(command, "get_command"):
        command.get_command = _get_command(command.get_command, observer)


def _main(main: Callable[..., Any], observer: Observer) -> Callable[..., Any]:
    def watched(*arguments: Any, **named: Any) -> Any:
        line, error = CommandLine(observer), None
        token = _line.set(line)
        try:
            return main(*arguments, **named)
        except BaseException as raised:
            error = raised
            raise
        finally:
            _line.reset(token)
            line.end(error)

    return watched


def _make_context(make_context: Callable[..., Any]) -> Callable[..., Any]:
    def watched(info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        line = _line.get()
        if line is None or extra.get("resilient_parsing"):
            return make_context(info_name, args, parent=parent, **extra)
        line.reaching(str(info_name or ""), parent)
        try:
            context = make_context(info_name, args, parent=parent, **extra)
        except BaseException as error:
            line.raised(error)
            raise
        line.reached(context)
        return context

    return watched


def _invoke(invoke: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def watched(ctx: Any) -> Any:
        try:
            return invoke(ctx)
        except BaseException as error:
            line = _line.get()
            if line is not None:
                line.raised(error)
            raise

    return watched


def _get_command(get_command: Callable[..., Any], observer: Observer) -> Callable[..., Any]:
    def watched(ctx: Any, cmd_name: str) -> Any:
        command = get_command(ctx, cmd_name)
        if command is not None:
            follow(command, observer)
        return command

    return watched


def _is_given(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _exit_code(error: BaseException | None) -> int:
    """What the shell sees. Click's and Typer's own errors have an `exit_code`."""
    if error is None:
        return 0
    code = error.code if isinstance(error, SystemExit) else getattr(error, "exit_code", 1)
    return code if isinstance(code, int) else int(code is not None)


def _is_failure(error: BaseException) -> bool:
    """Whether it says what went wrong, and not only how the command ends."""
    return not isinstance(error, SystemExit) and not _is_exit(error)


def _is_exit(error: BaseException) -> bool:
    """Whether it is Click's or Typer's `Exit`: not an error, but a way to end."""
    return type(error).__name__ == "Exit"
