"""What holds for every command."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import indelible
from indelible import __version__
from indelible.cli.invocation import program
from indelible.cli.main import make_app
from indelible.cli.reference import reference
from indelible.printable import plain
from tests.cli.command import PROGRAM, Ran, assert_refused, at, call, run, surroundings
from tests.world import ADMIN_KEY, API_KEY, TOKEN, ServerProcess, a_free_port

COMMANDS = [
    ("serve",),
    ("send",),
    ("tail",),
    ("where",),
    ("senders",),
    ("balance",),
    ("schema",),
    ("export",),
    ("receipt",),
    ("policy",),
    ("verify",),
    ("audit",),
    ("attack",),
    ("evidence",),
    ("erase",),
    ("backup",),
    ("restore",),
    ("resume",),
    ("rebuild",),
    ("doctor",),
    ("contract", "set"),
    ("contract", "show"),
    ("contract", "drop"),
    ("persons", "list"),
    ("persons", "show"),
    ("persons", "ids"),
    ("persons", "timeline"),
    ("persons", "history"),
    ("persons", "merge"),
    ("persons", "unmerge"),
    ("witness", "serve"),
    ("witness", "evidence"),
    ("project", "create"),
    ("project", "list"),
    ("project", "set"),
    ("keys", "list"),
    ("keys", "create"),
    ("keys", "set"),
    ("keys", "rotate"),
    ("keys", "revoke"),
    ("spool", "list"),
    ("spool", "resend"),
    ("spool", "drop"),
]


def test_the_reference_page_is_what_the_commands_say() -> None:
    committed = Path(__file__).parents[2] / "docs/reference/commands.md"

    assert reference(make_app()) == committed.read_text("utf-8")


def test_every_command_is_in_the_reference_with_its_json_option_and_an_example() -> None:
    page = reference(make_app())

    sections = dict(part.split("`", 1) for part in page.split("\n## `indelible ")[1:])
    assert [" ".join(command) for command in COMMANDS] == list(sections)
    for name, text in sections.items():
        assert "`--json`" in text, name
        assert f"\nindelible {name}" in text.partition("```sh")[2], name


@pytest.mark.parametrize("command", [("serve",), ("send",), ("keys", "rotate")], ids=" ".join)
def test_help_shows_an_example(command: tuple[str, ...]) -> None:
    shown = call(*command, "--help")

    assert 0 == shown.code
    assert f"indelible {' '.join(command)} " in shown.out.partition("Examples:")[2]


def test_help_of_serve_explains_every_setting() -> None:
    from indelible.settings import Settings

    words = call("serve", "--help").out.split()

    for field in Settings.__dataclass_fields__.values():
        assert field.metadata["variable"] in words
        meaning = field.metadata["meaning"].split()
        assert any(meaning == words[i : i + len(meaning)] for i in range(len(words)))


def test_help_loads_neither_the_server_nor_a_database() -> None:
    loaded = loaded_by("from indelible.cli.main import run; run(['--help'])")

    assert "indelible.cli.doctor" in loaded
    assert set() == loaded & {"litestar", "uvloop", "httpx", "apsw", "msgspec", "rich.console"}


def test_a_server_loads_no_http_client_until_it_has_witnesses() -> None:
    loaded = loaded_by("import indelible.app")

    assert "indelible.ledger.ledger" in loaded
    assert set() == loaded & {"httpx", "rich.console", "typer"}


def loaded_by(statements: str) -> set[str]:
    """The modules that a new process has after these statements."""
    script = f"import sys; {statements}; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    return set(done.stderr.split())


def test_version_is_one_line() -> None:
    assert f"indelible {__version__}\n" == call("--version").out


@pytest.mark.parametrize(
    "wrong",
    [
        ("sned",),
        ("keys",),
        ("send",),
        ("tail", "--kind", "produkt"),
        ("tail", "-n", "many"),
        ("export", "--start", "5", "--end", "3"),
        ("send", "e"),
        ("send", "e", "--audit"),
        ("send", "e", "--distinct-id", "d", "--payload", "p"),
        ("send", "e", "--audit", "--payload", "p", "--uuid", "u"),
        ("send", "e", "--distinct-id", "d", "--property", "alone"),
        ("send", "e", "--distinct-id", "d", "--properties", "[1]"),
        ("send", "e\udcff", "--distinct-id", "d"),
        ("keys", "create", "admin", "--project", "p"),
        ("keys", "rotate", "key_1", "--grace", "soon"),
        ("project", "create", "Not A Name"),
        ("project", "set", "p"),
        ("project", "set", "p", "--monthly-limit", "9" * 5000),
        ("project", "set", "p", "--bot-policy", "shoo"),
        ("serve", "--port", "65536"),
    ],
    ids=lambda words: " ".join(words).encode("ascii", "replace").decode()[:40],
)
def test_a_wrong_call_is_answered_with_2_and_a_way_out(wrong: tuple[str, ...]) -> None:
    assert_refused(call(*wrong), 2, "called_wrongly")


def test_the_exit_code_reaches_the_shell() -> None:
    ended = run("sned", "--json")

    assert (2, "called_wrongly") == (ended.code, json.loads(ended.err)["code"])


def test_an_error_for_machines_is_json_on_stderr() -> None:
    ran = call("send", "e", "--json")

    assert (2, "") == (ran.code, ran.out)
    assert {"code", "message", "hint"} == json.loads(ran.err).keys()
    assert "called_wrongly" == json.loads(ran.err)["code"]


@pytest.mark.parametrize("command", [("tail",), ("where", "x"), ("keys", "list")], ids=" ".join)
def test_without_a_server_a_command_ends_with_3(command: tuple[str, ...], tmp_path: Path) -> None:
    nowhere = f"http://127.0.0.1:{a_free_port()}"

    unknown = call(*command, cwd=tmp_path)
    silent = call(*command, INDELIBLE_HOST=nowhere, INDELIBLE_API_KEY=API_KEY)

    assert_refused(unknown, 3, "server_unreachable")
    assert_refused(silent, 3, "server_unreachable")
    assert nowhere in silent.err


def test_host_and_key_of_the_environment_are_enough(shared: ServerProcess, tmp_path: Path) -> None:
    hello = ("send", "hello", "--distinct-id", "me", "--json")

    as_application = call(
        *hello,
        cwd=tmp_path,
        INDELIBLE_HOST=shared.url,
        INDELIBLE_API_KEY=API_KEY,
        INDELIBLE_TOKEN=TOKEN,
    )
    as_admin = call(*hello, cwd=tmp_path, INDELIBLE_HOST=shared.url, INDELIBLE_ADMIN_KEY=ADMIN_KEY)

    for sent in as_application, as_admin:
        assert (0, "ok") == (sent.code, sent.json["result"]), sent.err


def test_the_key_of_a_folder_is_not_sent_to_another_address(shared: ServerProcess) -> None:
    elsewhere = f"http://127.0.0.1:{a_free_port()}"

    ran = call("tail", INDELIBLE_HOST=elsewhere, INDELIBLE_DATA_DIR=str(shared.data_dir))

    assert_refused(ran, 2, "invalid_api_key")


def test_an_application_key_is_refused_where_an_admin_key_is_needed(shared: ServerProcess) -> None:
    def as_application(*arguments: str) -> Ran:
        return call(*arguments, INDELIBLE_HOST=shared.url, INDELIBLE_API_KEY=API_KEY)

    assert_refused(as_application("keys", "list"), 2, "manage_scope_missing")
    assert "INDELIBLE_TOKEN" in as_application("send", "e", "--distinct-id", "d").err
    assert_refused(call("tail", "--no-follow", *at(shared), "--project", "nowhere"), 2, "not_found")


@given(st.text())
def test_what_users_sent_cannot_write_on_the_terminal(text: str) -> None:
    shown = plain(text)

    assert shown.isprintable()
    assert text == shown or not text.isprintable()


def test_a_command_is_shown_as_it_works_in_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / ".venv" / "bin" / "indelible"
    script.parent.mkdir(parents=True)
    script.touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")

    assert [".venv/bin/indelible"] == program(".venv/bin/indelible", "python")
    assert [".venv/bin/indelible"] == program(str(script), "python")
    assert [".venv/bin/python", "-m", "indelible"] == program(
        "/src/indelible/__main__.py", str(script.with_name("python"))
    )
    monkeypatch.setenv("PATH", str(script.parent))
    assert ["indelible"] == program(str(script), "python")
    monkeypatch.setenv("PATH", "/nonexistent")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [str(script)] == program(str(script), "python")


def test_a_command_whose_parts_are_not_installed_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['apsw'] = None; from indelible.cli.main import run; "
        f"sys.exit(run(['serve', '--data', {str(tmp_path / 'data')!r}]))"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert 3 == done.returncode
    assert done.stderr.startswith("server_not_installed: This command needs apsw")
    assert 'pip install "indelible[server]"' in done.stderr


def test_a_module_that_was_cut_short_on_a_full_disk_is_not_taken_for_ctrl_c(
    tmp_path: Path,
) -> None:
    installed = Path(indelible.__file__).parent
    ours = shutil.copytree(
        installed, tmp_path / "indelible", ignore=shutil.ignore_patterns("__pycache__")
    )
    asked = [*PROGRAM, "audit", str(tmp_path)]
    environment = surroundings(PYTHONPATH=str(tmp_path))

    def ended() -> int:
        return subprocess.run(asked, env=environment, capture_output=True, check=False).returncode

    (tmp_path / "journal.db").touch()
    assert 2 == ended()  # it has no log
    (compiled,) = ours.rglob("journal_rows.*.pyc")
    compiled.write_bytes(compiled.read_bytes()[:100])
    assert 3 == ended()
