"""Hooks for schemathesis, which the test starts as a program of its own: how to make data for the
formats and media types that JSON Schema has no words for."""

import json
import os
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import HookContext

schemathesis.openapi.format(
    "ip-network", st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
)
schemathesis.openapi.format(
    "web-origin",
    st.builds(
        "{}://{}{}.example".format,
        st.sampled_from(["https", "http"]),
        st.sampled_from(["", "*."]),
        st.text("abc", min_size=1, max_size=9),
    ),
)

schemathesis.openapi.format(
    "condition",
    st.sampled_from(
        [
            'event = "purchase" and properties.amount >= 100',
            "received_at > 2026-01-31 or not exists(meta.service)",
            '{"path":"index","op":"<","value":7}',
        ]
    ),
)


schemathesis.openapi.format(
    "condition-of-person",
    st.sampled_from(['properties.plan = "pro" and received_at > 2026-01-31', 'distinct_id = "a"']),
)


def product(event: str) -> dict[str, Any]:
    """An event for the test server, without the server's modules."""
    return {"api_key": os.environ["INDELIBLE_TOKEN"], "event": event, "distinct_id": "user_42"}


_packed = st.builds(product, event=st.text("abc", min_size=1)).map(json.dumps).map(str.encode)
for media_type in ("text/plain", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, _packed)


@schemathesis.hook
def filter_query(context: HookContext, query: dict[str, Any] | None) -> bool:
    """Leave out an empty list or object in place of the word: it is sent as nothing, so that
    nothing is wrong with the request."""
    return (query or {}).get("compression") not in ([], {})
