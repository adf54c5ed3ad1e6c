"""`verify` and `audit` with only what Windows has; see tests.windows."""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from indelible.event import Kind
from tests.cli.command import Ran, assert_refused, surroundings
from tests.ledger.audit.audited import POLICY_OF_LOG, SIGNER, Shop, sealed
from tests.windows import become

ROOT = Path(__file__).parents[3]
PAYLOAD = '{"note":"支払い · paid €5"}'


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """301 events; code page 1252 cannot show the payload of the last."""
    shop = sealed(tmp_path_factory.mktemp("windows") / "data", 300)
    shop.store(1, Kind.AUDIT, PAYLOAD.encode())
    shop.seal()
    return shop


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "shop.policy"
    path.write_text(POLICY_OF_LOG.text, "utf-8")
    return path


def windows(*arguments: str, stdin: bytes = b"", encoding: str = "cp1252", **env: str) -> Ran:
    """Run `indelible` with only what Windows has, its streams in code page 1252."""
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-m", become.__module__, *arguments],
        env=surroundings(PYTHONIOENCODING="cp1252", **env),
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    ran = Ran(done.returncode, done.stdout.decode(encoding), done.stderr.decode("cp1252"))
    assert "Traceback" not in ran.err, ran.err
    return ran


def test_a_receipt_verifies_and_characters_that_the_terminal_lacks_are_escaped(
    shop: Shop, policy: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "order.tlog-proof"
    receipt.write_bytes(shop.receipt(300).encode())

    ran = windows("verify", str(receipt), "--policy", str(policy))
    for_machines = windows(
        *("verify", str(receipt), "--policy", str(policy), "--json"), encoding="utf-8"
    )

    assert (0, "verified") == (ran.code, ran.fact("verdict"))
    assert r'{"note":"\u652f\u6255\u3044 · paid €5"}' == ran.fact("payload")
    assert PAYLOAD == for_machines.json["payload"]


def test_a_receipt_on_stdin_is_read_as_bytes(shop: Shop, policy: Path) -> None:
    receipt = shop.receipt(4).encode()
    verify = ("verify", "-", "--policy", str(policy))

    assert 0 == windows(*verify, stdin=receipt).code
    assert 1 == windows(*verify, stdin=receipt.replace(b"\nindex 4\n", b"\nindex 5\n")).code
    assert 3 == windows(*verify, stdin=receipt.replace(b"\n", b"\r\n")).code


def test_an_audited_log_is_remembered_below_localappdata(
    shop: Shop, policy: Path, tmp_path: Path
) -> None:
    older = sealed(tmp_path / "older", 200)
    local = str(tmp_path / "Local")
    audit = partial(windows, "audit", LOCALAPPDATA=local, XDG_STATE_HOME="")

    first = audit(str(shop.log), "--policy", str(policy))
    second = audit(str(shop.log))
    back = audit(str(older.log))

    assert [0, 0, 1] == [first.code, second.code, back.code], back.out
    assert "the policy that this auditor remembers" == second.fact("believed")
    assert 1 == len(list((tmp_path / "Local" / "indelible" / "audit").iterdir()))


def test_a_tile_that_was_altered_is_named(shop: Shop, policy: Path, tmp_path: Path) -> None:
    log = shutil.copytree(shop.log, tmp_path / "log")
    tile = log / "tile" / "0" / "000"
    content = bytearray(tile.read_bytes())
    content[40] ^= 1
    tile.write_bytes(content)

    ran = windows("audit", str(log), "--policy", str(policy), "--state", str(tmp_path / "state"))

    assert 1 == ran.code
    assert "tile/0/000" in ran.out


def test_no_link_below_the_folder_is_followed(shop: Shop, policy: Path, tmp_path: Path) -> None:
    log = shutil.copytree(shop.log, tmp_path / "log")
    (log / "tile").rename(tmp_path / "elsewhere")
    (log / "tile").symlink_to(tmp_path / "elsewhere")

    ran = windows("audit", str(log), "--policy", str(policy), "--state", str(tmp_path / "state"))

    assert 3 == ran.code
    assert "It is a link, and none is followed here" in ran.out


@pytest.mark.parametrize("name", ["..\\secret", "a\\..\\..\\secret", "C:secret", "file:stream"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / name).write_bytes(b"here such a file can exist")
    program = (
        "import sys; from tests.windows import become; become();"
        "from indelible.untrusted import FileRefused, read_below\n"
        "try: read_below(sys.argv[1], sys.argv[2], most_bytes=99)\n"
        "except FileRefused as error: print(error.strerror)"
    )

    for path in (name, f"{name}/x"):
        done = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "log"), path],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )

        assert ("this is no name of a file\n", "") == (done.stdout, done.stderr)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a folder is served."""
    handler = partial(Quiet, directory=os.fspath(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_log_is_audited_over_http(shop: Shop, policy: Path, tmp_path: Path) -> None:
    with served(shop.log) as url:
        ran = windows("audit", url, "--policy", str(policy), "--state", str(tmp_path), "--json")

    assert ("verified", 301) == (ran.json["verdict"], ran.json["logs"][0]["events"])
    assert 0 == ran.code


def test_the_journal_is_compared_too_if_apsw_is_installed(shop: Shop, tmp_path: Path) -> None:
    data = shutil.copytree(shop.folder, tmp_path / "data")
    audit = ("audit", str(data), "--state", str(tmp_path / "state"))

    with_it = windows("--with-server", *audit)

    assert_refused(windows(*audit), 3, "server_not_installed")
    assert 0 == with_it.code
    assert "301 compared, with the journal" == with_it.fact("events")


@pytest.mark.parametrize("command", ["serve", "doctor", "restore", "resume", "witness"])
def test_a_command_that_needs_posix_says_so(tmp_path: Path, command: str) -> None:
    backup = tmp_path / "backup.db"
    backup.touch()
    arguments = {
        "restore": (command, str(backup)),
        "witness": (command, "serve", "--new", "witness.example/w1", "--log", SIGNER.key.text),
    }.get(command, (command,))

    ran = windows("--with-server", *arguments, "--data", str(tmp_path / "data"))

    assert_refused(ran, 3, "system_unsupported")
    assert "Linux or macOS" in ran.err


def test_json_is_the_same_document_on_every_system(
    shop: Shop, policy: Path, tmp_path: Path
) -> None:
    receipt = tmp_path / "order.tlog-proof"
    receipt.write_bytes(shop.receipt(7).encode())
    command = ("verify", str(receipt), "--policy", str(policy), "--json")
    here = subprocess.run(
        [sys.executable, "-m", "indelible", *command], env=surroundings(), capture_output=True
    )

    assert json.loads(here.stdout) == windows(*command, encoding="utf-8").json
