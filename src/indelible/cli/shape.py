"""An event of the read API in a few words."""

from typing import Any, Final

_MOST_CHARS: Final = 400
Event = dict[str, Any]


def name_of(event: Event) -> str:
    """What the sender calls it."""
    if event.get("erased"):
        return "(erased)"
    if event["kind"] == "audit":
        meta = event.get("meta", {})
        return str(meta.get("event_name") or meta.get("type", ""))
    return str(event.get("event", ""))


def client_id_of(event: Event) -> str | None:
    """The id that the sender gave it, if any."""
    found = event.get("idempotency_key") if event["kind"] == "audit" else event.get("uuid")
    return None if found is None else str(found)


def short_content(event: Event) -> str:
    """Its properties as ``name=value``, or the beginning of its payload."""
    if event["kind"] == "audit":
        return str(event.get("payload", ""))[:_MOST_CHARS]
    properties = event.get("properties", event.get("facts")) or {}
    return " ".join(f"{name}={_value(value)}" for name, value in properties.items())[:_MOST_CHARS]


def _value(value: object) -> str:
    import msgspec

    if isinstance(value, str) and value and not any(c in value for c in ' "='):
        return value
    return msgspec.json.encode(value).decode()
