"""Which routes pages of another origin may call: product ingest, and nothing else."""

import pytest

from tests.edge.wire import fresh
from tests.world import AS_ADMIN, AS_APPLICATION, TOKEN, World, audit, product

ORIGIN = "https://shop.example"
PRODUCT_ROUTES = ["/api/e", "/batch", "/batch/"]
CLOSED_ROUTES = [
    ("POST", "/v1/events"),
    ("POST", "/v1/events/batch"),
    ("GET", "/v1/events"),
    ("GET", "/v1/events/tx_00000000000000000000000000000000"),
    ("GET", "/v1/where"),
    ("GET", "/v1/export"),
    ("GET", "/v1/projects"),
    ("POST", "/v1/projects"),
    ("GET", "/v1/keys"),
    ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/key_0"),
    ("GET", "/healthz"),
    ("GET", "/metrics"),
    ("GET", "/openapi.json"),
    ("GET", "/nowhere"),
]


@pytest.mark.parametrize("route", PRODUCT_ROUTES)
@pytest.mark.parametrize("origin", [ORIGIN, "http://localhost:3000", "null"])
@pytest.mark.parametrize(
    ("token", "status"), [(TOKEN, 200), ("nobody's", 401)], ids=["stored", "refused"]
)
def test_a_page_of_any_origin_may_read_the_answer_of_product_ingest(
    shared: World, route: str, origin: str, token: str, status: int
) -> None:
    answer = shared.http.post(route, json=product(api_key=token), headers={"Origin": origin})

    assert status == answer.status_code
    assert origin == answer.headers["access-control-allow-origin"]
    assert "true" == answer.headers["access-control-allow-credentials"]
    assert "origin" in answer.headers["vary"].lower()


@pytest.mark.parametrize("route", PRODUCT_ROUTES)
def test_a_preflight_is_allowed_for_a_day_with_the_headers_that_were_asked_for(
    shared: World, route: str
) -> None:
    asked = "content-type, x-shop-version"

    answer = shared.http.options(
        route,
        headers={
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": asked,
        },
    )

    assert (204, b"") == (answer.status_code, answer.content)
    assert ORIGIN == answer.headers["access-control-allow-origin"]
    assert "true" == answer.headers["access-control-allow-credentials"]
    assert "86400" == answer.headers["access-control-max-age"]
    assert asked == answer.headers["access-control-allow-headers"]
    assert {"GET", "POST"} <= set(answer.headers["access-control-allow-methods"].split(", "))


def test_without_an_origin_nothing_is_said_of_origins(shared: World) -> None:
    for answer in (shared.send(product()), shared.http.options("/api/e")):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("method", "route"), CLOSED_ROUTES)
@pytest.mark.parametrize(
    "key", [{}, AS_APPLICATION, AS_ADMIN], ids=["no key", "application", "admin"]
)
def test_no_other_route_answers_a_page_of_another_origin(
    shared: World, method: str, route: str, key: dict[str, str]
) -> None:
    body = {"json": {**audit(), "name": "INVALID"}} if method == "POST" else {}
    answers = [
        shared.http.request(method, route, headers={"Origin": ORIGIN, **key}, **body),  # type: ignore[arg-type]
        shared.http.options(
            route,
            headers={
                "Origin": ORIGIN,
                "Access-Control-Request-Method": method,
                "Access-Control-Request-Headers": "authorization",
            },
        ),
    ]
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_management_insists_on_json_so_that_no_page_can_call_it_without_a_preflight(
    shared: World,
) -> None:
    """A page may send text/plain to any origin unasked; a cookie-less key does not travel along,
    but the rule holds by itself."""
    name = f"p-{fresh()[:8]}"
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = shared.http.post(
            "/v1/projects",
            content=f'{{"name":"{name}"}}',
            headers={**AS_ADMIN, "content-type": kind, "Origin": ORIGIN},
        )
        assert 400 <= answer.status_code < 500
    names = [
        p["name"] for p in shared.http.get("/v1/projects", headers=AS_ADMIN).json()["projects"]
    ]
    assert name not in names
