"""What ``indelible serve`` says once it would answer."""

import json

from indelible.app import Welcome


def banner(welcome: Welcome) -> str:
    """The address, the token, secrets made just now, and a line to try."""
    event = {"api_key": welcome.token, "event": "hello", "distinct_id": "me"}
    lines = [
        f"Indelible answers at {welcome.url}   (API: {welcome.url}/docs)",
        f"data folder    {welcome.data_dir.resolve()}",
        f"project token  {welcome.token}   (public: belongs in pages and apps)",
    ]
    secrets = {name: secret for name, secret in welcome.made.items() if name != "token"}
    for name, secret in secrets.items():
        lines.append(f"{name:<14} {secret}")
    if secrets:
        lines.append("Keep these keys now: they are stored hashed and never shown again.")
    lines += [
        "",
        "Send an event:",
        f"  curl {welcome.url}/api/e -H 'content-type: application/json' \\",
        f"    -d '{json.dumps(event)}'",
        "",
        "Then look at it:  indelible tail",
    ]
    return "\n".join(lines)
