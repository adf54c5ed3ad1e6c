"""Who may read the metrics: a key opens them on the server's port, and a listener has only them."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import assert_refused, run
from tests.edge.lines import exchange
from tests.world import (
    ADMIN_KEY,
    API_KEY,
    AS_ADMIN,
    AS_APPLICATION,
    TOKEN,
    ServerProcess,
    a_free_port,
    assert_canonical_error,
    bearer,
    plain_client,
    product,
    started,
)

KEY = "metrics-key-0123456789"
PAGE = Path(__file__).parents[2] / "docs/how-to/monitor.md"


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, str]]:
    """A server with a metrics key and a listener, and the listener's address."""
    listener = f"127.0.0.1:{a_free_port()}"
    variables = {"INDELIBLE_METRICS_KEY": KEY, "INDELIBLE_METRICS_LISTEN": listener}
    with started(tmp_path_factory.mktemp("scraped"), **variables) as server:
        yield server, f"http://{listener}"


def test_without_a_key_of_their_own_the_metrics_want_an_admin_key(shared: ServerProcess) -> None:
    assert_canonical_error(shared.http.get("/metrics"), 401, "invalid_api_key")
    for secret in (TOKEN, KEY, "nobody's"):
        answer = shared.http.get("/metrics", headers=bearer(secret))
        assert_canonical_error(answer, 401, "invalid_api_key")
    refused = shared.http.get("/metrics", headers=AS_APPLICATION)
    assert_canonical_error(refused, 403, "manage_scope_missing")
    assert "indelible_requests_total" in shared.http.get("/metrics", headers=AS_ADMIN).text


def test_no_header_of_a_proxy_opens_the_metrics(shared: ServerProcess) -> None:
    for name in ("X-Forwarded-For", "X-Real-IP", "Forwarded"):
        assert 401 == shared.http.get("/metrics", headers={name: "127.0.0.1"}).status_code


@pytest.mark.parametrize("secret", [KEY, ADMIN_KEY], ids=["metrics", "admin"])
def test_the_metrics_key_opens_them_beside_the_admin_key(
    scraped: tuple[ServerProcess, str], secret: str
) -> None:
    answer = scraped[0].http.get("/metrics", headers=bearer(secret))

    assert (200, "text/plain; version=0.0.4") == (
        answer.status_code,
        answer.headers["content-type"].removesuffix("; charset=utf-8"),
    )


def test_the_metrics_key_opens_nothing_else(scraped: tuple[ServerProcess, str]) -> None:
    server, _ = scraped
    for path in ("/v1/events", "/v1/export", "/v1/projects", "/v1/keys", "/v1/senders"):
        assert_canonical_error(server.http.get(path, headers=bearer(KEY)), 401, "invalid_api_key")
    assert 401 == server.send({**product(), "api_key": KEY}).status_code


def test_the_listener_has_the_metrics_of_the_server_and_nothing_else(
    scraped: tuple[ServerProcess, str],
) -> None:
    server, listener = scraped
    stored = server.count("indelible_events_stored_total", lane="product")
    server.send(product())
    with plain_client(listener, headers=bearer(KEY)) as http:
        text = http.get("/metrics").text
        assert f'indelible_events_stored_total{{lane="product"}} {stored + 1}' in text
        assert b"" == http.head("/metrics").content
        assert_canonical_error(http.post("/metrics"), 405, "method_not_allowed")
        for path in ("/", "/healthz", "/v1/events", "/metrics/", "/docs", "/api/e"):
            assert_canonical_error(http.get(path), 404, "not_found")


def test_a_key_that_is_set_counts_on_the_listener_too(scraped: tuple[ServerProcess, str]) -> None:
    with plain_client(scraped[1]) as http:
        assert_canonical_error(http.get("/metrics"), 401, "invalid_api_key")
        for secret in (API_KEY, ADMIN_KEY, KEY[:-1], f"{KEY}é"):
            answer = http.get("/metrics", headers={b"Authorization": f"Bearer {secret}".encode()})
            assert_canonical_error(answer, 401, "invalid_api_key")
    assert 400 == exchange(scraped[1], b"no HTTP\r\n\r\n").status


def test_the_listener_ends_with_the_server_and_its_refusals_are_told(tmp_path: Path) -> None:
    port = a_free_port()
    listen = {"INDELIBLE_METRICS_LISTEN": f"127.0.0.1:{port}"}
    with started(tmp_path, **listen) as server:
        with plain_client(f"http://127.0.0.1:{port}") as http:
            assert 200 == http.get("/metrics").status_code
            assert 404 == http.get("/nowhere").status_code
        assert 0 == server.stop()
        assert "refused 1 request: not_found" in server.output()
        with socket.socket() as probe:
            assert 0 != probe.connect_ex(("127.0.0.1", port))


def test_a_metrics_key_that_is_another_key_or_a_port_in_use_refuses_to_start(
    shared: ServerProcess, tmp_path: Path
) -> None:
    serve = ("serve", "--data", str(tmp_path / "new"), "--port", "0")
    same = run(*serve, INDELIBLE_SERVER_ADMIN_KEY=ADMIN_KEY, INDELIBLE_METRICS_KEY=ADMIN_KEY)
    assert_refused(same, 2, "setting_invalid")
    assert ADMIN_KEY not in same.err

    taken = run(*serve, INDELIBLE_METRICS_LISTEN=shared.url.removeprefix("http://"))
    assert_refused(taken, 3, "address_in_use")
    assert not (tmp_path / "new").exists()


def test_the_scrape_configuration_of_the_manual_reads_this_server(
    scraped: tuple[ServerProcess, str], tmp_path: Path
) -> None:
    """The page's YAML, read by its few lines, and its names of metrics."""
    page = PAGE.read_text()
    (config,) = re.findall(r"```yaml\n(scrape_configs:.*?)```", page, re.DOTALL)
    (path,) = re.findall(r"metrics_path: (\S+)", config)
    (scheme,) = re.findall(r"type: (\S+)", config)

    headers = {"Authorization": f"{scheme} {KEY}"}
    text = scraped[0].http.get(path, headers=headers).text
    assert "credentials_file:" in config
    names = set(re.findall(r"\bindelible_\w+", page))
    assert names
    for name in names:
        assert re.search(rf"^# TYPE {name.removesuffix('_bucket')} ", text, re.MULTILINE), name
