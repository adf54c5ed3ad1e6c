"""Ways through a network: directly, through a proxy, through a tunnel; to hosts of every form."""

import base64
import contextlib
import dataclasses
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indelible.client import Indelible
from indelible.client.doctor import Hop
from indelible.client.proxy import is_exempt, proxy_for
from indelible.client.transport import Transport, TransportFailed
from tests.client.certificate import self_signed_certificate
from tests.client.program import Program
from tests.client.proxy import Proxy
from tests.client.stub import TOKEN, Line, Request, Stub, client_of, takes
from tests.world import a_free_port

NAMES = ("events.example.com", "xn--mller-kva.example", "192.0.2.7", "2001:db8::7")
HOSTS = {
    "a name": ("events.example.com", "events.example.com"),
    "a name in capitals": ("Events.Example.COM", "events.example.com"),
    "a name with a dot at its end": ("events.example.com.", "events.example.com."),
    "a name beyond ASCII": ("müller.example", "xn--mller-kva.example"),
    "IPv4": ("192.0.2.7", "192.0.2.7"),
    "IPv6": ("[2001:db8::7]", "[2001:db8::7]"),
}


def _takes_below(prefix: str) -> Any:
    """The server behind a path, or asked by a whole address."""

    def behave(line: Line, request: Request) -> None:
        path = request.path[max(request.path.find("/api/e"), request.path.find("/v1/events")) :]
        assert request.path.endswith(prefix + path)
        takes()(line, dataclasses.replace(request, path=path))

    return behave


@pytest.fixture(autouse=True)
def _no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in _TRUST:
            monkeypatch.delenv(name)


_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("certificate")
    return self_signed_certificate(folder, *NAMES, "localhost", "127.0.0.1", "::1")


@pytest.fixture
def secure(certificate: tuple[Path, Path]) -> Iterator[Stub]:
    """A server with TLS, under every name."""
    with Stub(_context(certificate)) as server:
        yield server


