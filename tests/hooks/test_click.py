"""Click's own command objects, run as its own runner and as a shell would."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from indelible.hooks.click import watch
from indelible.testing import Received, Recorder
from tests.world import client_environment


@click.group()
@click.option("--verbose", is_flag=True)
@click.version_option("1.0")
def shop(verbose: bool) -> None:
    """A shop."""


@shop.group()
def orders() -> None:
    """Its orders."""


@orders.command()
@click.argument("name")
@click.option("--to", "-t", "target", default="nowhere")
@click.option("--password")
@click.option("--count", type=int)
def export(name: str, target: str, password: str | None, count: int | None) -> None:
    """Write them down."""


@shop.command()
@click.argument("how")
def fail(how: str) -> None:
    """End in every way there is."""
    match how:
        case "raise":
            raise LookupError(how)
        case "exit":
            raise click.exceptions.Exit(5)
        case "system":
            sys.exit(6)
        case "abort":
            raise click.Abort
        case "usage":
            raise click.UsageError("secret-argument is wrong")


@shop.command()
def serve() -> None:
    """Run until stopped."""


@pytest.fixture
def run(events: Recorder) -> "Runner":
    return Runner(events)


class Runner:
    """Runs command lines of a fresh, watched copy of the shop."""

    def __init__(self, events: Recorder, **recording: Any) -> None:
        self._events = events
        self.group = watch(fresh(), events.client, **recording)

    def __call__(self, *words: str) -> int:
        code: int = CliRunner().invoke(self.group, list(words), prog_name="shop").exit_code
        return code

    def event(self) -> Received:
        return self._events.assert_captured("command_run", times=1)


def fresh() -> click.Group:
    """The shop with objects of its own: watching one changes it."""
    inner = click.Group("orders", params=list(orders.params))
    inner.add_command(click.Command("export", callback=export.callback, params=export.params))
    group = click.Group("shop", callback=shop.callback, params=shop.params)
    group.add_command(inner)
    for command in (fail, serve):
        assert command.name is not None
        copy = click.Command(command.name, callback=command.callback, params=command.params)
        group.add_command(copy)
    return group


def test_a_command_is_named_by_its_path_and_its_options_by_their_names(
    run: Runner, events: Recorder
) -> None:
    assert 0 == run(
        "--verbose", "orders", "export", "secret-name", "-t", "secret-place", "--password=pw-9"
    )

    event = run.event()
    assert "shop orders export" == event.properties["name"]
    assert ["--password", "--to", "--verbose"] == event.properties["options"]
    assert ("success", 0) == (event.properties["outcome"], event.properties["exit_code"])
    assert 0 <= event.properties["duration_ms"] < 60_000
    assert event.properties["framework"].startswith("click 8.")
    events.assert_audited("command.shop orders export", type="success", times=1)
    told = repr([one.body for one in events.server.received])
    assert not [secret for secret in ("secret-name", "secret-place", "pw-9") if secret in told]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("fail", "raise"), 1, "LookupError"),
        (("fail", "exit"), 5, None),
        (("fail", "system"), 6, None),
        (("fail", "abort"), 1, "Abort"),
        (("fail", "usage"), 2, "UsageError"),
        (("orders", "export"), 2, "MissingParameter"),
        (("orders", "export", "x", "--count=secret-argument"), 2, "BadParameter"),
        (("orders", "nothing"), 2, "NoSuchCommand"),
        (("--nothing",), 2, "NoSuchOption"),
    ],
)
def test_a_command_that_fails_says_with_which_code(
    run: Runner, events: Recorder, words: tuple[str, ...], code: int, error: str | None
) -> None:
    assert code == run(*words)

    event = run.event()
    assert ("error", code) == (event.properties["outcome"], event.properties["exit_code"])
    assert error == event.properties.get("error_type")
    assert "secret-argument" not in repr([one.body for one in events.server.received])


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("orders", "--help"), ("serve",)])
def test_help_and_servers_leave_no_event(
    run: Runner, events: Recorder, words: tuple[str, ...]
) -> None:
    assert 0 == run(*words)

    events.assert_nothing_captured()
    events.assert_nothing_audited()


def test_a_server_can_be_recorded_and_another_command_skipped(events: Recorder) -> None:
    run = Runner(events, skip=("export",))
    assert [0, 0] == [run("orders", "export", "x"), run("serve")]

    assert "shop serve" == run.event().properties["name"]


def test_watched_twice_it_tells_once(run: Runner, events: Recorder) -> None:
    watch(run.group, events.client)
    assert 0 == run("orders", "export", "x")
    assert 0 == run("orders", "export", "x")

    events.assert_captured("command_run", times=2)


def test_what_a_command_sends_has_its_request_id(events: Recorder) -> None:
    @click.command()
    def sell() -> None:
        events.client.audit.send_async("order.sold", {})

    result = CliRunner().invoke(watch(sell, events.client))
    assert result.exception is None

    request_id = events.assert_captured("command_run").properties["request_id"]
    assert request_id
    events.assert_audited("order.sold", request_id=request_id, times=1)


def test_called_from_a_program_it_returns_what_it_returned_before(events: Recorder) -> None:
    @click.command()
    @click.option("--code", type=int, default=None)
    def answer(code: int | None) -> int:
        if code is not None:
            raise click.exceptions.Exit(code)
        return 42

    watch(answer, events.client)
    assert 42 == answer.main([], standalone_mode=False)
    assert 3 == answer.main(["--code=3"], standalone_mode=False)

    assert [0, 3] == [event.properties["exit_code"] for event in events.captured]


def test_an_option_that_we_cannot_read_costs_its_name_and_not_the_command() -> None:
    class Odd(click.Option):
        @property
        def param_type_name(self) -> str:  # type: ignore[override]
            raise LookupError

    with Recorder(strict=False) as events:
        command = click.Command("sell", callback=lambda price: None, params=[Odd(["--price"])])
        result = CliRunner().invoke(watch(command, events.client), ["--price=3"])

        assert 0 == result.exit_code
        assert 1 == events.client.counts().failures
        assert [0] == [one.properties["exit_code"] for one in events.captured]


PROGRAM = """
import click
from indelible.hooks.click import watch

