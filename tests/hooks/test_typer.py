"""Typer's applications, which are made of its own copy of Click."""

import sys

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from indelible.hooks.typer import watch
from indelible.testing import Recorder


def shop() -> typer.Typer:
    app, orders = typer.Typer(), typer.Typer()
    app.add_typer(orders, name="orders")

    @orders.command()
    def export(name: str, password: str = "", dry_run: bool = False) -> None:
        """Write them down."""

    @app.command()
    def fail(how: str) -> None:
        """End in every way there is."""
        match how:
            case "raise":
                raise LookupError(how)
            case "exit":
                raise typer.Exit(5)
            case "system":
                sys.exit(6)
            case "abort":
                raise typer.Abort
            case "usage":
                raise typer.BadParameter("secret-argument is wrong")

    @app.command()
    def serve() -> None:
        """Run until stopped."""

    return app


def run(app: typer.Typer, *words: str) -> int:
    return CliRunner().invoke(app, list(words), prog_name="shop").exit_code


def test_a_command_is_named_by_its_path_and_its_options_by_their_names(events: Recorder) -> None:
    app = watch(shop(), events.client)
    assert 0 == run(app, "orders", "export", "secret-name", "--password=pw-9", "--dry-run")

    event = events.assert_captured("command_run", times=1)
    assert "shop orders export" == event.properties["name"]
    assert ["--dry-run", "--password"] == event.properties["options"]
    assert ("success", 0) == (event.properties["outcome"], event.properties["exit_code"])
    assert event.properties["framework"].startswith("typer 0.")
    events.assert_audited("command.shop orders export", type="success", times=1)
    told = repr([one.body for one in events.server.received])
    assert not [secret for secret in ("secret-name", "pw-9") if secret in told]


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("fail", "raise"), 1, "LookupError"),
        (("fail", "exit"), 5, None),
        (("fail", "system"), 6, None),
        (("fail", "abort"), 1, "Abort"),
        (("fail", "usage"), 2, "BadParameter"),
        (("orders", "export"), 2, "MissingParameter"),
        (("orders", "nothing"), 2, "UsageError"),
        (("--nothing",), 2, "NoSuchOption"),
    ],
)
def test_a_command_that_fails_says_with_which_code(
    events: Recorder, words: tuple[str, ...], code: int, error: str | None
) -> None:
    assert code == run(watch(shop(), events.client), *words)

    event = events.assert_captured("command_run", times=1)
    assert ("error", code) == (event.properties["outcome"], event.properties["exit_code"])
    assert error == event.properties.get("error_type")
    assert "secret-argument" not in repr([one.body for one in events.server.received])


@pytest.mark.parametrize("words", [("--help",), ("orders", "--help"), ("serve",)])
def test_help_and_servers_leave_no_event(events: Recorder, words: tuple[str, ...]) -> None:
    assert 0 == run(watch(shop(), events.client), *words)

    events.assert_nothing_captured()


def test_an_application_of_one_command_is_recorded_too(events: Recorder) -> None:
    app = typer.Typer()

    @app.command()
    def sell(price: int) -> None:
        events.client.capture("sold")

    assert 0 == run(watch(app, events.client), "3")

    ran = events.assert_captured("command_run", name="shop", times=1)
    assert ran.properties["request_id"]


def test_a_class_of_ones_own_stays_in_its_place(events: Recorder) -> None:
    class Loud(TyperGroup):
        def list_commands(self, ctx: object) -> list[str]:
            return ["loud"]

    app = shop()

    @app.callback(cls=Loud)
    def outermost() -> None:
        """The shop."""

    watch(app, events.client)
    assert isinstance(typer.main.get_command(app), Loud)
    assert 0 == run(app, "orders", "export", "x")

    events.assert_captured("command_run", name="shop orders export", times=1)


def test_each_call_leaves_one_event(events: Recorder) -> None:
    app = watch(watch(shop(), events.client), events.client)
    assert [0, 0] == [run(app, "orders", "export", "x") for _ in range(2)]

    events.assert_captured("command_run", times=2)
