"""The wheel alone is the client: in a bare environment it imports, sends and is quiet."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.world import API_KEY, TOKEN, ServerProcess, client_environment

ROOT = Path(__file__).parent.parent.parent
LIMIT_S = 240

SEND = """
import indelible
indelible.capture("purchase_completed", distinct_id="user_42", properties={"amount": 99.99})
receipt = indelible.audit.send("order.created", {"order_id": "ord_1"}, type="success")
assert indelible.flush(60)
print(receipt.status, receipt.index, indelible.default_client().counts().delivered)
"""

# What the import of the package and of the client bring in, and how long it takes.
LOOK = """
import sys, time
before = set(sys.modules)
began = time.process_time()  # not the clock: what runs beside the tests is none of its doing
import indelible
took_s = time.process_time() - began
package = {name.partition(".")[0] for name in set(sys.modules) - before}
import indelible.client, indelible.client.default, indelible.testing
client = {name.partition(".")[0] for name in set(sys.modules) - before}
import json
known = sys.stdlib_module_names
print(json.dumps([took_s, sorted(package - known), sorted(client - known)]))
"""

# What a process does before its first event, each line of it a way; `begun` is when.
WAYS = {
    "a client": 'client = Indelible("t", host="http://127.0.0.1:9"); capture = client.capture',
    "configure": 'indelible.configure("t", host="http://127.0.0.1:9"); capture = indelible.capture',
    "a hook": "from indelible.hooks.wsgi import Middleware; Middleware(print); "
    "from indelible import capture",
    "a log handler": "from indelible.hooks.logging import Handler; Handler(); "
    "from indelible import capture",
}
FIRST = """
import json, sys, time
began = time.process_time()
from indelible import Indelible
imported_s = time.process_time() - began
import indelible, logging, os
logging.disable()
{way}
before, began = set(sys.modules), time.thread_time()
capture("first")
first_s = time.thread_time() - began
print(json.dumps([imported_s, first_s, sorted(set(sys.modules) - before)]), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment in which nothing but the wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    _pip("wheel", "-q", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (wheel,) = folder.glob("indelible-*.whl")
    venv.create(folder / "bare", with_pip=False)  # this environment's pip serves it as well
    bare = folder / "bare" / "bin" / "python"
    _pip("--python", str(bare), "install", "-q", "--no-index", "--no-deps", str(wheel))
    return bare


def test_nothing_else_is_installed(python: Path) -> None:
    listed = json.loads(_pip("--python", str(python), "list", "--format", "json"))

    assert ["indelible"] == [one["name"] for one in listed]


def test_the_wheel_sends_both_kinds_to_a_real_server(
    world: ServerProcess, python: Path, tmp_path: Path
) -> None:
    env = client_environment(
        INDELIBLE_HOST=world.url, INDELIBLE_TOKEN=TOKEN, INDELIBLE_API_KEY=API_KEY,
        INDELIBLE_SPOOL_DIR=str(tmp_path / "spool"),
    )  # fmt: skip
    said = _run([str(python), "-I", "-W", "error", "-X", "dev", "-c", SEND], env)

    events = world.events()
    assert {"product", "audit"} == {event["kind"] for event in events}
    audit = next(event["index"] for event in events if event["kind"] == "audit")
    assert f"accepted {audit} 1\n" == said


def test_the_import_brings_in_nothing_but_itself_and_is_quick(python: Path) -> None:
    looks = [json.loads(_run([str(python), "-I", "-W", "error", "-c", LOOK])) for _ in range(3)]

    assert [["indelible"], ["indelible"]] == looks[0][1:]
    assert min(took_s for took_s, _, _ in looks) < 0.030


@pytest.mark.parametrize("way", WAYS)
def test_the_first_event_waits_for_no_import(python: Path, way: str) -> None:
    _, first_s, modules = _first(python, way)

    assert [] == modules
    assert first_s <= 0.005


@pytest.mark.clocked
def test_the_class_of_the_client_is_imported_soon(python: Path) -> None:
    assert min(_first(python, "a client")[0] for _ in range(3)) <= 0.060


def _first(python: Path, way: str) -> tuple[float, float, list[str]]:
    """How long the class took to import and the first event to capture, in seconds of CPU; and the
    modules that the event brought in."""
    env = client_environment(INDELIBLE_HOST="http://127.0.0.1:9")
    program = [str(python), "-I", "-c", FIRST.format(way=WAYS[way])]
    imported_s, first_s, modules = json.loads(_run(program, env))
    return imported_s, first_s, modules


def test_the_types_come_along(python: Path) -> None:
    look = (
        "import indelible, pathlib; print(pathlib.Path(indelible.__file__).with_name('py.typed'))"
    )
    marker = Path(_run([str(python), "-I", "-c", look]).strip())

    assert marker.is_file()


def _pip(*arguments: str) -> str:
    return _run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments])


def _run(command: list[str], env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=LIMIT_S)
    assert 0 == done.returncode, done.stderr
    assert "" == done.stderr
    return done.stdout
