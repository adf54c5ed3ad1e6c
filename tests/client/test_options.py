"""Where options come from, which of them mean nothing, and what a client without them does."""

import http.client
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from indelible.client import Indelible, InvalidOption, LossReason, Options
from indelible.client.options import ENVIRONMENT
from tests.client.stub import TOKEN, Stub, assert_balanced, client_of, stalls

VTILT = {"VTILT_TOKEN": "ind_pub_x", "VTILT_HOST": "https://v.example"}
IMMUTABLELOG = {
    **{"IMTBL_API_KEY": "iml_live_x", "IMTBL_URL": "https://i.example"},
    **{"IMTBL_SERVICE_NAME": "shop", "IMTBL_ENV": "staging", "IMTBL_HEADERS": "A=1, B=x=y"},
}


def test_a_service_configured_for_either_vendor_needs_no_change() -> None:
    vtilt, audit = Options.read(VTILT), Options.read(IMMUTABLELOG)

    assert ("ind_pub_x", "https://v.example") == (vtilt.token, vtilt.host)
    assert ("iml_live_x", "https://i.example") == (audit.api_key, audit.host)
    assert ("shop", "staging", {"A": "1", "B": "x=y"}) == (audit.service, audit.env, audit.headers)


def test_a_service_configured_for_both_keeps_an_address_for_each() -> None:
    both = Options.read({**VTILT, **IMMUTABLELOG})
    moved = Options.read({**VTILT, **IMMUTABLELOG, "INDELIBLE_HOST": "https://o.example"})

    assert ("https://v.example", "https://i.example") == (both.host, both.audit_host)
    assert ("https://o.example", None) == (moved.host, moved.audit_host)


@pytest.mark.parametrize("option", ["token", "api_key", "host", "service", "env", "spool_dir"])
def test_an_argument_outweighs_our_name_and_ours_the_vendors(option: str) -> None:
    def value(name: str) -> str:
        return f"https://{name}.example" if option == "host" else name

    names = ENVIRONMENT[option]
    surroundings = {name: value(name.lower()) for name in names}
    for place, name in enumerate(names):
        left = {one: surroundings[one] for one in names[place:]}
        assert surroundings[name] == getattr(Options.read(left), option)
    argument: Any = {option: value("argument")}
    given = Options.read(surroundings, **argument)
    assert value("argument") == getattr(given, option)


@pytest.mark.parametrize(
    ("text", "expected"), [("0", False), ("off", False), ("TRUE", True), ("yes", True)]
)
def test_switches_are_read_in_the_usual_words(text: str, expected: bool) -> None:
    assert expected is Options.read({"INDELIBLE_ENABLED": text}).enabled
    assert expected is Options.read({"INDELIBLE_INSECURE": text}).insecure


def test_a_secret_read_from_a_file_may_end_with_a_line_feed() -> None:
    assert "iml_live_x" == Options.read({"INDELIBLE_API_KEY": "iml_live_x\n"}).api_key