@click.command()
def sell():
    raise SystemExit(7)

watch(sell)()
"""

SLOW_PROGRAM = """
import sys, time
import click
from indelible.hooks.click import watch

@click.group()
def shop():
    pass

@shop.command(sys.argv[1])
def wait():
    print("waiting", flush=True)
    for _ in range(1_200):  # a signal that comes just before a nap is heard after it
        time.sleep(0.05)

watch(shop)()
"""


def test_from_a_shell_the_event_arrives_though_the_program_ends(
    events: Recorder, tmp_path: Path
) -> None:
    program = tmp_path / "sell.py"
    program.write_text(PROGRAM)
    env = variables(events, tmp_path)
    ended = subprocess.run([sys.executable, program], env=env, timeout=60, check=False)

    assert 7 == ended.returncode
    events.assert_captured("command_run", name="sell.py", exit_code=7, times=1)
    events.assert_audited("command.sell.py", times=1)


@pytest.mark.parametrize(("command", "count"), [("export", 1), ("serve", 0)])
def test_a_command_that_is_told_to_stop_in_the_middle_failed_unless_it_serves(
    events: Recorder, tmp_path: Path, command: str, count: int
) -> None:
    program = tmp_path / "shop.py"
    program.write_text(SLOW_PROGRAM)
    with subprocess.Popen(
        [sys.executable, program, command], env=variables(events, tmp_path), stdout=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert b"waiting\n" == running.stdout.readline()
        running.terminate()

    assert -signal.SIGTERM == running.returncode
    assert [("shop.py export", "error", True)] * count == [
        tuple(one.properties[name] for name in ("name", "outcome", "aborted"))
        for one in events.captured
    ]


def variables(events: Recorder, folder: Path) -> dict[str, str]:
    """The environment of a program that sends to the recorder's server."""
    return client_environment(
        INDELIBLE_HOST=events.server.url,
        INDELIBLE_TOKEN=events.server.token,
        INDELIBLE_API_KEY=events.server.api_key,
        INDELIBLE_SPOOL_DIR=str(folder / "spool"),
    )
