"""Where options come from, which of them mean nothing, and what a client without them does."""

import http.client
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import indelible
from indelible.client import AsyncIndelible, Indelible, InvalidOption, LossReason, Options
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


# Mistakes, and what is said of them.


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("api_kee", "api_key"),
        ("tokn", "token"),
        ("batch_event", "batch_events"),
        ("Host", "host"),
        ("spool_directory", "spool_dir"),
        ("before_sent", "before_send"),
        ("flush_at", "batch_events"),
        ("flush_interval", "batch_s"),
        ("project_api_key", "token"),
        ("endpoint", "host"),
        ("timeout", "total_s"),
        ("disabled", "enabled"),
    ],
)
@pytest.mark.parametrize("door", [Indelible, AsyncIndelible, indelible.configure, Options])
def test_a_misspelt_option_is_named_with_the_one_that_was_meant(
    door: Callable[..., object], given: str, meant: str
) -> None:
    with pytest.raises(InvalidOption, match=f"no such option: {given}; did you mean {meant}\\?"):
        door(**{given: "x"})


@given(st.sampled_from([field.name for field in fields(Options)]), st.data())
def test_an_option_with_one_wrong_letter_is_named(name: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(name) - 1))
    change = data.draw(st.sampled_from(["", "q", name[place] * 2]))
    given = name[:place] + change + name[place + 1 :]
    assume(given not in {field.name for field in fields(Options)})
    mistake: Any = {given: "x"}

    with pytest.raises(InvalidOption, match=f"no such option: {given}; did you mean"):
        Options(**mistake)


def test_an_option_that_resembles_none_is_named_alone() -> None:
    mistake: Any = {"colour": "red", "api_kee": "x"}

    with pytest.raises(InvalidOption) as refused:
        Indelible(**mistake)
    assert "no such option: api_kee; did you mean api_key?, colour" == str(refused.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"token": "iml_live_abcdefgh"}, "token begins with iml_live_ .* pass it as api_key"),
        ({"token": "iml_test_abcdefgh"}, "token begins with iml_test_ .* pass it as api_key"),
        ({"token": "ind_adm_abcdefgh"}, "token begins with ind_adm_ .* an admin key"),
        ({"api_key": "ind_pub_abcdefgh"}, "api_key begins with ind_pub_ .* pass it as token"),
        ({"token": '"ind_pub_abcdefgh"'}, "token has quotes around it"),
        ({"token": "'ind_pub_abcdefgh'"}, "token has quotes around it"),
        ({"api_key": '"iml_live_abcdefgh"'}, "api_key has quotes around it"),
        ({"host": '"https://e.example"'}, "host has quotes around it"),
        ({"audit_host": "'https://e.example'"}, "audit_host has quotes around it"),
    ],
)
def test_a_secret_in_a_wrong_place_or_in_quotes_is_refused_and_not_shown(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidOption, match=says) as refused:
        Options(**options)
    assert "abcdefgh" not in str(refused.value)


@pytest.mark.parametrize("variable", [one for names in ENVIRONMENT.values() for one in names])
def test_quotes_that_an_env_file_left_around_a_value_are_named(variable: str) -> None:
    with pytest.raises(InvalidOption, match=f"{variable} has quotes around it.* leave them out"):
        Options.read({variable: '"abcdefgh"'})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("INDELIBLE_TOKEN", "iml_live_abcdefgh", "pass it as api_key.*INDELIBLE_TOKEN"),
        ("VTILT_TOKEN", "iml_live_abcdefgh", "pass it as api_key.*VTILT_TOKEN"),
        ("IMTBL_API_KEY", "ind_pub_abcdefgh", "pass it as token.*IMTBL_API_KEY"),
        ("INDELIBLE_HOST", "iml_live_abcdefgh", "http.*INDELIBLE_HOST"),
        ("INDELIBLE_ENABLED", "iml_live_abcdefgh", "INDELIBLE_ENABLED must be 1 or 0"),
    ],
)
def test_a_wrong_value_of_a_variable_names_the_variable_and_shows_no_secret(
    variable: str, value: str, says: str
) -> None:
    with pytest.raises(InvalidOption, match=says) as refused:
        Options.read({variable: value})
    assert "abcdefgh" not in str(refused.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"enabled": "0"}, "enabled must be True or False, not str"),
        ({"spool": 1}, "spool must be True or False, not int"),
        ({"batch_events": "many"}, "batch_events must be a whole number, not str"),
        ({"batch_events": True}, "batch_events must be a whole number, not bool"),
        ({"batch_s": "1"}, "batch_s must be a number, not str"),
        ({"max_age_s": "1d"}, "max_age_s must be a number, not str"),
        ({"token": 5}, "token must be text, not int"),
        ({"service": b"shop"}, "service must be text, not bytes"),
        ({"redact_names": "iban"}, "redact_names must be a list of text, not str"),
        ({"redact_patterns": [5]}, "redact_patterns must be a list of text, not tuple"),
        ({"headers": {"A": 5}}, "headers must be a mapping of text to text, not dict"),
        ({"before_send": "drop"}, "before_send must be callable, not str"),
        ({"spool_dir": 5}, "spool_dir must be a path, not int"),
        ({"mode": "synchronous"}, "mode must be one of thread, sync"),
        ({"overflow": "newst"}, "overflow must be one of newest, oldest; did you mean newest"),
    ],
)
def test_a_value_of_another_kind_is_refused_by_name(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(says)):
        Options(**options)


def test_lists_and_sets_of_text_are_taken_and_kept_as_tuples() -> None:
    options = Options(redact_names=["iban"], redact_patterns={r"\d{16}"})

    assert (("iban",), (r"\d{16}",)) == (options.redact_names, options.redact_patterns)


@given(st.text("abcdefgh0123456789-_", min_size=8, max_size=40), st.data())
def test_the_repr_of_options_shows_no_secret(secret: str, data: st.DataObject) -> None:
    secret = f"s3cret-{secret}"
    options = Options(
        token=f"ind_pub_{secret}",
        api_key=f"iml_live_{secret}",
        pii_key=secret,
        headers={"X-Pass": secret},
        host="https://e.example",
        batch_s=0.5,
    )

    assert secret not in repr(options)
    assert "host='https://e.example', headers={'X-Pass': '[hidden]'}, batch_s=0.5" in repr(options)
    assert secret in str(options.api_key)


def test_a_client_made_from_the_environment_keeps_an_address_for_each_vendor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**VTILT, **IMMUTABLELOG}.items():
        monkeypatch.setenv(name, value)

    options = Indelible(enabled=False).options

    assert ("https://v.example", "https://i.example") == (options.host, options.audit_host)


# Addresses.


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

    said = "product: 1 let go: The process ended before it could be delivered.\n"
    assert (0, said) == (done.returncode, done.stderr)
    assert 0.35 < ended - float(done.stdout) < 3
