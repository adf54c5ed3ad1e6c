"""Send one product event and one audit event with nothing but the standard library.

    INDELIBLE_HOST=http://127.0.0.1:8765 INDELIBLE_TOKEN=ind_pub_… INDELIBLE_API_KEY=iml_live_… \
        python examples/standard_library.py

Run it twice: the ids are fixed, so the second run is answered `duplicate` and adds nothing.
"""

import json
import os
import urllib.request

HOST = os.environ["INDELIBLE_HOST"]


def post(path: str, body: dict[str, object], **headers: str) -> dict[str, object]:
    """The server's answer; it comes after the event is synced to disk."""
    request = urllib.request.Request(
        HOST + path,
        json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        decoded: dict[str, object] = json.load(answer)
    return decoded


product = post(
    "/api/e",
    {
        "api_key": os.environ["INDELIBLE_TOKEN"],
        "event": "purchase_completed",
        "distinct_id": "user_42",
        "uuid": "example-purchase-1",
        "properties": {"amount": 99.99, "currency": "USD"},
    },
)
print("product event:", product["events"])

audit = post(
    "/v1/events",
    {
        "payload": json.dumps({"order_id": "ord_1", "total": 9900}),
        "meta": {"type": "success", "event_name": "order.created", "service": "shop"},
    },
    **{
        "Authorization": f"Bearer {os.environ['INDELIBLE_API_KEY']}",
        "Idempotency-Key": "example-order-1",
    },
)
print("audit event:  ", audit)
