"""`indelible serve`: what it says, and what it says when it cannot."""

import contextlib
import json
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.cli.command import assert_refused, at, begin, call, run, surroundings
from tests.world import ServerProcess, a_free_port


@contextlib.contextmanager
def serving(cwd: Path, *arguments: str) -> Iterator[list[str]]:
    """A server on `cwd`/data and the lines of its banner."""
    process = begin("serve", "--port", str(a_free_port()), *arguments, cwd=cwd)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        lines = [process.stdout.readline().rstrip("\n")]
        while not lines[-1].endswith(" tail") and "--json" not in arguments:
            assert process.poll() is None, process.stderr.read()
            lines.append(process.stdout.readline().rstrip("\n"))
        yield lines
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
        process.stderr.close()


def test_the_lines_of_the_banner_work_as_printed(tmp_path: Path) -> None:
    with serving(tmp_path) as banner:
        start = banner.index("Send an event:") + 1
        curl = shlex.split(" ".join(line.rstrip("\\") for line in banner[start : start + 2]))
        sent = httpx.post(
            curl[1], headers=dict([curl[3].split(": ")]), content=curl[5], trust_env=False
        )
        where, tail = [line.strip() for line in banner[banner.index("Then look at it:") + 1 :]]

        def typed(line: str) -> str:
            done = subprocess.run(
                line,
                shell=True,
                cwd=tmp_path,
                env=surroundings(),
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert 0 == done.returncode, done.stderr
            return done.stdout

        assert (200, 0) == (sent.status_code, sent.json()["events"][0]["index"])
        assert "hello" in typed(where)
        assert "hello" in typed(f"{tail} --no-follow")


def test_a_secret_is_shown_at_the_first_start_only(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        (secret,) = [line.split()[-1] for line in first if line.startswith("API key")]
    with serving(tmp_path) as second:
        assert secret.startswith("iml_live_")
        assert secret not in "\n".join(second)
        assert not any(line.startswith(("API key", "admin key")) for line in second)


def test_for_machines_the_welcome_is_one_json_line(tmp_path: Path) -> None:
    with serving(tmp_path, "--json") as (line,):
        welcome = json.loads(line)

        assert {"url", "data_dir", "token", "made"} == welcome.keys()
        assert 200 == httpx.get(f"{welcome['url']}/healthz", trust_env=False).status_code


def test_a_folder_in_use_is_a_clear_error(shared: ServerProcess) -> None:
    ran = run("serve", *at(shared), "--port", "0")

    assert_refused(ran, 3, "data_folder_in_use")
    assert str(shared.process.pid) in ran.err


def test_a_port_in_use_is_a_clear_error(shared: ServerProcess, tmp_path: Path) -> None:
    port = shared.url.rpartition(":")[2]

    ran = run("serve", "--data", str(tmp_path / "other"), "--port", port)

    assert_refused(ran, 3, "address_in_use")
    assert port in ran.err


def test_of_two_servers_that_begin_at_once_on_one_port_one_serves(tmp_path: Path) -> None:
    port = str(a_free_port())
    arguments = ("serve", "--port", port, "--json", "--data")
    both = [begin(*arguments, str(tmp_path / name)) for name in ("one", "other")]
    welcomes = [process.stdout.readline() for process in both if process.stdout]
    for process in both:
        process.send_signal(signal.SIGTERM)
    ended = [process.communicate(timeout=60)[1] for process in both]

    assert [False, True] == sorted(bool(welcome) for welcome in welcomes)
    assert [0, 3] == sorted(process.returncode for process in both)
    (refused,) = [json.loads(said) for said in ended if said]
    assert "address_in_use" == refused["code"]


def test_a_bad_setting_is_a_clear_error(tmp_path: Path) -> None:
    unread = run("serve", cwd=tmp_path, INDELIBLE_MAX_BATCH="many")
    unknown = call("serve", cwd=tmp_path, INDELIBLE_MAX_BACH="10")

    assert_refused(unread, 2, "setting_invalid")
    assert "INDELIBLE_MAX_BATCH=many" in unread.err
    assert_refused(unknown, 2, "setting_invalid")
    assert "INDELIBLE_MAX_BACH" in unknown.err
    assert not (tmp_path / "data").exists()


def test_a_journal_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_text("not a database " * 100)

    assert_refused(run("serve", "--data", str(tmp_path), "--port", "0"), 3, "journal_damaged")


def test_ctrl_c_ends_a_server_quietly(tmp_path: Path) -> None:
    process = begin("serve", "--port", str(a_free_port()), "--json", cwd=tmp_path)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)

    assert (0, "") == (process.returncode, err)