def _context(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def _deliver(stub: Stub, host: str, **options: Any) -> None:
    """Both lanes deliver an event, and the durable door one."""
    with client_of(stub, host=host, insecure=True, **options) as client:
        client.capture("first")
        client.audit.send_async("order.created", {})
        assert client.flush(20)
        assert client.audit.send("order.paid", {}).tx_id
        assert (1, 2) == (client.counts().delivered, client.audit.counts().delivered)
        assert (0, 0) == (client.counts().retried, client.audit.counts().retried)


# Hosts of every form by every way.


@pytest.mark.parametrize("prefix", ["", "/in%20gest/v2/"])
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_host_is_reached_directly(
    scheme: str, host: str, prefix: str, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    address = host.strip("[]").replace("localhost", "127.0.0.1")
    if address == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    tls = self_signed_certificate(tmp_path, host.strip("[]")) if scheme == "https" else None
    with Stub(_context(tls) if tls else None, address) as stub:
        stub.usual = _takes_below(prefix.rstrip("/"))
        _deliver(stub, f"{scheme}://{host}:{stub.port}{prefix}", ca_file=tls and tls[0])

    assert {f"{host}:{stub.port}"} == {request.headers["host"] for request in stub.requests}
    assert f"{prefix.rstrip('/')}/api/e" in {request.path for request in stub.requests}


@pytest.mark.parametrize("rest", ["", ":8080", "/ingest", ":8080/in/gest/"])
@pytest.mark.parametrize("form", HOSTS)
def test_a_host_is_reached_through_a_proxy_for_plain_http(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, form: str, rest: str
) -> None:
    host, shown = HOSTS[form]
    port, _, path = rest.partition("/")
    prefix = f"/{path}".rstrip("/")
    stub.usual = _takes_below(prefix)
    with Proxy(("127.0.0.1", stub.port)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
        _deliver(stub, f"http://{host}{rest}")

    assert f"http://{shown}{port}{prefix}/api/e" in {one.path for one in stub.requests}
    assert {f"{shown}{port}"} == {one.headers["host"] for one in stub.requests}


@pytest.mark.parametrize("rest", ["", ":8443", ":8443/in/gest/"])
@pytest.mark.parametrize("form", HOSTS)
def test_a_host_is_reached_through_a_tunnel(
    secure: Stub,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    rest: str,
) -> None:
    host, shown = HOSTS[form]
    port, _, path = rest.partition("/")
    prefix = f"/{path}".rstrip("/")
    secure.usual = _takes_below(prefix)
    with Proxy(("127.0.0.1", secure.port)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.place)  # without a scheme, as curl takes it too
        _deliver(secure, f"https://{host}{rest}", ca_file=certificate[0])

    asked = f"CONNECT {shown}{port or ':443'} HTTP/1.1\r\nHost: {shown}{port or ':443'}"
    assert {asked} == set(proxy.heads)
    assert f"{prefix}/api/e" in {one.path for one in secure.requests}
    assert {f"{shown}{port}"} == {one.headers["host"] for one in secure.requests}


def test_a_proxy_may_have_an_address_of_ipv6(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    if not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    with Proxy(("127.0.0.1", stub.port), family=socket.AF_INET6) as proxy:
        monkeypatch.setenv("all_proxy", f"http://{proxy.place}/")
        stub.usual = _takes_below("")
        _deliver(stub, "http://events.example.com")


# Deadlines on the way.


@contextmanager
def _dead(count: int, port: int) -> Iterator[list[str]]:
    """Addresses of this machine at which a connection is neither made nor refused: the queue of
    each listener is full."""
    with ExitStack() as opened:
        addresses = [f"127.0.1.{place}" for place in range(1, count + 1)]
        for address in addresses:
            listener = opened.enter_context(socket.socket())
            listener.bind((address, port))
            listener.listen(0)
            for _ in range(3):
                one = opened.enter_context(socket.socket())
                one.setblocking(False)
                one.connect_ex((address, port))
        yield addresses


def _named(monkeypatch: pytest.MonkeyPatch, addresses: Sequence[str]) -> None:
    """Let `events.example.com` be these addresses, in this order."""
    look_up = socket.getaddrinfo

    def found(name: Any, port: Any, *more: Any, **named: Any) -> Any:
        if name != "events.example.com":
            return look_up(name, port, *more, **named)
        return [one for ip in addresses for one in look_up(ip, port, *more, **named)]

    monkeypatch.setattr(socket, "getaddrinfo", found)


def test_all_addresses_of_a_name_together_take_no_longer_than_one_connection_may(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _dead(40, stub.port) as addresses:
        _named(monkeypatch, addresses)
        started = time.monotonic()
        with pytest.raises(TransportFailed, match="no answer in time"):
            _asked(f"http://events.example.com:{stub.port}", connect_s=1.0)

    assert time.monotonic() - started < 20  # a second each would be forty


def test_the_last_address_of_a_name_is_reached_behind_dead_ones(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _dead(3, stub.port) as addresses:
        _named(monkeypatch, [*addresses, "127.0.0.1"])
        _deliver(stub, f"http://events.example.com:{stub.port}", connect_s=2.0)


def _asked(host: str, **options: Any) -> None:
    times = {"connect_s": 60.0, "total_s": 60.0, **options}
    transport = Transport(host, headers={}, monotonic=time.monotonic, **times)
    transport.request("POST", "/api/e", b"x" * 1_000, headers={})


DRIPS = """\
import sys
if sys.argv[2] == "gevent":
    import gevent.monkey
    gevent.monkey.patch_all()
import time
from indelible.client.transport import Transport, TransportFailed

started = time.monotonic()
times = {"connect_s": 1.0, "total_s": 60.0, "monotonic": time.monotonic}
try:
    Transport(sys.argv[1], headers={}, **times).request("POST", "/api/e", b"x", headers={})
except TransportFailed as error:
    print(error, time.monotonic() - started < 20)
"""


@pytest.mark.parametrize("kind", ["threads", "gevent"])
def test_a_handshake_that_drips_ends_at_the_deadline(tmp_path: Path, kind: str) -> None:
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as connection:
            connection.recv(65_536)
            connection.sendall(b"\x16\x03\x03\x3e\x80")  # a record of 16,000 bytes, which is a lot
            for _ in range(100):
                connection.sendall(b"\x00")
                if over.wait(0.3):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        host = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Program(DRIPS, tmp_path / "program", host, kind) as program:
            code, said = program.end()
        over.set()
        thread.join(60)

    assert (0, "no answer in time True") == (code, said.strip().splitlines()[-1])


# User and password.


@given(
    user=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
    password=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_user_and_password_are_given_to_the_proxy_as_they_were_before_they_were_written_with_xx(
    user: str, password: str
) -> None:
    address = f"http://{quote(user, safe='')}:{quote(password, safe='')}@proxy:3128"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HTTP_PROXY", address)
        proxy = proxy_for("events.example.com", 80, "http")

    assert proxy is not None
    assert ("proxy", 3128) == (proxy.name, proxy.port)
    assert proxy.credentials is not None
    sent = proxy.credentials.encode()
    assert f"{user}:{password}".encode() == base64.b64decode(sent.removeprefix(b"Basic "))
    assert "proxy:3128" == str(proxy)
    assert sent.decode() not in repr(proxy)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("written", "meant"),
    [("us%40er:p%3Ass%2Fw%C3%B6rd", "us@er:p:ss/wörd"), ("user", "user:"), ("a:b@c", "a:b@c")],
)
def test_the_proxy_gets_them_with_either_scheme_and_the_server_never(
    stub: Stub,
    secure: Stub,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    written: str,
    meant: str,
) -> None:
    server = secure if scheme == "https" else stub
    server.usual = _takes_below("")
    with Proxy(("127.0.0.1", server.port)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{written}@{proxy.place}")
        _deliver(server, f"{scheme}://events.example.com", ca_file=certificate[0])

    wanted = f"Proxy-Authorization: Basic {base64.b64encode(meant.encode()).decode()}"
    assert all(wanted in head for head in proxy.heads)
    if scheme == "https":
        assert not [one for one in server.requests if "proxy-authorization" in one.headers]


def test_a_header_for_the_proxy_among_the_clients_own_goes_to_the_proxy_alone(
    secure: Stub, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(("127.0.0.1", secure.port)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://{proxy.place}")
        headers = {"Proxy-Authorization": "Bearer t0ken", "X-Own": "1"}
        _deliver(secure, "https://events.example.com", ca_file=certificate[0], headers=headers)

    assert all("Proxy-Authorization: Bearer t0ken" in head for head in proxy.heads)
    assert all("X-Own" not in head for head in proxy.heads)
    assert {"1"} == {one.headers["x-own"] for one in secure.requests}
    assert not [one for one in secure.requests if "proxy-authorization" in one.headers]


# Refusals of a proxy.

REFUSAL = b"HTTP/1.1 %s\r\nProxy-Authenticate: Basic realm=corp\r\nContent-Length: %d\r\n\r\n%s"


def _refusal(status: str, text: bytes = b"") -> bytes:
    return REFUSAL % (status.encode(), len(text), text)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    ("refusal", "says"),
    [
        (_refusal("407 Proxy Authentication Required"), "407 Proxy Authentication Required"),
        (_refusal("403 Forbidden", b"<title>Category: telemetry</title>"), "Category: telemetry"),
        (_refusal("503 Service Unavailable", b"no route to host"), "no route to host"),
        (_refusal("502 Bad Gateway", b"x" * 100_000), "502 Bad Gateway"),
        (b"HTTP/1.0 504 Gateway Timeout\r\n\r\n", "504 Gateway Timeout"),
        (_refusal("407 Denied", b"not with s3cret/word"), "407 Denied"),
        (_refusal("407 s3cret/word"), "407"),
        (b"", None),
        (b"\x05\xff", None),
    ],
)
def test_what_a_proxy_says_is_named_by_log_and_doctor_and_its_password_is_not(
    stub: Stub,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    scheme: str,
    refusal: bytes,
    says: str | None,
) -> None:
    with Proxy(("127.0.0.1", stub.port)) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:s3cret%2Fword@{proxy.place}")
        proxy.refusal = refusal
        told: list[str] = []
        host = f"{scheme}://events.example.com"
        with client_of(stub, host=host, insecure=True, on_error=told.append) as client:
            client.capture("kept")
            _until(lambda: told)
            last = _last(client)
            shown = "".join(told) + caplog.text + str(last)
            assert (1, {}) == (client.counts().waiting, client.counts().lost)

    assert last.ok is False
    assert last.cure
    assert "s3cret" not in shown
    assert base64.b64encode(b"user:s3cret/word").decode() not in shown
    assert max(map(len, told)) < 300
    if says is not None:
        assert says in told[0]
        assert says in last.detail
    if scheme == "https":
        assert f"the proxy {proxy.place}" in told[0]


def test_a_proxy_that_is_not_there_is_named(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    place = f"127.0.0.1:{a_free_port()}"
    monkeypatch.setenv("http_proxy", f"http://user:s3cret@{place}")
    told: list[str] = []
    with client_of(
        stub, host="http://events.example.com", insecure=True, on_error=told.append
    ) as client:
        client.capture("kept")
        _until(lambda: told)

    assert f"no way to the proxy {place}: Connection refused" in told[0]


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("socks5://user:s3cret@proxy:1080", "SOCKS"),
        ("socks5h://proxy:1080", "SOCKS"),
        ("SOCKS4://s3cret@proxy", "SOCKS"),
        ("https://user:s3cret@proxy:3128", "plain http://"),
        ("http://", "is no address of a proxy"),
        ("http://user:s3cret#@proxy:3128", "is no address of a proxy"),
        ("http://proxy:s3cret", "is no address of a proxy"),
        ("http://[s3cret", "is no address of a proxy"),
    ],
)
@pytest.mark.parametrize("variable", ["https_proxy", "ALL_PROXY"])
def test_a_proxy_that_cannot_be_used_is_refused_with_a_sentence(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, variable: str, address: str, says: str
) -> None:
    monkeypatch.setenv(variable, address)
    told: list[str] = []
    with client_of(stub, host="https://events.example.com", on_error=told.append) as client:
        client.capture("kept")
        _until(lambda: told)
        last = _last(client)
        assert (1, {}) == (client.counts().waiting, client.counts().lost)

    assert says in told[0]
    assert variable.upper() in told[0]
    assert ("address", False) == (last.name, last.ok)
    assert says in f"{last.detail} {last.cure}"
    assert "s3cret" not in told[0] + str(last)


def _last(client: Indelible) -> Hop:
    return [hop for hop in client.doctor().hops if hop.lane == "product"][-1]


# What goes past the proxy.


@pytest.mark.parametrize(
    ("no_proxy", "name", "port", "expected"),
    [
        ("", "example.com", 443, False),
        ("*", "example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("EXAMPLE.com", "example.COM", 443, True),
        ("example.com", "example.com.", 443, True),
        ("example.com", "events.example.com", 443, True),
        ("example.com", "badexample.com", 443, False),
        (".example.com", "events.example.com", 443, True),
        (".example.com", "example.com", 443, True),
        ("*.example.com", "events.example.com", 443, True),
        ("other, ,events.example.com ,", "events.example.com", 443, True),
        ("a b example.com", "example.com", 443, True),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        (".example.com:443", "events.example.com", 443, True),
        ("müller.example", "xn--mller-kva.example", 443, True),
        ("com", "example.com", 443, True),
        (".", "example.com", 443, False),
        ("192.0.2.7", "192.0.2.7", 443, True),
        ("192.0.2.7:443", "192.0.2.7", 443, True),
        ("192.0.2.7:80", "192.0.2.7", 443, False),
        ("0.2.7", "192.0.2.7", 443, False),
        ("7", "192.0.2.7", 443, False),
        ("192.0.2.0/24", "192.0.2.7", 443, True),
        ("192.0.2.9/24", "192.0.2.7", 443, True),
        ("192.0.2.0/24", "192.0.3.7", 443, False),
        ("10.0.0.0/8", "10.example.com", 443, False),
        ("2001:db8::7", "2001:db8:0::7", 443, True),
        ("[2001:db8::7]", "2001:db8::7", 443, True),
        ("[2001:db8::7]:8443", "2001:db8::7", 8443, True),
        ("[2001:db8::7]:8443", "2001:db8::7", 443, False),
        ("2001:db8::/32", "2001:db8::7", 443, True),
        ("2001:db8::/32", "2001:db9::7", 443, False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", 443, True),
        ("10.0.0.0/99, example.com/8, [, ::1::", "10.0.0.1", 443, False),
    ],
)
def test_no_proxy_lists_names_addresses_and_networks(
    no_proxy: str, name: str, port: int, expected: bool
) -> None:
    assert expected is is_exempt(name, port, no_proxy)


@given(st.ip_addresses(), st.integers(0, 128))
def test_every_address_of_a_network_is_covered_and_no_other(address: Any, bits: int) -> None:
    bits = min(bits, address.max_prefixlen)
    network = ip_network(f"{address}/{bits}", strict=False)
    for one in (address, network[0], network[-1]):
        assert is_exempt(str(one), 443, f"example.com,{network}") or one.version == 6
    outside = int(network[-1]) + 1
    if outside < 2**address.max_prefixlen:
        assert not is_exempt(str(type(address)(outside)), 443, str(network))


@given(st.text(max_size=60), st.sampled_from(["example.com", "192.0.2.7", "2001:db8::7"]))
def test_whatever_no_proxy_holds_there_is_an_answer(text: str, name: str) -> None:
    assert is_exempt(name, 443, text) in (True, False)
    assert is_exempt(name, 443, f"{text},{name}")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "app.localhost", "::1"])
def test_this_machine_is_never_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setenv("all_proxy", "http://proxy:3128")

    assert proxy_for(host, 443, "https") is None
    assert "proxy:3128" == str(proxy_for("example.com", 443, "https"))


def test_a_host_that_no_proxy_lists_is_reached_directly(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(("127.0.0.1", stub.port)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.place}")
        monkeypatch.setenv("no_proxy", ".invalid")
        told: list[str] = []
        with client_of(
            stub, host="http://events.invalid", insecure=True, on_error=told.append
        ) as client:
            client.capture("kept")
            _until(lambda: told)

    assert [] == proxy.heads


# Whose certificates are trusted.


def _trouble(host: str, **options: Any) -> str:
    """Why nothing arrives; empty if it does."""
    told: list[str] = []
    settled = threading.Event()

    def on_error(what: str) -> None:
        told.append(what)
        settled.set()

    with Indelible(TOKEN, host=host, on_error=on_error, batch_s=0.01, **options) as client:
        client.capture("asked")
        while not settled.wait(0.01) and not client.flush(0.01):
            pass
        client.shutdown(0)
    return told[0] if told else ""


def test_a_certificate_of_ones_own_is_trusted_by_option_and_by_variable(
    secure: Stub, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host, chain = f"https://localhost:{secure.port}", str(certificate[0])
    assert "certificate is not trusted" in _trouble(host)
    assert "" == _trouble(host, ca_file=chain)
    assert "" == _trouble(host, ca_file=certificate[0])
    for variable in ("INDELIBLE_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, chain)
            assert "" == _trouble(host), variable


def test_the_option_outweighs_the_variables_and_openssls_own_outweigh_the_others(
    secure: Stub, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host = f"https://localhost:{secure.port}"
    other, _ = self_signed_certificate(tmp_path, "other.example")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    assert "" == _trouble(host)
    monkeypatch.setenv("SSL_CERT_FILE", str(other))
    assert "not trusted" in _trouble(host)
    assert "" == _trouble(host, ca_file=certificate[0])
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert "not trusted" in _trouble(host, ca_file=other)


def test_a_folder_of_certificates_is_one_too(
    secure: Stub, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command = ["openssl", "x509", "-noout", "-hash", "-in", str(certificate[0])]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f"{name}.0").write_bytes(certificate[0].read_bytes())
    host = f"https://localhost:{secure.port}"

    assert "" == _trouble(host, ca_file=tmp_path)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
    assert "" == _trouble(host)


@pytest.mark.parametrize("source", ["ca_file", *_TRUST])
def test_a_file_of_certificates_that_cannot_be_read_is_named(
    secure: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    host, missing = f"https://localhost:{secure.port}", str(tmp_path / "missing.pem")
    options = {"ca_file": missing} if source == "ca_file" else {}
    if source != "ca_file":
        monkeypatch.setenv(source, missing)

    said = _trouble(host, **options)
    with Indelible(TOKEN, host=host, ca_file=options.get("ca_file")) as client:
        last = _last(client)

    assert source in said
    assert missing in said
    assert ("tls", False) == (last.name, last.ok)
    assert missing in last.detail


def test_a_file_without_a_certificate_is_named(secure: Stub, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")

    said = _trouble(f"https://localhost:{secure.port}", ca_file=tmp_path / "empty.pem")

    assert "ca_file: no certificate in PEM" in said


def test_the_doctor_trusts_what_the_client_trusts(
    secure: Stub, certificate: tuple[Path, Path]
) -> None:
    host = f"https://localhost:{secure.port}"
    with Indelible(TOKEN, host=host, ca_file=certificate[0]) as client:
        names = {hop.name: hop.ok for hop in client.doctor().hops if hop.lane == "product"}

    assert {"tls": True, "answer": True, "stored": True}.items() <= names.items()


def test_a_zone_of_ipv6_stays_on_this_machine() -> None:
    """It names a network card, which means nothing to a server."""
    transport = Transport(
        "http://[fe80::1%25eth0]:8080",
        headers={},
        connect_s=1,
        total_s=1,
        monotonic=lambda: 0.0,
    )

    assert "[fe80::1]:8080" == transport._authority
    assert ip_address("fe80::1%25eth0").version == 6


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def _until(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)
