"""A type checker finds a user's mistakes, and an editor and a REPL offer what is for users."""

import dataclasses
import inspect
import json
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import indelible
import indelible.client
from indelible.client import AsyncIndelible, ClientOptions, Indelible, Options
from indelible.client.asynchronous import AsyncAudit
from indelible.client.audit import Audit
from indelible.hooks.configuration import Settings
from indelible.hooks.observer import Recording
from tests.foreign.needs import Missing, needed

ROOT = Path(__file__).parent.parent.parent
PROGRAM = '''
"""A user's program; what is marked is a mistake, and nothing else is."""

import uuid
from typing import Unpack

import indelible
from indelible import AsyncIndelible, AuditEvent, AuditFields, ClientOptions, IdLike, Indelible
from indelible.hooks.wsgi import Middleware
from indelible.testing import Recorder

client = Indelible("ind_pub_x", api_key="iml_live_x", host="https://e.example", batch_s=0.5)
Indelible("ind_pub_x", api_kee="iml_live_x")  # mistake: no such option
Indelible("ind_pub_x", mode="fast")  # mistake: none of the modes
AsyncIndelible("ind_pub_x", max_queued="many")  # mistake: no number
indelible.configure("ind_pub_x", overflow="none")  # mistake: neither newest nor oldest
Recorder(flush_at=5)  # mistake: another client's option

client.capture("purchase_completed", distinct="user_42")  # mistake: no such argument
client.audit.send("order.created", {}, type="succes")  # mistake: no such type
indelible.audit.send("order.created", {}, wait="seal")  # mistake: nothing to wait for
AuditEvent(event_name="order.created", payload={}, type="succes")  # mistake: no such type
client.audit.send_batch([{"event_name": "a.b", "payload": 1, "type": "ok"}])  # mistake: the same
client.capture("purchase_completed", distinct_id=["user_42"])  # mistake: no id


def passed_on(team: str, **options: Unpack[ClientOptions]) -> Indelible:
    return Indelible(team, **options)


passed_on("ind_pub_x", before_send="a filter")  # mistake: cannot be called
passed_on("ind_pub_x", mode="sync", redact_names=["iban"], headers={"A": "b"}, host=None)


def site(environ: object, start: object) -> list[bytes]:
    return []


Middleware(site, token="ind_pub_x", ip_mode="hashed")  # mistake: none of the ways
Middleware(site, client, audit=False, service_name="shop", skip=("/internal",))


def drop(event: dict[str, object]) -> None:
    """A filter that lets everything go."""


indelible.configure("ind_pub_x", before_send=drop, enabled=False).capture("e", properties={"a": 1})


def signed_up(person: IdLike, row: AuditFields) -> None:
    client.identify(person, {"plan": "pro"}, anonymous_id=uuid.uuid4())
    client.audit.send_batch([row, AuditEvent(event_name="a.b", payload=1, idempotency_key=7)])


signed_up(42, {"event_name": "user.created", "payload": {}, "type": "audit"})
with client.context(distinct_id=uuid.uuid4()) as here:
    here.distinct_id = 42
receipt = client.audit.send("order.created", {}, type="success", wait="sealed", meta={"a": "b"})
print(receipt.status, client.counts().delivered, indelible.flush())
'''
MISTAKES = [n for n, line in enumerate(PROGRAM.splitlines(), 1) if "# mistake" in line]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert 13 == len(MISTAKES)
    file = tmp_path_factory.mktemp("user") / "program.py"
    file.write_text(PROGRAM)
    return file


def test_mypy_finds_each_mistake_and_nothing_else(program: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "-O", "json", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=240,
    )
    errors = [json.loads(line) for line in said.stdout.splitlines()]

    assert MISTAKES == [one["line"] for one in errors if one["severity"] == "error"], said


@pytest.mark.foreign
def test_pyright_finds_each_mistake_and_nothing_else(program: Path) -> None:
    with needed():
        if shutil.which("node") is None:
            raise Missing("node, in which pyright runs")
    said = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, program],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=240,
    )
    errors = json.loads(said.stdout)["generalDiagnostics"]

    assert MISTAKES == [one["range"]["start"]["line"] + 1 for one in errors], errors


def test_each_option_is_in_the_typed_signature_with_the_type_that_it_has() -> None:
    options = typing.get_type_hints(Options)
    typed = typing.get_type_hints(ClientOptions)

    assert options.keys() - {"token"} == typed.keys()
    different = {n for n in typed if typed[n] not in (options[n], options[n] | None)}
    assert {"redact_names", "redact_patterns"} == different, "any collection becomes a tuple"


def test_each_field_of_recording_is_in_the_typed_settings_of_the_hooks() -> None:
    recording = {field.name for field in dataclasses.fields(Recording)}
    own = typing.get_type_hints(Settings).keys() - typing.get_type_hints(ClientOptions).keys()

    assert recording == own - {"token", "api_url", "service_name"} | {"max_payload_bytes"}


@pytest.mark.parametrize("door", [Indelible, AsyncIndelible, indelible.configure])
def test_every_door_takes_a_token_and_the_typed_options(door: typing.Any) -> None:
    token, options = inspect.signature(door).parameters.values()

    assert ("token", "options") == (token.name, options.name)
    assert typing.Unpack[ClientOptions] == options.annotation


def test_dir_offers_what_is_for_users_and_nothing_else() -> None:
    program = "import indelible; print(*(n for n in dir(indelible) if not n.startswith('_')))"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert {
        *{"AsyncIndelible", "AuditEvent", "AuditFields", "ClientOptions", "IdLike", "Indelible"},
        *{"InvalidOption", "Receipt"},
        *{"alias", "audit", "audited", "capture", "configure", "context", "default_client"},
        *{"flush", "identify", "pseudonym", "send_event", "set", "sha256_hex", "shutdown"},
        *{"set_anonymous_id", "set_distinct_id"},
    } == set(said.stdout.split())
    assert set(indelible.client.__all__) == {n for n in dir(indelible.client) if n[0] != "_"}


def test_a_name_that_dir_offers_is_there() -> None:
    for module in (indelible, indelible.client):
        assert [] == [name for name in dir(module) if not hasattr(module, name)]


CLIENT = {
    *{"alias", "audit", "audited", "capture", "context", "counts", "doctor", "flush", "identify"},
    *{"install_signal_handlers", "is_enabled", "options", "process_id", "set", "shutdown"},
    *{"set_anonymous_id", "set_distinct_id"},
}
AUDIT = {"counts", "fetch_receipt", "send", "send_async", "send_batch", "verify"}


def test_completion_of_a_client_offers_what_is_for_users_and_nothing_else() -> None:
    client = Indelible(enabled=False)
    twin = AsyncIndelible(enabled=False)

    def offered(one: object) -> set[str]:
        return {name for name in dir(one) if not name.startswith("_")}

    assert CLIENT == offered(client)
    assert CLIENT | {"client"} == offered(twin)
    assert AUDIT == offered(client.audit)
    assert AUDIT == offered(twin.audit)
    assert AUDIT == offered(indelible.audit)
    assert issubclass(type(client.audit), Audit)
    assert issubclass(type(twin.audit), AsyncAudit)
