"""The formats are usable by themselves: without the house, and without what a server needs."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.cli.command import surroundings
from tests.ledger.audit.audited import POLICY_OF_LOG, sealed
from tests.windows import POSIX_MODULES, SERVER_PACKAGES

ROOT = Path(__file__).parents[3]
LIMIT_S = 240
VOCABULARY = {"indelible", "indelible.errors", "indelible.event", "indelible.leaf"}

# Imports every module of the formats and lists the modules that came along, but Python's own.
LOOK = """
import importlib, json, pkgutil, sys
before = set(sys.modules)
import indelible.ledger.format as room
for found in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
    importlib.import_module(found.name)
came = {name for name in set(sys.modules) - before if sys.modules[name] is not None}
print(json.dumps(sorted(n for n in came if n.partition(".")[0] not in sys.stdlib_module_names)))
"""

# The function, as docs/how-to/check-a-log.md calls it.
VERIFY = """
import sys
from pathlib import Path
from indelible.ledger.format.policy import parse_policy
from indelible.ledger.format.verify import verify_receipt
receipt, policy = map(Path, sys.argv[1:])
print(verify_receipt(receipt.read_bytes(), parse_policy(policy.read_text("utf-8"))).verdict)
"""


def test_the_formats_import_only_themselves_the_vocabulary_and_cryptography() -> None:
    came: list[str] = json.loads(_run([sys.executable, "-c", LOOK]))

    ours = {name for name in came if name.partition(".")[0] == "indelible"}
    room = {name for name in ours if name.startswith("indelible.ledger.format")}
    assert {"tree", "note", "verify"} <= {name.rpartition(".")[2] for name in room}
    assert VOCABULARY | {"indelible.ledger"} == ours - room
    others = {name.partition(".")[0] for name in set(came) - ours}
    parts_of_it = {"_cffi_backend", "_openssl", "typing_extensions"}
    assert {"cryptography"} == others - parts_of_it


@pytest.mark.slow(minutes=1)
def test_the_wheel_with_verify_alone_checks_a_receipt_and_a_log(
    tmp_path: Path,
) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "wheel", "-q", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)])
    (wheel,) = tmp_path.glob("indelible-*.whl")
    venv.create(tmp_path / "bare", with_pip=False)  # this environment's pip serves it as well
    bare = str(tmp_path / "bare" / "bin" / "python")
    _run([*pip, "--python", bare, "install", "-q", f"{wheel}[verify]"])
    shop = sealed(tmp_path / "data", 300)
    log = shutil.copytree(shop.log, tmp_path / "log")
    receipt, altered, policy = (tmp_path / name for name in ("order", "altered", "policy"))
    receipt.write_text(shop.receipt(7), "utf-8")
    altered.write_text(shop.receipt(7).replace("\nindex 7\n", "\nindex 8\n"), "utf-8")
    policy.write_text(POLICY_OF_LOG.text, "utf-8")

    def indelible(*arguments: str) -> int:
        command = [bare, "-I", "-W", "error", "-m", "indelible", *arguments]
        return subprocess.run(
            [*command, "--policy", str(policy)], env=surroundings(), timeout=LIMIT_S
        ).returncode

    audit = ("audit", str(log), "--state", str(tmp_path / "state"))
    assert [0, 1] == [indelible("verify", str(one)) for one in (receipt, altered)]
    assert "verified\n" == _run([bare, "-I", "-c", VERIFY, str(receipt), str(policy)])
    assert 0 == indelible(*audit)
    (log / "tile" / "0" / "000").write_bytes(bytes(256 * 32))
    assert 1 == indelible(*audit)
    listed = json.loads(_run([*pip, "--python", bare, "list", "--format", "json"]))
    names = {one["name"].replace("-", "_") for one in listed}
    assert {"indelible", "cryptography", "rich", "typer"} <= names
    assert set() == names & {*SERVER_PACKAGES, *POSIX_MODULES}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert 0 == done.returncode, done.stderr
    return done.stdout
