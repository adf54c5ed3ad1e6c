"""The running server against its own description: data that it says is fine, and data that is not.

schemathesis reads `/openapi.json` as a stranger would, and sends to every operation.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.world import ADMIN_KEY, API_KEY, TOKEN, client_environment, started

EXAMPLES = 5
BATCH = 10

STRANGER = (sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml")

# `not_a_server_error`, `status_code_conformance`, `response_schema_conformance`, `ignored_auth`,
# `negative_data_rejection` and the rest are all on; 413 is an answer to bad data too.
CONFIG = f"""
[generation]
max-examples = {EXAMPLES}
deterministic = true
no-shrink = true

[phases]
stateful.enabled = false
examples.extra-data-sources.responses = false  # else it would list the keys and revoke its own
coverage.extra-data-sources.responses = false
fuzzing.extra-data-sources.responses = false

[checks]
negative_data_rejection.expected-statuses = [400, 401, 403, 404, 405, 409, 413, 415]

[headers]
Authorization = "Bearer {API_KEY}"

[[operations]]
include-tag = "manage"
headers = {{ Authorization = "Bearer {ADMIN_KEY}" }}

[[operations]]
include-path = "/metrics"
headers = {{ Authorization = "Bearer {ADMIN_KEY}" }}
"""

# Two cases of three are made for the edges of the product body; the fuzzing goes there too.
SHORTENED = """
[[operations]]
include-path = "/api/e"
phases.coverage.enabled = false
"""


def prepare(document: dict[str, Any]) -> None:
    """Tell a stranger what the description cannot, and leave out what schemathesis cannot make."""
    schemas, paths = document["components"]["schemas"], document["paths"]
    schemas["Token"] = {"const": TOKEN}
    for methods in paths.values():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "project":
                    parameter["schema"] = {"const": "default"}
    # A stream that ends when all is sent, and places in it, which only the server can name.
    stream = paths["/api/debug/stream"]["get"]
    stream["parameters"] = [p for p in stream["parameters"] if p["in"] != "header"]
    for parameter in stream["parameters"]:
        if parameter["name"] == "seconds":
            parameter |= {"schema": {"const": 0}, "required": True}
    # A smaller limit than the default, so that lists on either side of it are soon made.
    schemas["ProductEvents"]["maxItems"] = BATCH
    # The same path twice: what its description says of both is compared, one is sent to.
    twin, kept = paths.pop("/batch"), paths["/batch/"]
    assert nameless(kept) == nameless(twin)
    # A form whose field is JSON is sent as if the field were a form of its own.
    for path in ("/api/e", "/batch/"):
        del paths[path]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    # Only the server can make a cursor.
    of_person = [f"/v1/persons/{{person}}/{of}" for of in ("ids", "merges", "history", "timeline")]
    for path in (
        *("/v1/events", "/v1/senders", "/v1/schema", "/v1/projects", "/v1/keys"),
        *("/v1/persons", *of_person),
    ):
        search = paths[path]["get"]
        search["parameters"] = [p for p in search["parameters"] if p["name"] != "cursor"]


def nameless(methods: dict[str, Any]) -> dict[str, Any]:
    """What is said of each method, but for the operation's id."""
    return {method: {**operation, "operationId": None} for method, operation in methods.items()}


def shorten(document: dict[str, Any]) -> None:
    """Leave out the path whose cases are those of another, but for what becomes of crawlers."""
    aliased, kept = document["paths"].pop("/batch/"), document["paths"]["/api/e"]
    for method, operation in aliased.items():
        for asked in ("parameters", "requestBody"):
            assert operation.get(asked) == kept[method].get(asked)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_operation_does_what_its_description_says(tmp_path: Path, whole: bool) -> None:
    with started(tmp_path / "data", INDELIBLE_MAX_BATCH=str(BATCH)) as server:
        document = server.http.get("/openapi.json").json()
        prepare(document)
        if not whole:
            shorten(document)
        (tmp_path / "openapi.json").write_text(json.dumps(document))
        (tmp_path / "schemathesis.toml").write_text(CONFIG if whole else CONFIG + SHORTENED)

        stranger = subprocess.run(
            [*STRANGER, "run", "openapi.json", "--url", server.url, "--no-color"],
            cwd=tmp_path,
            env=client_environment(
                SCHEMATHESIS_HOOKS="tests.api.stranger",
                PYTHONPATH=str(Path.cwd()),
            ),
            capture_output=True,
            text=True,
        )

    assert 0 == stranger.returncode, stranger.stdout + stranger.stderr