@pytest.mark.parametrize(
    ("environment", "arguments", "names"),
    [
        ({}, {"colour": "red"}, "colour"),
        ({}, {"mode": "fast"}, "mode"),
        ({}, {"overflow": "none"}, "overflow"),
        ({}, {"max_queued": 0}, "max_queued"),
        ({}, {"batch_s": -1}, "batch_s"),
        ({}, {"batch_s": float("nan")}, "batch_s"),
        ({}, {"total_s": float("inf")}, "total_s"),
        ({}, {"total_s": 0}, "total_s"),
        ({}, {"connect_s": 0}, "connect_s"),
        ({}, {"batch_events": "many"}, "."),
        ({}, {"host": "events.example.com"}, "host"),
        ({}, {"host": "ftp://events.example.com"}, "host"),
        ({}, {"host": "http://"}, "host"),
        ({}, {"host": "http://h:99999"}, "host"),
        ({}, {"host": "http://[::1"}, "host"),
        ({}, {"host": 5}, "host must be text"),
        ({}, {"host": "https://"}, "names no server"),
        ({}, {"host": "https://a b"}, "blank"),
        ({}, {"host": "https://a..b"}, "names no server"),
        ({}, {"host": "http://host:port"}, "port"),
        ({}, {"host": "https://user:with blank@h"}, "host"),
        ({}, {"host": "https://user:with%20blank@h"}, "Authorization"),
        ({}, {"host": "https://h/path?x"}, "query"),
        ({}, {"host": "https://h/pâth"}, "path"),
        ({}, {"audit_host": "nowhere"}, "audit_host"),
        ({}, {"token": "with blank"}, "token"),
        ({}, {"api_key": "schlüssel"}, "api_key"),
        ({}, {"headers": {"A": "b\r\nInjected: 1"}}, "headers"),
        ({}, {"redact_patterns": ("(",)}, "redact_patterns"),
        ({"INDELIBLE_ENABLED": "perhaps"}, {}, "INDELIBLE_ENABLED"),
        ({"IMTBL_HEADERS": "no equals"}, {}, "IMTBL_HEADERS"),
    ],
)
def test_an_option_that_means_nothing_is_named_at_construction(
    environment: dict[str, str],
    arguments: dict[str, Any],
    names: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(InvalidOption, match=re.compile(names)) as caught:
        Indelible(**{"token": TOKEN, "host": "https://e.example", **arguments})
    assert "with blank" not in str(caught.value)


_PIECES = st.sampled_from(
    [
        "https://",
        "http:",
        "//",
        "/",
        "@",
        ":",
        "?",
        "#",
        "[",
        "]",
        "::1",
        "%",
        ".",
        "..",
        "\\",
        "host",
        "münchen",
        "user:pw@",
        ":80",
        ":port",
        ":70000",
    ]
) | st.sampled_from([" ", "\n", "\x00", "p%20q", "a" * 64])


@given(st.lists(_PIECES | st.text(max_size=3), max_size=6).map("".join), st.booleans())
@example("user:pw", False)
@example("user:pw/@host", True)
def test_an_address_is_refused_at_once_or_can_be_asked(text: str, with_scheme: bool) -> None:
    """What is taken can be looked up and written into a request; a password is never shown."""
    host = f"https://{text}" if with_scheme else text
    refusal = ""
    try:
        Options(host=host)
    except InvalidOption as refused:
        refusal = str(refused)
    assert not ("pw" in refusal and "@" in host)
    if refusal:
        return
    parts = urlsplit(host)
    name = str(parts.hostname)
    assert not {*name.encode("idna").decode()} & {*" \t\r\n\x00"}
    http.client.HTTPConnection(name, parts.port).putrequest("POST", f"{parts.path}/api/e")


_LABEL = st.text("abcxyz019-_äß", min_size=1, max_size=20)


@given(
    st.sampled_from(["http", "https", "HTTPS"]),
    st.lists(_LABEL, min_size=1, max_size=4).map(".".join)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
    st.none() | st.integers(1, 65_535),
    st.sampled_from(["", "/", "/events", "/a/b/", "/a%20b", "/@scope"]),
)
def test_an_address_may_have_a_name_or_a_number_a_port_and_a_path(
    scheme: str, name: str, port: int | None, path: str
) -> None:
    host = f"{scheme}://{name}{'' if port is None else f':{port}'}{path}"

    assert host == Options.read({}, host=f" {host}\n").host


def test_the_path_of_an_address_stands_before_every_path_that_is_asked_for(stub: Stub) -> None:
    with client_of(stub, host=f"{stub.url}/events/") as client:
        client.capture("e")
        assert client.flush(60)

    assert ["/events/api/e"] == [request.path for request in stub.requests]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "set INDELIBLE_TOKEN"),
        ({"token": TOKEN}, "set INDELIBLE_HOST"),
        ({"token": TOKEN, "host": "http://events.example.com"}, "in the clear"),
    ],
)
def test_a_client_that_cannot_send_warns_once_and_still_counts(
    arguments: dict[str, Any], says: str, caplog: pytest.LogCaptureFixture
) -> None:
    client = Indelible(**arguments)
    for _ in range(3):
        client.capture("e", distinct_id="u")
    client.identify("u", {"a": 1})

    assert 1 == len(caplog.records), caplog.text
    assert says in caplog.text
    assert client.flush(1)
    assert not client.is_enabled
    assert (4, {LossReason.DISABLED: 4}) == (client.counts().captured, client.counts().lost)
    assert_balanced(client)


@pytest.mark.parametrize(
    ("host", "more", "sends"),
    [
        ("http://localhost:1", {}, True),
        ("http://127.0.0.1:1", {}, True),
        ("http://127.9.9.9", {}, True),
        ("http://[::1]:1", {}, True),
        ("http://app.localhost", {}, True),
        ("https://events.example.com", {}, True),
        ("http://events.example.com", {}, False),
        ("http://10.0.0.7", {}, False),
        ("http://localhost.example.com", {}, False),
        ("http://events.example.com", {"insecure": True}, True),
    ],
)
def test_plain_http_is_for_this_machine_or_for_those_who_say_so(
    host: str, more: dict[str, Any], sends: bool
) -> None:
    client = Indelible(TOKEN, host=host, **more)

    assert sends is client.is_enabled
    client.shutdown(0)


def test_a_disabled_client_does_nothing_and_counts(stub: Stub) -> None:
    client = Indelible(TOKEN, api_key="iml_live_x", host=stub.url, enabled=False)
    client.capture("e")
    client.audit.send_async("a.b", {})
    assert client.shutdown(1)

    assert {LossReason.DISABLED: 1} == client.counts().lost == client.audit.counts().lost
    assert [] == stub.requests


def test_importing_costs_nothing_and_has_no_effect(tmp_path: Path) -> None:
    """No thread, no file, no log set up, no module of the server, and no environment read."""
    program = """
import sys, threading, logging, os
before = set(sys.modules)
import indelible
assert "indelible.client" not in sys.modules
from indelible import Indelible
client = Indelible("ind_pub_x", api_key="iml_live_x", host="http://127.0.0.1:9")
assert threading.active_count() == 1, threading.enumerate()
assert not logging.getLogger().handlers
assert not os.listdir("."), os.listdir(".")
foreign = {n.partition(".")[0] for n in set(sys.modules) - before} - sys.stdlib_module_names
assert foreign == {"indelible"}, foreign
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert (0, "") == (done.returncode, done.stderr)


@pytest.mark.clocked
def test_the_end_of_a_process_waits_as_long_as_it_was_told_and_no_longer(stub: Stub) -> None:
    stub.usual = stalls()
    program = f"""
from indelible import Indelible
client = Indelible({TOKEN!r}, host={stub.url!r}, exit_s=0.4)
client.capture("never answered")
import time; print(time.monotonic(), flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    ended = time.monotonic()

    assert (0, "") == (done.returncode, done.stderr)
    assert 0.35 < ended - float(done.stdout) < 3
